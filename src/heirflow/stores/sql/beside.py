"""The database in which a command works, while its record is in a coordinator: what a SQL store does within its swap, after it.

The swap has won by then, whatever happens here. The command starts only when this is done, or has failed in its time: so what
an earlier leader left is ended and adopted before it, as where all is one transaction. What is lost is the one commit: who dies
between the two has taken charge and adopted nothing. The record says so until it is done, and whoever comes next adopts for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from heirflow.election.record import Swap, Told
from heirflow.errors import HeirflowError
from heirflow.stores.base import OnTaken, StoreUnavailable
from heirflow.stores.sql.fence import Led
from heirflow.stores.sql.schema import Tables
from heirflow.stores.sql.store import SqlStore
from heirflow.stores.sql.taking import Hook, carry_out

BUDGET = 0.5
"""Share of the limit of a call that all of it may take: the swap has had its part of that."""


class Database:
    """A `base.Beside`."""

    def __init__(self, store: SqlStore, *, on_taken: OnTaken | None, call_limit_s: float) -> None:
        """`store`: of that database, with limits of its own; it needs none of HeirFlow's tables there."""
        self._store, self._on_taken = store, on_taken
        self._limit_s = BUDGET * call_limit_s
        self._severed = False
        store.limit_answers(self._limit_s)

    def taken(self, swap: Swap, left: Sequence[str], led: Led) -> tuple[tuple[Told, ...], bool]:
        flavour = self._store.flavour
        doubts: list[Told] = []

        def asked(about: Mapping[str, Any]) -> Mapping[str, bool]:
            try:
                return led(about)
            except HeirflowError as error:  # what was left is adopted all the same
                doubts.append(Told(f"could not tell whose sessions are over: {error}", failed=True))
                return {}

        def act(conn: sa.engine.Connection, here: Tables) -> tuple[tuple[Told, ...], bool]:
            self._look()
            told = flavour.fence(conn, here, "", swap, asked)
            # Each try is the first one: one that never comes back keeps nobody from taking charge here.
            hook = None if self._on_taken is None else Hook(self._on_taken)
            adopted = (carry_out(hook, conn, flavour, note, call_limit_s=self._limit_s) for note in left if hook)
            found = tuple(each for each in adopted if each is not None)
            return (*doubts, *told, *found), not any(each.failed for each in found)

        try:
            self._look()
            return self._store.administer(act)
        except HeirflowError as error:
            return (Told(f"could not adopt, nor end the sessions of who led before: {error}", failed=True),), False
        finally:
            self._store.close()
            self._severed = False

    def _look(self) -> None:
        """Whoever was severed must not begin: its member may have given it up, taken charge once more, and started a command.

        The sessions of that command would be taken for earlier ones. Raises `StoreUnavailable`.
        """
        if self._severed:
            raise StoreUnavailable("this exchange took too long, and was given up")

    def sever(self) -> None:
        self._severed = True
        self._store.sever()

    def close(self) -> None:
        self._store.close()
