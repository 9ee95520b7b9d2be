"""`heirflow once` with real processes: one host per due time, another when that one dies, and never two at once."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heirflow.election.record import CheckIn, Event, Exchange, Record, Swap, What
from heirflow.guard.why import Why
from heirflow.member.guard_events import Gone
from heirflow.member.once import Once
from heirflow.stores import open_store
from lab.servers.servers import postgres_server
from tests.process.stage import wait_until

CONFLICT = 9
INSTANT_S = 0.5
WORK = """
import os, sys, time
path, work_s, code = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
boot = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
def write(what):
    with open(path, "a") as file:
        file.write(f"{os.getpid()} {boot()} {what}\\n")
write("begins")
until = boot() + work_s
while boot() < until:
    write("runs")
    time.sleep(0.005)
write("ends")
sys.exit(code)
"""
"""The command: it tells all the time that it runs."""


class Night:
    """A line in a store, and what its command wrote."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.written = folder, folder / "written"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("HEIRFLOW_", "XDG_"))}
        self.env |= {"HEIRFLOW_DB_URL": url, "HEIRFLOW_RUN_DIR": str(folder / "run"), "HOME": str(folder)}
        self.calls: list[subprocess.Popen[str]] = []

    def call(
        self, host: str, *, every: str | None = "1h", name: str = "nightly", work_s: float = 0.3, code: int = 0
    ) -> subprocess.Popen[str]:
        """As a host's cron does."""
        words = [sys.executable, "-m", "heirflow", "once", "--name", name, "--host", host, "--ttl", "3s", "-v"]
        words += ["--conflict-exit-code", str(CONFLICT), *(["--every", every] if every else [])]
        words += ["--", sys.executable, "-S", "-c", WORK, str(self.written), str(work_s), str(code)]
        log = (self.folder / f"log-{len(self.calls)}").open("w")
        self.calls.append(subprocess.Popen(words, env=self.env, stderr=log, stdout=log, text=True))
        log.close()
        return self.calls[-1]

    def lines(self, what: str) -> list[tuple[int, float]]:
        """(pid, when) of what the commands wrote."""
        if not self.written.exists():
            return []
        words = [line.split() for line in self.written.read_text().splitlines()]
        return [(int(pid), float(at)) for pid, at, said in words if said == what]

    def runs(self, thawed_s: float | None = None) -> int:
        """How many commands ran to their end; asserts that never two ran at once.

        A command that was frozen beyond its lease may go on for an instant from `thawed_s` on, until its guard kills it.
        """
        spans: dict[int, list[float]] = {}
        for what in ("begins", "runs", "ends"):
            for pid, at in self.lines(what):
                if thawed_s is None or not thawed_s <= at < thawed_s + INSTANT_S:
                    spans.setdefault(pid, []).append(at)
        ordered = sorted((min(at), max(at)) for at in spans.values())
        for (_, end), (begin, _) in itertools.pairwise(ordered):
            assert end < begin, f"two ran at once: {ordered}"
        return len(self.lines("ends"))

    def wait_for_begin(self, number: int = 1) -> None:
        wait_until(
            lambda: len(self.lines("begins")) >= number, f"the command begins for the {number}. time: {self.told()}", 30
        )

    def wait_for_line(self, index: int, words: str = "joined the line") -> None:
        wait_until(lambda: words in self.told(index), f"{words}: {self.told(index)}", 30)

    def told(self, index: int | None = None) -> str:
        files = sorted(self.folder.glob("log-*")) if index is None else [self.folder / f"log-{index}"]
        return "\n".join(file.read_text() for file in files)

    def history(self, name: str = "nightly") -> list[tuple[str, str]]:
        words = [sys.executable, "-m", "heirflow", "history", name, "--json"]
        said = subprocess.run(words, env=self.env, capture_output=True, text=True, check=True).stdout
        return [(event["what"], event["because"]) for event in json.loads(said)["events"]]

    def later(self, seconds: float) -> None:
        """As if the last due time had been so much earlier (SQLite)."""
        with sqlite3.connect(self.folder / "line.db") as conn:
            ((note,),) = conn.execute("SELECT note FROM heirflow_election").fetchall()
            said = json.loads(note)
            said["once"]["at"] -= seconds
            conn.execute("UPDATE heirflow_election SET note = ?", [json.dumps(said)])
        conn.close()

    def end(self) -> None:
        for call in self.calls:
            if call.poll() is None:
                call.send_signal(signal.SIGCONT)
                call.terminate()
        for call in self.calls:
            try:
                call.wait(15)
            except subprocess.TimeoutExpired:
                call.kill()
                call.wait()


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    play = Night(tmp_path, f"sqlite:///{tmp_path}/line.db")
    yield play
    play.end()


