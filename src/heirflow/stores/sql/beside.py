"""The database in which a command works, while its record is in a coordinator: what a SQL store does within its swap, after it.

The swap has won by then, whatever happens here. The command starts only when this is done, or has failed in its time: so what
an earlier leader left is ended and adopted before it, as where all is one transaction. What is lost is the one commit: who dies
between the two has taken charge and adopted nothing. The record says so until it is done, and whoever comes next adopts for both.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import sqlalchemy as sa

from heirflow.election.record import Swap, Told
from heirflow.errors import HeirflowError, first_line
from heirflow.stores.base import OnTaken, StoreUnavailable
from heirflow.stores.sql.fence import Led
from heirflow.stores.sql.schema import Tables
from heirflow.stores.sql.store import SqlStore
from heirflow.stores.sql.taking import Hook, carry_out

BUDGET = 0.5
"""Share of the limit of a call that all of it may take: the swap has had its part of that."""
LEAST = 0.2
"""Share of the time of all of it that must be left for another note to be begun."""
ALONE = 1.5
"""What a note may take of the time that is left, by the shares of `taking`: these leave room for a swap, which is done here."""


class Database:
    """A `base.Beside`."""

    def __init__(self, store: SqlStore, *, on_taken: OnTaken | None, limit_s: float) -> None:
        """`store`: of that database, made for calls within this limit; it needs none of HeirFlow's tables there."""
        self._store, self._on_taken = store, on_taken
        self._limit_s = limit_s
        store.limit_answers(limit_s)

    def taken(self, swap: Swap, left: Sequence[str], led: Led) -> tuple[tuple[Told, ...], AbstractSet[str]]:
        until = time.monotonic() + self._limit_s

        def act(conn: sa.engine.Connection, here: Tables) -> tuple[tuple[Told, ...], AbstractSet[str]]:
            self._store.flavour.begin(conn, writes=True)
            ended = self._store.flavour.fence(conn, here, "", swap, led)
            told, adopted = self._adopted(conn, left, until)
            return ended + told, adopted

        try:
            if not self._store.flavour.prepare(create=False):
                raise StoreUnavailable(f"{self._store.where} does not exist")
            return self._store.administer(act)
        except Exception as error:  # noqa: BLE001  whatever it is, the swap has won
            said = str(error) if isinstance(error, HeirflowError) else first_line(error)
            return (Told(f"could not adopt, nor end the sessions of who led before: {said}", failed=True),), frozenset()
        finally:
            self._store.close()

    def _adopted(
        self, conn: sa.engine.Connection, left: Sequence[str], until: float
    ) -> tuple[tuple[Told, ...], AbstractSet[str]]:
        """The newest first: its tasks wait now. Each has its share of what is left of the time, so that none costs the others."""
        told, adopted = list[Told](), set[str]()
        for note in reversed(left):
            left_s = until - time.monotonic()
            if self._on_taken is None:
                adopted.add(note)
            elif left_s < LEAST * self._limit_s:
                told.append(Told("could not adopt all that was left: it took too long", failed=True))
                break
            else:
                hook = Hook(self._on_taken)  # a new one: no swap can be lost to one that did not come back
                said = carry_out(hook, conn, self._store.flavour, note, call_limit_s=ALONE * left_s)
                told += [said] if said else []
                adopted |= set() if said and said.failed else {note}
        return tuple(told), adopted

    def sever(self) -> None:
        self._store.sever()

    def close(self) -> None:
        self._store.close()
