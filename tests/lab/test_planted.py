"""A laboratory that finds nothing is broken: with a planted defect it must be red, and say what."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import heirflow
from lab.campaign import coordinators, ground, pair
from lab.campaign.plan import COORDINATORS, PAIRS
from tests.planted.planting import exchange

PLANTED: dict[str, tuple[list[tuple[str, str, str]], list[str]]] = {
    # A leader that trusts itself for a ttl too long runs its command beside its heir's.
    "overlap": (
        [
            (
                "election/answers.py",
                "trusted_until = ask.asked_at + swap.record.ttl_s - timings.margin_s",
                "trusted_until = ask.asked_at + 2 * swap.record.ttl_s - timings.margin_s",
            )
        ],
        ["--world", "mariadb", "--only", "cut both", "--faults", "6"],
    ),
    # The same where most servers of an ensemble are away: the command outlives every renewal that there was.
    "dead in time": (
        [
            (
                "election/answers.py",
                "trusted_until = ask.asked_at + swap.record.ttl_s - timings.margin_s",
                "trusted_until = ask.asked_at + 2 * swap.record.ttl_s - timings.margin_s",
            )
        ],
        ["--world", "etcd", "--only", "two servers", "--faults", "6"],
    ),
    # The same where a Patroni pair has no primary.
    "dead in time, without a primary": (
        [
            (
                "election/answers.py",
                "trusted_until = ask.asked_at + swap.record.ttl_s - timings.margin_s",
                "trusted_until = ask.asked_at + 2 * swap.record.ttl_s - timings.margin_s",
            )
        ],
        ["--world", "patroni", "--only", "primary killed", "--faults", "1"],
    ),
    # The same where two lead: of one seat.
    "overlap, of one of two seats": (
        [
            (
                "election/answers.py",
                "trusted_until = ask.asked_at + swap.record.ttl_s - timings.margin_s",
                "trusted_until = ask.asked_at + 2 * swap.record.ttl_s - timings.margin_s",
            )
        ],
        ["--world", "seats", "--only", "cut both", "--faults", "6"],
    ),
    # Members that take a vacant record at once, though the database has failed over and may have forgotten who leads.
    "overlap, after a fail-over that forgets": (
        [
            (
                "election/answers.py",
                "    last, here = before.record, reading.history or before.history\n    if",
                "    return False\n    last, here = before.record, None\n    if",
            )
        ],
        ["--world", "mariadb", "--only", "forgetful asynchronous", "--times", "3"],
    ),
    # A leader that ends no sessions: what a dead command had sent arrives when the network heals.
    "deposed write": (
        [
            (
                "stores/sql/fence.py",
                "        self._begin((election, leader, term))\n        untold",
                "        return ()\n        untold",
            )
        ],
        ["--world", "postgres", "--only", "cut from", "--faults", "6"],
    ),
    # Processes that do not inherit what left its parents: without a cgroup nobody finds it any more.
    "orphan": (
        [
            (
                "guard/processes.py",
                "return LINUX and libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0",
                "return True",
            ),
            ("guard/guard.py", 'if "cgroup" in may and processes.LINUX:', "if False:"),
        ],
        ["--world", "mariadb", "--only", "kill command", "--faults", "2"],
    ),
    # A leader that writes no line of history when it takes charge.
    "lost event": (
        [
            (
                "stores/sql/store.py",
                "        if event is not None:\n",
                "        if event is not None and event.what is not What.TOOK_CHARGE:\n",
            )
        ],
        ["--world", "mariadb", "--only", "kill command", "--faults", "1"],
    ),
    # The same in an ensemble.
    "lost event, in an ensemble": (
        [
            (
                "stores/keyed/plan.py",
                "    if swap.event is not None:\n",
                '    if swap.event is not None and swap.event.word != "took charge":\n',
            )
        ],
        ["--world", "zookeeper", "--only", "kill command", "--faults", "1"],
    ),
    # Heirs that wait for three leases.
    "back in time": (
        [
            (
                "election/line.py",
                "return seat.watch_since + ttl_s",
                "return seat.watch_since + 3 * ttl_s",
            )
        ],
        ["--world", "mariadb", "--only", "kill host", "--faults", "3"],
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("promise", PLANTED, ids=lambda promise: promise.replace(",", "").replace(" ", "_"))
def test_a_planted_defect_is_found(promise: str, tmp_path: Path) -> None:
    if missing := ground.missing():
        pytest.skip("; ".join(missing))  # in CI a skip is a failure
    changes, words = PLANTED[promise]
    if words[1] in COORDINATORS and (absent := coordinators.missing(words[1])) is not None:
        pytest.skip(absent)
    if words[1] in PAIRS and (absent := pair.missing()) is not None:
        pytest.skip(absent)
    copy = tmp_path / "heirflow"
    shutil.copytree(Path(heirflow.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, right, wrong in changes:
        exchange(copy / name, right, wrong)
    done = subprocess.run(
        [sys.executable, "-m", "lab.campaign", "--seed", "4", "--json", *words],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    facts = json.loads(done.stdout)
    assert done.returncode == 1
    assert promise.partition(",")[0] in {red["promise"] for red in facts["red"]}, facts
    assert "replay:" in done.stderr
    kept = next(line for line in done.stderr.splitlines() if line.startswith("Journals")).rpartition(" ")[2]
    shutil.rmtree(kept)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_an_asynchronous_pair_without_a_patroni_on_its_primary_is_two_databases_as_the_docs_say() -> None:
    """No lease can see that: docs/safety.md says what Patroni must be told. And the laboratory must find it."""
    if missing := ground.missing() or ([absent] if (absent := pair.missing()) is not None else []):
        pytest.skip("; ".join(missing))
    words = [
        sys.executable,
        "-m",
        "lab.campaign",
        "--json",
        "--only",
        "patroni gone",
        *["--world", "patroni-async", "--times", "1"],
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    facts = json.loads(done.stdout)
    assert facts["takeovers"]["count"] == 1, f"{facts['troubles']}\n{done.stderr}"
    kept = next(line for line in done.stderr.splitlines() if line.startswith("Journals")).rpartition(" ")[2]
    shutil.rmtree(kept)
    assert facts["overlaps"] == 1 and done.returncode == 1, facts["red"]
