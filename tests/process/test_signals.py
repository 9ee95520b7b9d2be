"""What a whole member does with signals, as shells, terminals and service managers send them."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from heirflow.guard.processes import lives
from lab.rig.rig import Rig
from tests.process import evidence
from tests.process.stage import wait_until
from tests.process.test_the_member import Alone, of_status

# A signal that comes between Python's last look and the kernel's sleep is handled only when the sleep is over, and a busy host
# makes that instant long. So the recorder does not sleep: Python's own handler writes a byte for each signal, and it reads those.
RECORDER = """
import os, signal, sys, time
told, patience_s = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), float(sys.argv[2])
def hear(number, frame):
    os.write(told, signal.Signals(number).name.encode() + b"\\n")
    if number == signal.SIGTERM:
        time.sleep(patience_s)
        os.write(told, b"ended\\n")
        os._exit(0)
for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH"):
    signal.signal(getattr(signal, "SIG" + name), hear)
came, comes = os.pipe()
os.set_blocking(comes, False)
signal.set_wakeup_fd(comes)
os.write(told, b"began\\n")
while True:
    os.read(came, 1)
"""
PASSED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
BLOCKED = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); "
BLOCKED += "os.execvp(sys.argv[1], sys.argv[1:])"
# As a terminal starts its first program: a session of its own, with this terminal.
IN_TERMINAL = "import os, sys; os.setsid(); os.close(os.open(sys.argv[1], os.O_RDWR)); "
ALONE_IN_TERMINAL = IN_TERMINAL + "os.execvp(sys.argv[2], sys.argv[2:])"
# A shell with a job in the background; like zsh, it passes HUP on when it is to end, and its terminal goes with it.
IN_BACKGROUND = IN_TERMINAL + (
    "import signal, subprocess;"
    "job = subprocess.Popen(sys.argv[2:], preexec_fn=os.setpgrp);"
    "signal.signal(signal.SIGUSR1, lambda *_: (job.send_signal(signal.SIGHUP), os._exit(0)));"
    "job.wait()"
)


class Recorded(Alone):
    """A member whose command writes down which signals it hears."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.heard_file = folder / "heard"
        self.patience(0.0)

    def patience(self, patience_s: float) -> None:
        """How long the command takes to end when it is asked to."""
        self.program = [sys.executable, "-S", "-c", RECORDER, str(self.heard_file), str(patience_s)]

    def begin(self, *enter: str, stderr: int | None = None) -> int:
        self.start(enter=enter, stderr=stderr)
        wait_until(self.heard, "the command's first word")
        return int(self.facts()["pid"])

    def heard(self) -> list[str]:
        return self.heard_file.read_text().split() if self.heard_file.exists() else []

    def ends(self, limit_s: float = 20.0) -> int:
        assert self.member is not None
        try:
            return self.member.wait(limit_s)
        except subprocess.TimeoutExpired:
            told = f"the command heard {self.heard()}\n{self.log.read_text()}\n{evidence.of(self.pid)}"
        raise AssertionError(f"the member did not end within {limit_s:g} s; {told}")


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    made = Recorded(tmp_path)
    # `nohup make test &`: what is ignored here would be ignored in the member too.
    ignored = [number for number in PASSED if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield made
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    if made.member is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(made.facts().get("pid") or made.pid), signal.SIGKILL)
        made.member.kill()
        made.member.wait()


@pytest.fixture
def terminal() -> Iterator[list[int]]:
    """Both ends of a terminal; closing the first one closes the terminal."""
    ends = list(pty.openpty())
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):
            os.close(fd)


def test_signals_that_were_blocked_at_the_start_are_heard(recorded: Recorded) -> None:
    member = recorded.begin(sys.executable, "-c", BLOCKED)
    os.kill(member, signal.SIGTERM)
    assert recorded.ends() == 0
    assert recorded.heard() == ["began", "SIGTERM", "ended"]


def test_a_signal_that_wakes_another_thread_is_heard_at_once(tmp_path: Path) -> None:
    """Handlers run in the main thread, which an heir's loop lets sleep for a whole check-in, 12 s here. One that comes just before
    that sleep begins wakes it no more than one that the kernel gives to another thread, and that can be had at will."""
    with Rig(f"sqlite:///{tmp_path / 'line.db'}", tmp_path, ttl_s=60.0) as rig:
        rig.add("leader")
        rig.wait_for_leader()
        heir = rig.add("heir")
        rig.wait_for_line(2)
        time.sleep(0.3)  # until it sleeps, after it was asked
        other = next(thread for thread in threads(heir.process.pid) if thread != heir.process.pid)
        os.kill(other, signal.SIGTERM)  # for the process, and the kernel wakes the thread that is named if it can
        assert heir.process.wait(5.0) == 0, rig.story()


