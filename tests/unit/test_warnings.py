"""Which of a member's changes are warnings: b is the member, as in test_rules."""

from __future__ import annotations

from heirflow.election.record import ANYONE
from heirflow.election.state import Policy
from heirflow.election.steps import CommandEnding, CommandGone, GuardDown, StopAsked, Unhealthy
from tests.unit.election import GONE_BY_ITSELF, heir, leader


def test_an_orderly_life_warns_of_nothing() -> None:
    b = leader()
    assert not b.warned
    assert b.at(1.0, StopAsked("stopped by SIGTERM")) and not b.warned
    assert b.at(1.5, CommandGone(-15, "the command was ended by SIGTERM")) and not b.warned
    b = leader()
    b.other("a", 2)
    b.write(switchover_to=ANYONE)
    b.check_in(2.1)
    assert b.because == ("switchover to a was ordered",) and not b.warned
    assert b.at(2.5, CommandGone(0, "the command exited with 0")) and not b.warned


def test_an_heir_that_takes_charge_does_not_warn() -> None:
    b = heir()
    b.leaves("a")
    b.check_in(2.1)
    assert b.answer(2.02) == ("took charge for term 2: a left",) and not b.warned


def test_a_store_that_fails_is_warned_of_once() -> None:
    b = leader()
    b.at(2.01)
    assert b.fail(2.02) == ("cannot use the store: connection refused",) and b.warned
    b.at(2.6)
    assert b.fail(2.7) == ()
    b.at(4.0)
    assert b.answer(4.1)[0].startswith("the store answers again") and not b.warned


def test_a_store_that_does_not_answer_in_time_is_warned_of() -> None:
    b = leader()
    b.at(2.01)
    assert b.at(4.1) == ("cannot use the store: no answer within 1.5 s",) and b.warned


def test_every_loss_of_the_lead_is_warned_of() -> None:
    b = leader()
    assert b.at(8.5, CommandEnding("its lease is running out")) and b.warned
    b = leader()
    b.at(2.01)
    b.fail(2.02)
    assert "could not renew term 1 within 9 s: the command is killed (connection refused)" in b.at(9.2) and b.warned
    assert b.at(9.3, CommandGone(-9, "the command was killed")) and b.warned
    b = leader()
    b.other("c", 2)
    b.write(term=2, leader="c")
    assert "lost term 1: the record names c, term 2" in b.check_in(2.1) and b.warned


def test_a_command_that_fails_by_itself_or_is_not_well_is_warned_of() -> None:
    b = leader()
    assert b.at(30.0, GONE_BY_ITSELF) and b.warned
    b = leader()
    assert b.at(30.0, Unhealthy("the health command says no")) and b.warned
    assert b.at(31.0, CommandGone(-15, "the command was ended by SIGTERM")) and b.warned


def test_a_command_whose_end_was_wanted_is_not() -> None:
    b = leader(policy=Policy(exit_with_command=True))
    assert b.at(1.0, CommandGone(0, "the command exited with 0")) and not b.warned
    b = leader(policy=Policy(exit_with_command=True))
    assert b.at(1.0, GONE_BY_ITSELF) and b.warned


def test_a_guard_that_is_lost_and_a_store_that_forgot_are_warned_of() -> None:
    b = heir()
    assert b.at(1.0, GuardDown("its guard was killed")) and b.warned
    b = heir()
    b.write(term=7, leader="a")
    b.check_in(2.1)
    b.write(term=3, leader="a")
    assert b.check_in(4.2) == ("the store went back from term 7 to 3: was a backup restored?",) and b.warned
    b.record = None
    assert b.check_in(6.4) == ("the store went back from term 7 to 0: was a backup restored?",) and b.warned
