"""The table in proof/README.md that maps the model to the code speaks of things that exist on both sides."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "proof" / "README.md"
MODEL = (ROOT / "proof" / "election.pml").read_text("utf-8")
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
        assert re.search(rf"^(inline|typedef|proctype|#define) {name}\b", MODEL, re.MULTILINE), (
            f"the model has no {name}"
        )
    assert exists(theirs), f"the code has no {theirs}"


def test_each_property_in_the_readme_stands_in_the_model() -> None:
    holds = README.read_text("utf-8").partition("## What holds")[2].partition("Checked:")[0]
    properties = re.findall(r"^\| ([a-z][\w', ]+) \| [`a]", holds, re.MULTILINE)
    assert len(properties) == 7
    checks = (ROOT / "proof" / "check.py").read_text("utf-8")
    for name in properties:
        assert re.search(rf"assert\(.*/\* {name} \*/$", MODEL, re.MULTILINE) or name in checks, name


def test_a_machine_without_spin_is_told_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "proof" / "check.py"), "--short"],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert "apt-get install spin" in done.stderr


def test_a_planted_fault_that_is_not_found_fails() -> None:
    spec = importlib.util.spec_from_file_location("proof_check", ROOT / "proof" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    check = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = check
    spec.loader.exec_module(check)
    assert not check.Found(check.Run("x", "NO_MARGIN"), None, 1, 0.0).good
    assert not check.Found(check.Run("x"), "never two commands", 1, 0.0).good
    assert check.Found(check.Run("x"), None, 1, 0.0).good
    assert len(check.planted()) >= 12
