"""Fail-overs of the database: its standby takes over, and may have forgotten what was confirmed.

The *forgetful* ones bring about what is worst: the standby's last news is that the record is vacant. A leader takes charge after
that, confirmed by the old primary. Then the standby takes over, and meets one who never led or saw that term: an heir that had
been cut off, and a newcomer. Neither can tell from the record that somebody leads, and the leader's command runs on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence

from lab.campaign.plan import Fault
from lab.campaign.stage import NotNow, Stage, Strike

STEP_LIMIT_S = 15.0


def _promoted(*, synchronous: bool) -> Strike:
    @contextlib.contextmanager
    def promoted(stage: Stage, fault: Fault, _host: str) -> Iterator[None]:
        stage.database.fail_over(lag_s=None if synchronous else fault.hold_s, wait=stage.wait)
        yield

    return promoted


@contextlib.contextmanager
def _cut_standby(stage: Stage, _fault: Fault, _host: str) -> Iterator[None]:
    """Nobody's commit is confirmed: the primary waits for a standby that does not hear it."""
    stage.database.part(True)
    try:
        yield
    finally:
        stage.database.part(False)


@contextlib.contextmanager
def _promoted_cut_off(stage: Stage, _fault: Fault, _host: str) -> Iterator[None]:
    """As the one before, and then the standby takes over: what the primary wrote meanwhile is forgotten, and was not confirmed."""
    stage.database.part(True)
    yield
    stage.database.take_over()


def _forgetful(leader_is: str, *, given_up: bool = False) -> Strike:
    """The standby forgets who took charge.

    `leader_is`: ``cut off`` from everybody; ``unreached``: from the new primary only; or ``reached`` by it. `given_up`: the standby
    was a synchronous one, for which the primary's commits wait until somebody tells it to go on alone; else an asynchronous one.
    """

    @contextlib.contextmanager
    def forgetful(stage: Stage, _fault: Fault, _host: str) -> Iterator[None]:
        base, ground = stage.database, stage.ground
        leader, heir, newcomer = _three(stage)
        try:
            _silence(stage, [heir], True)
            _vacate(stage, leader, newcomer)
            base.in_step()
            if not given_up:
                base.synchronous(False)
            base.part(True)
            stage.start(leader)
            if given_up:
                stage.wait(0.5)
                base.synchronous(False)
            _await(stage, lambda: _leads(stage, leader), f"{leader} did not take charge")
            _silence(stage, [newcomer], True)
            stage.start(newcomer)
            _await(stage, lambda: stage.member(newcomer).ask(0.3) is not None, f"{newcomer} did not start")
            if leader_is == "cut off":
                _silence(stage, [leader], True)
            elif leader_is == "unreached":
                ground.severed |= {(leader, base.standby_host), (base.standby_host, leader)}
                ground.apply()
            base.take_over()
            _silence(stage, [heir, newcomer], False)
            yield
        finally:
            ground.severed.clear()
            _silence(stage, [leader, heir, newcomer], False)
            if base.standby.pid is not None:
                base.synchronous(True)  # it did not come to a fail-over

    return forgetful


def _three(stage: Stage) -> Sequence[str]:
    """The host of the leader, and two others with a member; the heir's is the first of these."""
    living = [host for host in stage.ground.cables if _place(stage, host) is not None]
    order = sorted(living, key=lambda host: _place(stage, host) or 0)
    if len(order) != 3 or not _leads(stage, order[0]):
        raise NotNow("a forgetful fail-over needs a leader and two others")
    return order


def _place(stage: Stage, host: str) -> int | None:
    with contextlib.suppress(NotNow):
        fact = stage.member(host).ask(0.3)
        if fact is not None:
            return 0 if fact["leader"] else int(fact["place"] or 9)
    return None


def _vacate(stage: Stage, leader: str, other: str) -> None:
    """Leave a vacant record and nobody in reach: the other leaves, and the leader's member is killed, whose will releases."""
    member = stage.member(other)
    member.process.send_signal(signal.SIGTERM)
    try:
        member.process.wait(STEP_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise NotNow(f"{other} did not leave") from None
    os.kill(stage.member(leader).process.pid, signal.SIGKILL)
    stage.member(leader).process.wait(STEP_LIMIT_S)
    vacant = f"SELECT count(*) FROM heirflow_election WHERE name = '{stage.election}' AND leader IS NULL"
    _await(stage, lambda: stage.database.server.sql(vacant) == "1", f"the term of {leader} was not released")


def _await(stage: Stage, found: Callable[[], bool], otherwise: str) -> None:
    for _ in range(int(STEP_LIMIT_S / 0.05)):
        if found():
            return
        if stage.wait(0.05):
            break
    raise NotNow(otherwise)


def _leads(stage: Stage, host: str) -> bool:
    fact = stage.member(host).ask(0.3)
    return fact is not None and bool(fact["leader"] and fact["command_pid"])


def _silence(stage: Stage, hosts: Sequence[str], on: bool) -> None:
    """Nothing that these hosts send arrives, nor what is sent to them."""
    for host in hosts:
        stage.ground.cables[host].drop_from = stage.ground.cables[host].drop_to = on
    stage.ground.apply()


FAILOVERS: dict[str, Strike] = {
    "cut standby": _cut_standby,
    "promote cut off": _promoted_cut_off,
    "promote synchronous": _promoted(synchronous=True),
    "promote asynchronous": _promoted(synchronous=False),
    "forgetful asynchronous": _forgetful("cut off"),
    "forgetful cut off": _forgetful("cut off", given_up=True),
    "forgetful unreached": _forgetful("unreached"),
    "forgetful reached": _forgetful("reached"),
}
