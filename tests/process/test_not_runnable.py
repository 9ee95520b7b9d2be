"""Where a program lies and where it is started, as whole processes: what cannot run is told, and takes no lead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.process.stage import SOURCE
from tests.process.test_another_user import NOBODY

PLAIN_USER = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
OPENED = (
    'mount --bind "$1" "$2" && mount -t tmpfs -o mode=755 none "$0" && mkdir -p "$1" && mount --bind "$2" "$1" && shift 2 '
    '&& exec "$@"'
)
TO = ["sh", "-c", 'cd "$0" && exec "$@"']

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root, to become another user"
)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that an ordinary user can reach."""
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:
        os.chown(folder, NOBODY, NOBODY)
        Path(folder).chmod(0o755)
        yield Path(folder)


def heirflow(home: Path, *command: str, enter: Sequence[str] = ()) -> tuple[int, str]:
    done = subprocess.run(
        [*enter, sys.executable, "-m", "heirflow", "run", "--name", "x", "--run-dir", str(home / "run"), "--on-exit",
         "exit", "--", *command],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "HOME": str(home), "HEIRFLOW_DB_URL": f"sqlite:///{home}/line.db"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def as_plain_user(home: Path, folder: Path) -> list[str]:
    """Words that start something in this folder as an ordinary user, for whom the interpreter is where it is for us."""
    prefix = Path(sys.base_prefix).resolve()
    closed = next((place for place in reversed(prefix.parents) if not place.stat().st_mode & 1), None)
    enter = [*TO, str(folder), *PLAIN_USER]
    if closed is None:
        return enter
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root can reach the interpreter, and nothing may be mounted here")
    (home / "held").mkdir()  # in a mount namespace, root's own folder is open, and has nothing but the interpreter
    return ["unshare", "-m", "sh", "-c", OPENED, str(closed), str(prefix), str(home / "held"), *enter]


def test_a_file_system_from_which_nothing_is_executed(home: Path) -> None:
    mounted = 'mount -t tmpfs -o noexec none "$0" && cp "$1" "$0/program" && shift && exec "$@"'
    (home / "disk").mkdir()
    enter = ["unshare", "-m", "sh", "-c", mounted, str(home / "disk"), shutil.which("true") or "/bin/true"]
    if subprocess.run([*enter, "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    code, told = heirflow(home, str(home / "disk/program"), enter=enter)
    assert (code, "noexec" in told, "chmod" in told) == (126, True, False), told
    assert "took charge" not in told


def test_a_working_directory_that_may_not_be_entered(home: Path) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    code, told = heirflow(home, "true", enter=as_plain_user(home, closed))
    assert (code, "may not be entered" in told) == (126, True), told
    assert "took charge" not in told


@pytest.mark.parametrize("mode", [0o711, 0o755], ids=["unreadable", "readable"])
def test_a_working_directory_that_may_be_entered_will_do(home: Path, mode: int) -> None:
    place = home / "place"
    place.mkdir()
    place.chmod(mode)
    code, told = heirflow(home, "sh", "-c", "exit 3", enter=as_plain_user(home, place))
    assert (code, "took charge" in told) == (3, True), told


def test_a_program_that_is_for_others_only(home: Path) -> None:
    program = home / "program"
    program.write_bytes(b"#!/bin/sh\n")
    program.chmod(0o750)
    code, told = heirflow(home, str(program), enter=as_plain_user(home, home))
    assert (code, "may not be executed by this user" in told) == (126, True), told
