"""What a whole member survives: a guard that cannot be had, a folder that is gone, and what its helpers leave behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from heirflow.errors import HeirflowError
from heirflow.guard.processes import children, lives, stat_of
from heirflow.member.door import ask
from tests.process.stage import SOURCE, wait_until
from tests.process.test_another_user import NOBODY

WITH_PYTHON = "import sys; sys.executable = sys.argv.pop(1); from heirflow.cli import main; sys.exit(main())"

READS_ALL = "+dac_read_search"  # the interpreter may lie in root's own folder
MAY_NOT_WRITE = [
    "setpriv",
    f"--reuid={NOBODY}",
    "--clear-groups",
    f"--inh-caps={READS_ALL}",
    f"--ambient-caps={READS_ALL}",
]


class Alone:
    """One member, leading, started by a Python that can be taken away, in a folder that can be too."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.python = folder, folder / "log", folder / "python"
        self.place = folder / "place"
        self.run_dir = Path(tempfile.mkdtemp(prefix="hf-"))  # short: the paths of sockets must be
        self.place.mkdir()
        self.python.symlink_to(sys.executable)
        self.program = ["sleep", "600"]
        self.member: subprocess.Popen[bytes] | None = None
        self.user = os.geteuid()
        """Whose the member is: a probe believes only members of the user who asks."""

    def start(self, *flags: str, enter: Sequence[str] = (), stderr: int | None = None) -> int:
        """Returns the command's pid. `enter`: words before the member's own. `stderr`: a descriptor instead of the log."""
        argv = [*enter, sys.executable, "-c", WITH_PYTHON, str(self.python), "run", "--name", "alone", "--ttl", "3s",
                "--db-url", f"sqlite:///{self.folder / 'line.db'}", "--run-dir", str(self.run_dir), *flags,
                "--", *self.program]  # fmt: skip
        own = {**os.environ, "PYTHONPATH": str(SOURCE)}
        with self.log.open("ab") as log:
            self.member = subprocess.Popen(
                argv, env=own, cwd=self.place, stdout=log, stderr=log if stderr is None else stderr
            )
        return self.command()

    @property
    def pid(self) -> int:
        assert self.member is not None
        return self.member.pid

    def facts(self) -> dict[str, Any]:
        us = os.geteuid()
        try:
            os.seteuid(self.user)
            return ask(self.run_dir, "alone", 2.0)
        except HeirflowError:
            return {}
        finally:
            os.seteuid(us)

    def command(self, other_than: int = 0) -> int:
        def found() -> int:
            pid = self.facts().get("command_pid") or 0
            return pid if pid != other_than else 0

        return int(wait_until(found, f"a command: {self.log.read_text()}", 30.0))

    def says(self, words: str, limit_s: float = 20.0, times: int = 1) -> None:
        wait_until(lambda: self.log.read_text().count(words) >= times, f"{words!r}: {self.log.read_text()}", limit_s)

    def asked(self, *words: str) -> str:
        """What another command says, once the member has checked in again."""
        time.sleep(1.0)
        own = {**os.environ, "PYTHONPATH": str(SOURCE), "HEIRFLOW_DB_URL": f"sqlite:///{self.folder / 'line.db'}"}
        argv = [sys.executable, "-m", "heirflow", *words]
        return subprocess.run(argv, env=own, capture_output=True, text=True, check=False, cwd=self.place).stdout

    def history(self, what: str) -> list[str]:
        """The sentences of the events of this kind."""
        with contextlib.closing(sqlite3.connect(self.folder / "line.db", timeout=5.0)) as connection:
            rows = connection.execute("SELECT because FROM heirflow_event WHERE what = ? ORDER BY id", [what])
            return [because for (because,) in rows]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Alone]:
    made = Alone(tmp_path)
    yield made
    if made.member is not None:
        made.member.kill()
        made.member.wait()
    shutil.rmtree(made.run_dir)


@pytest.mark.parametrize("part", ["guard", "backstop"])
def test_the_death_of_one_of_ours_is_one_event(alone: Alone, part: str) -> None:
    """Between the guard's word that the command is gone and its own end, the command was started again on it: two restarts."""
    command = alone.start()
    pid = alone.facts()["guard_pid"]
    os.kill(pid if part == "guard" else int(stat_of(pid)[1]), signal.SIGKILL)
    alone.command(other_than=command)
    alone.says("the command has started", times=2)
    wait_until(lambda: alone.history("restarted"), "the event is written", 10.0)
    assert alone.history("restarted") == [
        f"the command was killed: its {part} was killed; no heir is ready: it is started again here in 0 s"
    ]
    assert alone.log.read_text().count(f"its {part} was killed") == 1


def test_a_guard_that_cannot_be_had_is_tried_again(alone: Alone) -> None:
    command = alone.start()
    alone.python.unlink()
    os.kill(alone.facts()["guard_pid"], signal.SIGKILL)
    alone.says("the guard could not be started: No such file or directory")
    assert not lives(command)
    alone.python.symlink_to(sys.executable)
    again = alone.command(other_than=command)
    assert lives(again) and "Traceback" not in alone.log.read_text()


def test_a_quiet_member_tells_what_failed_and_nothing_else(alone: Alone) -> None:
    command = alone.start("--quiet")
    os.kill(alone.facts()["guard_pid"], signal.SIGKILL)
    alone.command(other_than=command)
    told = alone.log.read_text().splitlines()
    assert told and all(": warning: " in line for line in told)
    assert any("guard" in line for line in told)


