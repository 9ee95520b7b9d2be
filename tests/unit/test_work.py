"""A lead without work is never told as healthy: in the facts, in the member's own row, and in what people see."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heirflow.election.record import MemberRow
from heirflow.election.rules import wake_at
from heirflow.election.state import Policy, Starting, Stopping, Then
from heirflow.election.steps import (
    CommandGone,
    CommandStarted,
    CommandWithstands,
    GuardDown,
    GuardUp,
    KillCommand,
    Readiness,
    StartCommand,
    StopAsked,
    Unhealthy,
)
from heirflow.member.report import describe, noted, settings_of
from tests.unit.election import GONE_BY_ITSELF, Story, heir, leader, newcomer

STUCK = "the command is not gone: process 12 was killed and is still there, perhaps it waits in the kernel"


def facts(story: Story) -> dict[str, Any]:
    return describe("beat", story.state, {}, story.now, story.timings)


def said(story: Story) -> dict[str, Any]:
    """What stands in its row, by its next check-in."""
    if story.state.ask is None:
        story.at(story.state.ask_at)
    check_in = noted(story.asked.exchange).check_in
    assert check_in is not None
    return json.loads(check_in.note)  # type: ignore[no-any-return]


def test_a_leader_whose_command_runs_says_so() -> None:
    b = leader()
    assert (facts(b)["leader"], facts(b)["runs"], facts(b)["because"]) == (True, True, "")
    assert facts(b)["sentence"] == "leads term 1"
    assert said(b) == {"runs": True}


def test_a_note_says_what_a_member_was_set_to_and_no_argument() -> None:
    b = leader()
    b.at(b.state.ask_at)
    settings = settings_of(b.timings, ("/opt/bin/beat", "--password=hunter2"))
    check_in = noted(b.asked.exchange, settings).check_in
    assert check_in is not None and "hunter2" not in check_in.note and len(check_in.note) < 200
    assert MemberRow("b", 1, "hb", 1, True, note=check_in.note).check_in_s == b.timings.check_in_s
    assert settings["command"] == settings_of(b.timings, ("/usr/bin/beat", "--password=hunter2"))["command"]
    assert settings["command"] != settings_of(b.timings, ("/usr/bin/beat", "--password=hunter3"))["command"]


def test_what_the_command_says_of_itself_stays_beside_it() -> None:
    b = leader()
    b.at(1.0, Readiness(True, '{"job_id": 7}'))
    assert said(b) == {"job_id": 7, "runs": True}
    b = leader()
    b.at(1.0, Readiness(True, "a word"))
    assert said(b) == {"note": "a word", "runs": True}


def test_an_heir_says_why_it_is_not_ready() -> None:
    b = heir()
    b.at(1.0, Readiness(False, ""))
    assert said(b) == {"because": "its standby is not at its gate"}
    b.answer(1.1)
    b.at(2.0, Readiness(True, ""))
    check_in = noted(b.asked.exchange).check_in
    assert check_in is not None and check_in.note == ""


def test_a_command_that_withstands_its_end_is_no_work() -> None:
    b = leader()
    assert b.at(2.0, CommandWithstands(STUCK)) == (STUCK,) and b.warned
    assert facts(b)["sentence"] == f"leads term 1, runs nothing, because {STUCK}"
    assert [facts(b)[word] for word in ("leader", "runs", "ready", "able")] == [False, False, False, False]
    assert facts(b)["state"] == "leader", "it holds the lead, and nobody else may have it"
    assert said(b) == {"runs": False, "because": STUCK}
    b.answer(b.now + 0.01)
    assert b.at(b.now + 1.0, CommandWithstands(STUCK)) == (STUCK,), "told again and again"
    b.at(b.now + 1.0, CommandGone(0, "the command exited with 0"))
    assert not b.state.withstands


def test_what_withstands_keeps_its_exit_code() -> None:
    b = leader(policy=Policy(exit_with_command=True))
    b.at(2.0, CommandWithstands(STUCK))
    b.at(3.0, Unhealthy("it does not answer"))  # nobody asks a program that has ended
    b.at(9.0, CommandGone(4, "the command exited with 4"))
    assert b.state.leaving is not None and b.state.leaving.exit_code == 4


def test_a_standby_that_withstands_is_told() -> None:
    b = heir()
    assert b.at(2.0, CommandWithstands(STUCK)) == (STUCK,) and not b.state.withstands


def test_a_start_that_is_never_answered_has_a_limit() -> None:
    b = newcomer()
    b.answer(0.01)
    b.answer(0.02)
    b.did(StartCommand)
    limit_s = b.timings.start_limit_s
    assert facts(b)["sentence"] == "leads term 1, runs nothing, because its command is being started"
    now = 0.02
    while b.state.working and now < 2 * limit_s:
        now = min(wake_at(b.state, now, b.timings), 0.02 + limit_s if now < limit_s else float("inf"))
        b.at(now)
        if b.state.ask is not None and b.state.working:
            b.answer(now + 0.001)
    assert now == pytest.approx(0.02 + limit_s)
    b.did(KillCommand)
    assert b.because == (f"the command was told to start and did not within {limit_s:g} s: it is killed",) and b.warned
    assert isinstance(b.state.command, Stopping) and b.state.command.stop.then is Then.REPLACE
    assert facts(b)["runs"] is False and "did not within" in facts(b)["because"]
    b.at(now + 0.1, CommandGone(-9, "the command was killed as ordered"))
    assert b.state.failures == 1 and b.state.restart_at == pytest.approx(now + 1.1)


def test_a_start_that_is_never_answered_is_replaced_by_an_heir() -> None:
    b = newcomer()
    b.answer(0.01)
    b.answer(0.02)
    for second in (2.0, 4.0, 6.0, 8.0, 10.0):
        b.other("c", 7, stamp=second)
        b.check_in(second)
    b.at(0.02 + b.timings.start_limit_s)
    if b.state.ask:
        b.answer(b.now + 0.01)
    b.at(b.now + 0.1, CommandGone(-9, "the command was killed as ordered"))
    assert b.state.stop is not None and b.state.stop.then is Then.HAND_OVER


def test_a_crash_loop_says_how_often_and_what() -> None:
    b = leader()
    b.at(0.5, GONE_BY_ITSELF)
    wanted = "the command has ended 1 time in a row, the last time: the command exited with 1; it starts again in 1 s"
    assert (facts(b)["runs"], facts(b)["because"]) == (False, wanted)
    assert said(b)["runs"] is False
    b.answer(0.6)
    b.at(1.5)
    b.did(StartCommand)
    b.at(1.6, CommandStarted())
    b.at(1.7, GONE_BY_ITSELF)
    b.at(b.state.restart_at)
    b.at(b.now + 0.01, CommandStarted())
    assert facts(b)["runs"] is True and facts(b)["leader"] is True
    assert facts(b)["because"] == "the command has ended 2 times in a row, the last time: the command exited with 1"
    assert facts(b)["sentence"] == f"leads term 1; {facts(b)['because']}"
    b.now += b.state.policy.healthy_after_s
    while b.state.ask is not None and b.state.term is None:
        b.answer(b.now)


def test_a_leader_without_a_guard_says_so() -> None:
    b = leader()
    b.at(1.0, GuardDown("its guard was killed", CommandGone(None, "the command was killed: its guard was killed")))
    assert facts(b)["because"] == "its guard is being started again"
    b.at(2.0, GuardUp())
    assert facts(b)["because"] == "its command is being started" and isinstance(b.state.command, Starting)


def test_a_command_that_is_stopped_in_order_still_works() -> None:
    b = leader()
    b.at(1.0, StopAsked("SIGTERM"))
    assert facts(b)["runs"] is True
    b = leader()
    b.at(1.0, Unhealthy("no heartbeat for 60 s"))
    assert (facts(b)["runs"], facts(b)["because"]) == (False, "no heartbeat for 60 s")
