"""`heirflow forget`: an election with its record, its line and its history, gone in one transaction that changes all or nothing."""

from __future__ import annotations

import sqlalchemy as sa

from heirflow.election.record import Reading
from heirflow.stores.sql.schema import Tables


def forget(conn: sa.engine.Connection, here: Tables, election: str, seen: Reading) -> bool:
    """Only what was seen: False, with nothing changed, where the record has changed since, or somebody has checked in."""
    e, m, v = here.election, here.member, here.event
    known = [(row.id, row.stamp) for row in seen.members]
    line = conn.execute(sa.select(m.c.id, m.c.checked_in_at).where(m.c.election == election)).all()
    if sorted(tuple(row) for row in line) != sorted(known):
        return False
    if seen.record is None:
        if conn.execute(sa.select(e.c.version).where(e.c.name == election)).first() is not None:
            return False
    else:
        record = e.c.name == election, e.c.version == seen.record.version, e.c.term == seen.record.term
        if conn.execute(e.delete().where(*record)).rowcount != 1:
            return False
    conn.execute(m.delete().where(m.c.election == election))
    conn.execute(v.delete().where(v.c.election == election))
    return True
