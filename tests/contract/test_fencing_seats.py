"""Fencing of an election with several seats: sessions end when their member led and holds no seat now, and live while it holds one.

The promises that could break here: never two of one seat, and that the leader of another seat is not touched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import sqlalchemy as sa

from heirflow.election.record import Event, Exchange, Reading, Swap, Told, What
from heirflow.stores import Store, StoreUnavailable, open_store
from heirflow.testing.store_tools import join, new_election, take, who
from lab.servers.servers import Server
from tests.contract.drivers import POSTGRES
from tests.contract.test_fencing import LIMIT_S, NewDatabase, Sessions, alive, fenced, refused, theirs, url

__all__ = ["fenced", "theirs", "url"]


class Line:
    """An election of several seats, and a store for each of its members: what a leader knows of sessions is its own."""

    def __init__(self, url: str, undo: ExitStack, seats: int = 2) -> None:
        self.url, self.seats, self._undo = url, seats, undo
        self.election = new_election()
        self._stores: dict[str, Store] = {}
        self._at: dict[int, tuple[int, int]] = dict.fromkeys(range(2, seats + 1), (1, 0))
        """Version and term of each seat; nothing for a record that is not there."""

    def store(self, member: str) -> Store:
        if member not in self._stores:
            self._stores[member] = open_store(self.url, call_limit_s=LIMIT_S, application_name="member/test")
            self._undo.callback(self._stores[member].close)
            self._stores[member].open()
            join(self._stores[member], self.election, member)
        return self._stores[member]

    def takes(self, seat: int, member: str, *, terms: int = 1, start: int | None = None) -> Reading:
        """Take charge. `terms`: by how many the term grows."""
        version, term = self._at.get(seat, (0, 0))
        swap = take(member, term + terms, version + 1, expected=version or None, takes_over="")
        assert swap.event is not None
        event = dataclasses.replace(swap.event, seat=seat)
        return self._swaps(dataclasses.replace(swap, seat=seat, seats=self.seats, event=event, start=start), member)

    def renews(self, seat: int, member: str, start: int | None = None) -> Reading:
        version, term = self._at[seat]
        swap = take(member, term, version + 1, expected=version, news=False)
        return self._swaps(dataclasses.replace(swap, seat=seat, event=None, start=start), member)

    def vacates(self, seat: int, by: str, *, left: str | None = "", start: int | None = None) -> Reading:
        """By another seat's leader (with what was left there), or a release by the holder itself (None)."""
        version, term = self._at[seat]
        swap = take(None, term, version + 1, expected=version, takes_over=left)
        event = Event(What.RELEASED, term, by, f"seat {seat} is vacant", seat=seat)
        return self._swaps(dataclasses.replace(swap, seat=seat, event=event, start=start), by)

    def _swaps(self, swap: Swap, member: str) -> Reading:
        reading = self.store(member).exchange(self.election, Exchange(who(member), swap=swap))
        assert reading.swapped
        self._at[swap.seat] = (swap.record.version, swap.record.term)
        return reading


@pytest.fixture
def line(url: str) -> Iterator[Line]:
    """Seat 1 is led by a-1, seat 2 by b-2."""
    with ExitStack() as undo:
        line = Line(url, undo)
        line.takes(1, "a-1")
        line.takes(2, "b-2")
        yield line


@pytest.mark.parametrize("driver", POSTGRES)
@pytest.mark.parametrize("terms", [1, 9])
def test_the_leader_of_another_seat_keeps_its_sessions(terms: int, driver: str, new_database: NewDatabase) -> None:
    """Whoever takes seat 1 or renews there, and whatever the terms of both seats are."""
    url = new_database(driver)
    with ExitStack() as undo:
        theirs, line = Sessions(url, undo), Line(url, undo)
        line.takes(1, "a-1")
        line.takes(2, "b-2", terms=5)
        its, old = theirs.open("heirflow/b-2/1"), theirs.open("heirflow/b-2")
        assert line.renews(1, "a-1", 1).told == () and line.renews(1, "a-1", 1).told == ()
        dead = theirs.open("heirflow/a-1/1")
        told = line.takes(1, "c-3", terms=terms, start=1).told
        assert told == (Told("ended 1 session of a-1, which led before"),)
        assert line.renews(1, "c-3", 1).told == ()
        assert alive(its) and alive(old) and not alive(dead)


@pytest.mark.parametrize("terms", [1, 9])
def test_who_lost_its_seat_to_another_has_its_sessions_ended(line: Line, theirs: Sessions, terms: int) -> None:
    its, first = theirs.open("heirflow/b-2/1"), theirs.open("heirflow/a-1/1")
    told = line.takes(2, "c-3", terms=terms, start=1).told
    assert told == (Told("ended 1 session of b-2, which led before"),)
    assert not alive(its) and alive(first)
    back = theirs.open("heirflow/b-2/1")
    line.store("c-3").flavour._fence = None  # type: ignore[attr-defined]  # else it is told once a minute
    line.renews(2, "c-3", 1)
    assert not alive(back) and alive(first)
    [told_at_renewal] = line.store("c-3").events(line.election, 1)
    assert (told_at_renewal.what, told_at_renewal.seat) == (What.FENCED, 2)


def test_any_leader_ends_the_sessions_of_who_lost_another_seat(line: Line, theirs: Sessions) -> None:
    """What it has found to be the rightful leader of another seat before is not spared for ever."""
    its = theirs.open("heirflow/b-2/1")
    assert line.renews(1, "a-1", 1).told == ()
    assert alive(its)
    line.vacates(2, "b-2", left=None)  # and nobody sits down there
    told = line.renews(1, "a-1", 1).told
    assert told == (Told("ended 1 session of b-2, which led before"),)
    assert not alive(its)


