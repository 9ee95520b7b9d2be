"""The line of succession as people see it: a `Snapshot` made from one `Reading`.

Everything here is for people, and rests on the store's clock only. The rules never look at it. Pages, metrics and
`heirflow status` read a snapshot and nothing else, so that they all tell the same.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from heirflow.election.record import Reading, Record, said_in
from heirflow.election.timings import Timings
from heirflow.status.promise import not_promised, promised
from heirflow.status.rows import EXPIRED, HEIR, LEADER, Row, differences, rounded, rows_of, said_of_work
from heirflow.status.words import duration, ordinal

__all__ = [
    "EXPIRED",
    "HEIR",
    "LEADER",
    "Row",
    "Snapshot",
    "duration",
    "not_promised",
    "ordinal",
    "said_of_work",
]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One election at one moment."""

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
    switchover_to: str | None
    succession: tuple[Row, ...]
    """Leader, heir and the rest of the line, then those without a place."""
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

    @classmethod
    def of(cls, election: str, reading: Reading) -> Snapshot:
        """What one reading says."""
        record = reading.record or Record(version=0, term=0, leader=None, ttl_s=Timings().ttl_s)
        stood_s = max(0.0, reading.db_now - reading.written_at) if reading.record and reading.written_at else None
        expired = record.leader is not None and stood_s is not None and stood_s > record.ttl_s
        succession = rows_of(record, reading, expired=expired)
        heir = next((row for row in succession if row.rank == 2), None)
        leading = next((row for row in succession if row.rank == 1), None)
        done_at = _done_at(record) if heir is None else None
        promise = promised(record, heir, stood_s if expired else None, leading, followed=record.version > 0)
        if done_at is not None:
            promise = f"its command was done {duration(reading.db_now - done_at)} ago; the next call of `heirflow once` begins it"
        return cls(
            election=election,
            term=record.term,
            leader=None if expired else record.leader,
            expired=expired,
            last_leader=record.leader,
            leader_since=reading.since or None,
            because=record.because,
            heir=heir.member if heir else None,
            ttl_s=record.ttl_s,
            renewed_s=rounded(stood_s),
            paused=record.paused,
            switchover_to=record.switchover_to,
            succession=succession,
            promise=promise + not_promised(succession),
            at=reading.db_now,
            odd=reading.odd,
            runs=leading.runs if leading is not None else None,
            done_at=done_at,
            differences=differences(succession),
        )

    @property
    def unheard(self) -> str:
        """What is so of a leader that leads and is not heard, as the end of a sentence; empty where it is heard."""
        leading = next((row for row in self.succession if row.rank == 1), None)
        if leading is None or not leading.silent:
            return ""
        heard_s = leading.last_check_in_s
        return "was never heard" if heard_s is None else f"is silent for {duration(heard_s)}"

    def to_json(self) -> dict[str, Any]:
        """Plain values only."""
        return asdict(self)


def _done_at(record: Record) -> float | None:
    """When the last due time of `heirflow once` was done, if this is the line of one, and nothing is under way."""
    once = said_in(record.note).get("once") if record.leader is None else None
    done_at = once.get("done_at") if isinstance(once, dict) else None
    return float(done_at) if isinstance(done_at, (int, float)) and math.isfinite(done_at) else None