def below(pid: int) -> list[int]:
    """The process and its descendants, the oldest first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(deeper for child in children for deeper in below(int(child)))]


def code(call: subprocess.Popen[str]) -> int:
    return call.wait(40)


def codes(*calls: subprocess.Popen[str]) -> list[int]:
    return sorted(code(call) for call in calls)


@pytest.mark.parametrize(("driver", "times"), [("psycopg", 20), ("sqlite", 3), ("pymysql", 3)])
def test_hosts_at_the_same_instant(tmp_path: Path, new_database: Callable, driver: str, times: int) -> None:
    night = Night(tmp_path, new_database(driver))
    try:
        for number in range(times):
            calls = [night.call(host, name=f"n{number}", work_s=0.05) for host in ("a", "b")]
            assert codes(*calls) == [0, CONFLICT], night.told()
            assert night.runs() == number + 1
    finally:
        night.end()


def test_each_due_time_once(night: Night) -> None:
    assert code(night.call("a")) == 0
    assert code(night.call("b")) == code(night.call("a")) == CONFLICT, (
        "a clock that is late belongs to the same due time"
    )
    night.later(0.8 * 3600)
    assert codes(night.call("b"), night.call("a")) == [0, CONFLICT]
    assert night.runs() == 2
    assert "missed" not in dict(night.history())


def test_the_exit_code_is_the_commands(night: Night) -> None:
    assert code(night.call("a", code=7)) == 7
    assert code(night.call("b")) == CONFLICT, "it has run: a failure is not repeated elsewhere"
    assert "the command exited with 7" in dict(night.history())["released"]


def test_a_command_that_cannot_run_leaves_it_to_others(night: Night) -> None:
    words = [sys.executable, "-m", "heirflow", "once", "--name", "nightly", "--every", "1h", "--", "./not-there"]
    answer = subprocess.run(words, env=night.env, capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (127, "heirflow: ./not-there does not exist\n")
    assert code(night.call("b")) == 0


def test_without_every_a_run_serves_who_waited(night: Night) -> None:
    first = night.call("a", every=None, work_s=6)
    night.wait_for_begin()
    second = night.call("b", every=None)
    night.wait_for_line(1)
    assert [code(first), code(second)] == [0, CONFLICT]
    assert code(night.call("b", every=None)) == 0
    assert night.runs() == 2


def test_missed_runs_are_told(night: Night) -> None:
    assert code(night.call("a")) == 0
    night.later(3 * 3600)
    assert codes(night.call("a"), night.call("b")) == [0, CONFLICT]
    missed = [because for what, because in night.history() if what == "missed"]
    assert len(missed) == 1 and missed[0].startswith("nobody ran it 2 times since ")


@pytest.mark.parametrize("wait", [True, False])
def test_the_runner_is_killed(night: Night, wait: bool) -> None:
    """Who waits takes the same due time over; where nobody does, the next call does."""
    first = night.call("a", work_s=20)
    night.wait_for_begin()
    second = night.call("b") if wait else None
    if wait:
        night.wait_for_line(1)
    first.kill()
    assert code(first) == -9
    assert code(second or night.call("b")) == 0
    assert night.runs() == 1 and len(night.lines("begins")) == 2
    dues = [because.rpartition("; due ")[2] for what, because in night.history() if what == "took charge"]
    assert len(dues) == 2 and dues[0] == dues[1], "the same due time"
    assert "missed" not in dict(night.history())
    assert code(night.call("a")) == CONFLICT


def test_a_host_that_was_lost_is_told_at_the_next_due_time(night: Night) -> None:
    first = night.call("a", work_s=60)
    night.wait_for_begin()
    for pid in below(first.pid):
        os.kill(pid, signal.SIGKILL)
    assert code(first) == -9
    night.later(3600)
    assert code(night.call("b")) == 0
    (missed,) = [because for what, because in night.history() if what == "missed"]
    assert "was begun by a-" in missed and missed.endswith("and never ended")
    assert night.runs() == 1


@pytest.mark.parametrize("frozen", ["member", "all"])
def test_the_runner_is_frozen_beyond_its_lease(night: Night, frozen: str) -> None:
    first = night.call("a", work_s=20)
    night.wait_for_begin()
    second = night.call("b")
    night.wait_for_line(1)
    stopped = below(first.pid) if frozen == "all" else [first.pid]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    assert code(second) == 0
    thawed_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    for pid in stopped:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            assert pid != first.pid
    assert code(first) == CONFLICT
    assert night.runs(thawed_s) == 1 and len(night.lines("begins")) == 2


def test_the_runner_is_asked_to_stop(night: Night) -> None:
    first = night.call("a", work_s=20)
    night.wait_for_begin()
    second = night.call("b")
    night.wait_for_line(1)
    first.terminate()
    assert [code(first), code(second)] == [75, 0]
    assert night.runs() == 1


def test_who_waits_is_asked_to_stop(night: Night) -> None:
    night.call("a", work_s=60)
    night.wait_for_begin()
    second = night.call("b")
    night.wait_for_line(1)
    second.terminate()
    assert code(second) == 75
    assert len(night.lines("begins")) == 1


def test_the_database_is_away(tmp_path: Path) -> None:
    """The command ends with its lease, and when the database is back it is run again, by one of them."""
    with postgres_server() as server:
        night = Night(tmp_path, server.url("psycopg"))
        try:
            calls = [night.call("a", work_s=8)]
            night.wait_for_begin()
            calls.append(night.call("b", work_s=1))
            night.wait_for_line(1)
            server.stop()
            wait_until(lambda: "could not renew" in night.told(0) or "lease" in night.told(0), night.told(0), 20)
            last = night.lines("runs")[-1]
            time.sleep(3.5)
            assert night.lines("runs")[-1][1] < last[1] + 3, "it runs beyond its lease"
            assert night.runs() == 0
            server.start()
            assert codes(*calls) == [0, CONFLICT], night.told()
            assert night.runs() == 1
        finally:
            night.end()


def test_a_swap_for_what_is_done_is_not_sent(tmp_path: Path) -> None:
    """The member may ask for it all the same: it learns of the stop and of the reading in any order."""
    store = open_store(f"sqlite:///{tmp_path}/line.db", call_limit_s=5)
    store.open()

    def call(name: str) -> Once:
        made = Once(name, 3600.0)
        made.exchange(store, "nightly", Exchange(check_in=CheckIn(name, "h", 1, ready=True), join=True))
        return made

    def swap(expected: int | None, term: int, leader: str | None) -> Exchange:
        record = Record((expected or 0) + 1, term, leader, 3.0)
        event = Event(What.TOOK_CHARGE if leader else What.RELEASED, term, leader or "", "because")
        takes_over = "" if leader else None
        return Exchange(
            swap=Swap(expected, record, event, takes_over=takes_over, expected_term=1 if expected else None)
        )

    a, b = call("a-1"), call("b-1")
    taken = a.exchange(store, "nightly", swap(None, 1, "a-1"))
    assert taken.swapped and taken.record == Record(1, 1, "a-1", 3.0), "the rules see nothing of the due time"
    b.exchange(store, "nightly", Exchange())
    a.saw([Gone(0, Why.ENDED)])
    assert a.exchange(store, "nightly", swap(1, 1, None)).swapped
    stopped: list[str] = []
    b.stop = stopped.append
    assert not b.served
    b.exchange(store, "nightly", Exchange())
    assert b.served and stopped[0].startswith("a-1 has run what was due ")
    late = call("c-1")
    unread = Once("d-1", 3600.0)
    for each in (b, late, unread):
        reading = each.exchange(store, "nightly", swap(2, 2, each.member))
        assert reading.swapped is False and reading.record is not None
        assert (reading.record.version, reading.record.leader) == (2, None)
    assert [event.what for event in store.events("nightly", 10)] == [What.TOOK_CHARGE, What.RELEASED]
    store.close()
