"""PostgreSQL: the usual exchanges of an election with several seats are one statement each, and mean what several meant.

The promises that could break here: never two of one seat (a lost swap told as won), and nearly free.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from heirflow.election.record import Event, Exchange, Reading, What
from heirflow.stores import Store, open_store
from heirflow.testing.seats_contract import led_by, made, sits
from heirflow.testing.store_tools import join, new_election, row, take, who
from lab.servers.servers import Server
from tests.contract.drivers import POSTGRES
from tests.contract.test_fencing import Sessions
from tests.contract.test_one_statement import NewDatabase, meanwhile, messages, release

LARGEST = 2**63 - 1


def renewal(leader: str, seat: int, version: int, term: int = 1, **more: Any) -> Exchange:
    """As this seat's leader sends it: from this version to the next."""
    swap = take(leader, term, version + 1, expected=version, news=False, **more)
    return Exchange(who(leader), swap=dataclasses.replace(swap, event=None, seat=seat))


@contextmanager
def a_line(url: str, seats: int = 2) -> Iterator[tuple[Store, Store, str]]:
    """Two stores, and an election: `a` leads seat 1 at version 1, `b` seat 2 at version 2, `c` is the heir."""
    one, other, election = open_store(url, call_limit_s=4), open_store(url, call_limit_s=20), new_election()
    try:
        one.open()
        other.open()
        made(one, election, seats)
        join(one, election, "b")
        join(one, election, "c")
        sits(one, election, 2, "b", 1, 2)
        yield one, other, election
    finally:
        one.close()
        other.close()


def change(store: Store, statement: str, **values: Any) -> None:
    with store._transaction(writes=True) as conn:
        conn.execute(sa.text(statement), values)


def in_steps(store: Store, monkeypatch: pytest.MonkeyPatch, election: str, request: Exchange) -> Reading:
    with monkeypatch.context() as patched:
        patched.setattr(store, "_at_once", lambda *_: None)
        return store.exchange(election, request)


def at_once(store: Store, monkeypatch: pytest.MonkeyPatch, election: str, request: Exchange) -> Reading:
    def wrong(*_: Any) -> Any:
        raise AssertionError("it was carried out in steps")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_in_steps", wrong)
        return store.exchange(election, request)


def without_times(reading: Reading) -> Reading:
    """What two exchanges a moment apart have in common, if nothing else has happened."""
    members = [dataclasses.replace(each, stamp=0.0, silent_s=0.0) for each in reading.members]
    others = [dataclasses.replace(each, written_at=0.0) for each in reading.others]
    assert all(abs(each.silent_s) < 60 for each in reading.members)
    assert all(abs(each.written_at - reading.db_now) < 60 for each in reading.places if each.written_at)
    return dataclasses.replace(reading, members=tuple(members), others=tuple(others), written_at=0.0, db_now=0.0)


@pytest.mark.parametrize("driver", POSTGRES)
@pytest.mark.parametrize("started", [False, True], ids=["no sessions", "the commands have sessions"])
def test_check_in_renewals_and_look_are_one_message_each(
    started: bool, driver: str, new_database: NewDatabase, postgres: Server
) -> None:
    """Also where the other seat's command has sessions: whoever leads that seat has a right to them."""
    url = new_database(driver)
    told = messages(postgres, url)
    with ExitStack() as undo, a_line(url) as (store, _, election):
        for name in ("a/1", "b/1", "b") if started else ():
            Sessions(url, undo).open(f"heirflow/{name}")
        for _ in range(8):  # each prepares one more
            store.exchange(election, Exchange(who("c")))
        for name, first, request in (
            ("an heir", Exchange(who("c")), Exchange(who("c"))),
            ("the leader of seat 1", renewal("a", 1, 1), renewal("a", 1, 2)),
            ("the leader of seat 2", renewal("b", 2, 2), renewal("b", 2, 3)),
            ("somebody who looks", Exchange(), Exchange()),
        ):
            store.exchange(election, first)  # psycopg2 must say once what it will ask
            told()
            reading = store.exchange(election, request)
            assert len(said := told()) == 1, f"{name}: {said}"
            assert led_by(reading) == [("a", 1), ("b", 1)]
            assert reading.told == ()


