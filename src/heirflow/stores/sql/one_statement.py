"""PostgreSQL: a check-in, renewal, release or look as one statement, which is its own transaction: no BEGIN, no COMMIT around it.

SQLAlchemy builds the text once; each use costs the driver's cursor only, and the server a plan that it has kept (`prepare`),
where the session is ours alone. What people will wait for is prepared beforehand, one statement with each check-in. The
statements that change rows are those of `Statements`, so the swap is the same swap.

A statement sees its own changes only in what they return, and everything else as it was when the statement began, however
long it then waited for a row. So nothing is read from a row that the statement may have changed:

- The member's own row is the one that its check-in returns. If somebody has deleted it meanwhile, it is not there.
- The record of a swap that won is what it returns. Nobody can have written it since: the row is locked until the end.
- After a swap that lost, the statement's view of that record is old, so it shows none. Whoever asked asks again in steps.

The other rows may be as old as the wait. They order who tries, and only the swap decides who wins.

Where an election is known to have several seats, texts of their own read the records of all of them: an election of one seat
pays nothing for that. Each further record is a row of its own, with nobody of the line beside it.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam
from sqlalchemy.dialects import postgresql

from heirflow.election.record import Exchange, Swap
from heirflow.stores.rows import MEMBER, RECORD, RECORD_LATER
from heirflow.stores.sql.bound import NOBODY, Bound
from heirflow.stores.sql.fence import SEEN, SessionFence
from heirflow.stores.sql.flavour import AtOnce
from heirflow.stores.sql.schema import Tables
from heirflow.stores.sql.statements import TOLD, Statements, compiled

NOT_SO = "42"
"""Codes that begin so: a right, a function or a table is wanting."""
FORGOTTEN = {"26000", "42P05"}
"""A prepared statement is not there, or another one is there under its name: the session is not ours alone after all."""
BOUND = re.compile(r"%\((\w+)\)s")
Rows = Sequence[Any]

Row = namedtuple(  # type: ignore[misc]  # noqa: PYI024
    "Row",
    (
        "db_now",
        "history",
        *(f"e_{name}" for name in (*RECORD, *RECORD_LATER)),
        *(f"m_{name}" for name in MEMBER),
        "seen",
        "name",
    ),
    defaults=(None,),
)
"""As `Statements.read` answers, and the names of sessions that a leader looks for. Of several seats also the record's name."""


class Kind(Enum):
    """The exchanges that are one statement, in the order in which they are prepared: first what somebody may soon wait for."""

    CHECK_IN = "check in"
    TAKING = "taking charge"
    """Its first statement: others may follow in its transaction, as sessions are ended and work is adopted before the commit."""
    RELEASE_AND_JOIN = "release and join"
    """As a member does whose command ended by itself: the next in line leads, and it stands at the end."""
    RELEASE = "release"
    RENEWAL = "renewal"
    LOOK = "look"


def kind_of(request: Exchange) -> Kind | None:
    """Which of them this is; None: it writes more, and is a transaction of several statements."""
    who, swap = request.check_in, request.swap
    if request.leave or request.forget or request.notes:
        return None
    if swap is None:
        return None if request.join else Kind.LOOK if who is None else Kind.CHECK_IN
    if who is None or swap.expected is None:
        return None
    if swap.record.leader == who.id and not (request.join or swap.news or swap.event or swap.takes_over is not None):
        return Kind.RENEWAL
    if swap.seat > 1:
        return None  # its leadership changes rarely, and what the history tells of it has another form
    if swap.record.leader is None and swap.event is not None:
        if swap.takes_over is not None:
            return None  # for a leader that is gone: what it left is adopted before the commit
        return Kind.RELEASE_AND_JOIN if request.join else Kind.RELEASE
    taking = swap.record.leader == who.id and not request.join and swap.takes_over is not None
    return Kind.TAKING if taking else None


@dataclass(frozen=True, slots=True)
class Text:
    """One statement as the driver takes it, and the two that do the same where the driver itself prepares nothing (psycopg2)."""

    sql: str
    prepare: str
    execute: str

    @classmethod
    def of(cls, name: str, sql: str, types: Mapping[str, str]) -> Text:
        """`types`: of the parameters, where the text itself does not tell."""
        places = {key: number for number, key in enumerate(dict.fromkeys(BOUND.findall(sql)), 1)}
        numbered = BOUND.sub(lambda found: f"${places[found[1]]}", sql).replace("%%", "%")
        told = f" ({', '.join(types.get(key, 'unknown') for key in places)})" if places else ""
        given = f"({', '.join(f'%({key})s' for key in places)})" if places else ""
        return cls(sql, f"PREPARE heirflow_{name}{told} AS {numbered}", f"EXECUTE heirflow_{name}{given}")


