"""What is done in the database beside a swap that takes charge: within its transaction, and never in its way.

The promises that could break here: never two (a swap that was taken back must not be told as won), and always one, soon (a
hook that fails, waits or hangs must keep nobody from taking charge).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from heirflow.election.record import CheckIn, Event, Exchange, Record, Swap, Told, What
from heirflow.stores import Store, StoreUnavailable, open_store
from heirflow.testing.store_tools import new_election, take
from tests.contract.drivers import ALL, MYSQL, SERVERS

DatabaseUrl = Callable[[str], str]
LIMIT_S = 1.5


def taking(leader: str, term: int, *, expected: int | None, note: str = "") -> Swap:
    return dataclasses.replace(take(leader, term, term, expected=expected), takes_over=note)


@contextmanager
def opened(url: str, on_taken: Any = None, call_limit_s: float = LIMIT_S) -> Iterator[Store]:
    store = open_store(url, call_limit_s=call_limit_s, on_taken=on_taken)
    try:
        store.open()
        yield store
    finally:
        store.close()


def last(store: Store, election: str) -> Event:
    event = store.events(election, 1)[0]
    assert event.what is What.TOOK_CHARGE
    return event


@pytest.mark.parametrize("driver", ALL)
def test_it_is_called_once_for_a_swap_that_wins_and_its_sentence_stands_in_the_history(
    driver: str, database_url: DatabaseUrl
) -> None:
    election, seen = new_election(), []

    def adopt(conn: sa.engine.Connection, note: str) -> str | None:
        leader = conn.execute(
            sa.text("SELECT leader FROM heirflow_election WHERE name = :name"), {"name": election}
        ).scalar()
        seen.append((leader, note))
        return "marked job 7 as failed" if note else None

    with opened(database_url(driver), adopt) as store:
        assert store.exchange(election, Exchange(swap=taking("a", 1, expected=None))).swapped
        assert last(store, election).because == "a took charge"
        assert not store.exchange(election, Exchange(swap=taking("b", 2, expected=9, note="lost"))).swapped
        assert store.exchange(election, Exchange(swap=take("a", 1, 2, expected=1))).swapped  # a renewal
        reading = store.exchange(election, Exchange(swap=taking("b", 3, expected=2, note='{"job": 7}')))
        assert reading.swapped and reading.told[-1] == Told("marked job 7 as failed")
        assert seen == [("a", ""), ("b", '{"job": 7}')]
        assert last(store, election).because == "b took charge; marked job 7 as failed"


@pytest.mark.parametrize("driver", ALL)
def test_it_is_called_for_a_seat_that_is_made_vacant_for_who_is_gone_and_for_no_release(
    driver: str, database_url: DatabaseUrl
) -> None:
    election, seen = new_election(), []

    def adopt(conn: sa.engine.Connection, note: str) -> str | None:
        seen.append(note)
        return "marked job 7 as failed" if note else None

    def vacant(version: int, *, takes_over: str | None) -> Swap:
        event = Event(What.RELEASED, 1, "b", "a was silent for 10.0 s")
        return Swap(version - 1, Record(version, 1, None, 10.0, event.because), event, news=True, takes_over=takes_over)

    def say(swap: Swap) -> Exchange:
        return Exchange(check_in=CheckIn("b", "host-b", 1, ready=True), swap=swap)

    with opened(database_url(driver), adopt) as store:
        store.exchange(election, Exchange(check_in=CheckIn("b", "host-b", 1, ready=True), join=True))
        assert store.exchange(election, Exchange(swap=take("a", 1, 1, expected=None))).swapped
        reading = store.exchange(election, say(vacant(2, takes_over='{"job": 7}')))
        assert reading.swapped and reading.record is not None and reading.record.leader is None
        assert (seen, reading.told) == (['{"job": 7}'], (Told("marked job 7 as failed"),))
        [event, *_] = store.events(election, 1)
        assert (event.what, event.because) == (What.RELEASED, "a was silent for 10.0 s; marked job 7 as failed")
        assert not store.exchange(election, say(vacant(9, takes_over="lost"))).swapped
        assert store.exchange(election, say(vacant(3, takes_over=None))).swapped
        assert seen == ['{"job": 7}']


def fails_in_sql(conn: sa.engine.Connection, note: str) -> str:
    conn.execute(sa.text("UPDATE heirflow_election SET because = 'half done' WHERE name = :name"), {"name": note})
    conn.execute(sa.text("SELECT no_such_column FROM no_such_table"))
    raise AssertionError


def fails_in_python(conn: sa.engine.Connection, note: str) -> str:
    conn.execute(sa.text("UPDATE heirflow_election SET because = 'half done' WHERE name = :name"), {"name": note})
    raise ValueError("nothing that I know")


@pytest.mark.parametrize("hook", [fails_in_sql, fails_in_python])
@pytest.mark.parametrize("driver", ALL)
def test_what_fails_is_told_taken_back_and_spoils_nothing(driver: str, hook: Any, database_url: DatabaseUrl) -> None:
    election = new_election()
    with opened(database_url(driver), hook) as store:
        reading = store.exchange(election, Exchange(swap=taking("a", 1, expected=None, note=election)))
        assert reading.swapped and reading.record is not None
        assert reading.record.because == "a took charge"
        assert last(store, election).because.startswith("a took charge; could not adopt: ")
        assert [told.failed for told in reading.told] == [True], "its member warns"
        assert store.exchange(election, Exchange(swap=take("a", 1, 2, expected=1))).swapped


@pytest.mark.parametrize("driver", SERVERS)
def test_a_lock_that_somebody_holds_does_not_hold_up_the_taking(driver: str, database_url: DatabaseUrl) -> None:
    election, held, url = new_election(), new_election(), database_url(driver)

    def adopt(conn: sa.engine.Connection, note: str) -> str:
        conn.execute(sa.text("UPDATE heirflow_election SET because = '' WHERE name = :name"), {"name": held})
        raise AssertionError("the lock was not held")

    with opened(url, adopt) as store, opened(url, call_limit_s=60) as other:
        other.exchange(held, Exchange(swap=take("z", 1, 1, expected=None)))
        conn = other._connected()
        other._flavour.begin(conn, writes=True)
        conn.execute(sa.text("UPDATE heirflow_election SET because = 'held' WHERE name = :name"), {"name": held})
        start = time.monotonic()
        assert store.exchange(election, Exchange(swap=taking("a", 1, expected=None))).swapped
        assert time.monotonic() - start < LIMIT_S
        assert "could not adopt: " in last(store, election).because
        # The limits of the hook are gone after it.
        assert store.exchange(election, Exchange(swap=take("a", 1, 2, expected=1))).swapped
        conn.rollback()


@pytest.mark.parametrize("driver", ALL)
def test_many_slow_statements_end_in_time(driver: str, database_url: DatabaseUrl) -> None:
    election = new_election()

    def adopt(conn: sa.engine.Connection, note: str) -> None:
        while True:
            time.sleep(0.05)
            conn.execute(sa.text("SELECT 1"))

    with opened(database_url(driver), adopt) as store:
        start = time.monotonic()
        assert store.exchange(election, Exchange(swap=taking("a", 1, expected=None))).swapped
        assert time.monotonic() - start < LIMIT_S
        assert last(store, election).because == "a took charge; could not adopt: it took too long"


def test_a_hook_that_does_not_come_back_is_left_out_by_the_next_store(database_url: DatabaseUrl) -> None:
    from heirflow.stores.sql.taking import hook_of

    election, url = new_election(), database_url("sqlite")

    def adopt(conn: sa.engine.Connection, note: str) -> str:
        raise AssertionError

    hook_of(adopt).away = True  # as in a thread that was given up
    with opened(url, adopt) as store:
        assert store.exchange(election, Exchange(swap=taking("a", 1, expected=None))).swapped
        assert last(store, election).because.endswith("could not adopt: the attempt before did not come back")


@pytest.mark.parametrize("driver", SERVERS)
def test_a_hook_that_broke_the_connection_is_left_out_once(driver: str, database_url: DatabaseUrl) -> None:
    """As where a server waits longer for a lock than a call may last: the second heir's try must win."""
    election, url, calls = new_election(), database_url(driver), []

    def adopt(conn: sa.engine.Connection, note: str) -> str:
        calls.append(note)
        if len(calls) == 1:
            conn.invalidate()
            raise OSError("timed out")
        return "adopted"

    with opened(url, adopt) as store:
        with pytest.raises(StoreUnavailable):
            store.exchange(election, Exchange(swap=taking("a", 1, expected=None)))
        assert store.exchange(election, Exchange(swap=taking("a", 1, expected=None))).swapped
        assert last(store, election).because.endswith("could not adopt: the attempt before did not come back")
        assert store.exchange(election, Exchange(swap=taking("b", 2, expected=1))).swapped
        assert last(store, election).because.endswith("adopted")


@pytest.mark.parametrize("swallowed", [False, True])
@pytest.mark.parametrize("driver", MYSQL)
def test_a_swap_that_a_deadlock_took_back_is_never_told_as_won(
    driver: str, swallowed: bool, database_url: DatabaseUrl
) -> None:
    """MySQL answers a deadlock by taking back the whole transaction, the swap too."""
    election, url = new_election(), database_url(driver)

    def adopt(conn: sa.engine.Connection, note: str) -> str | None:
        # What the server does to the victim of a deadlock, without waiting for one.
        conn.connection.dbapi_connection.rollback()
        if swallowed:
            return "all is well"
        raise ValueError("deadlock")

    with opened(url, adopt) as store:
        with pytest.raises(StoreUnavailable):
            store.exchange(election, Exchange(swap=taking("a", 1, expected=None)))
        assert store.exchange(election, Exchange()).record is None
        assert store.events(election, 5) == ()
