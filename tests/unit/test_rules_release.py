"""A release whose answer is lost: what stands in the record by the next answer says that the term is over, not that it was lost."""

from __future__ import annotations

import pytest

from heirflow.election.record import ANYONE, What
from heirflow.election.state import Policy, Purpose
from heirflow.election.steps import CommandGone, Exit, StopAsked
from tests.unit.election import GONE_BY_ITSELF, Story, leader


def releasing(policy: Policy) -> Story:
    """Leader b, whose command has ended by itself; its release is under way, with a ready heir c behind it."""
    b = leader(policy=policy)
    b.other("c", 5)
    b.check_in(2.1)
    b.at(3.0, GONE_BY_ITSELF)
    assert b.asked.purpose is Purpose.RELEASE
    return b


def landed(b: Story) -> None:
    """The release that is under way is carried out; its answer is lost."""
    swap = b.asked.exchange.swap
    assert swap is not None
    b.record = swap.record


def next_answer(b: Story, now: float) -> tuple[str, ...]:
    b.fail(now)
    b.at(b.state.ask_at)
    return b.answer(b.now + 0.01, swapped=False if b.asked.exchange.swap is not None else None)


@pytest.mark.parametrize("exit_on_loss", [False, True])
def test_an_heir_that_is_quicker_than_the_next_answer_takes_nothing_away(exit_on_loss: bool) -> None:
    b = releasing(Policy(exit_on_loss=exit_on_loss))
    landed(b)
    b.write(leader="c", term=2, because="b released")
    (told,) = [sentence for sentence in next_answer(b, 3.1) if "term 1" in sentence]
    assert told == "term 1 is over: the record names c, term 2; its release was never confirmed here"
    assert not b.warned, "nothing was lost"
    assert b.did_not(Exit) and b.state.leaving is None
    assert What.LOST not in {each.event.what for each in b.state.unwritten}
    assert b.state.term is None and b.state.idle and b.state.stop is None


def test_so_it_is_when_the_record_is_vacant_again() -> None:
    b = releasing(Policy(exit_on_loss=True))
    landed(b)
    b.write(leader=None, term=2, because="c left the line")
    assert "term 1 is over: the record names nobody, term 2; its release was never confirmed here" in next_answer(
        b, 3.1
    )
    assert b.did_not(Exit) and b.state.leaving is None


def test_a_release_that_is_seen_only_in_the_record_is_told() -> None:
    b = releasing(Policy(exit_on_loss=True))
    landed(b)
    assert "released term 1: the command exited with 1" in next_answer(b, 3.1)
    assert b.did_not(Exit) and b.state.term is None


def test_who_leaves_in_order_leaves_with_its_own_code() -> None:
    b = leader(policy=Policy(exit_on_loss=True))
    b.other("c", 5)
    b.check_in(2.1)
    b.at(3.0, StopAsked("SIGTERM"))
    b.answer(3.01)
    b.at(3.1, CommandGone(0, "the command exited with 0"))
    assert b.asked.purpose is Purpose.RELEASE
    landed(b)
    b.write(leader="c", term=2)
    next_answer(b, 3.2)
    assert What.LOST not in {each.event.what for each in b.state.unwritten}
    while b.did_not(Exit):
        b.at(b.state.ask_at)
        b.answer(b.now + 0.01)
    assert b.did(Exit).code == 0


def test_a_switchover_whose_answer_is_lost_is_no_loss_either() -> None:
    b = leader(policy=Policy(exit_on_loss=True))
    b.other("c", 5)
    b.check_in(2.1)
    b.write(switchover_to=ANYONE)
    b.check_in(4.2)
    b.answer(b.now + 0.01)
    b.at(5.0, CommandGone(0, "the command exited with 0"))
    assert b.asked.purpose is Purpose.RELEASE
    landed(b)
    b.write(leader="c", term=2, switchover_to=None)
    next_answer(b, 5.1)
    assert b.did_not(Exit) and b.state.leaving is None


def test_a_leader_that_waits_for_its_next_start_loses_its_lead_to_another() -> None:
    b = leader(policy=Policy(exit_on_loss=True))
    b.check_in(2.1)
    b.at(3.0, GONE_BY_ITSELF)  # no heir: it is to be started again here
    b.answer(3.01)
    b.write(leader="c", term=2)
    b.at(b.state.ask_at)
    told = b.hear(b.now + 0.01, False)
    assert "lost term 1: the record names c, term 2" in told
    assert b.state.leaving is not None and b.state.leaving.exit_code == 75
