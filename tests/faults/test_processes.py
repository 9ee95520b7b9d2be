"""Kill and freeze every process of a leader, with nasty programs as its command, and judge from what these wrote down.

For each fault: no overlap, no orphan, and the next command in time. `make faults-process` does each 20 times.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.rig import written
from lab.rig.rig import Member, RigError, now_s
from lab.rig.written import Start
from tests.faults.campaign import Campaign, Case, Run
from tests.faults.conftest import COORDINATORS, OWN, SHARED
from tests.faults.scene import NOISE_S, Scene, scene
from tests.promises import broken

INSTANT_LIMIT_S = 1.0
"""What a command may still do between the thaw of a whole machine and its end. Only fencing closes this."""
SILENCE = "was silent for"
"""Stands in the cause of a term that an heir began because it had waited for the lease (`asking._take`)."""
PATIENT_S = 10.0
"""A lease that is far longer than anything that a busy machine adds."""
BEHAVIOURS = ("ordinary", "ignores-term", "daemon", "stops-itself", "floods")
ALONE = ("ordinary", "ignores-term", "floods")
"""Behaviours without descendants that leave their parents."""


DONE = {signal.SIGKILL: "killed", signal.SIGSTOP: "frozen", signal.SIGTERM: "stopped", 0: "ordered"}


@dataclass(frozen=True)
class Fault:
    """What is done to the leader."""

    parts: tuple[str, ...]
    number: int = signal.SIGKILL
    """0: nothing is sent, and an order is written into the store."""
    lease: bool = False
    """Whether nobody can prove the command's end to the heirs, so that they wait for the lease."""

    def __str__(self) -> str:
        return f"{'+'.join(self.parts)} {DONE[self.number]}"

    def is_told(self, play: Scene) -> bool | None:
        """Whether the next one takes charge because of a release (True), or of the leader's silence; None: of either.

        A will is carried out by a program that is started for it: on a busy machine that can take longer than a short lease.
        """
        if self.parts == ("member", "backstop"):
            return None
        if self.parts == ("member",) and self.number == signal.SIGKILL and play.timings.ttl_s < PATIENT_S:
            return None
        return not self.lease

    def limit_s(self, play: Scene) -> float:
        """From the fault to the next command's first line, as promised."""
        timings = play.timings
        if self.lease:
            return timings.ttl_s + timings.check_in_s + 0.5
        return timings.ttl_s - timings.check_in_s  # before any lease could have run out


KILLED = [
    Fault(("command",)),
    Fault(("guard",)),
    Fault(("backstop",)),
    Fault(("guard", "backstop")),
    Fault(("member",)),
    Fault(("member", "backstop"), lease=True),  # the guard may have been told first that its member lives: then no will
    Fault(("member", "guard")),  # the backstop proves, and carries out the will
]
ALL_KILLED = Fault(("member", "guard", "backstop"), lease=True)
FROZEN = [
    Fault(("guard",), signal.SIGSTOP),
    Fault(("member",), signal.SIGSTOP, lease=True),
    Fault(("member", "guard"), signal.SIGSTOP, lease=True),
    Fault(("guard", "backstop"), signal.SIGSTOP),
    Fault(("tree",), signal.SIGSTOP, lease=True),
]
ORDERLY = [Fault(("member",), signal.SIGTERM), Fault(("switchover",), 0)]


def carry_out(play: Scene, fault: Fault) -> Run:
    """Do it to the leader of a whole line, and wait until the line is whole again."""
    play.fill()
    run = Run()
    leader, before, at = strike(play, fault)
    after = play.next_start(before, fault.limit_s(play) + NOISE_S + play.timings.ttl_s)
    run.gap_s = after.from_s - at
    run.late = run.gap_s > fault.limit_s(play)
    if run.gap_s > fault.limit_s(play) + NOISE_S:
        run.wrong.append(f"the next command came after {run.gap_s:.2f} s, promised are {fault.limit_s(play):.2f} s")
    judge_cause(play, fault, before, run)
    if fault.number == signal.SIGSTOP:
        play.wait_until(at + play.timings.ttl_s + play.timings.check_in_s)
        thaw(play, leader, fault, before, run)
    if fault.parts == ("command",):
        # Its command has failed, and again and again: that is a crash loop, which is another test's matter.
        leader.signal("member", signal.SIGTERM)
        play.wait_for(lambda: leader.process.poll() is not None, "the end of the member", 10)
    if fault.number == signal.SIGTERM:
        play.wait_for(lambda: leader.process.poll() is not None, "the end of the member", 10)
        if leader.process.returncode != 0:
            run.wrong.append(f"{leader.host} ended with {leader.process.returncode}\n{play.story()}")
    play.fill()
    _, now = play.whole()
    if fault.number in (signal.SIGSTOP, 0) and leader.process.poll() is None:
        judge_place(play, leader, run)
    play.judge(now, run)
    return run


def judge_cause(play: Scene, fault: Fault, before: Start, run: Run) -> None:
    """How long it took says little on a busy machine: a will that is never carried out costs no more than a lease."""
    because = play.why_after(before)
    silent, told = SILENCE in because, fault.is_told(play)
    if because and told is not None and silent == told:
        wanted = "a release" if told else "the leader's silence"
        run.wrong.append(f"the next one should have taken charge because of {wanted}, and did because: {because}")


