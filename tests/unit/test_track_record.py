"""docs/robustness.md promises that every defect found has its test: the names it gives must exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.sim.mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "robustness.md").read_text("utf-8")
FOUND = PAGE[PAGE.index("## What was found") :]
DEFECTS = [line for line in FOUND.splitlines() if line.startswith("| ") and not line.startswith("| found by")]


@pytest.mark.parametrize("line", DEFECTS, ids=lambda line: line.split("|")[1].strip()[:40])
def test_every_defect_has_a_test_that_exists(line: str) -> None:
    names = re.findall(r"`(test_\w+)", line)
    assert names, line
    defined = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    assert set(names) <= defined


def test_the_mutants_are_counted() -> None:
    assert re.findall(r"(\d+) mutants", PAGE) == [str(len(MUTANTS))]


def test_the_pictures_are_there() -> None:
    for path in re.findall(r"\]\((pictures/[^)]+)\)", PAGE):
        assert (ROOT / "docs" / path).stat().st_size < 300_000
