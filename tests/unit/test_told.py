"""The name of each line, and the term beside it, by which a program knows what a member did. b is the member, as in test_rules."""

from __future__ import annotations

from typing import Any

from heirflow.election.record import ANYONE, Reading, Record, Told
from heirflow.election.rules import decide
from heirflow.election.state import Policy
from heirflow.election.steps import (
    CommandEnding,
    CommandGone,
    CommandWithstands,
    Failed,
    GuardDown,
    StateEvent,
    StopAsked,
    Unhealthy,
)
from heirflow.election.told import Named
from heirflow.guard.why import KillBy
from heirflow.member.health import Blind
from heirflow.member.telling import tell_of_health, tell_of_kills, tell_of_store, tell_step
from tests.unit.election import GONE_BY_ITSELF, Story, heir, leader, newcomer


class Lines:
    """A journal that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, dict[str, Any]]] = []

    def log(self, sentence: str, *, event: Named, **facts: Any) -> None:
        self.told.append(("info", event.value, facts))

    def warn(self, sentence: str, *, event: Named, **facts: Any) -> None:
        self.told.append(("warning", event.value, facts))


def told(story: Story, now: float, event: StateEvent) -> list[tuple[str, int | None]]:
    """Let it happen; the name and the term of each line."""
    before, lines = story.state, Lines()
    tell_step(lines, before, event, decide(before, event, now, story.timings))
    story.at(now, event)
    return [(name, facts["term"]) for _, name, facts in lines.told]


def answered(story: Story, now: float) -> list[tuple[str, int | None]]:
    """The same for the answer to what was asked."""
    lines: list[tuple[str, int | None]] = []
    real = story.at

    def spy(at: float, event: StateEvent | None = None) -> tuple[str, ...]:
        story.at = real  # type: ignore[method-assign]
        assert event is not None
        lines.extend(told(story, at, event))
        return ()

    story.at = spy  # type: ignore[method-assign]
    story.answer(now)
    return lines


def test_to_join_to_take_charge_and_to_release() -> None:
    b = newcomer()
    assert answered(b, 0.01) == [("joined", None)]
    assert answered(b, 0.02) == [("took_charge", 1)]
    b = leader()
    assert told(b, 1.0, StopAsked("stopped by SIGTERM")) == [("stop_asked", 1)]
    answered(b, 1.01)
    assert told(b, 1.1, StopAsked("stopped by SIGTERM")) == [("stop_asked_again", 1)]
    assert answered(b, 1.11) == []
    assert told(b, 1.5, CommandGone(0, "the command exited with 0")) == [("command_ended", 1)]
    assert answered(b, 1.51) == [("released", 1)]


def test_an_heir_that_is_asked_to_stop_means_no_term() -> None:
    assert told(heir(), 1.0, StopAsked("stopped by SIGTERM")) == [("stop_asked", None)]


def test_how_a_command_ended_is_a_number_beside_the_sentence() -> None:
    for event in (CommandGone(-9, "the command was killed"), GuardDown("its guard was killed", CommandGone(-9, "x"))):
        b, lines = leader(), Lines()
        tell_step(lines, b.state, event, decide(b.state, event, 1.0, b.timings))
        (found,) = [facts for _, name, facts in lines.told if name == "command_restarts"]
        assert found == {"term": 1, "status": -9}


def test_ends_of_a_command() -> None:
    assert told(leader(), 1.0, GONE_BY_ITSELF) == [("command_restarts", 1)]
    b = leader()
    b.other("a", 2)
    b.check_in(2.1)
    assert told(b, 2.5, GONE_BY_ITSELF) == [("command_ended", 1)], "a hands over: its release is told later"
    assert told(leader(policy=Policy(exit_with_command=True)), 1.0, GONE_BY_ITSELF) == [("command_ended", 1)]
    assert told(leader(), 1.0, Unhealthy("it is silent")) == [("command_unhealthy", 1)]
    assert told(leader(), 8.5, CommandEnding("its lease is running out")) == [("command_ending", 1)]
    assert told(leader(), 1.0, CommandWithstands("it is there")) == [("command_withstands", 1)]
    assert told(heir(), 1.0, GuardDown("its guard was killed")) == [("guard_lost", None)]


def test_what_a_person_has_ordered() -> None:
    b = leader()
    b.other("a", 2)
    b.write(switchover_to=ANYONE)
    b.at(2.1)
    assert ("switches_over", 1) in answered(b, 2.11)


def test_a_lead_that_is_lost_names_the_term_that_was_lost() -> None:
    b = leader()
    b.other("c", 2)
    b.write(term=2, leader="c")
    b.at(2.1)
    assert ("lost", 1) in answered(b, 2.11)
    b = leader()
    b.at(2.01)
    assert told(b, 2.02, Failed(b.asked.serial, "connection refused")) == [("store_fails", 1)]
    assert ("not_renewed", 1) in told(b, 9.2, StopAsked("stopped by SIGTERM"))


def test_a_store_that_answers_again_and_one_that_went_back() -> None:
    b = heir()
    b.at(2.1)
    b.fail(2.2)
    b.at(4.3)
    assert ("store_answers", None) in answered(b, 4.4)
    b = leader()
    b.record = Record(7, 0, None, 10.0)
    b.at(2.1)
    assert ("store_went_back", 1) in answered(b, 2.11)


def test_who_gives_up_says_so_by_name() -> None:
    b = newcomer()
    assert told(b, 31.0, Failed(b.asked.serial, "no such table", 69)) == [("gave_up", None)]


def test_what_the_store_did_has_the_term_of_the_record() -> None:
    lines = Lines()
    did = (Told("ended 2 sessions"), Told("may not end sessions", failed=True))
    tell_of_store(lines, Reading(Record(3, 4, "b", 10.0), told=did))
    tell_of_store(lines, None)
    assert lines.told == [("info", "took_over", {"term": 4}), ("warning", "take_over_failed", {"term": 4})]


def test_health_and_what_is_not_promised() -> None:
    lines = Lines()
    tell_of_health(lines, Blind("it cannot tell"))
    tell_of_health(lines, Blind("it can tell", over=True))
    for kill_by in KillBy:
        tell_of_kills(lines, kill_by)
    assert [(level, name) for level, name, _ in lines.told] == [
        ("warning", "health_blind"),
        ("info", "health_seen"),
        ("info", "kill_by_privilege"),
        ("warning", "kill_not_sure"),
    ]
