"""Whether the tables are there and fit: on the first connection, before anything is asked of them."""

from __future__ import annotations

import sqlalchemy as sa

from heirflow.stores.base import StoreMisfit
from heirflow.stores.sql import schema as schemas
from heirflow.stores.sql.flavour import Flavour

LIMIT_S = 0.2
"""How long a statement may wait that adds a column which members can do without."""


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
    """Which of the later columns are there; tables that lack some get them where `create` and this role allow it.

    Members go on without them. So nobody waits long for a table that somebody else reads just now: they come another time.
    """
    kept = _kept(conn, here, flavour)
    lacking = {column.table for column in schemas.later(here) if column.name not in kept}
    if not lacking or not create:
        return kept
    for table in lacking:
        try:
            flavour.begin(conn, writes=True)
            flavour.hurry(conn, LIMIT_S)
            schemas.add_later(conn, here, table, flavour.try_lock)
            conn.commit()
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated:
                raise
            conn.rollback()
        flavour.unlock(conn)
        flavour.hurry(conn, None)
        conn.commit()
    return _kept(conn, here, flavour)


def _kept(conn: sa.engine.Connection, here: schemas.Tables, flavour: Flavour) -> frozenset[str]:
    flavour.begin(conn, writes=False)
    kept = schemas.has_later(conn, here)
    conn.rollback()
    return kept
