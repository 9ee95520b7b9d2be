"""The rules as stories: several seats. b is the member; a, c and d are others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heirflow.election.record import Record, What
from heirflow.election.state import Following, Leading, Purpose, Then
from heirflow.election.steps import (
    CommandGone,
    CommandStarted,
    Exit,
    KillCommand,
    Readiness,
    StartCommand,
    StopAsked,
    StopCommand,
)
from heirflow.election.timings import Timings
from tests.unit.election import Story, newcomer


def record(leader: str | None, term: int = 1, version: int = 1, **more: object) -> Record:
    return replace(Record(version, term, leader, 10.0), **more)  # type: ignore[arg-type]


def standing(first: str | None, second: str | None, *rows: str) -> Story:
    """b in the line of an election with two seats, which these hold; it has just read."""
    b = newcomer()
    for place, name in enumerate(rows, 1):
        b.other(name, place)
    b.record = record(first) if first != "nothing" else None
    b.others = {2: record(second) if second != "nothing" else None}
    b.answer(0.01)
    return b


def beat(b: Story, *names: str) -> None:
    """These members check in, and what they lead they renew."""
    for name in names:
        if name in b.rows:
            b.other(name, b.rows[name].seniority)
        if b.record is not None and b.record.leader == name:
            b.record = replace(b.record, version=b.record.version + 1)
        for number, other in b.others.items():
            if other is not None and other.leader == name:
                b.others[number] = replace(other, version=other.version + 1)


def second(b: Story) -> Record:
    found = b.others[2]
    assert found is not None
    return found


def live(b: Story, until: float, *names: str) -> None:
    """Time goes on in seconds; these check in and renew, and all that b asks is answered."""
    while b.now + 1 <= until:
        beat(b, *names)
        b.at(b.now + 1)
        while b.state.ask is not None:
            b.answer(b.now + 0.01)


def leads_second(b: Story) -> None:
    """It has taken the second seat, and its command runs."""
    b.answer(b.now + 0.01)
    assert b.state.seat.number == 2 and isinstance(b.state.seat.lead, Leading)
    b.at(b.now + 0.01, CommandStarted())


def test_the_first_member_takes_the_first_seat_and_the_second_the_second() -> None:
    first = standing("nothing", "nothing")
    assert (first.asked.purpose, first.asked.exchange.swap and first.asked.exchange.swap.seat) == (Purpose.TAKE, 1)
    b = standing("a", "nothing", "a")
    swap = b.asked.exchange.swap
    assert (b.asked.purpose, swap and swap.seat, swap and swap.expected) == (Purpose.TAKE, 2, None)
    leads_second(b)
    assert second(b).leader == "b" and b.record is not None and b.record.leader == "a"


def test_a_member_that_holds_a_seat_takes_no_other() -> None:
    b = standing("a", None, "a")
    leads_second(b)
    b.leaves("a")
    live(b, 40.0)
    assert b.state.seat.number == 2 and second(b).leader == "b" and b.state.working
    assert b.record is not None and b.record.leader is None


def test_the_heir_of_both_takes_the_one_whose_leader_is_silent() -> None:
    b = standing("a", "c", "a", "c")
    live(b, 9.5, "a")
    assert b.state.term is None and second(b).leader == "c", "c has its whole lease"
    live(b, 11.0, "a")
    assert (b.state.seat.number, second(b).leader) == (2, "b")
    assert b.record is not None and b.record.leader == "a"


def test_each_seat_is_watched_for_itself() -> None:
    """The first has stood still for long; that says nothing about the second, which has just been written."""
    b = standing("a", "c", "a", "c")
    live(b, 9.5, "c")
    assert isinstance(b.state.seat.lead, Following) and b.state.seat.number == 1
    b.at(0.01 + 10.0)
    swap = b.asked.exchange.swap if b.state.ask is not None else None
    assert swap is not None and swap.seat == 1


def test_two_seats_fall_vacant_and_two_heirs_take_them_at_once() -> None:
    """The second heir goes to the second seat, and does not wait for the first heir's turn."""
    b = standing("a", "c", "a", "c", "d")  # d is older than b
    b.leaves("a")
    b.others[2] = replace(second(b), leader=None, version=2)
    b.rows.pop("c")
    b.check_in(2.0)
    swap = b.asked.exchange.swap
    assert swap is not None and swap.seat == 2, "the first is d's"