def test_terms_of_another_seat_say_nothing_about_this_one(line: Line, theirs: Sessions) -> None:
    """It led a term of seat 2 that is higher than any of seat 1, has left the line since, and leads nothing."""
    line.takes(2, "c-3", terms=40)
    line.vacates(2, "c-3", left=None)
    line.store("c-3").exchange(line.election, Exchange(who("c-3"), leave=True))
    its = [theirs.open("heirflow/c-3/1"), theirs.open("heirflow/c-3")]
    told = line.renews(1, "a-1", 1).told
    assert told == (Told("ended 2 sessions of c-3, which led before"),)
    assert not any(map(alive, its))


def test_when_a_seat_is_vacated_the_dead_leaders_sessions_end_and_the_vacating_leaders_live(
    line: Line, theirs: Sessions
) -> None:
    dead, old_dead = theirs.open("heirflow/b-2/3"), theirs.open("heirflow/b-2")
    own, old_own, stranger = (theirs.open(f"heirflow/{name}") for name in ("a-1/1", "a-1", "z-9/1"))
    told = line.vacates(2, "a-1", start=1).told
    assert told == (Told("ended 2 sessions of b-2, which led before"),)
    assert not alive(dead) and not alive(old_dead)
    assert all(map(alive, (own, old_own, stranger)))
    event = line.store("a-1").events(line.election, 1)[0]
    assert (event.what, event.seat) == (What.RELEASED, 2)
    assert event.because == "seat 2 is vacant; ended 2 sessions of b-2, which led before"
    back = theirs.open("heirflow/b-2/3")
    line.renews(1, "a-1", 1)
    assert not alive(back) and alive(own)


def test_a_member_that_lost_one_seat_and_holds_another_keeps_what_its_command_has_open_now(
    line: Line, theirs: Sessions
) -> None:
    first = theirs.open("heirflow/b-2/1")
    line.vacates(2, "b-2", left=None)
    second = theirs.open("heirflow/b-2/2")
    line.takes(1, "b-2", start=2)
    assert not alive(first), "its command of then is gone"
    assert not alive(second), "at taking charge no command of it runs"
    second = theirs.open("heirflow/b-2/2")
    line.takes(2, "c-3", start=1)
    assert line.renews(1, "b-2", 2).told == () and line.renews(2, "c-3", 1).told == ()
    assert alive(second), "it led seat 2 before, and holds seat 1 now"
    first = theirs.open("heirflow/b-2/1")
    line.renews(1, "b-2", 2)
    assert not alive(first) and alive(second)


def test_the_door_is_open_to_who_holds_any_seat_and_closed_to_who_holds_none(
    line: Line, theirs: Sessions, fenced: Callable[..., Any]
) -> None:
    from heirflow.stores.sql import fence_login

    fenced(fence_login.install)
    for name in ("heirflow/a-1/1", "heirflow/b-2/1"):
        assert refused(theirs, name) == ""
    line.vacates(1, "a-1", left=None)
    line.takes(2, "a-1", terms=7)
    line.takes(1, "c-3")
    assert refused(theirs, "heirflow/a-1/2") == "", "it led seat 1 before, and holds seat 2 now"
    said = refused(theirs, "heirflow/b-2/1")
    assert f"heirflow: b-2 led term 1 of seat 2 of election {line.election}, which is in term 8 now, led by a-1" in said
    line.vacates(2, "a-1", left=None)
    said = refused(theirs, "heirflow/a-1/2")
    assert f"a-1 led term 8 of seat 2 of election {line.election}, which is in term 8 now: its sessions" in said
    assert refused(theirs, "heirflow/c-3/1") == refused(theirs, "heirflow/never/1") == ""


def test_the_door_is_closed_in_tables_that_know_no_seats(
    url: str, theirs: Sessions, fenced: Callable[..., Any], postgres: Server
) -> None:
    from heirflow.stores.sql import fence_login

    database = url.rpartition("/")[2]
    with ExitStack() as undo:
        line = Line(url, undo, seats=1)
        line.takes(1, "a-1")
    postgres.sql("ALTER TABLE heirflow_event DROP COLUMN seat", database=database)
    fenced(fence_login.install)
    assert refused(theirs, "heirflow/a-1/1") == ""
    postgres.sql("UPDATE heirflow_election SET leader = NULL", database=database)
    said = f"a-1 led term 1 of election {line.election}, which is in term 1 now: "
    assert said in refused(theirs, "heirflow/a-1/1")
    postgres.sql("ALTER TABLE heirflow_event ADD COLUMN seat bigint", database=database)
    assert said in refused(theirs, "heirflow/a-1/1"), "a column that comes later opens no door"


def test_nobody_takes_charge_between_the_look_at_the_history_and_the_end_of_sessions(
    url: str, theirs: Sessions
) -> None:
    """Whoever did would lose its own command's sessions: it was found to hold no seat. So the renewal holds the record."""
    with ExitStack() as undo:
        line = Line(url, undo, seats=1)
        line.takes(1, "b-2")
        line.takes(1, "a-1")
        remains, other = theirs.open("heirflow/b-2"), line.store("b-2")
        took: list[bool] = []

        def overtakes(_conn: object, _cursor: object, statement: str, *_: object) -> None:
            if "pg_terminate_backend" in statement and not took:
                took.append(False)
                swap = take("b-2", 3, 4, expected=3, takes_over="")
                with suppress(StoreUnavailable):
                    took[0] = bool(other.exchange(line.election, Exchange(who("b-2"), swap=swap)).swapped)

        engine = line.store("a-1")._link.engine  # type: ignore[attr-defined]
        sa.event.listen(engine, "before_cursor_execute", overtakes)
        line.renews(1, "a-1")
        assert took == [False], "it took charge while its sessions were being ended"
        assert not alive(remains)
