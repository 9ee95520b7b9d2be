"""`heirflow once`: a line in which the command runs once per due time, and then everybody leaves.

The rules, the guard and the lease are those of any other line, so never two run. What this adds stands between the member and
its store. The record's note says which due time was begun last and whether it is done, by the store's clock: it is written by the
swap that takes charge and by the one that releases, so it is decided where the lead is. A swap that would take charge for a due
time that is done is not sent and counts as lost, as if somebody else had been quicker; and the member leaves.

A due time is done when the command has ended by itself, whatever its exit code, and its member has released. Everything else (the
member killed, frozen, stopped, cut off) leaves it begun, and the next in line begins it again. So it is run at least once, by one
host at a time: where the end of a command cannot be told to the store, another host runs it again.

The first call that takes charge makes the due time. Calls within half of `every` after it belong to it: so hosts' clocks may
differ, a clock time may move by an hour, and nothing drifts. Without `every`, a run serves those who stood in line when it ended.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, cast

from heirflow.clock import boottime
from heirflow.election.record import Event, Exchange, Reading, Swap
from heirflow.guard.why import Why
from heirflow.member.between import between
from heirflow.member.guard_events import Gone, GuardEvent
from heirflow.member.keeper import Keeper
from heirflow.stores.base import Register

MISSED = "missed"
"""What the history says of runs that nobody made, or that nobody ended."""
NOT_DONE = 75
"""Exit code of who was asked to stop before the due time was done: try again later, by the convention of sysexits."""
READINGS = 8
"""The rules may ask for a swap of an older reading than the last: another thread's answer may have come late."""


@dataclass(frozen=True, slots=True)
class Due:
    """One due time, as it stands in the record's note. Moments are seconds since 1970 by the store's clock."""

    at: float
    """When the first of its calls took charge."""
    by: str
    """The member that began it last."""
    done_at: float | None = None
    status: int | None = None

    @classmethod
    def read(cls, note: str) -> Due | None:
        """None where the note says nothing of one. Anything may stand there."""
        try:
            said = json.loads(note)["once"]
            at, by, done_at, status = said["at"], said["by"], said["done_at"], said["status"]
            return cls(float(at), str(by), None if done_at is None else float(done_at), status)
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    def note(self) -> str:
        said = {"at": self.at, "by": self.by, "done_at": self.done_at, "status": self.status}
        return json.dumps({"once": said})

    @property
    def shown(self) -> str:
        return _shown(self.at)


