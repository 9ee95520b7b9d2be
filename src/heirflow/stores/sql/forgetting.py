"""What is deleted: an election that nobody needs any more (`heirflow forget`), and old history, in small bites."""

from __future__ import annotations

import sqlalchemy as sa

from heirflow.election.record import Keep, Reading, What, record_name
from heirflow.stores.sql.flavour import Flavour
from heirflow.stores.sql.further import names
from heirflow.stores.sql.schema import Tables

BITE = 200
"""So many events are deleted at once."""
SHARE = 0.1
"""Of the limit of a call: how long one statement of that may take, or wait for a lock. The next renewal comes after it."""


def forget(conn: sa.engine.Connection, here: Tables, election: str, seen: Reading) -> bool:
    """Only what was seen: False, with nothing changed, where the record has changed since, or somebody has checked in."""
    e, m, v = here.election, here.member, here.event
    known = [(row.id, row.stamp) for row in seen.members]
    line = conn.execute(sa.select(m.c.id, m.c.checked_in_at).where(m.c.election == election)).all()
    if sorted(tuple(row) for row in line) != sorted(known):
        return False
    savepoint = conn.begin_nested()
    for seat, place in enumerate(seen.places, 1):
        name, record = e.c.name == record_name(election, seat), place.record
        if record is None:
            changed = conn.execute(sa.select(e.c.version).where(name)).first() is not None
        else:
            it = name, e.c.version == record.version, e.c.term == record.term
            changed = conn.execute(e.delete().where(*it)).rowcount != 1
        if changed:
            savepoint.rollback()
            return False
    savepoint.commit()
    conn.execute(e.delete().where(e.c.name.in_(names(election)), e.c.leader.is_(None)))  # of seats that are no more
    conn.execute(m.delete().where(m.c.election == election))
    conn.execute(v.delete().where(v.c.election == election))
    return True


def prune(
    conn: sa.engine.Connection, here: Tables, flavour: Flavour, election: str, keep: Keep, limit_s: float
) -> bool:
    """Delete a bite of the history that is not to be kept; whether there may be more. A role that may not: False."""
    v = here.event.c
    ours, when = v.election == election, []
    savepoint = conn.begin_nested()
    try:
        flavour.hurry(conn, limit_s)
        if keep.age_s:
            when.append(v.at < flavour.now - keep.age_s)
        if keep.most:
            last = sa.select(v.id).where(ours).order_by(v.id.desc()).offset(keep.most).limit(1)
            when.append(v.id <= (conn.execute(last).scalar() or 0))
        led = here.event.alias().c
        took = led.election == election, led.what == What.TOOK_CHARGE.value
        newest = sa.select(sa.func.max(led.id)).where(*took).group_by(led.member)
        old = sa.select(v.id).where(ours, v.id.not_in(newest), sa.or_(sa.false(), *when))
        bite = [number for (number,) in conn.execute(old.order_by(v.id).limit(BITE))]
        if bite:
            conn.execute(here.event.delete().where(v.id.in_(bite)))
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise
        savepoint.rollback()
        bite = []
    else:
        savepoint.commit()
    flavour.hurry(conn, None)
    return len(bite) == BITE
