"""What a command can reach in the processes above it, as the same user: nothing with which it could speak in their name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.stage import SOURCE, wait_until
from tests.process.test_another_user import NOBODY, ORDINARY

REACHES_UP = Path(__file__).with_name("nasty") / "reaches_up.py"


NEEDS_ROOT = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs Linux, and root to become somebody else"
)


@NEEDS_ROOT
def test_a_command_reaches_nothing_of_its_guard_backstop_and_member(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    reached, line = tmp_path / "reached", f"sqlite:///{tmp_path}/line.db"
    words = ["-m", "heirflow", "run", "--name", "closed", "--run-dir", str(tmp_path / "run"), "--ttl", "3s"]
    # The shell starts the interpreter, which may lie in root's own folder.
    command = ["/bin/sh", "-c", 'exec "$@"', "sh", sys.executable, "-S", str(REACHES_UP), str(reached)]
    environ = {**os.environ, "PYTHONPATH": str(SOURCE), "HOME": str(tmp_path), "HEIRFLOW_DB_URL": line}
    with (tmp_path / "journal").open("wb") as journal:
        member = subprocess.Popen(
            [*ORDINARY, sys.executable, *words, "--", *command], cwd=tmp_path, env=environ, stderr=journal
        )
        try:
            wait_until(reached.exists, "what it reached", limit_s=20.0)
        finally:
            member.terminate()
            assert member.wait(20) == 0, (tmp_path / "journal").read_text()
    told = json.loads(reached.read_text())
    assert set(told["own"]) >= {"descriptors", "environ", "mem"}, "nothing else forbids it here"
    assert (told["guard"], told["backstop"], told["member"]) == ([], [], [])


def is_closed(pid: int) -> bool:
    """The kernel gives the files of a process that may not be dumped to root. Before its exec, it is root's anyway."""
    runs = Path(f"/proc/{pid}/cmdline").read_bytes().startswith(os.fsencode(sys.executable))
    return runs and Path(f"/proc/{pid}/environ").stat().st_uid == 0


@NEEDS_ROOT
def test_a_member_is_closed_before_it_looks_for_its_settings(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    os.mkfifo(url := tmp_path / "db-url")
    os.chown(url, NOBODY, NOBODY)
    words = ["-m", "heirflow", "run", "--name", "closed", "--db-url-file", str(url), "--", "true"]
    environ = {**os.environ, "PYTHONPATH": str(SOURCE), "HOME": str(tmp_path)}
    member = subprocess.Popen([*ORDINARY, sys.executable, *words], cwd=tmp_path, env=environ)
    try:
        writer = wait_until(lambda: waits_for_a_writer(url), "a member that reads where its database is", limit_s=20.0)
        assert is_closed(member.pid)
        os.close(writer - 1)
    finally:
        member.kill()
        member.wait()


def waits_for_a_writer(fifo: Path) -> int:
    """One more than a descriptor, once somebody is there to read; until then 0."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK) + 1
    except OSError:
        return 0


@NEEDS_ROOT
def test_the_helper_of_a_will_is_closed() -> None:
    words = [sys.executable, "-I", "-S", "-E", str(SOURCE / "heirflow/alone/will_helper.py")]
    other = [sys.executable, "-c", "import os; input(); print(os.stat('/proc/self/environ').st_uid == 0 and 1 or 0)"]
    helper, own = (
        subprocess.Popen([*ORDINARY, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for argv in (words, other)
    )
    try:
        wait_until(lambda: is_closed(helper.pid), "a helper that is closed to its own user", limit_s=5.0)
        own.stdin.write(b"\n")
        own.stdin.flush()
        assert own.stdout.readline() == b"0\n", "any other program lies open"
    finally:
        for process in (helper, own):
            process.kill()
            process.communicate()
