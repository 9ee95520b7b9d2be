"""A fence in the caller's own transaction: its effect and the proof that it still leads commit together.

The record is read with a shared lock, in the session and the transaction that write. Whoever takes charge must change the record,
and so waits until this transaction is over. If somebody has taken charge already, the read shows another term, and the caller
rolls back. A host that is frozen while it holds would keep everybody from taking charge, so where the server can end a transaction
that idles, it is told to, before the lock is taken. No session needs a name for this, so it works where a leader cannot tell
sessions apart: MySQL, MariaDB, SQLite.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from heirflow.errors import ConfigError
from heirflow.stores.sql.schema import tables

DRIVERS: dict[str, Any] = {
    "psycopg": postgresql, "psycopg2": postgresql, "pymysql": mysql, "MySQLdb": mysql, "sqlite3": sqlite,
}  # fmt: skip
"""The packages that DB-API cursors come from, and how their databases speak."""
IDLE_LIMIT_S = 5
"""How long a transaction that holds may leave its server waiting."""
LIMITS: dict[str, str] = {
    "postgresql": f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_LIMIT_S}s'",
    # What stands in the comment is for MariaDB only, and lasts as long as the session. MySQL has nothing like it.
    "mysql": f"SET @heirflow_holds = 1 /*M!100300 , SESSION idle_transaction_timeout = {IDLE_LIMIT_S} */",
}
LIMITS["mariadb"] = LIMITS["mysql"]
IN_TRANSACTION = 2
"""libpq's word for a session within a transaction, nothing of which has failed."""
SERVER_IN_TRANSACTION = 1
"""The same in MySQL's protocol."""


def locked(connection: Any, record: str, schema: str | None) -> tuple[int, str | None] | None:
    """Term and leader of the record of this name, which nobody changes before this transaction ends; None when there is no record.

    `connection`: an SQLAlchemy connection or session, or a DB-API cursor. Raises `ConfigError` where it is none of these, or in no
    transaction, and what the driver raises.
    """
    here = tables(schema).election
    select = sa.select(here.c.term, here.c.leader).where(here.c.name == record).with_for_update(read=True)
    if hasattr(connection, "get_bind"):  # a session of the ORM
        connection = connection.connection()
    if isinstance(connection, sa.engine.Connection):
        if limit := LIMITS.get(connection.dialect.name):
            connection.exec_driver_sql(limit)
        row: Any = connection.execute(select).first()
        link: Any = connection.connection.dbapi_connection
    else:
        cursor, spoken = connection, _spoken_by(connection)
        dialect = spoken.dialect(paramstyle="qmark" if spoken is sqlite else "format")
        if limit := LIMITS.get(dialect.name):
            cursor.execute(limit)
        compiled = select.compile(dialect=dialect)
        cursor.execute(str(compiled), tuple(compiled.params.values()))
        row, link = cursor.fetchone(), cursor.connection
    if not _in_transaction(link):
        raise ConfigError(
            "hold works within a transaction only: turn autocommit off or begin one; with sqlite3, write first, which begins one"
        )
    if row is None:
        return None
    term, leader = (row["term"], row["leader"]) if isinstance(row, Mapping) else row
    return int(term), cast("str | None", leader)


def _spoken_by(cursor: Any) -> Any:
    packages = [kind.__module__.partition(".")[0] for kind in type(cursor).__mro__]
    found = next((DRIVERS[package] for package in packages if package in DRIVERS), None)
    if found is None or not hasattr(cursor, "fetchone"):
        raise ConfigError(f"hold takes an SQLAlchemy connection or a DB-API cursor, not {type(cursor).__name__}")
    if inspect.iscoroutinefunction(cursor.execute):
        raise ConfigError(
            "hold cannot wait for an asynchronous cursor; use SQLAlchemy's `await connection.run_sync(lead.hold)`"
        )
    return found


def _in_transaction(link: Any) -> bool:
    """Whether this session of a driver is within a transaction after a statement; False where that cannot be told."""
    if hasattr(link, "in_transaction"):
        return bool(link.in_transaction)
    if hasattr(link, "info") and hasattr(link.info, "transaction_status"):
        return int(link.info.transaction_status) == IN_TRANSACTION
    if hasattr(link, "get_autocommit"):
        begun = getattr(link, "server_status", 0) & SERVER_IN_TRANSACTION
        return bool(begun) or not link.get_autocommit()
    return getattr(link, "autocommit", None) is False  # asyncpg, as SQLAlchemy shows it