@pytest.mark.parametrize("driver", POSTGRES)
def test_where_there_is_one_seat_again_a_check_in_is_one_message(
    driver: str, new_database: NewDatabase, postgres: Server
) -> None:
    url = new_database(driver)
    told = messages(postgres, url)
    with a_line(url) as (store, other, election):
        sits(other, election, 2, None, 1, 3)
        assert other.set_seats(election, 1)
        for _ in range(9):
            assert store.exchange(election, Exchange(who("c"))).others == ()
        told()
        reading = store.exchange(election, Exchange(who("c")))
        assert (reading.seats, reading.others) == (1, ())
        assert len(said := told()) == 1, said


ODD: dict[str, Callable[[Store, str], Any]] = {
    "nothing": lambda store, election: None,
    "three seats": lambda store, election: store.set_seats(election, 3),
    "sixteen seats": lambda store, election: store.set_seats(election, 16),
    "a number of seats that cannot be": lambda store, election: change(
        store, "UPDATE heirflow_election SET seats = 99 WHERE name = :e", e=election
    ),
    "no number of seats": lambda store, election: change(
        store, "UPDATE heirflow_election SET seats = NULL WHERE name = :e", e=election
    ),
    "one seat, and the second is still led": lambda store, election: store.set_seats(election, 1),
    "one seat, and something was left at the third": lambda store, election: (
        store.set_seats(election, 3),
        sits(store, election, 3, "c", 1, 2),
        change(store, "UPDATE heirflow_election SET leader = NULL, note = 'job 17' WHERE name = :e", e=f"{election}#3"),
        store.set_seats(election, 1),
    ),
    "records of which some are missing": lambda store, election: (
        store.set_seats(election, 4),
        change(store, "DELETE FROM heirflow_election WHERE name = :e", e=f"{election}#3"),
    ),
    "numbers that are none": lambda store, election: change(
        store,
        "UPDATE heirflow_election SET ttl_s = 'NaN', since = 'Infinity', written_at = -5 WHERE name = :e",
        e=f"{election}#2",
    ),
    "a term after which there is none": lambda store, election: (
        store.set_seats(election, 3),
        change(store, f"UPDATE heirflow_election SET term = {LARGEST} WHERE name = :e", e=f"{election}#3"),
    ),
    "orders, a note and a history": lambda store, election: change(
        store,
        "UPDATE heirflow_election SET paused = true, note = :n, because = :n, switchover_to = '*', history = 'x/1' "
        "WHERE name = :e",
        n="{\"quoted\": '\u2028\\é'}\n",
        e=f"{election}#2",
    ),
    "no first record": lambda store, election: change(
        store, "DELETE FROM heirflow_election WHERE name = :e", e=election
    ),
    "an election with a like name": lambda store, election: (
        made(store, election + "#x", 2),
        made(store, election.replace("-", "_"), 3),
    ),
}