def line_in(file: Path) -> list[str]:
    """The members there."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return [name for (name,) in connection.execute("SELECT id FROM heirflow_member")]


HEIR_IN_PYTHON = """
import sys
from heirflow import Election
print("stands", flush=True)
Election("jobs", db_url=sys.argv[1], host="heir", ttl_s=60).run(lambda lead: lead.stopping.wait())
"""


def test_the_same_for_a_python_program(tmp_path: Path) -> None:
    with Rig(f"sqlite:///{tmp_path / 'line.db'}", tmp_path, ttl_s=60.0, election="jobs") as rig:
        rig.add("leader")
        rig.wait_for_leader()
        command = [sys.executable, "-c", HEIR_IN_PYTHON, f"sqlite:///{tmp_path / 'line.db'}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as heir:
            try:
                wait_until(lambda: len(line_in(tmp_path / "line.db")) == 2, "both stand in line")
                time.sleep(0.5)  # until it sleeps
                other = next(thread for thread in threads(heir.pid) if thread != heir.pid)
                os.kill(other, signal.SIGTERM)
                assert heir.wait(5.0) == 0
            finally:
                heir.kill()


def threads(pid: int) -> list[int]:
    """Those that hear TERM."""
    found = sorted(int(entry) for entry in os.listdir(f"/proc/{pid}/task"))
    return [thread for thread in found if not int(of_status(thread, "SigBlk"), 16) >> (signal.SIGTERM - 1) & 1]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name)
def test_what_was_ignored_at_the_start_stays_ignored(recorded: Recorded, number: signal.Signals) -> None:
    member = recorded.begin("sh", "-c", f"trap '' {number.name[3:]}; exec \"$@\"", "sh")
    os.kill(member, number)
    os.kill(member, signal.SIGUSR1)  # the one after it comes through
    wait_until(lambda: "SIGUSR1" in recorded.heard(), "SIGUSR1")
    assert recorded.heard() == ["began", "SIGUSR1"]
    assert recorded.facts()["leader"]


def test_term_stops_also_where_it_was_ignored_at_the_start(recorded: Recorded) -> None:
    os.kill(recorded.begin("sh", "-c", "trap '' TERM; exec \"$@\"", "sh"), signal.SIGTERM)
    assert recorded.ends() == 0


def test_without_a_terminal_every_other_signal_is_for_the_command(recorded: Recorded) -> None:
    member = recorded.begin("setsid")
    for name in ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH"):
        os.kill(member, getattr(signal, name))
        wait_until(lambda name=name: name in recorded.heard(), name)
    assert recorded.facts()["leader"]


def test_a_terminal_that_is_closed_is_an_orderly_stop(recorded: Recorded, terminal: list[int]) -> None:
    recorded.begin(sys.executable, "-c", ALONE_IN_TERMINAL, os.ttyname(terminal[1]))
    os.close(terminal[0])
    assert recorded.ends() == 0
    assert recorded.heard() == ["began", "SIGTERM", "ended"]
    assert "stopped by SIGHUP, because its terminal is gone" in recorded.log.read_text()


def test_a_shell_that_ends_with_its_terminal_is_an_orderly_stop(recorded: Recorded, terminal: list[int]) -> None:
    member = recorded.begin(sys.executable, "-c", IN_BACKGROUND, os.ttyname(terminal[1]))
    os.kill(recorded.pid, signal.SIGUSR1)
    wait_until(lambda: not lives(member), "the member's end")
    assert recorded.heard() == ["began", "SIGTERM", "ended"]
    assert "released term 1" in recorded.log.read_text()


def test_a_hang_up_on_purpose_beside_an_open_terminal_is_for_the_command(
    recorded: Recorded, terminal: list[int]
) -> None:
    member = recorded.begin(sys.executable, "-c", ALONE_IN_TERMINAL, os.ttyname(terminal[1]))
    os.kill(member, signal.SIGHUP)
    wait_until(lambda: "SIGHUP" in recorded.heard(), "SIGHUP")
    assert recorded.facts()["leader"]


def test_a_terminal_that_stops_writers_in_the_background_stops_no_member(
    recorded: Recorded, terminal: list[int]
) -> None:
    settings = termios.tcgetattr(terminal[1])
    settings[3] |= termios.TOSTOP
    termios.tcsetattr(terminal[1], termios.TCSANOW, settings)
    member = recorded.begin(sys.executable, "-c", IN_BACKGROUND, os.ttyname(terminal[1]), stderr=terminal[1])
    assert lives(member) and recorded.facts()["leader"]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_second_order_at_once_is_the_same_order(recorded: Recorded, second: signal.Signals) -> None:
    recorded.patience(2.0)
    member = recorded.begin()
    os.kill(member, signal.SIGTERM)
    wait_until(lambda: "SIGTERM" in recorded.heard(), "the command's TERM")
    os.kill(member, second)
    assert recorded.ends() == 0
    assert recorded.heard() == ["began", "SIGTERM", "ended"]


def test_a_second_order_later_kills(recorded: Recorded) -> None:
    recorded.patience(60.0)
    member = recorded.begin()
    os.kill(member, signal.SIGTERM)
    time.sleep(1.1)
    os.kill(member, signal.SIGTERM)
    assert recorded.ends(10.0) == 0
    assert recorded.heard() == ["began", "SIGTERM"]
    assert "SIGTERM again: the command is killed" in recorded.log.read_text()