def strike(play: Scene, fault: Fault) -> tuple[Member, Start, float]:
    """All parts of the leader before anything can react; returns the leader, its start and the moment."""
    while True:
        leader, before = play.whole()
        leader.ask()
        if fault.number == signal.SIGKILL:
            at = now_s()
            leader.kill(*fault.parts)
            return leader, before, at
        if fault.number == signal.SIGTERM:
            leader.signal("member", signal.SIGTERM)
            return leader, before, now_s()
        if fault.number == 0:
            at = now_s()
            order_a_switchover(play)
            return leader, before, at
        for part in fault.parts:
            leader.signal(part, fault.number)
        at = now_s()
        if not holds_the_file(play):
            return leader, before, at
        for part in fault.parts:
            leader.signal(part, signal.SIGCONT)
        play.wait_until(now_s() + play.timings.ttl_s)  # what the others could not read is forgotten by then


def order_a_switchover(play: Scene) -> None:
    """As a person does."""
    words = [sys.executable, "-m", "heirflow", "switchover", play.rig.election, "--no-wait"]
    done = subprocess.run(
        words, env={**os.environ, "HEIRFLOW_DB_URL": play.rig.url}, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr


def holds_the_file(play: Scene) -> bool:
    """Whether SQLite's file is held by who was frozen in the middle of a write: nobody else can lead then (docs/safety.md)."""
    if not play.rig.url.startswith("sqlite"):
        return False
    with contextlib.closing(sqlite3.connect(play.folder / "line.db", timeout=1.0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
    return False


def judge_place(play: Scene, leader: Member, run: Run) -> None:
    """Who was silent, or has handed over, stands at the end of the line, as soon as it has asked."""
    places: dict[str, int] = {}

    def is_last() -> bool:
        places.update({host: (member.ask() or {}).get("place") or 0 for host, member in play.rig.members.items()})
        return max(places, key=lambda host: places[host]) == leader.host and places[leader.host] == len(places) - 1

    try:
        play.wait_for(is_last, "", play.timings.ttl_s + NOISE_S)
    except RigError:
        run.wrong.append(f"{leader.host} led before and does not stand at the end of the line: {places}")


def thaw(play: Scene, leader: Member, fault: Fault, before: Start, run: Run) -> None:
    """Let the frozen go on. A whole tree may write for an instant: that is measured, and only that is forgiven."""
    pids = play.processes(before)
    if fault.parts != ("tree",):
        if pids:
            run.wrong.append(broken(f"the command of a frozen {fault} still has processes: {pids}"))
        for part in fault.parts:
            leader.signal(part, signal.SIGCONT)
        return
    ours = [leader.seen[part] for part in ("member", "backstop", "guard")]
    order = [*pids, *ours]
    random.shuffle(order)
    thawed_at = now_s()
    for pid in order:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    play.wait_for(lambda: not play.processes(before), broken("the thawed command's end"), 10)
    old = written.start_of(before.path)
    assert old is not None
    run.instant_s = max(0.0, old.to_s - thawed_at)
    if run.instant_s > INSTANT_LIMIT_S:
        run.wrong.append(f"the thawed command wrote for {run.instant_s:.2f} s")
    play.forgive(before, thawed_at)


_numbers = itertools.count()


def opener(kind: str, behaviour: str, ttl_s: float) -> Callable[[], AbstractContextManager[Scene]]:
    """Makes the scene of a lane."""

    def open_scene() -> AbstractContextManager[Scene]:
        folder = Path(SHARED["folder"], f"process-{next(_numbers)}")  # short: the paths of sockets must be
        url = f"sqlite:///{folder / 'line.db'}" if kind == "sqlite" else SHARED[kind]
        return scene(url, folder, behaviour=behaviour, ttl_s=ttl_s)

    return open_scene


def cases_of(kind: str, behaviour: str, faults: list[Fault], ttl_s: float = 3.0) -> Iterator[Case]:
    """One lane."""
    open_scene = opener(kind, behaviour, ttl_s)
    lane = f"{kind} {behaviour}" + (" patient" if ttl_s >= PATIENT_S else "")
    for fault in faults:
        yield Case(lane, str(fault), open_scene, lambda play, fault=fault: carry_out(play, fault))


FAULTS = [*KILLED, *FROZEN]
FEW = [KILLED[0], KILLED[1], KILLED[4], KILLED[6], FROZEN[1], FROZEN[-1]]


def turned(faults: list[Fault], by: int) -> list[Fault]:
    """So that not all lanes do the same costly thing at the same time."""
    return faults[by:] + faults[:by]


CASES = [
    *(
        case
        for lane, behaviour in enumerate(BEHAVIOURS)
        for case in cases_of(
            "postgres", behaviour, turned([*FAULTS, *([ALL_KILLED] if behaviour in ALONE else [])], 2 * lane)
        )
    ),
    *cases_of("sqlite", "ordinary", FEW),
    *cases_of("mariadb", "daemon", turned(FEW, 3)),
    *(
        case
        for kind in OWN
        for case in cases_of(kind, "ordinary", turned([*FAULTS, ALL_KILLED, *ORDERLY], 6 * OWN.index(kind)))
    ),
    *cases_of("consul", "ordinary", [*FEW, ALL_KILLED, *ORDERLY]),
    *(
        case
        for kind in ("postgres", "sqlite", "mariadb", *COORDINATORS)
        for case in cases_of(kind, "ordinary", [KILLED[4]], PATIENT_S)
    ),
]


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_of_a_process(case: Case, campaign: Campaign) -> None:
    for run in campaign.result(case, 7000):
        if run.instant_s is not None:
            print(f"from the thaw to the command's last line: {1000 * run.instant_s:.1f} ms")
