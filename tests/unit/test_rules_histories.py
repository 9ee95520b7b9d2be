"""A database that failed over and forgot confirmed writes: what a member makes of a record of another history."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heirflow.election.record import Record
from heirflow.election.state import Following, Leading, Purpose
from heirflow.election.steps import CommandGone, KillCommand, News, StartCommand
from tests.unit.election import Story, heir, leader, newcomer


def follower(leads: str | None = "a", *, ttl_s: float = 10.0) -> Story:
    """Member b in the history `one`, behind what a wrote in it."""
    b = newcomer()
    b.history = "one"
    b.other("a", 1)
    b.record = Record(5, 4, leads, ttl_s, history="one")
    return b


def until_it_takes(b: Story, until: float = 40.0) -> float:
    """When it asks for the lead; `a` is silent meanwhile."""
    while b.now < until:
        b.check_in(b.now + 1.0)
        if b.state.term is not None:
            return b.now
    return until


def test_a_vacant_record_of_another_history_is_led_by_somebody_unknown() -> None:
    # In what was forgotten somebody may have taken charge. A member that starts afterwards knows nothing of it.
    b = follower(None)
    b.history = "two"
    b.answer(0.01)
    assert 10.0 <= until_it_takes(b) < 13.0
    assert b.record is not None
    assert b.record.history == "two"


def test_a_vacant_record_of_this_history_is_taken_at_once() -> None:
    b = newcomer()
    b.history = "one"
    b.record = Record(5, 4, None, 10.0, history="one")
    b.answer(0.01)
    assert b.asked.purpose is Purpose.TAKE
    b.answer(0.02)
    assert b.state.term == 5


def test_a_record_or_a_store_without_a_name_is_judged_as_ever() -> None:
    for written, here in ((None, "one"), ("one", None), (None, None)):
        b = newcomer()
        b.history = here
        b.record = Record(5, 4, None, 10.0, history=written)
        b.answer(0.01)
        assert b.asked.purpose is Purpose.TAKE


def test_the_wait_is_the_longest_ttl_that_was_seen() -> None:
    b = follower("a", ttl_s=30.0)
    b.answer(0.01)
    b.fails_over("two", leader=None, ttl_s=10.0)
    b.check_in(2.0)
    assert 32.0 <= until_it_takes(b, 60.0) < 36.0


def test_the_wait_begins_anew_when_the_server_is_another_one_again() -> None:
    b = follower("a")
    b.answer(0.01)
    for now in range(2, 12, 2):
        b.check_in(float(now))
    b.history = "two"
    began = 12.0
    b.check_in(began)
    assert began + 10.0 <= until_it_takes(b) < began + 14.0


def test_a_server_whose_name_comes_again_is_another_one_too() -> None:
    # A pair whose names are the servers' own: it fails over and back, and what was written in between is forgotten.
    b = follower(None)
    b.record = replace(b.record, leader="a") if b.record else None
    b.history = "two"
    b.record = Record(7, 5, "a", 10.0, history="two")
    b.answer(0.01)
    b.history, b.record = "one", Record(6, 5, None, 10.0, history="one")
    b.check_in(2.0)
    assert 12.0 <= until_it_takes(b) < 16.0


def test_a_term_that_was_forgotten_never_comes_again() -> None:
    b = follower(None)
    b.history = "two"
    b.answer(0.01)
    until_it_takes(b)
    assert b.record is not None
    assert b.record.term > 4 + 500


def test_who_is_named_by_a_forgetful_store_does_not_lead_at_once() -> None:
    # It had released, and another one had taken charge: all of that is forgotten.
    b = follower("b")
    b.history = "two"
    b.answer(0.01)
    assert b.state.ask is None
    assert 10.0 <= until_it_takes(b) < 13.0


def test_a_leader_whose_trust_never_ended_goes_on_under_the_new_history() -> None:
    b = leading("one")
    b.fails_over("two")
    b.check_in(3.0)
    assert isinstance(b.state.seat.lead, Leading)
    while b.state.ask is not None:
        b.answer(b.now + 0.01)
    assert b.record is not None
    assert (b.record.leader, b.record.history) == ("b", "two")
    assert b.state.working


def test_a_leader_whose_trust_had_ended_leads_no_more_under_the_new_history() -> None:
    # Somebody may have taken charge since, and that be forgotten: a renewal that wins proves nothing any more.
    b = leading("one")
    b.at(3.0)
    b.fail(3.5)
    now = 3.5
    while b.did_not(KillCommand):
        now += 0.5
        b.at(now)
        if b.state.ask is not None:
            b.fail(now + 0.1)
    assert b.state.term == 1
    b.fails_over("two")
    while b.state.ask is None:
        now += 0.1
        b.at(now)
    b.answer(now + 0.01)
    assert isinstance(b.state.seat.lead, Following)
    b.at(now + 0.1, CommandGone(-9, "killed"))
    assert until_it_takes(b) >= now + 10.0


def test_a_leader_that_may_have_released_leads_no_more_under_the_new_history() -> None:
    # Its release was confirmed and forgotten, and so was the term of whoever took charge after it.
    b = leading("one")
    b.other("a", 9)
    b.check_in(3.0)
    b.at(3.5, CommandGone(0, "the command ended by itself"))
    assert b.asked.purpose is Purpose.RELEASE
    b.fail(4.0)
    b.fails_over("two")
    now = 4.0
    while b.state.ask is None:
        now += 0.1
        b.at(now)
    b.answer(now + 0.01)
    assert isinstance(b.state.seat.lead, Following)
    assert b.record is not None
    assert (b.record.leader, b.record.history) == ("b", "one")
    assert until_it_takes(b) >= now + 10.0


def test_a_swap_never_lands_in_another_history_than_it_was_asked_for() -> None:
    b = leading("one")
    b.at(3.0)
    asked = b.sent().exchange.swap
    assert asked is not None
    assert (asked.under, asked.record.history) == ("one", "one")


@pytest.mark.parametrize("here", ["two", None])
def test_a_swap_that_landed_elsewhere_all_the_same_gives_no_trust(here: str | None) -> None:
    """A store without the condition, or an INSERT, which has none."""
    b = newcomer()
    b.history = "one"
    b.answer(0.01)
    b.history = here
    swap = b.asked.exchange.swap
    assert swap is not None
    b.record = swap.record
    b.hear(0.02, True)
    assert (b.state.term is None) == (here == "two")


def test_it_is_told_once() -> None:
    b = follower("a")
    b.answer(0.01)
    b.fails_over("two")
    (told,) = b.check_in(2.0)
    assert told.startswith(
        "the database has another history now (two, and not one): it may have forgotten confirmed writes"
    )
    assert told.endswith("nobody takes charge before 10 s have passed")
    assert b.check_in(4.0) == ()


def test_an_order_leaves_a_record_in_the_history_that_it_had() -> None:
    b = follower(None)
    b.history = "two"
    b.answer(0.01)
    b.write(switchover_to="*")
    b.at(2.0, News())
    b.answer(2.01)
    assert until_it_takes(b) >= 12.0


def leading(history: str) -> Story:
    """Member b leads term 1, and its command runs."""
    b = leader()
    b.history = history
    for now in (0.5, 1.0):
        b.at(now, News())
        b.answer(now + 0.01)
    assert b.record is not None
    assert b.record.history == history
    return b


def test_an_heir_of_a_leader_that_goes_on_keeps_its_place() -> None:
    b = heir()
    b.history = "one"
    b.write(history="one")
    b.check_in(2.0)
    b.fails_over("two")
    b.check_in(4.0)
    b.write(history="two")
    b.check_in(6.0)
    b.leaves("a")
    b.at(7.0, News())
    b.answer(7.01)
    assert b.asked.purpose is Purpose.TAKE
    b.answer(7.02)
    b.did(StartCommand)