class _OneStatement:
    """The texts for one kind of connection, and how they are asked."""

    def __init__(self, here: Tables, sql: Statements, dialect: Any, seen: Any, *, several: bool) -> None:
        """`seen`: an expression for the names of sessions that a leader looks for; asked beside a renewal.

        `several`: for elections of several seats.
        """
        self.sql = sql
        self._several = several
        e, m = here.election.c, here.member.c
        self._cursor: Any = None
        self._prepared: set[Text] = set()
        self._asked: set[Kind] = set()
        """What was asked in this session, and needs no preparing any more."""
        self._dialect = dialect
        self._driver_prepares = dialect.driver == "psycopg"

        record = (*((e.name,) if several else ()), *(e[name] for name in sql.record))
        members = sa.select(*(m[name] for name in MEMBER)).where(m.election == bindparam("p_election"))
        answer = _of_all(here, sql) if several else _of_one(here, sql)

        # A new place is the number that an insertion gets. The row that is there keeps what it has: drained, and since when.
        mine = bindparam("p_id", type_=sa.String())
        new = {"election": e.name, "id": mine, "drained": sa.false(), "joined_at": sql.now, **sql.said}
        insertion = postgresql.insert(here.member).from_select(
            list(new), sa.select(*new.values()).where(e.name == bindparam("p_election"))
        )
        joined = insertion.on_conflict_do_update(
            index_elements=[m.election, m.id], set_={"seniority": insertion.excluded.seniority, **sql.said}
        )

        def line_after(change: Any) -> Any:
            touched = change.returning(*(m[name] for name in MEMBER)).cte("touched")
            others = members.where(m.id != bindparam("p_id"))
            return sa.union_all(sa.select(*(touched.c[name] for name in MEMBER)), others).subquery("line")

        swapped = sql.swap_led.returning(*record).cte("swapped")
        vacated = sql.swap_vacant.returning(*record).cte("vacated")
        v = here.event.c
        # Its values are bound under ``n_`` and their names, as a swap binds some of them too.
        noted = here.event.insert().from_select(
            [v.election, v.at, *(v[name] for name in TOLD)],
            sa.select(
                bindparam("p_election", type_=sa.String()),
                sql.now,
                *(bindparam(f"n_{name}", type_=v[name].type) for name in TOLD),
            ).select_from(vacated),
        )
        history = noted.cte("noted")
        line = line_after(sql.touch)
        self._texts: dict[Kind, Text] = {}
        self._statements = {
            Kind.LOOK: ("look", answer(None, members.subquery("line"))),
            Kind.CHECK_IN: ("check_in", answer(None, line)),
            Kind.RENEWAL: ("swap", answer(swapped, line)),
            Kind.RELEASE: ("release", answer(vacated, line).add_cte(history)),
            Kind.RELEASE_AND_JOIN: ("release_and_join", answer(vacated, line_after(joined)).add_cte(history)),
            Kind.TAKING: ("swap_and_look", answer(swapped, line, seen)),
        }

    def ask(self, driver: Any, kind: Kind, values: Bound, *, prepare: bool, look: bool) -> Rows:
        """The rows; without a record where a swap has lost. `look`: a leader looks for sessions, too."""
        if kind in (Kind.RENEWAL, Kind.TAKING):
            kind = Kind.TAKING if look else Kind.RENEWAL
        return self._rows(driver, kind, values, prepare)

    def _text(self, kind: Kind) -> Text:
        if kind not in self._texts:
            name, statement = self._statements[kind]
            name += "_of_all" if self._several else ""
            ready = statement.compile(dialect=self._dialect)
            kinds = {key: bound.type for key, bound in ready.binds.items()}
            types = {key: each for key, each in kinds.items() if not isinstance(each, sa.types.NullType)}
            told = {key: each.compile(self._dialect) for key, each in types.items()}
            self._texts[kind] = Text.of(name, str(ready), told)
        return self._texts[kind]

    def warm(self, driver: Any) -> None:
        """Prepare one more, as long as there is one in this session, by asking for nobody, so that nothing changes."""
        for kind in Kind:
            if kind not in self._asked:
                self._rows(driver, kind, NOBODY, prepare=True)
                return
        compiled(self._dialect, self.sql.note)  # of the event beside

    def _rows(self, driver: Any, kind: Kind, values: Bound, prepare: bool) -> Rows:
        text = self._text(kind)
        if self._cursor is None or self._cursor.connection is not driver:
            self._cursor = driver.cursor()
            self._prepared.clear()
            self._asked.clear()
        cursor = self._cursor
        self._asked.add(kind)
        if not prepare:
            cursor.execute(text.sql, values)
        elif self._driver_prepares:
            cursor.execute(text.sql, values, prepare=True)
        else:
            if text not in self._prepared:
                cursor.execute(text.prepare)
                self._prepared.add(text)
            cursor.execute(text.execute, values)
        return [Row(*row) for row in cursor.fetchall()]


