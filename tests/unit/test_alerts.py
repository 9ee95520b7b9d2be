"""The alerts of deploy/prometheus: promtool has no complaint, each has a page to read, and each test of theirs can fail."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from heirflow.election.state import State
from heirflow.election.timings import Timings
from heirflow.member.report import describe
from heirflow.member.tally import Tally, exposition
from heirflow.status.figures import MEANINGS
from tests.unit.test_http_door import leading

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = "heirflow.rules.yml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((FOLDER / RULES).read_text("utf-8"))["groups"]
    for rule in group["rules"]
}
NAMES = {
    "HeirflowNoLeader", "HeirflowTwoLeaders", "HeirflowNoHeir", "HeirflowFlapping", "HeirflowLeadsNothing",
    "HeirflowRenewalSlow",
}  # fmt: skip


def promtool(*args: str) -> tuple[int, str]:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: tools/system_packages.sh installs Debian's prometheus")
    done = subprocess.run(["promtool", *args], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def members_own() -> set[str]:
    """The names of all that a member tells."""
    leads = leading()
    heir = State(me="b", host="b", pid=1, born_at=0.0)
    told = [describe("beat", state, {}, leads.checked_in_at, Timings()) for state in (leads, heir)]
    told[1]["place"] = 1
    texts = [exposition("beat", {**facts, "ttl_s": 10.0, "heirs": 1}, Tally(gap_s=1.0)) for facts in told]
    return {match for text in texts for match in re.findall(r"^(heirflow_\w+)", text, re.MULTILINE)}


def test_these_are_all() -> None:
    assert set(ALERTS) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_says_how_bad_it_is_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"} and notes["description"].endswith(".")
    page, _, anchor = notes["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert anchor == name.lower() and name in headings


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_reads_what_is_told(name: str) -> None:
    used = set(re.findall(r"heirflow_\w+", ALERTS[name]["expr"]))
    assert used and not used - set(MEANINGS) - members_own()


def test_what_a_member_tells_stands_in_the_page() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    missing = []
    for name in sorted(members_own()):
        plain = re.sub(r"(?<=check_in_seconds)_\w+$", "", name)
        if f"`{plain}`" not in page and f"`{plain.removeprefix('heirflow_member')}`" not in page:
            missing.append(name)
    assert not missing


def test_promtool_has_no_complaint() -> None:
    code, said = promtool("check", "rules", str(FOLDER / RULES))
    assert code == 0 and f"{len(NAMES)} rules found" in said, said
    code, said = promtool("check", "config", str(FOLDER / "prometheus.yml"))
    assert code == 0 and "SUCCESS" in said, said
    code, said = promtool("test", "rules", str(FOLDER / "heirflow.rules.test.yml"))
    assert code == 0, said


BREAKS = [
    ("HeirflowNoLeader", "min by", "max by"),  # one leader of two seats
    ("HeirflowNoLeader", "[1h]", "[1s]"),
    ("HeirflowTwoLeaders", "> max", "> 2 * max"),
    ("HeirflowTwoLeaders", "> max", ">= max"),
    ("HeirflowNoHeir", "and on (election) heirflow_leader_up == 1", ""),  # a line of once that waits
    ("HeirflowNoHeir", "unless on (election) heirflow_member_place == 1", ""),
    ("HeirflowFlapping", ">= 4", ">= 1"),
    ("HeirflowFlapping", ">= 8", ">= 80"),
    ("HeirflowLeadsNothing", "unless on (election) heirflow_leader_runs", ""),
    ("HeirflowRenewalSlow", "0.4", "0.95"),
    ("HeirflowRenewalSlow", "and heirflow_leader_up == 1", ""),
]


@pytest.mark.parametrize(("name", "old", "new"), BREAKS)
def test_a_rule_that_is_broken_is_red(tmp_path: Path, name: str, old: str, new: str) -> None:
    rules = yaml.safe_load((FOLDER / RULES).read_text("utf-8"))
    for rule in rules["groups"][0]["rules"]:
        if rule["alert"] == name:
            assert old in rule["expr"]
            if (name, old) == ("HeirflowNoLeader", "min by"):
                rule["expr"] = rule["expr"].replace("by (election, seat)", "by (election)").replace(old, new)
            else:
                rule["expr"] = rule["expr"].replace(old, new)
    (tmp_path / RULES).write_text(yaml.safe_dump(rules))
    shutil.copy(FOLDER / "heirflow.rules.test.yml", tmp_path)
    code, said = promtool("test", "rules", str(tmp_path / "heirflow.rules.test.yml"))
    assert code == 1 and "FAILED" in said, said