def test_a_working_directory_that_is_gone_is_told_and_no_end(alone: Alone) -> None:
    alone.start()
    alone.place.rmdir()
    os.kill(alone.facts()["guard_pid"], signal.SIGKILL)
    alone.says(f"could not be started: No such file or directory: {alone.place}")
    assert lives(alone.pid) and "Traceback" not in alone.log.read_text()


def full_pipe() -> tuple[int, int]:
    """A pipe of this user's that is full."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"." * 4096):
            pass
    os.set_blocking(writer, True)
    return reader, writer


def test_another_users_pipe_that_nobody_reads_costs_no_lease(alone: Alone) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    for path in (alone.folder, alone.place, alone.run_dir):
        os.chown(path, NOBODY, NOBODY)
    alone.user = NOBODY
    reader, writer = full_pipe()
    try:
        alone.start(enter=MAY_NOT_WRITE, stderr=writer)
        for _ in range(10):  # two leases
            time.sleep(0.6)
            facts = alone.facts()
            assert (facts.get("term"), facts.get("leader")) == (1, True), facts
        assert alone.member is not None
        alone.member.send_signal(signal.SIGTERM)
        assert alone.member.wait(20) == 0
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_health_checks_that_hang_leave_no_zombies_and_end_with_their_member(
    alone: Alone, tmp_path: Path, how: signal.Signals
) -> None:
    looks = tmp_path / "looks"
    hangs = f"echo $PPID >> {looks}; sleep 601 & sleep 602"
    alone.start("--health-cmd", hangs, "--health-timeout", "1s")
    wait_until(lambda: looks.exists() and len(looks.read_text().split()) >= 8, "eight looks", 30.0)

    def dead() -> list[int]:
        return [pid for pid in children(alone.pid) if not lives(pid)]

    wait_until(lambda: not dead(), f"no zombie: {[stat_of(pid) for pid in dead()]}")
    group = int(looks.read_text().split()[-1])
    alone.member.send_signal(how)  # type: ignore[union-attr]
    assert alone.member.wait(20) == (0 if how == signal.SIGTERM else -how)  # type: ignore[union-attr]
    wait_until(lambda: not [pid for pid in of_group(group) if lives(pid)], "the end of the last look")


def test_a_command_that_no_longer_touches_its_file_is_replaced(alone: Alone, tmp_path: Path) -> None:
    alive, stays = tmp_path / "alive", tmp_path / "stays"
    works = f"while sleep 0.1; do [ -e {stays} ] || touch {alive}; done"
    alone.program = ["/bin/sh", "-c", works]
    first = alone.start("--health-file", str(alive), "--health-timeout", "2s", "--stop-timeout", "5s")
    time.sleep(4.0)
    assert alone.command() == first and "health check failed" not in alone.log.read_text()
    stays.touch()
    wait_until(lambda: f"{alive} has not been written to" in alone.log.read_text(), "its end", 15.0)
    stays.unlink()
    wait_until(lambda: alone.facts().get("command_pid") not in {None, first}, "another command", 15.0)
    assert f"warning: where the command stands: sh ({first}): sleeps" in alone.log.read_text()
    with contextlib.closing(sqlite3.connect(alone.folder / "line.db")) as store:
        (because,) = store.execute("SELECT because FROM heirflow_event WHERE what = 'restarted'").fetchone()
    assert f"{alive} has not been written to; its main thread sleeps" in because


def of_group(group: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and int(stat_of(int(entry))[2]) == group:
                found.append(int(entry))
        except OSError:
            continue
    return found


# It reads the byte that a signal writes: one that came just before a pause would be handled only after it.
ENDS_AT_USR1 = """
import os, signal, sys
came, comes = os.pipe()
os.set_blocking(comes, False)
signal.set_wakeup_fd(comes)
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))
os.read(came, 1)
"""


def test_the_stop_signal_is_the_one_that_was_named(alone: Alone) -> None:
    alone.program = [sys.executable, "-S", "-c", ENDS_AT_USR1]
    command = alone.start("--stop-signal", "usr1", "--stop-timeout", "20s")
    wait_until(lambda: int(of_status(command, "SigCgt"), 16) >> (signal.SIGUSR1 - 1) & 1, "a handler of USR1")
    assert alone.member is not None
    began = time.monotonic()
    alone.member.terminate()
    assert alone.member.wait(20) == 0
    assert time.monotonic() - began < 10
    assert "the command exited after being asked to stop" in alone.log.read_text()


def of_status(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [((), "the command runs without new privileges"), (("--allow-sudo",), "that never two run is not promised")],
    ids=["as it is", "--allow-sudo"],
)
def test_an_ordinary_user_is_told_what_makes_a_kill_sure(alone: Alone, flags: tuple[str, ...], words: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    for path in (alone.folder, alone.place, alone.run_dir):
        os.chown(path, NOBODY, NOBODY)
    alone.user = NOBODY
    command = alone.start(*flags, enter=MAY_NOT_WRITE)
    alone.says(words)
    assert of_status(command, "NoNewPrivs") == ("0" if flags else "1")
    assert alone.facts()["kill_is_sure"] is not bool(flags)
    for words in (("status", "alone"), ("doctor",)):
        told = alone.asked(*words)
        assert ("never two is not promised" in told) == bool(flags), told
