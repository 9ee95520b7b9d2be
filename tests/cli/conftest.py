"""A store in a file, elections in it, and two ways to give a command line: within this process, and as people do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from heirflow.cli import main
from heirflow.election.record import CheckIn, Event, Exchange, Record, Swap, What
from heirflow.stores import Store, open_store
from tests.schemas import check_output

LIMIT_S = 30.0


@dataclass(frozen=True)
class Answer:
    """What a command line came to."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a working folder of their own, and none of this machine's settings."""
    for name in [name for name in os.environ if name.startswith(("HEIRFLOW_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HEIRFLOW_DB_URL", f"sqlite:///{tmp_path}/line.db")
    monkeypatch.setenv("HEIRFLOW_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def heirflow(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Give a command line within this process. What it writes with --json must be as its schema says."""

    def give(*args: str) -> Answer:
        capfd.readouterr()
        code = main(args)
        out, err = capfd.readouterr()
        check_output(args, out)
        return Answer(code, out, err)

    return give


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    """The store itself, with its tables."""
    store = open_store(os.environ["HEIRFLOW_DB_URL"], call_limit_s=5)
    store.open()
    yield store
    store.close()


@pytest.fixture
def line(store: Store) -> Callable[..., None]:
    """Write down an election as if members had: the first one leads."""

    def write(election: str, *members: str, ttl_s: float = 600.0, leads: bool = True) -> None:
        for name in members:
            store.exchange(election, Exchange(check_in=CheckIn(name, f"host-{name}", 4242, ready=True), join=True))
        leader = members[0] if leads and members else None
        record = Record(1, 1, leader, ttl_s, "it is the first of its line")
        event = Event(What.TOOK_CHARGE, 1, leader or "", record.because)
        store.exchange(election, Exchange(swap=Swap(None, record, event)))

    return write


@dataclass
class Started:
    """A member that runs as a process of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def told(self) -> str:
        return self.log.read_text("utf-8", "replace")


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Started]]:
    """Start `heirflow run` as people do; whatever still runs afterwards is stopped."""
    started: list[Started] = []

    def start(*args: str) -> Started:
        log = home / f"member-{len(started)}.log"
        with log.open("wb") as file:
            command = [sys.executable, "-m", "heirflow", "run", "--ttl", "3s", *args]
            process = subprocess.Popen(command, stderr=file, stdout=file, stdin=subprocess.DEVNULL)
        started.append(Started(process, log))
        return started[-1]

    yield start
    for member in started:
        if member.process.poll() is None:
            member.process.send_signal(signal.SIGCONT)
            member.process.terminate()
    for member in started:
        try:
            member.process.wait(10)
        except subprocess.TimeoutExpired:
            member.process.kill()
            member.process.wait()


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, with a limit."""
    ends_at = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < ends_at, f"{what}: not within {LIMIT_S:g} s"
        time.sleep(0.05)