def test_one_seat_falls_vacant_and_the_second_heir_waits_its_turn() -> None:
    b = standing("a", "c", "a", "c", "d")
    b.leaves("a")
    b.at(2.0)
    b.answer(2.01)
    beat(b, "c", "d")
    b.at(2.01 + b.timings.turn_s - 0.01)
    assert b.asked.purpose is Purpose.LOOK
    b.answer(b.now)
    b.at(2.01 + b.timings.turn_s)
    swap = b.asked.exchange.swap
    assert swap is not None and swap.seat == 1


def test_trust_is_of_its_own_seat_only() -> None:
    b = standing("a", None, "a")
    leads_second(b)
    until = b.state.trusted_until
    beat(b, "a")
    b.at(b.state.ask_at)
    b.fail(b.now + 0.1)
    assert b.state.trusted_until == until, "that a renews its seat confirms nothing of b's"
    b.others[2] = record("c", term=9, version=9)
    b.other("c", 7)
    b.at(b.state.ask_at)
    b.answer(b.now + 0.01)
    assert b.did(KillCommand) is not None
    assert b.state.term is None


def test_a_dead_leader_without_an_heir_is_vacated_by_the_other_leader() -> None:
    b = standing("a", None, "a")
    b.record = replace(b.record, note="job 17")  # type: ignore[type-var]
    leads_second(b)
    live(b, 14.0)
    assert b.record is not None and (b.record.leader, b.record.note) == (None, "")
    assert "a was silent for 1" in b.record.because and "nobody is ready" in b.record.because
    assert (b.state.seat.number, second(b).leader, b.state.working) == (2, "b", True), "and leads its own seat on"


def test_what_a_dead_leader_left_is_looked_after_though_nobody_sits_down() -> None:
    b = standing("a", None, "a")
    b.record = replace(b.record, note="job 17")  # type: ignore[type-var]
    leads_second(b)
    asked = []
    for step in range(1, 14):
        b.at(float(step))
        while b.state.ask is not None:
            asked.append(b.asked)
            b.answer(b.now + 0.01)
    [vacating] = [ask for ask in asked if ask.purpose is Purpose.VACATE]
    swap = vacating.exchange.swap
    assert swap is not None and (swap.takes_over, swap.seat, swap.record.leader) == ("job 17", 1, None)
    assert swap.event is not None and (swap.event.what, swap.event.seat) == (What.RELEASED, 1)
    assert asked[asked.index(vacating) + 1].purpose is Purpose.RENEW, "its own lease comes next, at once"


def test_what_was_left_at_a_released_seat_is_looked_after_at_once_where_there_is_no_heir() -> None:
    b = standing("a", None, "a")
    leads_second(b)
    b.record = replace(record(None), term=1, version=9, note="job 17", because="a was killed")
    b.rows.pop("a")
    live(b, b.now + 3.0)
    assert (b.record.leader, b.record.note, b.record.because) == (None, "", "a was killed"), "its job was taken over"
    version = b.record.version
    live(b, b.now + 10.0)
    assert b.record.version == version, "and once is enough"


def test_what_was_left_is_the_heirs_where_there_is_one() -> None:
    b = standing("a", None, "a")
    leads_second(b)
    b.record = replace(record(None), term=1, version=9, note="job 17", because="a was killed")
    b.other("d", 9)
    live(b, b.now + 10.0, "d")
    assert b.record.note == "job 17"


def test_a_dead_holder_of_a_seat_that_is_no_more_is_looked_after_though_there_is_an_heir() -> None:
    b = standing(None, "c", "c")
    b.check_in(2.0)
    b.answer(2.01)
    assert (b.state.seat.number, b.state.term) == (1, 2)
    b.others[2] = replace(second(b), note="job 18")
    b.seats = 1
    b.other("d", 9)
    live(b, 16.0, "d")
    assert (second(b).leader, second(b).note) == (None, "")


def test_with_an_heir_nobody_vacates() -> None:
    b = standing("a", None, "a")
    leads_second(b)
    b.other("d", 9)
    live(b, 14.0, "d")
    assert b.record is not None and b.record.leader == "a", "d will take it"


def test_a_seat_that_names_it_by_a_late_write_is_given_back_by_its_leader() -> None:
    b = standing("a", None, "a")
    leads_second(b)
    b.record = record("b", term=5, version=7)
    b.rows.pop("a")
    live(b, 6.0)
    assert b.record.leader is None and second(b).leader == "b" and b.state.working


def test_with_fewer_seats_the_holder_of_the_last_one_ends_in_order() -> None:
    b = standing("a", None, "a")
    leads_second(b)
    b.seats = 1
    b.at(b.state.ask_at)
    b.answer(b.now + 0.01)
    assert b.did(StopCommand).grace_s == b.timings.stop_timeout_s
    assert b.state.stop is not None and b.state.stop.then is Then.HAND_OVER
    beat(b, "a")
    b.at(b.now + 0.1, CommandGone(0, "the command is gone"))
    while b.state.ask is not None:
        b.answer(b.now + 0.01)
    assert second(b).leader is None and "the election has 1 seat now" in second(b).because
    live(b, 30.0, "a")
    assert b.did_not(StartCommand) and b.state.term is None, "nobody sits down there any more"


