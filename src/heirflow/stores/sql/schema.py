"""The four tables, how they come into being, and how they grow.

Creation is safe when many members meet an empty database at once: whoever has the lock of ours makes the tables, the others
find them made. Where they exist no DDL is issued at all, so a role that may only read and write rows is enough to run. The
row ``schema`` in ``heirflow_meta`` is written last; until it stands there, creation is not done and is done again, which
matters where DDL is not transactional (MySQL).

All instants are seconds since 1970 by the database's clock, as doubles: they are for people, and every database and driver
agrees about a double, while no two agree about time zones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from heirflow.stores.base import StoreMisfit, StoreUnavailable
from heirflow.stores.values import NAME_LENGTH

VERSION = 1
"""Version of the tables that this HeirFlow makes and knows."""

UPGRADES: dict[int, tuple[str, ...]] = {}
"""From each older version, the statements that lead to the next. Additive only: members of the older version still run."""

READABLE_FROM = 1
"""The oldest version whose members can use the tables of `VERSION`. It stands in the tables, beside the version: only who makes
them newer knows whom that shuts out. So during an upgrade members of both versions stand in one line."""

SCHEMA, READABLE = "schema", "readable from"
"""Names in ``heirflow_meta``."""

LOCK_LIMIT_S = 10.0
"""How long to wait for another member that is making the tables."""


@dataclass(frozen=True)
class Tables:
    """HeirFlow's tables in one schema (None: where the connection looks by itself)."""

    metadata: sa.MetaData
    election: sa.Table
    member: sa.Table
    event: sa.Table
    meta: sa.Table


def _name() -> sa.types.TypeEngine[str]:
    # MySQL compares text without regard to case by default: then `Web` and `web` would be one election.
    return sa.String(NAME_LENGTH).with_variant(mysql.VARCHAR(NAME_LENGTH, collation="utf8mb4_bin"), "mysql")


def _number() -> sa.types.TypeEngine[int]:
    # SQLite numbers rows by itself only for a column of type INTEGER.
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _instant() -> sa.types.TypeEngine[float]:
    return sa.Float(53)


