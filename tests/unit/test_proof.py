"""The table in proof/README.md that maps the model to the code speaks of things that exist on both sides."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "proof" / "README.md"
MODEL = (ROOT / "proof" / "election.pml").read_text("utf-8")
SEATS = (ROOT / "proof" / "seats.pml").read_text("utf-8")
ROWS = re.findall(r"^\| (`.*?`) \| `([\w.]+)` \|", README.read_text("utf-8"), re.MULTILINE)


def exists(name: str) -> bool:
    """Whether the code has ``module.Class.name``. Read as text: some of these modules are programs of their own."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        path = (ROOT / "src" / "heirflow").joinpath(*parts[:count]).with_suffix(".py")
        if path.is_file():
            text = path.read_text("utf-8")
            return all(re.search(rf"^ *(def|class) {re.escape(part)}\b", text, re.MULTILINE) for part in parts[count:])
    return False


def test_the_table_is_found() -> None:
    assert len(ROWS) >= 20
    assert not exists("election.rules._no_such_rule")
    assert not exists("election.no_such_room.decide")


@pytest.mark.parametrize(("ours", "theirs"), ROWS)
def test_every_name_in_the_table_exists(ours: str, theirs: str) -> None:
    for name in re.findall(r"`(\w+)`", ours):
        assert re.search(rf"^(inline|typedef|proctype|#define) {name}\b", MODEL + SEATS, re.MULTILINE), (
            f"the model has no {name}"
        )
    assert exists(theirs), f"the code has no {theirs}"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("proof_check", ROOT / "proof" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def properties() -> list[str]:
    holds = README.read_text("utf-8").partition("## What holds")[2].partition("Checked:")[0]
    return re.findall(r"^\| ([a-z][\w', ]+) \| [`a]", holds, re.MULTILINE)


def test_each_property_in_the_readme_stands_in_the_model(check: ModuleType) -> None:
    assert len(properties()) == 7
    for name in properties():
        assert re.search(rf"assert\(.*/\* {name} \*/$", MODEL, re.MULTILINE) or name == check.LIVENESS, name


def test_every_planted_fault_says_what_it_breaks_and_every_property_is_broken_by_one(check: ModuleType) -> None:
    assert list(check.planted()) and set(check.BREAKS) == set(check.planted())
    assert all(check.BREAKS.values())
    assert {name for names in check.BREAKS.values() for name in names} == set(properties())
    asked = {(run.fault, run.breaks) for run in check.runs(short=True) if run.file == check.MODEL}
    assert asked == {("NONE", None)} | {(fault, name) for fault, names in check.BREAKS.items() for name in names}


def properties_of_seats() -> list[str]:
    holds = README.read_text("utf-8").partition("### With two seats")[2].partition("## What it leaves open")[0]
    return re.findall(r"^\| ([a-z][\w', ]+) \| [`a]", holds, re.MULTILINE)


def test_of_the_model_with_two_seats_the_same_is_so(check: ModuleType) -> None:
    assert len(properties_of_seats()) == 7
    for name in properties_of_seats():
        assert re.search(rf"assert\(.*/\* {name} \*/$", SEATS, re.MULTILINE), name
    assert list(check.planted(check.SEATS)) and set(check.BREAKS_OF_SEATS) == set(check.planted(check.SEATS))
    assert {name for names in check.BREAKS_OF_SEATS.values() for name in names} == set(properties_of_seats())
    asked = {(run.fault, run.breaks) for run in check.runs(short=True) if run.file == check.SEATS}
    planted = {(fault, name) for fault, names in check.BREAKS_OF_SEATS.items() for name in names}
    assert asked == {("NONE", None)} | planted
    for fault, name in planted:
        lines = check.question_of_seats(fault, name, "x").model().splitlines()
        assert len(lines) == len(SEATS.splitlines())
        judged = [line for line in lines if re.search(r"assert\((?!true \|\| )", line)]
        assert judged and all(line.endswith(f"/* {name} */") for line in judged)


@pytest.mark.parametrize("name", properties())
def test_of_a_planted_fault_only_what_it_must_break_is_judged(check: ModuleType, name: str) -> None:
    lines = check.question("NO_MARGIN", name, "x").model().splitlines()
    assert len(lines) == len(MODEL.splitlines()), "the line of a failed assertion names its property"
    judged = [line for line in lines if re.search(r"assert\((?!true \|\| )", line)]
    assert all(line.endswith(f"/* {name} */") for line in judged)
    assert len(judged) == MODEL.count(f"/* {name} */")
    assert bool(judged) == (name != check.LIVENESS)
    assert check.question("NO_MARGIN", name, "x").liveness == (name == check.LIVENESS)
    assert check.Run("x").model() == MODEL


def test_a_machine_without_spin_is_told_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "proof" / "check.py"), "--short"],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert "apt-get install spin" in done.stderr


def test_a_planted_fault_that_breaks_nothing_or_something_else_fails(check: ModuleType) -> None:
    planted = check.Run("x", "NO_MARGIN", "no command after the lease")
    assert check.Found(planted, "no command after the lease", 1, 0.0).good
    for broken in (None, "never two commands", check.STANDSTILL):
        found = check.Found(planted, broken, 1, 0.0)
        assert not found.good
        assert "NOT FOUND" in str(found)
    assert not check.Found(check.Run("x"), "never two commands", 1, 0.0).good
    assert check.Found(check.Run("x"), None, 1, 0.0).good
