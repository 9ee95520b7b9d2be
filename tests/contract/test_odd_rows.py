"""Whatever stands in the tables: what cannot be is told in a sentence, and never hides the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from heirflow.election.record import Exchange, Reading
from heirflow.stores import Store, StoreUnavailable, open_store
from heirflow.testing.store_tools import charge, ids, join, new_election, row, take, who
from tests.contract.drivers import ALL, MYSQL

DatabaseUrl = Callable[[str], str]
LARGEST = 2**63 - 1


def odd_numbers(driver: str) -> list[str]:
    """Literals for a double that no clock and no member ever gave."""
    if driver in MYSQL:
        return ["1e300", "-5"]
    if driver == "sqlite":
        return ["1e300", "-5", "9e999", "'soon'", "x'ff'"]
    return ["1e300", "-5", "'NaN'", "'Infinity'"]


@contextmanager
def led(url: str) -> Iterator[tuple[Store, str]]:
    """An election that a leads in term 1, with b behind it."""
    store, election = open_store(url, call_limit_s=1.5), new_election()
    try:
        join(store, election, "a")
        store.exchange(election, charge("a", 1))
        join(store, election, "b")
        yield store, election
    finally:
        store.close()


def change(store: Store, election: str, table: str, values: str) -> None:
    """As somebody does who may write there."""
    name = "name" if table == "heirflow_election" else "election"
    with store._transaction(writes=True) as conn:
        conn.execute(sa.text(f"UPDATE {table} SET {values} WHERE {name} = :e"), {"e": election})


def look(store: Store, election: str) -> Reading:
    """What somebody sees who only looks."""
    return store.exchange(election, Exchange())


@pytest.mark.parametrize("driver", ALL)
def test_an_event_that_cannot_be_hides_no_other(driver: str, database_url: DatabaseUrl) -> None:
    with led(database_url(driver)) as (store, election):
        for number in odd_numbers(driver):
            change(store, election, "heirflow_event", f"what = 'ascended', at = {number}, took_s = {number}")
            store.exchange(election, Exchange(notes=(take("b", 2, 2, expected=1).event,)))
            odd, good = store.events(election, 2)
            assert (odd.what, odd.at, odd.took_s) == ("ascended", 0.0, None)
            assert "when it was (" in odd.odd
            assert (good.odd, good.took_s) == ("", 0.25)
            assert good.at > 1e9


@pytest.mark.parametrize("driver", ALL)
def test_a_ttl_that_no_member_writes_is_the_longest_there_is(driver: str, database_url: DatabaseUrl) -> None:
    with led(database_url(driver)) as (store, election):
        for number in ["1e9", "0", *odd_numbers(driver)]:
            change(store, election, "heirflow_election", f"ttl_s = {number}")
            seen = look(store, election)
            assert seen.record.ttl_s == 3600, number
            assert len(seen.odd) == 1 and "a ttl of " in seen.odd[0] and "3600 s" in seen.odd[0]
            assert look(store, election).record == seen.record, "it stands still"
        renewal = take("a", 1, 2, expected=1)
        assert store.exchange(election, Exchange(who("a"), swap=renewal)).swapped
        assert look(store, election).odd == ()


@pytest.mark.parametrize("driver", ALL)
@pytest.mark.parametrize("column", ["term", "version"])
def test_after_the_largest_number_nobody_writes_and_everybody_reads(
    driver: str, column: str, database_url: DatabaseUrl
) -> None:
    with led(database_url(driver)) as (store, election):
        change(store, election, "heirflow_election", f"{column} = {LARGEST}")
        seen = look(store, election)
        assert getattr(seen.record, column) == LARGEST
        assert [row.id for row in seen.members] == ["a", "b"]
        told = f"the record says {column} {LARGEST}, the largest there is"
        assert told in seen.odd[0]
        for request in (Exchange(who("b")), Exchange(who("c"), join=True)):
            with pytest.raises(StoreUnavailable, match=told):
                store.exchange(election, request)
        assert ids(look(store, election)) == ["a", "b", "c"], "who checks in is seen all the same"
        change(store, election, "heirflow_election", f"{column} = 1")
        assert store.exchange(election, Exchange(who("b"))).odd == ()


@pytest.mark.parametrize("driver", ALL)
def test_an_instant_that_cannot_be_makes_nobody_look_alive(driver: str, database_url: DatabaseUrl) -> None:
    with led(database_url(driver)) as (store, election):
        for number in odd_numbers(driver):
            change(store, election, "heirflow_member", f"checked_in_at = {number}, joined_at = {number}")
            change(store, election, "heirflow_election", f"since = {number}, written_at = {number}")
            seen = store.exchange(election, Exchange(who("a")))
            assert (seen.since, seen.written_at) == (0, 0)
            assert row(seen, "a").silent_s == pytest.approx(0, abs=60)
            b = row(seen, "b")
            assert (b.stamp, b.joined_at) == (0, 0)
            assert b.silent_s > 1e9
            assert any("b" in sentence for sentence in seen.odd)


def test_sqlite_holds_anything_in_any_column(database_url: DatabaseUrl) -> None:
    with led(database_url("sqlite")) as (store, election):
        change(store, election, "heirflow_member", "pid = 'x', ready = 'y', label = x'ff00', host = 5")
        change(store, election, "heirflow_election", "because = x'fe', paused = 'no', note = 7")
        seen = look(store, election)
        assert ids(seen) == ["a", "b"]
        assert seen.record.leader == "a"
        assert isinstance(seen.record.because + seen.record.note + row(seen, "a").label + row(seen, "a").host, str)
        assert row(seen, "a").pid == 0
        change(store, election, "heirflow_election", "term = 'x'")
        assert "the record says term 'x', which is no number" in look(store, election).odd[0]
        with pytest.raises(StoreUnavailable, match="which is no number"):
            store.exchange(election, Exchange(who("a")))


@pytest.mark.parametrize("driver", ALL)
def test_a_seat_that_nobody_can_write_keeps_nobody_from_the_others(driver: str, database_url: DatabaseUrl) -> None:
    with led(database_url(driver)) as (store, election):
        assert store.set_seats(election, 3)
        with store._transaction(writes=True) as conn:
            values = {"name": f"{election}#2", "last": LARGEST}
            conn.execute(sa.text("UPDATE heirflow_election SET version = :last WHERE name = :name"), values)
        reading = store.exchange(election, Exchange(who("a")))
        assert [(place.record is None, place.stuck) for place in reading.others] == [(True, True), (False, False)]
        assert any(each.startswith("seat 2: ") and "none can follow it" in each for each in reading.odd)


@pytest.mark.parametrize("driver", ALL)
def test_a_number_of_seats_that_cannot_be_starts_and_stops_nobody(driver: str, database_url: DatabaseUrl) -> None:
    with led(database_url(driver)) as (store, election):
        for known in (1, 2):
            assert store.set_seats(election, known)
            assert look(store, election).seats == known
            for number in ("0", "-3", "999", *(["'many'"] if driver == "sqlite" else [])):
                change(store, election, "heirflow_election", f"seats = {number}")
                reading = store.exchange(election, Exchange(who("a")))
                assert reading.seats == known
                [told] = reading.odd
                assert "there can be 1 to 16" in told
                assert len(reading.others) == known - 1
