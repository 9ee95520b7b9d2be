"""The store that all SQL databases share: one connection, one transaction per exchange, nothing left open in between.

On PostgreSQL the exchanges that come every few seconds are one statement each (`one_statement`).

Losing a swap is told by the number of rows that an UPDATE or INSERT changed. Whatever else goes wrong ends the connection:
a transaction that we know nothing about is then rolled back by the server, or was committed, and the next read tells.
A connection that the server has closed while it was idle is replaced before anything is asked on it, because that is the
one case in which nothing can have happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import sqlalchemy as sa

from heirflow.election.record import (
    CheckIn,
    Event,
    Exchange,
    Keep,
    Reading,
    Swap,
    Told,
    What,
    record_name,
    record_names,
)  # fmt: skip
from heirflow.stores.base import Finding, Glance, OnTaken, StoreMisfit, StoreUnavailable, Will
from heirflow.stores.rows import Answer, event_of, fenced
from heirflow.stores.sql import schema as schemas
from heirflow.stores.sql.bound import Bound, check_letters, is_rare, noted_of, said_by, told_of, wanted_by
from heirflow.stores.sql.fitting import fit, fit_later
from heirflow.stores.sql.flavour import Flavour
from heirflow.stores.sql.forgetting import SHARE, forget, prune
from heirflow.stores.sql.further import first, is_further, make, names, set_seats
from heirflow.stores.sql.glance import glances
from heirflow.stores.sql.link import Link, Source
from heirflow.stores.sql.one_statement import kind_of
from heirflow.stores.sql.statements import Statements, plain
from heirflow.stores.sql.taking import carry_out, hook_of
from heirflow.stores.sql.waking import Waking
from heirflow.stores.sql.wills import will_of
from heirflow.stores.values import check, cleaned

T = TypeVar("T")


class SqlStore:
    """A `Store` in a SQL database: a register for members, with answers for people."""

    def __init__(
        self,
        url: sa.engine.URL,
        flavour: Flavour,
        *,
        call_limit_s: float,
        schema: str | None = None,
        on_taken: OnTaken | None = None,
        source: Source | None = None,
    ) -> None:
        self.news_poll_s = flavour.news_poll_s
        self._call_limit_s = call_limit_s
        self._hook = None if on_taken is None else hook_of(on_taken)
        self._flavour = flavour
        self._link = Link(url, flavour, connect_limit_s=call_limit_s, source=source)
        self._waking = Waking(self._link, flavour)
        self._here = schemas.tables(schema)
        self._sql = Statements(self._here, flavour)
        self._later = self._sql.later
        self._several: dict[str, int] = {}
        """How many seats elections have that have several, or had: their further records are read with each exchange."""
        self._fits = False
        self._create = True

    # What a member calls

    def open(self, *, create: bool = True) -> None:
        self._create = create
        self._fits = False
        with self._link.asking():
            self._connected()

    def exchange(self, election: str, request: Exchange) -> Reading:
        check(election, request)
        answer = self._at_once(election, request) or self._in_steps(election, request)
        told = self._waking.after(election, request.swap) if answer.swapped else ()
        before = self._several.pop(election, 1)
        reading, stuck = answer.reading(election, told, before)
        if answer.rows[0].e_seats is not None:
            self._several[election] = reading.seats
        if stuck is not None and request != Exchange():
            raise StoreUnavailable(stuck)  # committed: who checks in is seen, and the next reading tells
        self._flavour.saw(election, request, reading)
        return reading

    def news_fd(self) -> int | None:
        return None if self._link.conn is None else self._flavour.news_fd(self._link.driver)

    def news(self, election: str) -> bool:
        """True also when the connection turns out to be gone: whoever waits must look, and an exchange connects again."""
        self._waking.rest()
        if self._link.conn is None:
            return False
        try:
            with self._link.asking():
                return self._flavour.news(self._link.conn, election, self._here)
        except StoreUnavailable:
            return True

    def prune(self, election: str, keep: Keep) -> bool:
        with self._transaction(writes=True) as conn:
            return prune(conn, self._here, self._flavour, election, keep, SHARE * self._call_limit_s)

    # What people ask

    def limit_answers(self, limit_s: float) -> None:
        self._link.answer_limit_s = limit_s

    def elections(self) -> tuple[str, ...]:
        with self._transaction(writes=False) as conn:
            found = frozenset(name for (name,) in conn.execute(self._sql.elections).all())
            for told in () if found else self._hidden(conn):
                raise StoreMisfit(told)
            return tuple(sorted(name for name in found if not is_further(name, found)))

    def glance(self, only: str | None = None) -> dict[str, Glance]:
        with self._transaction(writes=False, lone=True) as conn:
            rows = conn.execute(self._sql.glance).all()
            return glances(rows, lambda: self._hidden(conn), self._several, only)

    def events(self, election: str, limit: int) -> tuple[Event, ...]:
        with self._transaction(writes=False, lone=True) as conn:
            rows = conn.execute(self._sql.events, {"p_election": election, "p_limit": limit}).all()
        return tuple(event_of(row) for row in reversed(rows))

    def ask(self, statement: Any) -> list[Any]:
        """The rows of one statement that only reads, about tables that are not ours; ours need not be there. Raises like `open`."""
        with self._link.asking():
            if not self._flavour.prepare(create=False):
                raise StoreUnavailable(f"{self.where} does not exist")
            conn = self._as_it_is()
            self._flavour.begin(conn, writes=False)
            rows = list(conn.execute(statement).all())
            conn.rollback()
            return rows

    def drain(self, election: str, member: str, on: bool) -> bool:
        with self._transaction(writes=True) as conn:
            values = {"p_election": election, "p_id": member, "drained": on}
            known = conn.execute(self._sql.drain, values).rowcount == 1
        if known:
            self._waking.tell(election)
        return known

    def set_seats(self, election: str, seats: int) -> bool:
        with self._transaction(writes=True) as conn:
            known = set_seats(conn, self._sql, election, seats)
        if known:
            self._waking.tell(election)
        return known

    def forget(self, election: str, seen: Reading) -> bool:
        with self._transaction(writes=True) as conn:
            return forget(conn, self._here, election, seen)

    def will(self, election: str, member: str, term: int, because: str, *, seat: int = 1) -> Will | None:
        event = Event(What.RELEASED, term, member, self._text(because), seat=seat)
        return will_of(self._link, self._flavour, self._sql, election, event, self._waking.statements(election))

    def examine(self) -> tuple[Finding, ...]:
        from heirflow.stores.sql.examine import examine

        with self._link.asking():
            if not self._flavour.prepare(create=False):
                return (Finding("store", "note", f"{self.where} does not exist yet; the first member makes it"),)
            conn = self._as_it_is()
            found = examine(conn, self._flavour, self._here, self.where)
            conn.rollback()
            return tuple(found)

    def fence(self) -> Finding:
        with self._link.asking():
            conn = self._connected()
            found = self._flavour.fenced(conn, self._here)
            conn.rollback()
            return found

    def administer(self, act: Callable[[sa.engine.Connection, schemas.Tables], T]) -> T:
        """Do something in a transaction of its own, whether the tables are seen from here or not. Raises like `open`."""
        with self._link.asking():
            conn = self._link.connect()
            done = act(conn, self._here)
            conn.commit()
            return done

    # How it ends

    def sever(self) -> None:
        self._link.sever()

    def close(self) -> None:
        self._waking.rest()
        self._link.drop(politely=True)

    # The connection and the tables

    @property
    def where(self) -> str:
        """Which database this is, for people: never the password."""
        return self._link.where

    @property
    def flavour(self) -> Flavour:
        """How this database does what no two do alike."""
        return self._flavour

    def _as_it_is(self) -> sa.engine.Connection:
        """The connection, new if need be, to whatever is there: nothing is made."""
        return self._link.usable() or self._link.connect()

    def _connected(self) -> sa.engine.Connection:
        """The connection, new if need be, to tables that fit."""
        conn = self._link.usable()
        look_again = conn is None and self._later != schemas.LATER
        if conn is None:
            # Once there were tables, an empty database is never made again behind the back of a leader that still
            # trusts the old one: whoever found it empty would take charge at once.
            if not self._flavour.prepare(create=self._create and not self._fits):
                gone = f"{self.where} does not exist"
                raise (
                    StoreUnavailable(f"{gone} any more") if self._fits else StoreMisfit(f"{gone}; run `heirflow init`")
                )
            conn = self._link.connect()
        if not self._fits:
            fit(conn, self._here, self._flavour, self.where, create=self._create)
        if not self._fits or look_again:
            self._later = fit_later(conn, self._here, self._flavour, create=self._create and not self._fits)
            self._fits = True
        if (self._sql.history, self._sql.later) != (self._flavour.history, self._later):
            self._sql = Statements(self._here, self._flavour, self._later)
        return conn

    @contextmanager
    def _transaction(self, *, writes: bool, lone: bool = False) -> Iterator[sa.engine.Connection]:
        with self._link.asking():
            conn = self._connected()
            self._flavour.begin(conn, writes=writes, lone=lone)
            yield conn
            self._confirmed(self._flavour.commit(conn))

    def _confirmed(self, confirmed: bool) -> None:
        if not confirmed:
            raise StoreUnavailable(f"{self.where} has it, but its synchronous standby did not confirm")

    # The parts of an exchange

    def _at_once(self, election: str, request: Exchange) -> Answer | None:
        """The exchange as one statement, where the database can and it is one of those that come every few seconds."""
        if not self._flavour.terse or (kind := kind_of(request)) is None:
            return None
        swap = request.swap
        with self._link.asking():
            conn = self._connected()
            check_letters(self._flavour, election, request.check_in)
            bound: Bound = {"p_election": election}
            if election in self._several or (swap is not None and swap.seat > 1):
                bound["p_names"] = record_names(election)
            if request.check_in is not None:
                bound |= said_by(election, request.check_in, self._text)
            if swap is not None:
                bound |= wanted_by(election, swap, self._text)
                if swap.event is not None:
                    bound |= noted_of(swap.event, self._text)
            done = self._flavour.at_once(conn, self._here, self._sql, election, kind, swap, bound)
            if done is None:
                return None
            told: tuple[Told, ...] = ()
            confirmed = done.confirmed
            if done.open and swap is not None:
                told = self._won(conn, election, swap, request.check_in, look=done.fence)
                confirmed = self._flavour.commit(conn)
            self._confirmed(confirmed)
        if done.fence and not done.open and swap is not None:
            with self._transaction(writes=True) as conn:
                told = self._end_earlier(conn, election, swap)
        record, hidden = done.rows[0], tuple[str, ...]()
        further = () if record.e_seats is None else done.further
        if further is None or record.e_version is None:
            with self._transaction(writes=False) as conn:
                hidden, further = self._beside(conn, election, record)
        return Answer(done.rows, done.swapped, told, hidden, further)

    def _end_earlier(self, conn: sa.engine.Connection, election: str, swap: Swap) -> tuple[Told, ...]:
        """After a renewal: end earlier leaders' sessions, while nobody else can take charge.

        Whoever has taken charge since may be one of those that led before, and its sessions are its command's.
        """
        record = swap.record
        name = record_name(election, swap.seat)
        held = {"p_name": name, "p_version": record.version, "p_term": record.term, "p_leader": record.leader}
        if conn.execute(self._sql.hold, held).first() is None:
            return ()
        told = self._flavour.fence(conn, self._here, election, swap)
        if told:
            self._write(conn, election, fenced(swap, told))
        return told

    def _in_steps(self, election: str, request: Exchange) -> Answer:
        """The exchange as one transaction of several statements."""
        who = request.check_in
        swapped: bool | None = None
        told: tuple[Told, ...] = ()
        with self._transaction(writes=request != Exchange()) as conn:
            check_letters(self._flavour, election, who)
            if who is not None:
                self._check_in(conn, election, who, request)
            if request.swap is not None:
                swapped, told = self._swap(conn, election, request.swap, who)
            gone = (who.id,) if request.leave and who is not None else ()
            for member in (*gone, *request.forget):
                conn.execute(self._sql.delete, {"p_election": election, "p_id": member})
            for event in request.notes:
                self._write(conn, election, event)
            rows = conn.execute(self._sql.read, {"p_election": election}).all()
            return Answer(rows, swapped, told, *self._beside(conn, election, rows[0]))

    def _beside(self, conn: sa.engine.Connection, election: str, record: Any) -> tuple[tuple[str, ...], Sequence[Any]]:
        """What an answer has beside the first record, its row and the line: why rows may be hidden, and further records."""
        hidden = self._hidden(conn) if record.e_version is None else ()
        if record.e_seats is None:
            return hidden, ()
        return hidden, conn.execute(self._sql.further, {"p_names": names(election)}).all()

    def _check_in(self, conn: sa.engine.Connection, election: str, who: CheckIn, request: Exchange) -> None:
        key, said = {"p_election": election, "p_id": who.id}, said_by(election, who, self._text)
        if not request.join:
            if not request.leave:
                conn.execute(self._sql.touch, said)
            return
        old = conn.execute(self._sql.kept, key).first()
        if old is not None:
            conn.execute(self._sql.delete, key)
        kept = {"drained": False, "p_joined_at": None} if old is None else {"drained": old[0], "p_joined_at": old[1]}
        conn.execute(self._sql.join, {**said, **kept})

    def _swap(
        self, conn: sa.engine.Connection, election: str, swap: Swap, who: CheckIn | None
    ) -> tuple[bool, tuple[Told, ...]]:
        """Whether it won, and what else is worth telling."""
        later = self._sql.swap_vacant if swap.record.leader is None else self._sql.swap_led
        statement = self._sql.first if swap.expected is None else later
        wanted = wanted_by(election, swap, self._text)
        changed = conn.execute(
            statement, {**wanted, **first(swap, self._sql)} if swap.expected is None else wanted
        ).rowcount
        if changed != 1:
            return False, ()
        if swap.expected is None:
            make(conn, self._sql, election, swap.seats, wanted)
        return True, self._won(conn, election, swap, who)

    def _won(
        self, conn: sa.engine.Connection, election: str, swap: Swap, who: CheckIn | None, *, look: bool = True
    ) -> tuple[Told, ...]:
        """What belongs to a swap that won: earlier leaders' sessions end, what the last one left is adopted, the history tells.

        What was left is also adopted where a seat is made vacant for a leader that is gone. `look`: whether there may be such
        sessions. Returns what else is worth telling.
        """
        leader, left = swap.record.leader, swap.takes_over
        member = leader is not None and who is not None and who.id == leader  # else it is a release, or an order
        told = self._flavour.fence(conn, self._here, election, swap) if look and (left is not None or member) else ()
        if left is not None and self._hook is not None:
            adopted = carry_out(self._hook, conn, self._flavour, left, call_limit_s=self._call_limit_s)
            told += (adopted,) if adopted else ()
        event = swap.event
        if event is not None and told:
            event = replace(event, because="; ".join((event.because, *(each.sentence for each in told))))
        elif told:
            event = fenced(swap, told)
        if event is not None:
            self._write(conn, election, event)
        return told

    def _hidden(self, conn: sa.engine.Connection) -> tuple[str, ...]:
        """Why rows may be there that this role does not see, as no sentence or one."""
        return tuple(filter(None, [self._flavour.hides(conn, self._here)]))

    def _text(self, text: str) -> str:
        """Free text as this database takes it."""
        return self._flavour.storable(cleaned(text))

    def _write(self, conn: sa.engine.Connection, election: str, event: Event) -> None:
        note = self._sql.rare_note if is_rare(event) else self._sql.note
        sql, values = plain(conn.dialect, note, told_of(election, event, self._text))
        conn.exec_driver_sql(sql, tuple(values) if isinstance(values, list) else values)
