"""What was read: elections as the page shows them, those that need somebody first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heirflow.election.record import Event
from heirflow.status import Row, Seat, Snapshot

Key = tuple[int, str]
"""Which election: the number of its store, and its name."""

URGENCY = (
    "nobody leads",
    "seat not led",
    "runs nothing",
    "no heir",
    "silent",
    "paused",
    "flapping",
    "odd rows",
    "unknown",
)
"""States of `heirflow status --check`, by how soon somebody should look; any other is well."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One election."""

    snapshot: Snapshot
    level: int
    """As the exit code of `heirflow status --check`: 0 well, 1 warning, 2 critical, 3 not known."""
    state: str
    events: tuple[Event, ...] = ()
    """The newest, oldest first."""
    store: int = 0
    sentence: str = ""
    """The same in words, without the name of the election."""
    newest: int | None = None
    """The number of its newest event, where the store says it."""

    @property
    def key(self) -> Key:
        return self.store, self.snapshot.election


@dataclass(frozen=True, slots=True)
class Away:
    """A store that does not answer, or not as it should."""

    store: int
    sentence: str
    since: float
    """Seconds since 1970 by the clock of this host: when it was asked first and did not answer."""
    seen_at: float | None
    """When it answered last; None: never."""
    answers: bool = False
    """Whether it answers, and what is to be shown cannot be: the election that was named is gone, or the tables are."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All that was read in one go."""

    elections: tuple[Shown, ...]
    away: tuple[Away, ...] = ()
    stores: tuple[str, ...] = ("",)
    """What each store is called."""
    at: float = 0.0
    """When, by the clock of this host."""

    def of(self, key: Key | None) -> Shown | None:
        """One of the elections."""
        return next((shown for shown in self.elections if shown.key == key), None)

    def is_away(self, store: int) -> bool:
        """Whether what is shown of this store is out of date."""
        return any(away.store == store for away in self.away)


def sorted_by_need(elections: Iterable[Shown]) -> tuple[Shown, ...]:
    """Those that need somebody first."""
    order = {state: place for place, state in enumerate(URGENCY)}
    return tuple(sorted(elections, key=lambda shown: (-shown.level, order.get(shown.state, len(order)), shown.key)))


@dataclass(frozen=True, slots=True)
class Standing:
    """One row of the line: a seat and who holds it, or a member that waits."""

    seat: Seat | None
    row: Row | None

    @property
    def name(self) -> str:
        """By which it is found again in the next reading: the member stays chosen when it changes place."""
        if self.row is not None:
            return self.row.member
        return f"seat {self.seat.seat}" if self.seat is not None else ""

    @property
    def member(self) -> str | None:
        """Who stands there; None: a seat that nobody holds."""
        if self.row is not None:
            return self.row.member
        return self.seat.last_leader if self.seat is not None else None


def line_of(snapshot: Snapshot) -> list[Standing]:
    """The seats first, then the heir and the rest of the line."""
    holders = {row.seat: row for row in snapshot.succession if row.seat is not None}
    seats = [
        Standing(seat, holders.get(seat.seat))
        for seat in snapshot.by_seat
        if snapshot.several or seat.last_leader is not None
    ]
    return seats + [Standing(None, row) for row in snapshot.succession if row.seat is None]


def lease_left_s(seat: Seat) -> float | None:
    """How long the leader of this seat would still lead if it were never heard again; None: nobody leads."""
    if seat.leader is None or seat.renewed_s is None:
        return None
    return max(0.0, seat.ttl_s - seat.renewed_s)
