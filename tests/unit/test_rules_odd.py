"""What cannot be, in the record: told once, waited for no longer than needed, and never for less."""

from __future__ import annotations

from heirflow.election.record import LONGEST_TTL_S, Reading
from heirflow.election.state import Purpose
from heirflow.election.steps import Answered, News
from tests.unit.election import Story, leader, newcomer
from tests.unit.election import heir as election_heir

ODD = "the record says a ttl of 1e+09 s"


def hear(b: Story, now: float, *odd: str) -> tuple[str, ...]:
    """The answer to a look comes, with what the store found odd."""
    reading = Reading(b.record, tuple(b.rows.values()), None, odd=odd)
    return b.at(now, Answered(b.asked.serial, reading))


def heir(*, saw_the_ttl: bool) -> Story:
    """b, behind a leader whose ttl somebody spoils."""
    b = newcomer()
    b.write(leader="a", term=7, ttl_s=10.0 if saw_the_ttl else LONGEST_TTL_S)
    b.other("a", 1)
    b.check_in(0.0)
    b.write(ttl_s=LONGEST_TTL_S)
    return b


def watch(b: Story, until: float) -> float | None:
    """When b tries to take charge."""
    now = 2.0
    while now <= until:
        b.at(now)
        if b.state.ask is not None:
            if b.asked.purpose is Purpose.TAKE:
                return now
            b.answer(now + 0.01)
        now += 1.0
    return None


def test_a_ttl_that_was_seen_before_counts_for_its_leader() -> None:
    b = heir(saw_the_ttl=True)
    taken_at = watch(b, 100.0)
    assert taken_at is not None and 12.0 <= taken_at <= 17.0


def test_a_ttl_that_nobody_saw_is_the_longest_there_is() -> None:
    b = heir(saw_the_ttl=False)
    taken_at = watch(b, LONGEST_TTL_S + 100)
    assert taken_at is not None and taken_at >= LONGEST_TTL_S + 2


def test_the_ttl_of_another_term_does_not_count() -> None:
    b = heir(saw_the_ttl=True)
    b.write(term=8)
    assert watch(b, 200.0) is None


def test_news_causes_a_few_exchanges_at_once_and_then_one_in_a_fifth_of_a_second() -> None:
    b = election_heir()
    sent = []
    for tick in range(101, 1101):  # ten seconds in which anybody sends news a hundred times a second
        now = tick / 100
        b.at(now, News())
        if b.state.ask is not None:
            sent.append(now)
            b.answer(now + 0.004)
    assert sent[0] == 1.01, "the first news is heeded at once"
    assert len([at for at in sent if at < 1.5]) >= 3
    assert 40 <= len(sent) <= 60
    b.at(30.0)
    b.answer(30.01)
    b.at(30.02, News())
    assert b.state.ask is not None, "when it is quiet again, news is heeded at once"


def test_news_never_makes_a_check_in_late() -> None:
    b = election_heir()
    for tick in range(101, 201):
        b.at(tick / 100, News())
        if b.state.ask is not None:
            b.answer(tick / 100 + 0.004)
        assert b.state.ask_at <= b.state.read_at + 2.0


def test_what_is_odd_is_told_once() -> None:
    b = heir(saw_the_ttl=True)
    told = []
    for now in range(2, 10, 2):
        b.at(now)
        told += hear(b, now + 0.01, ODD)
    assert told.count(ODD) == 1
    b.at(10.0)
    hear(b, 10.01)
    b.at(12.0)
    assert ODD in hear(b, 12.01, ODD), "it was mended and came back"


def test_a_record_that_is_hidden_is_told_as_that_and_not_as_a_restored_backup() -> None:
    b = election_heir()
    b.record = None
    b.at(2.0)
    told = hear(b, 2.01, "row-level security is switched on")
    assert told == ("row-level security is switched on", "the store went back from term 1 to 0")


def test_a_swap_names_the_term_that_it_replaces() -> None:
    b = leader()
    b.at(2.1)
    swap = b.asked.exchange.swap
    assert swap is not None
    assert (swap.expected, swap.expected_term) == (1, 1)