@pytest.mark.parametrize("driver", POSTGRES)
@pytest.mark.parametrize("odd", ODD)
def test_they_answer_what_steps_answer(
    odd: str, driver: str, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_line(new_database(driver)) as (store, other, election):
        store.exchange(election, Exchange())
        ODD[odd](other, election)
        requests = [Exchange(who("c")), Exchange()] if odd != "no first record" else []
        for request in requests:
            quick = at_once(store, monkeypatch, election, request)
            assert without_times(quick) == without_times(in_steps(store, monkeypatch, election, request))
            again = at_once(store, monkeypatch, election, request)
            assert without_times(quick) == without_times(again)
        for leader, seat, version in (("b", 2, 2), ("a", 1, 1)):
            record = store.exchange(election, Exchange()).record_of(seat)
            if seat == 1 and odd == "no first record":
                continue
            term, history = (1, None) if record is None else (record.term, record.history)
            quick = at_once(store, monkeypatch, election, renewal(leader, seat, version, term, history=history))
            change(
                other, "UPDATE heirflow_election SET version = :v WHERE name = :e", v=version, e=_name(election, seat)
            )
            slow = in_steps(store, monkeypatch, election, renewal(leader, seat, version, term, history=history))
            assert quick.swapped and slow.swapped
            assert without_times(quick) == without_times(slow)


def _name(election: str, seat: int) -> str:
    return election if seat == 1 else f"{election}#{seat}"


@pytest.mark.parametrize("driver", POSTGRES)
@pytest.mark.parametrize("seat", [1, 2])
def test_a_swap_lost_while_it_waited_shows_who_won(seat: int, driver: str, new_database: NewDatabase) -> None:
    """The statement began before the other one committed: its own view of that seat's record is the old one."""
    with a_line(new_database(driver)) as (store, other, election):
        leader = "a" if seat == 1 else "b"
        for _ in range(7):
            store.exchange(election, Exchange(who(leader)))
        moved = "UPDATE heirflow_election SET version = 9, term = 2, leader = 'c' WHERE name = :e"
        with meanwhile(other, moved, {"e": _name(election, seat)}):
            reading = store.exchange(election, renewal(leader, seat, seat))
        assert reading.swapped is False
        record = reading.record_of(seat)
        assert record is not None
        assert (record.version, record.term, record.leader) == (9, 2, "c")
        assert led_by(reading)[2 - seat] == ("b" if seat == 1 else "a", 1)


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_lost_renewal_of_a_further_seat_is_still_a_check_in_and_changes_no_record(
    driver: str, new_database: NewDatabase
) -> None:
    with a_line(new_database(driver)) as (store, _, election):
        before = store.exchange(election, Exchange())
        time.sleep(0.02)
        reading = store.exchange(election, renewal("b", 2, 1))
        assert reading.swapped is False
        assert row(reading, "b").stamp > row(before, "b").stamp
        assert reading.places == before.places


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_renewal_of_a_further_seat_is_lost_in_another_history_and_under_another_term(
    driver: str, new_database: NewDatabase
) -> None:
    with a_line(new_database(driver)) as (store, _, election):
        asked = renewal("b", 2, 2)
        assert asked.swap is not None
        for more, won in (({"under": "another server's"}, False), ({"expected_term": 4}, False), ({}, True)):
            swap = dataclasses.replace(asked.swap, **more)
            assert store.exchange(election, dataclasses.replace(asked, swap=swap)).swapped is won


@pytest.mark.parametrize("driver", POSTGRES)
def test_who_has_seen_no_seats_yet_renews_a_further_one(driver: str, new_database: NewDatabase) -> None:
    """A member that replaces a store that hung knows nothing of the election in its new one."""
    with a_line(new_database(driver)) as (_, other, election):
        for version in (2, 3):
            reading = other.exchange(election, renewal("b", 2, version))
            assert reading.swapped and led_by(reading) == [("a", 1), ("b", 1)]
            assert (reading.record and reading.record.version) == 1, "the first seat's is another record"


@pytest.mark.parametrize("driver", POSTGRES)
def test_changes_of_leadership_are_told_of_the_right_seat(driver: str, new_database: NewDatabase) -> None:
    with a_line(new_database(driver)) as (store, _, election):
        store.exchange(election, Exchange())
        reading = store.exchange(election, release("a", 1, join=True))
        assert reading.swapped and led_by(reading) == [(None, 1), ("b", 1)]
        assert [each.id for each in reading.members] == ["b", "c", "a"]
        swap = take("c", 2, 3, expected=2, takes_over="")
        reading = store.exchange(election, Exchange(who("c"), swap=swap))
        assert reading.swapped and led_by(reading) == [("c", 2), ("b", 1)]
        gone = dataclasses.replace(take(None, 1, 3, expected=2), seat=2, event=Event(What.RELEASED, 1, "b", "", seat=2))
        reading = store.exchange(election, Exchange(who("b"), swap=gone))
        assert reading.swapped and led_by(reading) == [("c", 2), (None, 1)]
        told = [(each.what, each.seat, each.member) for each in store.events(election, 3)]
        assert told == [(What.RELEASED, 1, "a"), (What.TOOK_CHARGE, 1, "c"), (What.RELEASED, 2, "b")]


@pytest.mark.parametrize("driver", POSTGRES)
def test_to_prepare_changes_nothing_there_either(driver: str, new_database: NewDatabase) -> None:
    count = sa.text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%heirflow_member%'")
    with a_line(new_database(driver)) as (store, other, election):

        def tables() -> list[Any]:
            with other._transaction(writes=False) as conn:
                asked = ("heirflow_election ORDER BY name", "heirflow_member ORDER BY id", "heirflow_event ORDER BY id")
                return [conn.execute(sa.text(f"SELECT * FROM {each}")).all() for each in asked]

        store.exchange(election, Exchange())
        before = tables()
        for _ in range(9):
            store._flavour._carrier._of_all.warm(store._link.driver)
        assert tables() == before
        with store._transaction(writes=False) as conn:
            assert conn.execute(count).scalar() >= 6
