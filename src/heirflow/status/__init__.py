"""The line of succession as people see it: a `Snapshot` made from one `Reading`.

Everything here is for people, and rests on the store's clock only. The rules never look at it. Pages, metrics and
`heirflow status` read a snapshot and nothing else, so that they all tell the same.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from heirflow.election.record import Reading, Record, counted, said_in
from heirflow.status.promise import held, not_promised, promised, promised_of_several, troubles
from heirflow.status.rows import EXPIRED, HEIR, LEADER, Row, differences, one_seat_only, rows_of, said_of_work
from heirflow.status.seats import Seat, seats_of
from heirflow.status.words import duration, listed, ordinal

__all__ = [
    "EXPIRED",
    "HEIR",
    "LEADER",
    "Row",
    "Seat",
    "Snapshot",
    "counted",
    "duration",
    "held",
    "listed",
    "not_promised",
    "one_seat_only",
    "ordinal",
    "said_of_work",
    "troubles",
]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One election at one moment. What concerns one seat is said of the first one; `by_seat` has all of them."""

    election: str
    term: int
    leader: str | None
    """Who leads now; None where nobody does, also where a lease has ended and nobody took charge since."""
    expired: bool
    """Whether the record names a leader whose lease has ended."""
    last_leader: str | None
    """Whom the record names, whether its lease has ended or not."""
    leader_since: float | None
    """When the leadership last changed, seconds since 1970 by the store's clock."""
    because: str
    """Why it last changed."""
    heir: str | None
    ttl_s: float
    renewed_s: float | None
    """Age of the record; a leader's never grows beyond ttl."""
    paused: bool
    """Of several seats: of any."""
    switchover_to: str | None
    succession: tuple[Row, ...]
    """Leader or leaders, heir and the rest of the line, then those without a place."""
    promise: str
    """What happens next when the leader ends, and how fast."""
    at: float
    """By the store's clock."""
    odd: tuple[str, ...] = ()
    """What stands in the tables and cannot be, as sentences; the rest of the snapshot leaves it out."""
    runs: bool | None = None
    """Whether the leader's command runs; None: it does not say, or nobody leads."""
    done_at: float | None = None
    """Of a line of `heirflow once` that waits for its next call: when its last due time was done, by the store's clock."""
    differences: tuple[str, ...] = ()
    """In what the members that are heard differ, as sentences."""
    seats: int = 1
    """How many members may lead at once."""
    by_seat: tuple[Seat, ...] = ()
    """Each seat, the first one first, and behind them those that are too many now and still held."""

    @classmethod
    def of(cls, election: str, reading: Reading) -> Snapshot:
        """What one reading says."""
        seats = seats_of(reading)
        rows = rows_of(seats, reading)
        leading = {row.seat: row for row in rows if row.rank == 1}
        seats = tuple(replace(seat, runs=leading[seat.seat].runs) if seat.seat in leading else seat for seat in seats)
        first, heir = seats[0], next((row for row in rows if row.rank == 2), None)
        done_at = _done_at(reading.record) if heir is None and len(seats) == 1 else None
        if done_at is not None:
            promise = f"its command was done {duration(reading.db_now - done_at)} ago; the next call of `heirflow once` begins it"
        elif len(seats) == 1:
            followed = reading.record is not None and reading.record.version > 0
            promise = promised(first, heir, leading.get(1), followed=followed)
        else:
            promise = promised_of_several(seats, rows)
        return cls(
            election=election,
            term=first.term,
            leader=first.leader,
            expired=first.expired,
            last_leader=first.last_leader,
            leader_since=first.since,
            because=first.because,
            heir=heir.member if heir else None,
            ttl_s=first.ttl_s,
            renewed_s=first.renewed_s,
            paused=any(seat.paused for seat in seats),
            switchover_to=first.switchover_to,
            succession=rows,
            promise=promise + not_promised(rows),
            at=reading.db_now,
            odd=reading.odd,
            runs=first.runs,
            done_at=done_at,
            differences=differences(rows),
            seats=reading.seats,
            by_seat=seats,
        )

    @property
    def several(self) -> bool:
        """Whether there is more than one seat to show: there are several, or who holds one too many has not stopped yet."""
        return len(self.by_seat) > 1

    @property
    def unheard(self) -> str:
        """`Row.unheard` of the first seat's leader."""
        return next((row.unheard for row in self.succession if row.rank == 1 and row.seat == 1), "")

    def to_json(self) -> dict[str, Any]:
        """Plain values only."""
        return asdict(self)


def _done_at(record: Record | None) -> float | None:
    """When the last due time of `heirflow once` was done, if this is the line of one, and nothing is under way."""
    once = said_in(record.note).get("once") if record is not None and record.leader is None else None
    done_at = once.get("done_at") if isinstance(once, dict) else None
    return float(done_at) if isinstance(done_at, (int, float)) and math.isfinite(done_at) else None
