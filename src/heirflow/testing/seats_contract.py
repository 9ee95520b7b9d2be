"""What every store must keep of elections with several seats: more checks, run as those of `store_contract`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from heirflow.election.record import MOST_SEATS, Event, Exchange, Reading, Swap, What
from heirflow.errors import ConfigError
from heirflow.stores.base import Store
from heirflow.testing.store_tools import Factory, hears, ids, join, members, new_election, take, who


def made(store: Store, election: str, seats: int) -> Reading:
    """An election of so many seats, whose first one a has taken."""
    swap = replace(take("a", 1, 1, expected=None), seats=seats)
    return store.exchange(election, Exchange(who("a"), join=True, swap=swap))


def sits(store: Store, election: str, seat: int, leader: str | None, term: int, version: int) -> Reading:
    """This member takes that seat, which stands at the version before."""
    swap = take(leader, term, version, expected=version - 1)
    assert isinstance(swap.event, Event)
    return store.exchange(election, Exchange(swap=replace(swap, seat=seat, event=replace(swap.event, seat=seat))))


def led_by(reading: Reading) -> list[tuple[str | None, int] | None]:
    """Leader and term of each seat."""
    return [None if place.record is None else (place.record.leader, place.record.term) for place in reading.places]


def an_election_is_made_with_all_its_seats(factory: Factory) -> None:
    election = new_election()
    with members(factory) as [a, b]:
        assert (b.exchange(election, Exchange()).seats, b.exchange(election, Exchange()).others) == (1, ())
        for reading in (
            made(a, election, 3),
            a.exchange(election, Exchange(who("a"))),
            b.exchange(election, Exchange()),
        ):
            assert reading.seats == 3
            assert led_by(reading) == [("a", 1), (None, 0), (None, 0)]
            assert ids(reading) == ["a"], "seats share one line"
        second = reading.places[1]
        assert second.record is not None and second.record.version == 1
        assert abs(second.since - reading.db_now) < 60 and abs(second.written_at - reading.db_now) < 60


def whoever_comes_second_makes_no_seats(factory: Factory) -> None:
    election = new_election()
    with members(factory) as [a, b]:
        made(a, election, 2)
        lost = b.exchange(
            election, Exchange(who("b"), join=True, swap=replace(take("b", 1, 1, expected=None), seats=5))
        )
        assert lost.swapped is False
        assert (lost.seats, led_by(lost)) == (2, [("a", 1), (None, 0)])


def each_seat_is_swapped_by_itself(factory: Factory) -> None:
    election = new_election()
    with members(factory) as [a, b]:
        made(a, election, 2)
        join(b, election, "b")
        taken = sits(b, election, 2, "b", 1, 2)
        assert taken.swapped and led_by(taken) == [("a", 1), ("b", 1)]
        assert sits(b, election, 2, "b", 2, 2).swapped is False, "another version stands there"
        renewed = a.exchange(election, Exchange(who("a"), swap=take("a", 1, 2, expected=1, news=False)))
        assert renewed.swapped and led_by(renewed) == [("a", 1), ("b", 1)]
        later = sits(a, election, 2, "a", 7, 3)
        assert led_by(later) == [("a", 1), ("a", 7)]
        told = [
            (event.seat, event.term, event.member) for event in a.events(election, 9) if event.what is What.TOOK_CHARGE
        ]
        assert told == [(1, 1, "a"), (2, 1, "b"), (1, 1, "a"), (2, 7, "a")]


def a_seat_of_a_restored_table_is_made_again(factory: Factory) -> None:
    """Seats that were raised and forgotten again: whoever needs one of them makes it, by the same swap as the first."""
    election = new_election()
    with members(factory, 1) as [store]:
        made(store, election, 1)
        swap = replace(take("b", 9, 1, expected=None), seat=2)
        assert store.exchange(election, Exchange(swap=swap)).swapped
        assert store.set_seats(election, 2)
        assert led_by(store.exchange(election, Exchange())) == [("a", 1), ("b", 9)], "who sits there stays"


def seats_are_more_or_fewer_later(factory: Factory) -> None:
    election = new_election()
    with members(factory) as [a, people]:
        assert not people.set_seats(election, 2), "there is no such election"
        made(a, election, 1)
        while a.news(election):
            pass
        assert people.set_seats(election, 3)
        if a.news_fd() is not None:  # where news is found by looking, it is seen at the next check-in
            assert hears(a, election), "more seats were no news"
        assert led_by(a.exchange(election, Exchange(who("a")))) == [("a", 1), (None, 0), (None, 0)]
        sits(a, election, 3, "c", 1, 2)
        assert people.set_seats(election, 1)
        reading = a.exchange(election, Exchange(who("a")))
        assert (reading.seats, led_by(reading)) == (1, [("a", 1), (None, 0), ("c", 1)]), (
            "who still leads is still shown"
        )
        sits(a, election, 3, None, 1, 3)
        reading = a.exchange(election, Exchange(who("a")))
        assert (reading.seats, reading.others) == (1, ())
        assert people.set_seats(election, 3)
        assert led_by(people.exchange(election, Exchange()))[2] == (None, 1), "terms of a seat go on"
        for wrong in (0, MOST_SEATS + 1):
            try:
                people.set_seats(election, wrong)
            except ConfigError:
                continue
            raise AssertionError(f"{wrong} seats were taken")


def what_was_left_at_a_seat_that_is_no_more_is_seen(factory: Factory) -> None:
    """Whoever held it has stopped, or was killed meanwhile: another leader looks after what it left."""
    election = new_election()
    with members(factory, 1) as [store]:
        made(store, election, 2)
        swap = take(None, 0, 2, expected=1, note="job 17")
        store.exchange(election, Exchange(swap=replace(swap, seat=2)))
        assert store.set_seats(election, 1)
        for asked in (Exchange(who("a")), Exchange()):
            left = store.exchange(election, asked).others
            assert [place.record.note for place in left if place.record is not None] == ["job 17"]
        store.exchange(election, Exchange(swap=replace(take(None, 0, 3, expected=2), seat=2)))
        assert store.exchange(election, Exchange(who("a"))).others == ()


def a_seat_that_changes_is_news(factory: Factory) -> None:
    election = new_election()
    with members(factory) as [a, b]:
        made(a, election, 2)
        join(b, election, "b")
        if b.news_fd() is None and b.news_poll_s is None:
            return
        while b.news(election):
            pass
        sits(a, election, 2, "c", 1, 2)
        assert hears(b, election)
        b.exchange(election, Exchange(who("b")))
        assert not hears(b, election, within_s=0.3), "what was seen is no news"


def further_seats_are_no_elections(factory: Factory) -> None:
    election = new_election()
    with members(factory, 1) as [store]:
        made(store, election, 2)
        assert [name for name in store.elections() if name.startswith(election)] == [election]
        sits(store, election, 2, "b", 1, 2)
        shown = {name: each.reading for name, each in store.glance().items() if name.startswith(election)}
        assert [*shown] == [election]
        assert (shown[election].seats, led_by(shown[election])) == (2, [("a", 1), ("b", 1)])


def an_election_is_forgotten_with_its_seats(factory: Factory) -> None:
    election = new_election()
    with members(factory, 1) as [store]:
        made(store, election, 3)
        stale = store.exchange(election, Exchange())
        sits(store, election, 2, None, 4, 2)
        assert not store.forget(election, stale), "a seat has changed since"
        assert led_by(store.exchange(election, Exchange())) == [("a", 1), (None, 4), (None, 0)], (
            "nothing is deleted by halves"
        )
        assert store.forget(election, store.exchange(election, Exchange()))
        assert store.exchange(election, Exchange()).record is None
        again = store.exchange(election, Exchange(swap=replace(take("b", 1, 1, expected=None), seats=3)))
        assert led_by(again) == [("b", 1), (None, 0), (None, 0)]


def a_seat_is_made_vacant_for_another(factory: Factory) -> None:
    election = new_election()
    with members(factory) as [a, b]:
        made(a, election, 2)
        before = sits(b, election, 2, "b", 1, 2).places[1].record
        assert before is not None
        vacant = replace(before, version=3, leader=None, because="b was silent")
        event = Event(What.RELEASED, 1, "a", "b was silent", seat=2)
        swap = Swap(2, vacant, event, news=True, takes_over="", seat=2, expected_term=1)
        reading = a.exchange(election, Exchange(who("a"), swap=swap))
        assert reading.swapped and led_by(reading) == [("a", 1), (None, 1)]


CHECKS: tuple[Callable[[Factory], None], ...] = (
    an_election_is_made_with_all_its_seats,
    whoever_comes_second_makes_no_seats,
    each_seat_is_swapped_by_itself,
    a_seat_of_a_restored_table_is_made_again,
    seats_are_more_or_fewer_later,
    what_was_left_at_a_seat_that_is_no_more_is_seen,
    a_seat_that_changes_is_news,
    further_seats_are_no_elections,
    an_election_is_forgotten_with_its_seats,
    a_seat_is_made_vacant_for_another,
)
