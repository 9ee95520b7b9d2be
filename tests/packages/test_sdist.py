"""Whoever builds a package from the sdist can run its quick tests there, with no checkout beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = "import sys; from hatchling.build import build_sdist; print(build_sdist(sys.argv[1]))"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (archive,) = folder.glob("*.tar.gz")
    subprocess.run(["tar", "xzf", archive, "-C", folder], check=True, timeout=60)
    return folder / archive.name.removesuffix(".tar.gz")


def pytest_there(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "HEIRFLOW_", "GIT_"))}
    environ = {**kept, "PYTHONPATH": f"{folder / 'src'}{os.pathsep}{folder}", "GIT_CEILING_DIRECTORIES": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no", *args],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=900,
    )


def test_every_test_of_it_can_be_read_there(unpacked: Path) -> None:
    done = pytest_there(unpacked, "--collect-only", "tests")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "tests/unit/test_wheel.py" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_unit_tests_pass_there(unpacked: Path) -> None:
    where = "import heirflow, lab, tests; print(heirflow.__file__)"
    environ = {**os.environ, "PYTHONPATH": f"{unpacked / 'src'}{os.pathsep}{unpacked}"}
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=unpacked, env=environ, capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith(str(unpacked)), "the checkout would be tested"
    done = pytest_there(unpacked, "tests/unit")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout.splitlines()[-1]
