"""Waking those who wait for news: after the commit and alone, as a server whose queue is full takes none from anybody."""

from __future__ import annotations

from typing import Any

from heirflow.election.record import Swap, Told
from heirflow.stores.sql.flavour import Flavour
from heirflow.stores.sql.link import Link
from heirflow.stores.sql.statements import plain


class Waking:
    """Of one store."""

    def __init__(self, link: Link, flavour: Flavour) -> None:
        self._link, self._flavour = link, flavour
        self._waits: str | None = None
        """The election of which others are still to be told."""
        self._failed: tuple[Told, ...] = ()

    def after(self, election: str, swap: Swap | None) -> tuple[Told, ...]:
        """After a swap that won: what failed, here or in `rest` before.

        Who has taken charge starts its command first, as nobody waits for that word: it is left to `rest`.
        """
        told, self._failed = self._failed, ()
        if swap is None or not swap.news:
            return told
        if swap.takes_over is None or swap.record.leader is None:
            return told + self.tell(election)
        self._waits = election
        return told

    def rest(self) -> None:
        """Tell what was left."""
        election, self._waits = self._waits, None
        if election is not None and self._link.conn is not None:
            self._failed += self.tell(election)

    def tell(self, election: str) -> tuple[Told, ...]:
        """Wake them now; what failed."""
        failed = filter(None, map(self._link.attempt, self.statements(election)))
        return tuple(Told(sentence, failed=True) for sentence in failed)

    def statements(self, election: str) -> list[tuple[str, Any]]:
        """What wakes them, as the bare driver takes it."""
        notify, dialect = self._flavour.notify, self._link.engine.dialect
        return [] if notify is None else [plain(dialect, notify, {"p_election": election})]
