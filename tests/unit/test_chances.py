"""What tools/run_tests.sh forgives: what failed once, but no broken promise, and nothing that is not left to the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.promises import BROKEN, broken

ROOT = Path(__file__).resolve().parents[2]
ONCE = """
from pathlib import Path

def test_it():
    seen = Path(__file__).with_suffix(".seen")
    if not seen.exists():
        seen.touch()
        raise AssertionError({message!r})
"""
BUSY = "the next command came after 6.10 s, promised are 2.40 s, and this line is longer than a narrow terminal is wide"
OVERLAP = broken("9.ben-2.77.ticks began 0.010 s before 8.ada-1.66.ticks ended")


def run_tests(folder: Path, place: str, message: str) -> subprocess.CompletedProcess[str]:
    test = folder / place / "test_once.py"
    test.parent.mkdir(parents=True)
    test.write_text(ONCE.format(message=message))
    words = [ROOT / "tools" / "run_tests.sh", sys.executable, "-c", ROOT / "pyproject.toml", "--rootdir", folder, test]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_test_that_a_busy_machine_failed_is_run_once_more(tmp_path: Path) -> None:
    done = run_tests(tmp_path, "tests/faults", BUSY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 failed. Each is run once more" in done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.parametrize(
    ("place", "message"),
    [("tests/faults", OVERLAP), ("tests/faults", f"{BUSY}\n{BUSY}\n{OVERLAP}"), ("tests/simulation", BUSY)],
    ids=["a broken promise", "told after something else", "a seeded world"],
)
def test_some_failures_get_no_second_chance(tmp_path: Path, place: str, message: str) -> None:
    done = run_tests(tmp_path, place, message)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no second chance: " in done.stdout
    assert "run once more" not in done.stdout


def test_the_words_stand_in_one_place() -> None:
    """In the source of another test they would stand in each report of its failures."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if BROKEN in path.read_text("utf-8")]
    assert files == [ROOT / "tests" / "promises.py"]
