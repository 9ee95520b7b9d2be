"""What the simulation found in the rules, each as the shortest story that shows it."""

from __future__ import annotations

import pytest

from heirflow.election.record import ANYONE, Record
from heirflow.election.state import Purpose
from heirflow.election.steps import CommandGone, GuardDown, KillCommand, News, StartCommand, StopCommand
from tests.unit.election import heir, leader, newcomer


def test_a_command_started_at_a_guard_that_was_dead_already_counts_as_gone() -> None:
    # Seed 15: the guard is killed; "gone" is told first, and with nobody to hand over to the command is started again, at
    # the same dead guard. The rules asserted that nothing runs, and the member died of it.
    b = leader()
    b.at(3.0, CommandGone(None, "its guard was killed"))
    b.did(StartCommand)
    b.at(3.0, GuardDown("its guard was killed"))
    assert b.state.idle
    assert not b.state.guard_up


def test_a_leader_that_was_frozen_past_its_lease_loses_its_seniority_too() -> None:
    # Seed 7: the check-in at the thaw was sent while the old term was still held, and kept the place of the oldest.
    b = leader()
    b.at(15.0)
    b.did(KillCommand)
    assert b.sent().exchange.join


def test_a_switchover_that_is_overtaken_by_a_pause_starts_again_in_place() -> None:
    # Seed 133: it released, and while the election was paused nobody could take charge.
    b = leader()
    b.other("c", 2)
    b.write(switchover_to=ANYONE)
    b.at(2.0, News())
    b.answer(2.01)  # the swap is lost to the order
    b.did(StopCommand)
    b.write(paused=True)
    b.answer(2.02)
    b.answer(2.03)
    assert b.at(2.5, CommandGone(0, "the command ended after TERM"))[-1] == (
        "switchover to c was ordered, but the election is paused: the command is started again here"
    )
    b.did(StartCommand)


def test_the_only_member_leads_again_after_a_backup_that_names_it_was_restored() -> None:
    # Seed 319: the restored record named the member with a term lower than it had seen. That gives it no right to lead, and
    # it was not in its own line either: nobody ever led again.
    b = newcomer()
    b.write(term=5, leader="a")
    b.answer(0.01)
    b.write(term=4, leader="b")
    b.at(2.0)
    assert "the store went back from term 5 to 4: was a backup restored?" in b.answer(2.01)
    for n in range(2, 7):
        b.check_in(2.0 * n)
        assert b.state.term is None
    assert b.asked.purpose is Purpose.TAKE  # sent at 12.01, a ttl after it was first seen
    b.answer(12.02)
    assert b.state.term == 6


def test_a_member_named_by_a_restored_backup_may_not_lead_at_once() -> None:
    b = heir()
    b.write(term=7)
    b.check_in(2.0)
    b.write(term=3, leader="b")
    b.check_in(4.0)
    assert b.state.ask is None
    b.at(6.0)
    assert b.sent().purpose is Purpose.LOOK


def test_going_back_to_an_older_backup_and_being_silent_are_told_once_not_at_every_read() -> None:
    # Seeds 150 and 5560: both sentences came with every check-in.
    b = heir()
    b.write(term=7)
    b.check_in(2.0)
    b.write(term=3)
    assert "the store went back from term 7 to 3: was a backup restored?" in b.check_in(4.0)
    b.write()
    assert b.check_in(6.0) == ()
    b.at(8.0)
    told = b.fail(8.1)
    now = 8.1
    while now < 30.0 or b.state.ask is None:
        now += 0.5
        told += b.at(now)
    assert told == ("cannot use the store: connection refused",)
    because = b.answer(now + 0.01)
    assert [sentence.split(",")[0] for sentence in because[:1]] == ["the store answers again"]
    assert because[1].endswith("s and joins again at the end of the line")
    assert len(because) == 2


@pytest.mark.parametrize(
    "emptied", [True, False], ids=["the table was emptied", "a backup with a vacant record was restored"]
)
def test_who_knows_of_a_later_term_lets_its_leader_find_out_first(emptied: bool) -> None:
    # Found by reading: the heir took charge at once, up to a check-in before the leader could know that it had lost.
    b = newcomer()
    b.other("a", 1)
    b.write(term=5, leader="a")
    b.answer(0.01)
    b.record = None if emptied else Record(1, 3, None, 10.0)
    for second in range(2, 12, 2):
        b.check_in(float(second))
        assert b.state.term is None, f"took charge at {second} s"
    b.other("a", 1, stamp=4.0)
    for second in range(12, 16):
        b.check_in(float(second))
    assert b.record is not None and b.record.leader == "b" and b.record.term == 6
