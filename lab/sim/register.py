"""The modelled store: a register with two deciding verbs, member rows in order of joining, and a clock of its own.

Every write passes the judge, who sees true time and so knows what no member can know.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from heirflow.election.asking import FORGOTTEN_TERMS
from heirflow.election.record import CheckIn, Exchange, MemberRow, Place, Reading, Record

OPERATOR = "operator"
"""Who writes orders into the record: no member has this name."""


class WriteJudge(Protocol):
    """Who looks at every write before it stands."""

    def written(self, before: Record | None, after: Record, writer: str, seat: int) -> None:
        """See the record of a seat replaced. Raises when a promise is broken."""

    def failed_over(self, *, twice: bool) -> None:
        """See another server take over, which may have forgotten; `twice`: also what came after the one before."""

    def checked_in(self, member: str, silent_since_s: float, exchange: Exchange, asked_s: float) -> None:
        """See a member come back. Raises when it keeps a place that it lost."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What a store knew at one moment."""

    records: dict[int, Record]
    rows: dict[str, MemberRow]
    next_seniority: int


@dataclass(slots=True)
class SimStore:
    """One election's rows. Times are the store's own clock, which may jump."""

    judge: WriteJudge
    seats: int = 1
    records: dict[int, Record] = field(default_factory=dict)
    """By the number of the seat."""
    rows: dict[str, MemberRow] = field(default_factory=dict)
    next_seniority: int = 1
    clock_ahead_s: float = 0.0
    down: int = 0
    read_only: int = 0
    history: int = 1
    """Which server this is: another one after each fail-over."""
    touched_s: dict[str, float] = field(default_factory=dict)
    """When each member's check-in was last applied, in true time."""

    def exchange(self, request: Exchange, now_s: float, asked_s: float) -> tuple[Reading, bool]:
        """Carry out one transaction at a true time. Returns what it saw, and whether there is news for everybody."""
        stamp = now_s + self.clock_ahead_s
        if request.check_in is not None:
            self._check_in(request.check_in, request, stamp, now_s, asked_s)
        swapped: bool | None = None
        swap = request.swap
        if swap is not None:
            stands, here = self.records.get(swap.seat), swap.under in {None, self.name}
            swapped = here and swap.expected == (stands.version if stands else None)
            if stands is not None and swap.expected_term is not None:
                swapped = swapped and swap.expected_term == stands.term
            if swapped:
                who = request.check_in.id if request.check_in else ""
                self.judge.written(stands, swap.record, who, swap.seat)
                self.records[swap.seat] = swap.record
                self._make_seats(swap.record)
        if request.leave and request.check_in is not None:
            self.rows.pop(request.check_in.id, None)
        for gone in request.forget:
            self.rows.pop(gone, None)
        return self.read(stamp, swapped), bool(swapped and swap is not None and swap.news)

    def _make_seats(self, first: Record) -> None:
        """An election is made with all its seats: whoever has heard of one of them has heard of all."""
        for number in range(1, self.seats + 1):
            self.records.setdefault(
                number, Record(1, 0, None, first.ttl_s, "nobody has taken this seat yet", history=self.name)
            )

    def _check_in(self, who: CheckIn, request: Exchange, stamp: float, now_s: float, asked_s: float) -> None:
        before = self.rows.get(who.id)
        if before is None and not request.join:
            return
        if before is not None:
            self.judge.checked_in(who.id, self.touched_s[who.id], request, asked_s)
        seniority = before.seniority if before is not None else 0
        if request.join:
            seniority = self.next_seniority
            self.next_seniority += 1
        self.rows[who.id] = MemberRow(
            who.id,
            seniority,
            who.host,
            who.pid,
            who.ready,
            before.drained if before else False,
            who.label,
            who.note,
            stamp,
        )
        self.touched_s[who.id] = now_s

    def read(self, stamp: float, swapped: bool | None = None) -> Reading:
        """Everything as it stands, the ages by the store's own clock."""
        rows = [
            MemberRow(
                row.id,
                row.seniority,
                row.host,
                row.pid,
                row.ready,
                row.drained,
                row.label,
                row.note,
                row.stamp,
                stamp - row.stamp,
            )
            for row in self.rows.values()
        ]
        rows.sort(key=lambda row: row.seniority)
        needed = (seat for seat, record in self.records.items() if record.leader is not None or record.note)
        last = max(needed, default=1)
        others = tuple(Place(self.records.get(number)) for number in range(2, max(self.seats, last) + 1))
        return Reading(self.record, tuple(rows), swapped, history=self.name, seats=self.seats, others=others)

    @property
    def record(self) -> Record | None:
        """Of the first seat."""
        return self.records.get(1)

    @property
    def name(self) -> str:
        """What it calls its own history."""
        return f"history {self.history}"

    def order(self, *, paused: bool | None = None, switchover_to: str | None = None) -> bool:
        """Write an operator's order into the record with the same swap as everybody; False when there is no record."""
        if not self.records:
            return False
        named = [number for number, record in self.records.items() if record.leader == switchover_to]
        moved = min(number for number in self.records if number not in named or len(named) == len(self.records))
        for number, record in [*self.records.items()]:
            order = switchover_to if number == moved else None
            if paused is None and order is None:
                continue
            after = replace(
                record,
                version=record.version + 1,
                paused=record.paused if paused is None else paused,
                switchover_to=order or record.switchover_to,
            )
            self.judge.written(record, after, OPERATOR, number)
            self.records[number] = after
        return True

    def drain(self, member: str, on: bool) -> None:
        """Order one member to stand aside, or take that back."""
        if member in self.rows:
            self.rows[member] = replace(self.rows[member], drained=on)

    def will(self, member: str, term: int) -> bool:
        """Release exactly this member's term, as the helper does for a member that was killed. Orders outlive it."""
        for number, record in self.records.items():
            if record.leader == member and record.term == term:
                because = f"{member} ended without a word"
                after = replace(record, version=record.version + 1, leader=None, because=because)
                self.judge.written(record, after, f"will of {member}", number)
                self.records[number] = after
                return True
        return False

    def backup(self) -> Backup:
        """A copy of everything."""
        return Backup(dict(self.records), dict(self.rows), self.next_seniority)

    def fail_over(self, standby: Backup) -> None:
        """Another server answers from now on. What was confirmed since it last heard of anything is forgotten.

        A standby that has never heard of the election is no such fault here: docs/safety.md says what is not kept then.
        """
        known = [(record, self.records.get(number)) for number, record in standby.records.items()]
        # A term that was skipped to since the fail-over before, and is forgotten in its turn, is skipped to once more.
        twice = any(old.history != self.name or (new and new.term - old.term > FORGOTTEN_TERMS) for old, new in known)
        if standby.records:
            self.records, self.rows = dict(standby.records), dict(standby.rows)
            self.next_seniority = standby.next_seniority
        self.judge.failed_over(twice=twice)
        self.history += 1

    def restore(self, backup: Backup) -> None:
        """Forget everything that was confirmed since. No lease can survive this; the judge knows."""
        self.records, self.rows = dict(backup.records), dict(backup.rows)
        self.next_seniority = backup.next_seniority
