"""Our two pytest plugins do what CI relies on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CASES = """
import pytest
def test_runs(): pass
@pytest.mark.skip(reason="no server here")
def test_skipped(): pass
@pytest.mark.xfail(raises=ZeroDivisionError, strict=True)
def test_expected(): 1 / 0
"""


def outcome(tmp_path: Path, text: str, *args: str, **env: str) -> tuple[int, str]:
    (tmp_path / "test_case.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    answer = subprocess.run(
        [*command, "-p", "no:cacheprovider", str(tmp_path), *args],
        env={**{name: value for name, value in os.environ.items() if name != "CI"}, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return answer.returncode, answer.stdout


@pytest.mark.parametrize(
    ("ci", "code", "line"), [("", 0, "1 passed, 1 skipped, 1 xfailed"), ("true", 1, "1 passed, 1 xfailed, 1 error")]
)
def test_in_ci_nothing_may_be_skipped(tmp_path: Path, ci: str, code: int, line: str) -> None:
    found, out = outcome(tmp_path, CASES, CI=ci)
    assert (found, line in out) == (code, True), out
    assert "no server here" in out


def test_nor_a_whole_module(tmp_path: Path) -> None:
    code, out = outcome(tmp_path, "import pytest\npytest.importorskip('no_such_module')", CI="true")
    assert code != 0
    assert "nothing may be skipped" in out


def test_repeat(tmp_path: Path) -> None:
    text = "def test_a(): pass\ndef test_b(repetition): assert repetition < 3"
    assert "6 passed" in outcome(tmp_path, text, "--repeat", "3")[1]
    assert "2 passed" in outcome(tmp_path, text)[1]