class Once:
    """One call of `heirflow once`. Its store and its keeper are used by different threads."""

    def __init__(self, member: str, every_s: float | None) -> None:
        self.member, self.every_s = member, every_s
        self.stop: Callable[[str], None] = lambda _: None
        """Asks the member to leave; set once there is one."""
        self.ended: int | None = None
        """The status of the command that has ended by itself here."""
        self.served = False
        """Another host has done it."""
        self._called_at: float | None = None
        self._now: tuple[float, float] = (0.0, 0.0)
        self._seen: dict[tuple[int, int], Due | None] = {}
        self._untold: tuple[Event, ...] = ()
        self._lock = threading.Lock()

    def exit_code(self, code: int, conflict: int) -> int:
        """What this call ends with. `code`: the member's own."""
        if self.ended is not None:
            return self.ended if self.ended >= 0 else 128 - self.ended
        if self.served:
            return conflict
        return code or NOT_DONE

    def store(self, inner: Register) -> Register:
        """The store as a member of this call sees it."""
        return between(inner, self.exchange)

    def keeper(self, inner: Keeper) -> Keeper:
        """The keeper, whose word of the command's end is heard here before it is acted on: the release tells it."""
        return cast("Keeper", _Keeper(inner, self))

    # ---- at the store ----------------------------------------------------------------------------------------------------

    def exchange(self, inner: Register, election: str, request: Exchange) -> Reading:
        """One transaction, with the due time in what is written and out of what is read."""
        swap, missed = self._told(request.swap) if request.swap is not None else (None, None)
        with self._lock:
            untold, self._untold = self._untold, ()
        try:
            reading = inner.exchange(election, replace(request, swap=swap, notes=(*request.notes, *untold)))
        except BaseException:
            with self._lock:
                self._untold = (*untold, *self._untold)
            raise
        with self._lock:
            if reading.swapped and missed is not None:
                self._untold += (missed,)
            learned = self._learned(reading)
        return learned if swap is not None or request.swap is None else replace(learned, swapped=False)

    def _told(self, swap: Swap) -> tuple[Swap | None, Event | None]:
        """The swap with the due time that it leaves; None instead where it is for one that is done, or cannot be judged."""
        with self._lock:
            record = swap.record
            key = (swap.expected_term or 0, swap.expected or 0)
            if swap.expected is not None and key not in self._seen:
                return None, None
            last, now = self._seen.get(key), self._store_now()
            releases, goes_on = record.leader is None, swap.takes_over is None
            if goes_on and (not releases or last is None or self.ended is None):
                return replace(swap, record=replace(record, note=last.note() if last else "")), None
            if releases and last is not None:
                done = replace(last, done_at=now, status=self.ended)
                event = swap.event and replace(swap.event, because=f"{swap.event.because}; due {done.shown}: done")
                return replace(swap, record=replace(record, note=done.note()), event=event), None
            if self.ended is not None or self.served or self._serves(last, now):
                return None, None
            due = Due(now, self.member)
            same = last is not None and last.done_at is None and (last.by == self.member or self._mine(last, now))
            if same and last is not None:
                due = replace(last, by=self.member)
            event = swap.event and replace(swap.event, because=f"{swap.event.because}; due {due.shown}")
            swap = replace(swap, record=replace(record, note=due.note()), event=event)
            return swap, None if same else self._missed(last, now, record.term)

    def _learned(self, reading: Reading) -> Reading:
        record = reading.record
        due = Due.read(record.note) if record is not None else None
        self._now = (reading.db_now, boottime())
        if self._called_at is None:
            self._called_at = reading.db_now
        if record is not None:
            self._seen[record.term, record.version] = due
            while len(self._seen) > READINGS:
                del self._seen[next(iter(self._seen))]
        if self._serves(due, reading.db_now) and self.ended is None and not self.served:
            assert due is not None
            self.served = True
            self.stop(f"{due.by} has run what was due {due.shown}")
        return reading if due is None or record is None else replace(reading, record=replace(record, note=""))

    def _store_now(self) -> float:
        db_now, read_at = self._now
        return db_now + boottime() - read_at

    def _mine(self, due: Due, now: float) -> bool:
        """Whether this call belongs to that due time, or one that came later. A clock that was set back makes no due time mine."""
        if self.every_s is None or self._called_at is None:
            return False
        return self._called_at - self.every_s / 2 < due.at < now + self.every_s / 2

    def _serves(self, due: Due | None, now: float) -> bool:
        """Whether nothing is left for this call to do."""
        if due is None or due.done_at is None or self._called_at is None:
            return False
        if self.every_s is None:
            return self._called_at <= due.done_at <= now
        return self._mine(due, now)

    def _missed(self, last: Due | None, now: float, term: int) -> Event | None:
        """What the history is to say of due times before this one that nobody ran, or ended."""
        if last is None:
            return None
        said = [] if last.done_at is not None else [f"what was due {last.shown} was begun by {last.by} and never ended"]
        runs = round((now - last.at) / self.every_s) - 1 if self.every_s else 0
        if runs > 0:
            said.append(f"nobody ran it {runs} {'time' if runs == 1 else 'times'} since {last.shown}")
        return Event(MISSED, term, self.member, "; ".join(said)) if said else None

    # ---- at the guard ----------------------------------------------------------------------------------------------------

    def saw(self, events: list[GuardEvent]) -> None:
        """Hear of the command's end. Whoever asked for it, or killed it, has not done what was due."""
        for event in events:
            if isinstance(event, Gone) and event.why is Why.ENDED and event.status is not None:
                with self._lock:
                    self.ended = event.status
                self.stop("its command has ended")  # also where the lead was lost meanwhile: it is not run here again


class _Keeper:
    def __init__(self, inner: Keeper, once: Once) -> None:
        self._inner, self._once = inner, once

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def poll(self, now: float) -> list[GuardEvent]:
        events = self._inner.poll(now)
        self._once.saw(events)
        return events


def _shown(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