@pytest.mark.parametrize("number", [1, 2])
def test_a_paused_seat_is_taken_by_nobody(number: int) -> None:
    b = standing(None, "c", "c") if number == 1 else standing("c", None, "c")
    b.state = replace(b.state, ask=None)
    if number == 1:
        assert b.record is not None
        b.record = replace(b.record, paused=True, version=2)
    else:
        b.others[2] = replace(second(b), paused=True, version=2)
    b.at(2.0)
    b.answer(2.01)
    for step in range(3, 30):
        beat(b, "c")
        b.check_in(float(step))
    assert b.state.term is None


def test_whoever_takes_a_seat_takes_over_what_that_seat_says_and_no_other() -> None:
    """a leads the first seat, and runs what its note says; it must not be taken for dead because c is."""
    b = standing("a", "c", "a", "c")
    b.record = replace(b.record, note="job 17")  # type: ignore[type-var]
    b.others[2] = replace(second(b), note="job 18")
    asked = []
    for step in range(1, 14):
        beat(b, "a")
        b.at(float(step))
        while b.state.ask is not None:
            asked.append(b.asked)
            b.answer(b.now + 0.01)
    left = [swap.takes_over for ask in asked if (swap := ask.exchange.swap) is not None and swap.takes_over is not None]
    assert (left, second(b).leader) == (["job 18"], "b")
    assert b.record is not None and (b.record.leader, b.record.note) == ("a", "job 17")


def test_a_seat_that_names_a_leader_of_another_is_vacated_with_what_it_left_there() -> None:
    """What b runs now stands in the note of its own seat only."""
    b = standing("a", None, "a")
    leads_second(b)
    b.at(b.now, Readiness(True, "job 19"))
    b.record = record("b", term=5, version=7, note="job 17")
    b.rows.pop("a")
    left = []
    for step in range(1, 7):
        b.at(float(step))
        while b.state.ask is not None:
            swap = b.asked.exchange.swap
            if swap is not None and swap.takes_over is not None:
                left.append((swap.seat, swap.takes_over))
            b.answer(b.now + 0.01)
    assert left == [(1, "job 17")]
    assert second(b).note == "job 19" and b.state.working


def test_the_terms_of_a_seat_that_is_no_more_are_remembered() -> None:
    """It comes back, and a restored backup with it: nobody may lead there in a term that was."""
    b = standing("a", "c", "a", "c")
    b.others[2] = replace(second(b), term=9, version=9)
    live(b, 4.1, "a", "c")
    b.seats, b.others = 1, {}
    b.rows.pop("c")
    live(b, 8.1, "a")
    b.seats, b.others = 2, {2: record(None, term=3, version=3)}
    live(b, 12.1, "a")
    assert second(b).leader is None, "whoever led what is forgotten has its whole lease"
    live(b, 24.1, "a")
    assert (second(b).leader, second(b).term) == ("b", 10)


def test_a_seat_that_is_no_more_is_vacated_though_its_holder_stands_in_line() -> None:
    """A fail-over brought its name back there, which gives it no right; and others do not count it among the heirs."""
    b = standing(None, "c", "c")
    b.at(2.0)
    b.answer(2.01)
    assert (b.state.seat.number, b.state.term) == (1, 2)
    b.seats = 1
    for _ in range(7):
        b.other("c", 1)
        live(b, b.now + 1)
    assert second(b).leader == "c", "it has its whole lease"
    for _ in range(7):
        b.other("c", 1)
        live(b, b.now + 1)
    assert second(b).leader is None and (b.state.seat.number, b.state.term) == (1, 2)


def test_who_finds_itself_named_at_a_seat_that_is_no_more_gives_it_back_and_starts_nothing() -> None:
    b = standing("a", None, "a")
    b.others[2] = record("b", term=5, version=7)
    b.seats = 1
    b.state = replace(b.state, ask=None)
    live(b, 6.0, "a")
    assert (second(b).leader, second(b).term) == (None, 5)
    assert b.did_not(StartCommand) and b.state.term is None


