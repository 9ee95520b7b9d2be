"""The database in which a command works, while its record is in a coordinator: what a SQL store does within its swap, after it.

The swap has won by then, whatever happens here. The command starts only when this is done, or has failed in its time: so what
an earlier leader left is ended and adopted before it, as where all is one transaction. What is lost is the one commit: who dies
between the two has taken charge and adopted nothing. The record says so until it is done, and whoever comes next adopts for both.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from heirflow.election.record import Swap, Told
from heirflow.errors import HeirflowError
from heirflow.stores.base import OnTaken
from heirflow.stores.sql.fence import Led
from heirflow.stores.sql.schema import Tables
from heirflow.stores.sql.store import SqlStore
from heirflow.stores.sql.taking import carry_out, hook_of

BUDGET = 0.5
"""Share of the limit of a call that all of it may take: the swap has had its part of that."""


class Database:
    """A `base.Beside`."""

    def __init__(self, store: SqlStore, *, on_taken: OnTaken | None, call_limit_s: float) -> None:
        """`store`: of that database, with limits of its own; it needs none of HeirFlow's tables there."""
        self._store, self._hook = store, None if on_taken is None else hook_of(on_taken)
        self._limit_s = BUDGET * call_limit_s
        store.limit_answers(self._limit_s)

    def taken(self, swap: Swap, left: Sequence[str], led: Led) -> tuple[tuple[Told, ...], bool]:
        flavour = self._store.flavour

        def act(conn: sa.engine.Connection, here: Tables) -> tuple[tuple[Told, ...], bool]:
            told = flavour.fence(conn, here, "", swap, led)
            hook = self._hook
            adopted = (carry_out(hook, conn, flavour, note, call_limit_s=self._limit_s) for note in left if hook)
            found = tuple(each for each in adopted if each is not None)
            return told + found, not any(each.failed for each in found)

        try:
            return self._store.administer(act)
        except HeirflowError as error:
            return (Told(f"could not adopt, nor end the sessions of who led before: {error}", failed=True),), False
        finally:
            self._store.close()

    def sever(self) -> None:
        self._store.sever()

    def close(self) -> None:
        self._store.close()