@lru_cache(maxsize=16)
def tables(schema: str | None = None) -> Tables:
    """Describe the tables for one schema."""
    metadata = sa.MetaData(schema=schema)
    engine: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
    election = sa.Table(
        "heirflow_election",
        metadata,
        sa.Column("name", _name(), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("leader", _name()),
        sa.Column("ttl_s", sa.Float(53), nullable=False),
        sa.Column("because", sa.Text, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("switchover_to", _name()),
        sa.Column("written_at", _instant(), nullable=False),
        sa.Column("since", _instant(), nullable=False),
        # Tables that an older HeirFlow has made get it from `add_later`.
        sa.Column("history", _name(), nullable=True),
        # In the record of the first seat: how many there are; null: one. From `add_later`, too.
        sa.Column("seats", sa.BigInteger, nullable=True),
        **engine,
    )
    member = sa.Table(
        "heirflow_member",
        metadata,
        # An identity, not a serial: inserting then needs no right on a sequence. Never handed out twice, also on SQLite.
        sa.Column("seniority", _number(), sa.Identity(), primary_key=True, autoincrement=True),
        sa.Column("election", _name(), nullable=False),
        sa.Column("id", _name(), nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("ready", sa.Boolean, nullable=False),
        sa.Column("drained", sa.Boolean, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("joined_at", _instant(), nullable=False),
        sa.Column("checked_in_at", _instant(), nullable=False),
        sa.UniqueConstraint("election", "id", name="heirflow_member_id"),
        sqlite_autoincrement=True,
        **engine,
    )
    event = sa.Table(
        "heirflow_event",
        metadata,
        sa.Column("id", _number(), sa.Identity(), primary_key=True, autoincrement=True),
        sa.Column("election", _name(), nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("member", _name(), nullable=False),
        sa.Column("what", sa.String(40), nullable=False),
        sa.Column("because", sa.Text, nullable=False),
        sa.Column("took_s", sa.Float(53)),
        sa.Column("at", _instant(), nullable=False),
        # So long after `at` it was written down; null: at once. From `add_later`, too.
        sa.Column("ago_s", sa.Float(53), nullable=True),
        # Its number in a row of the same, of which not each is written; null: the only one. From `add_later`, too.
        sa.Column("times", sa.BigInteger, nullable=True),
        # Of which seat it tells; null: of the first. From `add_later`, too.
        sa.Column("seat", sa.BigInteger, nullable=True),
        sa.Index("heirflow_event_of", "election", "id"),
        sqlite_autoincrement=True,
        **engine,
    )
    meta = sa.Table(
        "heirflow_meta",
        metadata,
        sa.Column("name", _name(), primary_key=True),
        sa.Column("value", sa.String(200), nullable=False),
        **engine,
    )
    return Tables(metadata, election, member, event, meta)


@dataclass(frozen=True, slots=True)
class Stands:
    """What the tables say of themselves."""

    version: int
    readable_from: int
    """The oldest version whose members can use them."""


def version_of(conn: sa.engine.Connection, here: Tables) -> Stands | None:
    """The version of the tables in this database; None while they are not (wholly) made. Raises `StoreMisfit`."""
    # `get_view_names` and the like are not asked: one look at the catalogue is enough.
    if not sa.inspect(conn).has_table(here.meta.name, schema=here.metadata.schema):
        return None
    wanted = here.meta.c.name.in_([SCHEMA, READABLE])
    rows = {
        str(name): value for name, value in conn.execute(sa.select(here.meta.c.name, here.meta.c.value).where(wanted))
    }
    if SCHEMA not in rows:
        return None
    version = _version(rows[SCHEMA])
    return Stands(version, _version(rows.get(READABLE, version)))


def _version(said: Any) -> int:
    try:
        return int(said)
    except ValueError:
        raise StoreMisfit(
            f"heirflow_meta says that the tables are of version {said!r}, which is no number; correct the value there"
        ) from None


def check(found: Stands | None, *, create: bool) -> bool:
    """Whether the tables can be used as they are; False: they are to be made or upgraded. Raises `StoreMisfit`."""
    if found is None:
        if create:
            return False
        raise StoreMisfit("HeirFlow's tables are not in this database; run `heirflow init` to make them")
    if found.version == VERSION or found.readable_from <= VERSION < found.version:
        return True
    if found.version > VERSION:
        raise StoreMisfit(
            f"this HeirFlow is too old: the tables are of version {found.version}, which members from version "
            f"{found.readable_from} on can use; it knows {VERSION}; upgrade HeirFlow here"
        )
    if create:
        return False
    raise StoreMisfit(
        f"the tables are of version {found.version}, this HeirFlow needs {VERSION}; run `heirflow init` to upgrade them"
    )


def make(conn: sa.engine.Connection, here: Tables, try_lock: Callable[[sa.engine.Connection], bool]) -> None:
    """Make or upgrade the tables within the transaction of `conn`. Raises what the database raises, or `StoreUnavailable`."""
    limit = time.monotonic() + LOCK_LIMIT_S
    while not try_lock(conn):
        if time.monotonic() > limit:
            raise StoreUnavailable(f"another member has been making HeirFlow's tables for more than {LOCK_LIMIT_S:g} s")
        time.sleep(0.05)
    found = version_of(conn, here)
    if check(found, create=True):
        return  # somebody else was first
    if found is None:
        here.metadata.create_all(conn)
    else:
        for version in range(found.version, VERSION):
            for statement in UPGRADES[version]:
                conn.execute(sa.text(statement))
    # The version is written last: until it stands there, this is done again.
    for name, value in ((READABLE, READABLE_FROM), (SCHEMA, VERSION)):
        conn.execute(here.meta.delete().where(here.meta.c.name == name))
        conn.execute(here.meta.insert().values(name=name, value=str(value)))


def later(here: Tables) -> tuple[sa.Column[Any], ...]:
    """The columns that tables of an older HeirFlow lack. Members that do not know them go on beside them."""
    return (here.election.c.history, here.election.c.seats, here.event.c.ago_s, here.event.c.times, here.event.c.seat)


LATER = frozenset(column.name for column in later(tables()))
"""Their names."""


def has_later(conn: sa.engine.Connection, here: Tables) -> frozenset[str]:
    """Which of these columns the tables here have."""
    look = sa.inspect(conn)  # which asks once for each table
    return frozenset(
        column.name
        for column in later(here)
        if column.name in {each["name"] for each in look.get_columns(column.table.name, schema=column.table.schema)}
    )


def add_later(
    conn: sa.engine.Connection, here: Tables, table: sa.Table, try_lock: Callable[[sa.engine.Connection], bool]
) -> None:
    """Give this table those that it lacks, within the transaction of `conn`. Raises like `make`."""
    if not try_lock(conn):
        return  # somebody else adds them
    kept = has_later(conn, here)
    where = conn.dialect.identifier_preparer.format_table(table)
    for column in later(here):
        if column.table is table and column.name not in kept:
            kind = column.type.compile(dialect=conn.dialect)
            conn.exec_driver_sql(f"ALTER TABLE {where} ADD COLUMN {column.name} {kind}")
