"""The database in which a command works, while its record is in a coordinator: what a SQL store does within its swap, after it.

The swap has won by then, whatever happens here. The command starts only when this is done, or has failed in its time: so what
an earlier leader left is ended and adopted before it, as where all is one transaction. What is lost is the one commit: a member
that dies between the two has taken charge and adopted nothing, and who follows it adopts for both.
"""

from __future__ import annotations

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

    def taken(self, swap: Swap, led: Led) -> tuple[Told, ...]:
        def act(conn: sa.engine.Connection, here: Tables) -> tuple[Told, ...]:
            told = self._store.flavour.fence(conn, here, "", swap, led)
            if self._hook is not None:
                adopted = carry_out(
                    self._hook, conn, self._store.flavour, swap.takes_over or "", call_limit_s=self._limit_s
                )
                told += (adopted,) if adopted else ()
            return told

        try:
            return self._store.administer(act)
        except HeirflowError as error:
            return (Told(f"could not adopt, nor end the sessions of who led before: {error}", failed=True),)
        finally:
            self._store.close()

    def sever(self) -> None:
        self._store.sever()

    def close(self) -> None:
        self._store.close()
