"""The statements of an exchange, built once per store: SQLAlchemy then compiles each of them once."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from heirflow.stores.rows import MEMBER, RECORD, RECORD_LATER
from heirflow.stores.sql.flavour import Flavour
from heirflow.stores.sql.schema import LATER, Tables


class Statements:
    """Every value is a bound parameter; parameter names begin with ``p_`` where a column has the same name."""

    def __init__(self, here: Tables, flavour: Flavour, kept: AbstractSet[str] = LATER) -> None:
        """`kept`: which of the columns that came later the tables have."""
        self.history, self.later = flavour.history, kept
        here_now: Any = sa.null() if flavour.history is None else sa.literal_column(flavour.history, sa.String())
        election, member, event = here.election, here.member, here.event
        e, m, v = election.c, member.c, event.c
        now = flavour.now
        mine = sa.and_(m.election == bindparam("p_election"), m.id == bindparam("p_id"))

        told_by_it: dict[str, Any] = {
            name: bindparam(name, type_=m[name].type) for name in ("host", "pid", "ready", "label", "note")
        }
        self.said = said = {"checked_in_at": now, **told_by_it}
        """What a check-in writes in the member's row."""
        self.touch = member.update().where(mine).values(**said)
        self.kept = sa.select(m.drained, m.joined_at).where(mine).with_for_update()
        self.delete = member.delete().where(mine)
        joined_at = sa.func.coalesce(bindparam("p_joined_at", type_=sa.Float(53)), now)
        self.join = (
            member.insert()
            .inline()
            .values(
                election=bindparam("p_election"),
                id=bindparam("p_id"),
                drained=bindparam("drained"),
                joined_at=joined_at,
                **said,
            )
        )
        self.drain = member.update().where(mine).values(drained=bindparam("drained"))

        wanted: dict[str, Any] = {
            name: bindparam(f"p_{name}")
            for name in ("version", "term", "leader", "ttl_s", "because", "paused", "note", "switchover_to")
        }
        if "history" in kept:
            wanted["history"] = bindparam("p_history")
        made = {"seats": bindparam("p_seats", type_=sa.BigInteger())} if "seats" in kept else {}
        self.first = (
            flavour.insert_if_absent(election)
            .values(name=bindparam("p_name"), written_at=now, since=now, **wanted, **made)
            .execution_options(preserve_rowcount=True)  # SQLAlchemy 2 asks the driver too late otherwise
        )
        expected_term = sa.func.coalesce(bindparam("p_expected_term", type_=sa.BigInteger()), e.term)
        unchanged = sa.and_(
            e.name == bindparam("p_name"), e.version == bindparam("p_expected"), e.term == expected_term
        )
        if self.history is not None:
            # What was decided about one history never lands in another, where the same version may come a second time.
            under = bindparam("p_under", type_=sa.String())
            unchanged = sa.and_(unchanged, sa.or_(under.is_(None), here_now == under))
        # `since` comes first: MySQL assigns from left to right and would compare with the new term.
        taken = sa.case((sa.or_(e.term != bindparam("p_term"), e.leader.is_(None)), now), else_=e.since)
        vacant = sa.case((sa.or_(e.term != bindparam("p_term"), e.leader.is_not(None)), now), else_=e.since)
        rest = [(e.written_at, now), *((e[name], value) for name, value in wanted.items())]
        self.swap_led = election.update().where(unchanged).ordered_values((e.since, taken), *rest)
        self.swap_vacant = election.update().where(unchanged).ordered_values((e.since, vacant), *rest)

        told: dict[str, Any] = {name: bindparam(f"p_{name}") for name in TOLD}
        self.note = event.insert().inline().values(election=bindparam("p_election"), at=now, **told)
        ago_s = bindparam("p_ago_s", type_=sa.Float(53))
        more: dict[str, Any] = {"ago_s": ago_s}
        more |= {name: bindparam(f"p_{name}", type_=sa.BigInteger()) for name in ("times", "seat")}
        rare = {name: value for name, value in more.items() if name in kept}
        self.rare_note = (
            event.insert().inline().values(election=bindparam("p_election"), at=now - ago_s, **told, **rare)
        )
        """The same of what happened before it could be written, stands for several of the same, or is of a further seat."""
        written = [(v[name] if name in kept else sa.null()).label(name) for name in more]
        self.events = (
            sa.select(v.what, v.term, v.member, v.because, v.took_s, v.at, *written)
            .where(v.election == bindparam("p_election"))
            .order_by(v.id.desc())
            .limit(bindparam("p_limit", type_=sa.Integer()))
        )
        every = sa.union(sa.select(e.name), sa.select(m.election))
        self.elections = every

        # One statement sees the record and the line at one instant, and answers with one row even when there is neither.
        self.one = sa.select(sa.literal_column("1").label("one")).subquery("one")
        self.now, self._here_now = now, here_now
        self.record = (*RECORD, *(name for name in RECORD_LATER if name in kept))
        """The columns of a record."""
        self.stands = self.one.outerjoin(election, e.name == bindparam("p_election"))
        """The record, in one row even where there is none."""
        self.source = self.stands.outerjoin(member, m.election == bindparam("p_election"))
        """Where an answer comes from."""
        self.read = self.answer(e, m).select_from(self.source).order_by(m.seniority)
        known = every.subquery("known")
        newest = sa.select(sa.func.max(v.id)).where(v.election == known.c.name).scalar_subquery()
        self.glance = (
            self.answer(e, m, known.c.name, newest.label("newest"))
            .select_from(
                known.outerjoin(election, e.name == known.c.name).outerjoin(member, m.election == known.c.name)
            )
            .order_by(known.c.name, m.seniority)
        )
        """The same of every election and further seat, each with the number of its newest event."""
        self.further = sa.select(e.name, *self._labelled(e)).where(e.name.in_(bindparam("p_names", expanding=True)))
        """The records of further seats."""
        self.seats = election.update().where(e.name == bindparam("p_name")).values(seats=bindparam("p_seats"))

        released = sa.and_(
            e.name == bindparam("p_name"), e.leader == bindparam("p_leader"), e.term == bindparam("p_term")
        )
        self.hold = sa.select(e.version).where(released, e.version == bindparam("p_version")).with_for_update()
        guard = flavour.will_guard()
        self.release = (
            election.update()
            .where(released if guard is None else sa.and_(released, guard))
            .values(leader=None, version=e.version + 1, because=bindparam("p_because"), since=now, written_at=now)
        )

    def answer(self, record: Any, line: Any, *more: Any) -> Any:
        """The columns of an answer, from wherever the columns of the record and of the members' rows come."""
        return sa.select(
            self.now.label("db_now"),
            self._here_now.label("history"),
            *self._labelled(record),
            *(line[name].label(f"m_{name}") for name in MEMBER),
            *more,
        )

    def _labelled(self, record: Any) -> list[Any]:
        """The columns of a record; nothing for those that the tables here lack."""
        names = (*RECORD, *RECORD_LATER)
        return [(record[name] if name in self.record else sa.null()).label(f"e_{name}") for name in names]


TOLD = ("term", "member", "what", "because", "took_s")
"""What an event tells."""


def plain(dialect: sa.engine.Dialect, statement: Any, values: dict[str, Any]) -> tuple[str, Any]:
    """A statement and its values as the bare driver takes them."""
    ready = compiled(dialect, statement)
    params = ready.construct_params(values)
    order = ready.positiontup
    return str(ready), [params[name] for name in order] if ready.positional and order else params


@lru_cache(maxsize=64)
def compiled(dialect: sa.engine.Dialect, statement: Any) -> Any:
    """The text of a statement, made once."""
    return statement.compile(dialect=dialect)