def _of_one(here: Tables, sql: Statements) -> Callable[..., Any]:
    """How the answer is read after a change of the record (None: it is as it stands), with that line beside it."""

    def answer(changed: Any, line: Any, more: Any = sa.null()) -> Any:  # noqa: B008
        record, source = here.election.c, sql.stands
        if changed is not None:  # none where a swap has lost
            record, source = changed.c, sql.one.outerjoin(changed, sa.true())
        found = sql.answer(record, line.c, more.label("seen")).select_from(source.outerjoin(line, sa.true()))
        return found.order_by(line.c.seniority)

    return answer


def _of_all(here: Tables, sql: Statements) -> Callable[..., Any]:
    """The same with the records of all seats: the first one's beside the line, and each further one that there is."""
    e, columns = here.election.c, ("name", *sql.record)
    names = bindparam("p_names", type_=postgresql.ARRAY(sa.String()))
    first = bindparam("p_election", type_=sa.String())

    def answer(changed: Any, line: Any, more: Any = sa.null()) -> Any:  # noqa: B008
        found: Any = sa.select(*(e[name] for name in columns)).where(e.name == sa.any_(names))
        if changed is not None:  # of the seat that it was about there is none where it has lost
            others = found.where(e.name != bindparam("p_name"))
            found = sa.union_all(sa.select(*(changed.c[name] for name in columns)), others)
        record, asked = found.subquery("record"), sa.func.unnest(names).table_valued("name").render_derived("asked")
        here_or_not = asked.outerjoin(record, record.c.name == asked.c.name).outerjoin(line, asked.c.name == first)
        return (
            sql.answer(record.c, line.c, more.label("seen"), asked.c.name)
            .select_from(here_or_not)
            .where(sa.or_(asked.c.name == first, record.c.name.is_not(None)))
            .order_by(line.c.seniority)
        )

    return answer


class Carrier:
    """Carries exchanges out as one statement each, on one store's connections, where the session is ours alone."""

    def __init__(self) -> None:
        self._one: _OneStatement | None = None
        self._of_all: _OneStatement | None = None
        """The same for elections of several seats."""
        self.prepares = True
        self._terse = True

    def _texts(self, conn: sa.engine.Connection, here: Tables, sql: Statements, *, several: bool) -> _OneStatement:
        known = self._of_all if several else self._one
        if known is None or known.sql is not sql:
            known = _OneStatement(here, sql, conn.dialect, sa.literal_column(SEEN), several=several)
            if several:
                self._of_all = known
            else:
                self._one = known
        return known

    def carry_out(
        self,
        conn: sa.engine.Connection,
        here: Tables,
        sql: Statements,
        election: str,
        kind: Kind,
        swap: Swap | None,
        bound: Bound,
        warnings: Any,
        fence: SessionFence | None,
    ) -> AtOnce | None:
        """See `Flavour.at_once`. `warnings`: what the server warns of is added there. `fence`: of a leader."""
        if not self._terse:
            return None
        look = fence is not None and swap is not None and fence.looks(election, swap)
        driver: Any = conn.connection.dbapi_connection
        several = "p_names" in bound
        texts = self._texts(conn, here, sql, several=several)
        warnings.clear()
        if driver.autocommit is (kind is Kind.TAKING):
            driver.autocommit = kind is not Kind.TAKING
        try:
            rows = texts.ask(driver, kind, bound, prepare=self.prepares, look=look)
        except Exception as error:
            if (code := code_of(error)) in FORGOTTEN:
                self.prepares = False
            elif fence is not None and look and code.startswith(NOT_SO):
                fence.failed(error)
            else:
                raise
            driver.rollback()
            return None
        if warnings and kind is not Kind.TAKING:
            # It may have been of something else, and then comes again at every write. In steps, COMMIT has warnings of its own.
            self._terse = False
            return AtOnce(rows, swapped=None, confirmed=False, fence=False, open=False)
        further: list[Any] = []
        if several:
            further = [row for row in rows if row.name != election]
            rows = [row for row in rows if row.name == election]
        own = rows[:1]  # the record that it is about
        if swap is not None and swap.seat > 1:
            own = [row for row in further if row.name == bound["p_name"]]
        if all(row.e_version is None for row in own):
            driver.rollback()
            return None
        led = rows[0].e_leader is not None  # else an heir is about to act
        if self.prepares and led and kind in (Kind.CHECK_IN, Kind.RENEWAL):
            with suppress(Exception):  # what was asked is done
                texts.warm(driver)
        leads = {row.e_leader for row in (rows[0], *further)}
        calls = fence is not None and swap is not None and fence.calls(swap, rows[0].seen, leads)
        won, taking = None if swap is None else True, kind is Kind.TAKING
        return AtOnce(rows, won, confirmed=True, fence=calls, open=taking, further=further if several else None)


def code_of(error: BaseException) -> str:
    """The server's own code for an error; empty when it did not come from the server."""
    return str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")