def test_who_leaves_gives_back_a_seat_that_names_it_though_it_was_looking_at_another() -> None:
    b = standing("a", "c", "a", "c")
    b.at(2.0, StopAsked("somebody asked it to stop"))
    b.others[2] = record("b", term=5, version=7)  # a restored backup, or a write that landed late
    asked = 0
    while b.state.ask is not None and asked < 9:
        asked += 1
        b.answer(b.now + 0.01)
    assert asked < 5, "it asks and asks, and never for what would help"
    assert second(b).leader is None and b.state.done


def test_who_leaves_releases_a_seat_that_names_it_by_a_late_write_too() -> None:
    """It would ask without a pause otherwise, and leave a seat behind that nobody may take before its lease is over."""
    b = standing("a", None, "a")
    leads_second(b)
    b.at(2.5, StopAsked("SIGTERM"))
    while b.state.ask is not None:
        b.answer(b.now + 0.01)
    b.record = record("b", term=5, version=7)
    b.rows.pop("a")
    b.at(2.8, CommandGone(0, "the command is gone"))
    asked = []
    while b.state.ask is not None and len(asked) < 10:
        asked.append(b.asked.purpose)
        b.answer(b.now + 0.01)
    assert b.did(Exit) is not None and asked == [Purpose.RELEASE, Purpose.RELEASE]
    assert (b.record.leader, second(b).leader, "b" in b.rows) == (None, None, False)


def test_another_seat_that_cannot_be_vacated_costs_its_own_seat_nothing() -> None:
    """Somebody holds the lock of that row, say: each try of it takes as long as it may, and fails."""
    b = newcomer(timings=Timings.of(10.0, check_in_s=2.8))
    b.other("a", 1)
    b.record, b.others = record("a"), {2: None}
    b.answer(0.01)
    leads_second(b)
    tried = 0
    while b.now < 60.0:
        b.at(max(b.now, b.state.ask_at))
        while b.state.ask is not None:
            if b.asked.purpose is Purpose.VACATE:
                tried += 1
                b.fail(b.asked.asked_at + b.timings.patient_limit_s)
            else:
                b.answer(b.now + 0.01)
            term_at, _ = b.timings.moments(b.state.trusted_until)
            assert b.now + b.timings.call_limit_s < term_at, "time for a renewal, and no word to its command"
    assert b.state.working and tried > 1


def test_another_seat_that_is_always_lost_is_not_asked_for_without_a_pause() -> None:
    b = standing("a", None, "a")
    leads_second(b)
    b.record = replace(record(None), term=1, version=9, note="job 17", because="a was killed")
    b.rows.pop("a")
    asked = []
    while b.now < 10.0 and len(asked) < 100:
        b.at(max(b.now, b.state.ask_at))
        while b.state.ask is not None and len(asked) < 100:
            asked.append(b.asked.purpose)
            b.answer(b.now + 0.01, swapped=False if b.asked.purpose is Purpose.VACATE else None)
    assert Purpose.VACATE in asked and len(asked) < 30


def test_a_seat_that_nobody_can_write_keeps_the_heir_from_no_other() -> None:
    b = standing("a", "c", "a", "c")
    b.others[2], b.stuck = None, {2}
    b.rows.pop("c")
    live(b, 6.0, "a")
    assert b.state.term is None and b.state.seat.number == 1
    live(b, 20.0)
    assert b.record is not None and b.record.leader == "b", "a was silent for its whole lease"


def test_a_seat_whose_record_is_locked_keeps_the_heir_from_no_other() -> None:
    """A host that froze within a transaction holds the lock: every try to take that seat fails, and nothing else does."""
    b = standing("a", None, "a")
    tried = 0
    while b.now < 60.0:
        b.at(max(b.now + 0.001, min(b.state.ask_at, b.now + 1)))
        while b.state.ask is not None:
            swap = b.asked.exchange.swap
            if swap is not None and swap.seat == 2:
                tried += 1
                b.fail(b.now + b.timings.patient_limit_s)
            else:
                b.answer(b.now + 0.01)
    assert b.record is not None and b.record.leader == "b" and b.state.seat.number == 1
    assert tried > 1


def test_after_an_outage_a_vacant_seat_is_taken_as_soon_as_the_store_answers() -> None:
    b = standing("a", None, "a")
    while b.now < 20.0:
        b.at(max(b.now + 0.001, min(b.state.ask_at, b.now + 1)))
        while b.state.ask is not None and b.now < 20.0:
            b.fail(b.now + 1.0)
    back = b.now
    while b.state.term is None and b.now < back + 10.0:
        beat(b, "a")
        b.at(max(b.now + 0.001, min(b.state.ask_at, b.now + 1)))
        while b.state.ask is not None:
            b.answer(b.now + 0.01)
    assert b.state.seat.number == 2 and b.now < back + b.timings.check_in_s + 1
