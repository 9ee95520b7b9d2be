"""What else happens in the database when a swap has taken charge: bounded in time, and unable to spoil the taking.

It runs between the swap and its commit, so that it is done before any command starts and not at all if the swap is lost. A
savepoint takes back what a failure left half done. Whatever goes wrong with the savepoint itself (a deadlock on MySQL takes
back the whole transaction, the swap with it) is raised: a swap that may be gone must never be told as won.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from heirflow.election.record import Told
from heirflow.errors import first_line
from heirflow.stores.base import OnTaken
from heirflow.stores.sql.flavour import Flavour

BUDGET = 0.3
"""Share of the limit of a call after which a hook may begin no further statement."""
STATEMENT = 0.2
"""Share of that limit that one statement of a hook may take, or wait for a lock."""


class _TooLate(Exception):
    """The hook would begin another statement after its time."""


class Hook:
    """A callable of somebody else's, and whether its last use came to no end: it hangs, or broke the connection."""

    def __init__(self, on_taken: OnTaken) -> None:
        self.on_taken = on_taken
        self.away = False


@lru_cache(maxsize=16)
def hook_of(on_taken: OnTaken) -> Hook:
    """One `Hook` for a callable, whatever store uses it: a member replaces a store that hangs."""
    return Hook(on_taken)


def carry_out(
    hook: Hook, conn: sa.engine.Connection, flavour: Flavour, note: str, *, call_limit_s: float
) -> Told | None:
    """The hook's sentence, or one that says why it could not, from within a savepoint. Raises when the swap is in doubt."""
    if hook.away:
        # A hook that never comes back, or not in time, must keep nobody from taking charge twice.
        hook.away = False
        return Told("could not adopt: the attempt before did not come back", failed=True)
    savepoint = conn.begin_nested()
    hook.away = True
    try:
        flavour.hurry(conn, max(0.01, STATEMENT * call_limit_s))
        with _until(conn, time.monotonic() + BUDGET * call_limit_s):
            sentence = hook.on_taken(conn, note)
    except Exception as error:
        if conn.closed or conn.invalidated:
            raise
        hook.away = False  # it came back: what a deadlock took back may be adopted by the next try
        savepoint.rollback()
        told: Told | None = Told(f"could not adopt: {first_line(error)}", failed=True)
    else:
        savepoint.commit()
        told = Told(sentence) if sentence else None
    hook.away = False
    flavour.hurry(conn, None)
    return told


@contextmanager
def _until(conn: sa.engine.Connection, limit: float) -> Iterator[None]:
    """Let no statement begin after this moment."""

    def look(*_: Any) -> None:
        if time.monotonic() > limit:
            raise _TooLate("it took too long")

    sa.event.listen(conn, "before_cursor_execute", look)
    try:
        yield
    finally:
        sa.event.remove(conn, "before_cursor_execute", look)
