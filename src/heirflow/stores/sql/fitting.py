"""Whether the tables are there and fit: on the first connection, before anything is asked of them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from heirflow.stores.base import StoreMisfit
from heirflow.stores.sql import schema as schemas
from heirflow.stores.sql.flavour import Flavour


def fit(conn: sa.engine.Connection, here: schemas.Tables, flavour: Flavour, where: str, *, create: bool) -> None:
    """Look, and make them where there are none and `create` allows it. Raises `StoreMisfit` where they cannot be had."""
    flavour.begin(conn, writes=False)
    found = schemas.version_of(conn, here)
    ready = schemas.check(found, create=create)
    conn.rollback()
    if ready:
        return
    try:
        flavour.begin(conn, writes=True)
        flavour.patient(conn)
        schemas.make(conn, here, flavour.try_lock)
        conn.commit()
        flavour.unlock(conn)  # which must not come first: the next one would not see what we have made
        conn.commit()
    except sa.exc.DBAPIError as error:
        if not flavour.refuses(error.orig or error):
            raise
        lacking = f"are not in {where} and this role may not make them"
        if found is not None:
            lacking = (
                f"in {where} are of version {found.version}, this HeirFlow needs {schemas.VERSION}, and this role may not "
                "upgrade them"
            )
        raise StoreMisfit(f"HeirFlow's tables {lacking}; run `heirflow init` as a role that may") from error.orig


def fit_later(conn: sa.engine.Connection, here: schemas.Tables, flavour: Flavour, *, create: bool) -> frozenset[str]:
    """Which of the later columns are there; where tables are older, they are added one by one if this role may."""
    return frozenset(column.name for column in schemas.later(here) if _fit_column(conn, column, flavour, create=create))


def _fit_column(conn: sa.engine.Connection, column: sa.Column[Any], flavour: Flavour, *, create: bool) -> bool:
    kept = _has(conn, column, flavour)
    if kept or not create:
        return kept
    try:
        flavour.begin(conn, writes=True)
        schemas.add_later(conn, column, flavour.try_lock)
        conn.commit()
        flavour.unlock(conn)
        conn.commit()
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise
        conn.rollback()  # members went on without it before, and do so now
    return _has(conn, column, flavour)


def _has(conn: sa.engine.Connection, column: sa.Column[Any], flavour: Flavour) -> bool:
    flavour.begin(conn, writes=False)
    kept = schemas.has(conn, column)
    conn.rollback()
    return kept
