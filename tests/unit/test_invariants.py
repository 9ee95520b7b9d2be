"""What the types cannot say of a member, `invariants.check` says; and what runs goes through its states in order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heirflow.election import rules
from heirflow.election.invariants import check
from heirflow.election.record import Record
from heirflow.election.rules import decide
from heirflow.election.state import (
    NEVER,
    Doubting,
    Following,
    Idle,
    Leading,
    Leaving,
    Running,
    Starting,
    State,
    Stop,
    Stopping,
    Then,
    with_lead,
    with_stop,
    without_lead,
)
from heirflow.election.steps import (
    CommandEnding,
    CommandGone,
    CommandStarted,
    KillCommand,
    StartCommand,
    StopAsked,
    StopCommand,
    Tick,
    Unhealthy,
)
from tests.unit.election import Story, heir, leader, newcomer

LOST, LEAVE, REPLACE = (Stop(then, "because") for then in (Then.LOST, Then.LEAVE, Then.REPLACE))
LED: State = leader().state
FOLLOWED: State = heir().state
TIMINGS = heir().timings


def starting() -> Story:
    """Member b leads, and its guard has not answered yet: it was told to start the command at 0.02."""
    b = newcomer()
    b.answer(0.01)
    b.answer(0.02)
    return b


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (replace(FOLLOWED, command=Running(1.0)), "what runs without a lead"),
        (replace(FOLLOWED, command=Starting(1.0)), "what runs without a lead"),
        (replace(FOLLOWED, command=Stopping(REPLACE, 1.0)), "what runs without a lead"),
        (with_lead(FOLLOWED, Leading(1, 9.0)), "named by the record"),
        (with_lead(LED, Leading(2, 9.0)), "its own term"),
        (with_lead(LED, Doubting(1)), "when trust has ended"),
        (replace(FOLLOWED, command=Idle(after=LEAVE), leaving=Leaving("because")), "only a leader"),
        (replace(LED, command=Idle(after=LOST)), "decided when it is gone"),
        (replace(LED, command=Idle(after=REPLACE)), "decided when it is gone"),
        (replace(LED, command=Stopping(LEAVE, 1.0)), "only a member that leaves"),
        (replace(LED, leaving=Leaving("because")), "a member that leaves stops"),
        (replace(LED, done=True), "leaves nothing running"),
        (replace(LED, joined=False, drained=True), "stands in the line"),
        (replace(LED, serial=9, ask=heir().state.ask, news=True), "asked after at once"),
        (replace(newcomer().state, serial=9), "under way"),
        (replace(FOLLOWED, seat=replace(FOLLOWED.seat, highest_term=0)), "the highest"),
        (replace(newcomer().state, seat=replace(FOLLOWED.seat, record=Record(1, 1, "a", 10.0))), "was read"),
    ],
)
def test_what_cannot_be_is_refused(state: State, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check(state)


def test_what_can_be_is_not() -> None:
    for state in (
        LED,
        FOLLOWED,
        newcomer().state,
        replace(FOLLOWED, command=Stopping(LOST, 1.0)),
        with_lead(replace(LED, command=Stopping(LOST, 1.0)), Doubting(1)),
        replace(LED, command=Idle(after=Stop(Then.HAND_OVER, "because"))),
    ):
        check(state)


def test_decide_looks_at_what_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="what runs without a lead"):
        decide(replace(FOLLOWED, command=Running(1.0)), Tick(), 1.0, TIMINGS)
    looked: list[State] = []
    monkeypatch.setattr(rules.invariants, "check", looked.append)
    step = decide(LED, Tick(), 1.0, TIMINGS)
    assert looked == [step.state]


def test_a_command_is_starting_until_the_guard_says_that_it_runs() -> None:
    b = starting()
    b.did(StartCommand)
    assert b.state.command == Starting(0.02)
    b.at(0.5, CommandStarted())
    assert b.state.command == Running(0.5)


def test_what_is_starting_is_stopped_as_what_runs() -> None:
    for event in (Unhealthy("it does nothing"), StopAsked("stopped by SIGTERM")):
        b = starting()
        b.at(0.03, event)
        b.did(StopCommand)
        assert isinstance(b.state.command, Stopping) and b.state.command.since == 0.02
        b.at(0.04, CommandStarted())  # said before the guard heard of the stop
        assert isinstance(b.state.command, Stopping) and b.state.command.since == 0.04


def test_what_is_starting_when_trust_ends_is_killed() -> None:
    b = starting()
    b.at(9.02)
    b.did(KillCommand)
    assert b.state.seat.lead == Doubting(1) and b.state.term == 1 and b.state.trusted_until == NEVER
    b.at(9.5)
    assert b.did_not(KillCommand), "killed once"


def test_a_renewal_that_comes_late_makes_the_doubt_end_and_the_command_ends_all_the_same() -> None:
    b = leader()
    b.at(9.0)
    b.at(9.02)
    b.did(KillCommand)
    b.answer(9.03)
    assert b.state.seat.lead == Leading(1, 18.0) and b.state.losing
    b.at(9.1, CommandGone(-9, "the command was killed"))
    assert (b.state.seat.lead, b.state.command) == (Following(), Idle())


def test_what_never_started_counts_from_when_it_was_ordered() -> None:
    b = starting()
    b.at(0.5, CommandGone(127, "no such program"))
    assert (b.state.command, b.state.failures) == (Idle(), 1)


def test_who_is_told_that_the_lease_ends_loses_what_it_was_stopped_for() -> None:
    b = leader()
    b.at(3.0, StopAsked("stopped by SIGTERM"))
    b.at(7.7, CommandEnding("the lease is nearly over"))
    assert b.state.losing and b.state.leaving is not None
    b.at(8.0, CommandGone(-15, "the command ended after TERM"))
    assert (b.state.command, b.state.term) == (Idle(), None)


def test_a_reason_to_stop_where_nothing_runs_is_what_is_still_to_be_done() -> None:
    idle = replace(LED, command=Idle())
    stop = Stop(Then.HAND_OVER, "because")
    assert with_stop(idle, stop).command == Idle(after=stop)
    assert without_lead(with_stop(idle, stop)).command == Idle()
    assert with_stop(LED, stop).command == Stopping(stop, LED.command_since)
    assert without_lead(with_stop(LED, stop)).command == Stopping(stop, LED.command_since)
