"""What a member has done since it started, counted from the states that its loop shows, and written down for Prometheus.

The text format is simple, so that a member needs no package for it. These counters only grow while the member lives, and begin
again with the next one: that is what Prometheus expects of a counter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from heirflow import __version__
from heirflow.election.cause import Cause
from heirflow.election.record import Exchange, Reading, Record
from heirflow.election.state import NEVER, Purpose, Starting, State
from heirflow.member.between import between
from heirflow.stores.base import Register

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the histogram's buckets. A check-in that takes longer than the last one is beyond most leases."""


@dataclass
class Tally:
    """Written by the loop, and `fenced` by who asks the store. Others may read it, and may see a number that is one look old."""

    takeovers: dict[Cause, int] = field(default_factory=lambda: dict.fromkeys(Cause, 0))
    gap_s: float | None = None
    """How long nobody had led when this member last took charge, by its own clock; None: somebody is the first, or it never did."""
    restarts: int = 0
    fenced: int = 0
    """Sessions of earlier leaders that it ended."""
    check_ins: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    """How many took so long, by bucket; the last one has those beyond all bounds."""
    check_ins_s: float = 0.0
    """How long all of them took together."""
    _checked_in_at: float = NEVER
    _held: tuple[int, int] | None = None
    _started: Starting | None = None
    _starts: int = 0
    """In the term that it holds."""
    _taking: tuple[int, int, Cause, float | None] | None = None
    """What it wants to take, or wanted last: seat, term, why, and how long nobody has led."""
    _led: dict[int, Led] = field(default_factory=dict)

    def store(self, inner: Register) -> Register:
        """The store as the member asks it, with an eye on what it tells. Its exchanges go through as they are."""
        return between(inner, self._exchange)

    def _exchange(self, inner: Register, election: str, request: Exchange) -> Reading:
        reading = inner.exchange(election, request)
        self.fenced += sum(told.sessions for told in reading.told)
        return reading

    def look(self, state: State, now: float) -> None:
        """The state after a turn of the loop."""
        if state.checked_in_at != self._checked_in_at:
            self._checked_in_at = state.checked_in_at
            took_s = max(0.0, now - state.checked_in_at)
            self.check_ins_s += took_s
            self.check_ins[sum(took_s > bound_s for bound_s in BOUNDS_S)] += 1
        held = None if state.term is None else (state.seat.number, state.term)
        if held != self._held:
            self._held, self._starts = held, 0
            if held is not None:
                self._took(held)
        for seat in state.all_seats:
            if seat.record is not None and seat.record.leader is not None:
                self._led[seat.number] = Led(seat.record, seat.watch_since)
        if state.ask is not None and state.ask.purpose is Purpose.TAKE and state.ask.exchange.swap is not None:
            taken = state.ask.exchange.swap
            gap_s = None if taken.event is None else taken.event.took_s
            self._taking = (taken.seat, taken.record.term, self._cause(state), gap_s)
        if isinstance(state.command, Starting) and state.command is not self._started:
            self._started = state.command
            self.restarts += self._starts > 0
            self._starts += 1

    def _took(self, held: tuple[int, int]) -> None:
        """Every term begins with a question that was looked at before its answer came."""
        seat, term, cause, self.gap_s = self._taking or (*held, Cause.UNKNOWN, None)
        self.takeovers[cause if (seat, term) == held else Cause.UNKNOWN] += 1

    def _cause(self, state: State) -> Cause:
        """Why it may take its seat, from what it has seen of it."""
        seat, record = state.seat, state.record
        if record is None or record.term == 0:
            return Cause.FIRST
        if record.leader is not None:
            return Cause.LEASE_ENDED
        if not state.others:
            return Cause.RELEASED
        # One of several whose leader is silent may be made vacant by others (`Purpose.VACATE`): that is no release.
        led = self._led.get(seat.number)
        if led is None or led.record.term != record.term or led.watched_since is None:
            return Cause.UNKNOWN
        stood_s = seat.record_since - led.watched_since
        return Cause.LEASE_ENDED if stood_s >= led.record.ttl_s else Cause.RELEASED


@dataclass(frozen=True, slots=True)
class Led:
    """The record of a seat when it was last seen to be led."""

    record: Record
    watched_since: float | None
    """Since when this version stood still while every read succeeded."""


def exposition(election: str, facts: Mapping[str, Any] | None, tally: Tally) -> str:
    """In Prometheus' text format. `facts`: what the member says now; None: its loop does not turn, so that it says nothing."""
    return "\n".join(_lines(election, facts, tally)) + "\n"


def _lines(election: str, facts: Mapping[str, Any] | None, tally: Tally) -> Iterator[str]:
    labels = _labels(election=election)
    yield from _one("heirflow_build_info", "gauge", "The version of this member.", 1, _labels(version=__version__))
    for name, meaning, value in _gauges(facts):
        if value is not None:
            yield from _one(f"heirflow_member_{name}", "gauge", meaning, value, labels)
    if tally.gap_s is not None:
        gap = "How long nobody had led when this member last took charge, by its own clock."
        yield from _one("heirflow_member_last_gap_seconds", "gauge", gap, tally.gap_s, labels)
    name = "heirflow_member_takeovers_total"
    yield f"# HELP {name} How often this member took charge since it started, by why it could."
    yield f"# TYPE {name} counter"
    for cause, times in tally.takeovers.items():
        yield f"{name}{_labels(election=election, cause=cause.value)} {float(times)!r}"
    again = "How often this member started its command again within one term, since it started."
    yield from _one("heirflow_member_restarts_total", "counter", again, tally.restarts, labels)
    ended = "How many database sessions of earlier leaders this member ended, since it started."
    yield from _one("heirflow_member_fenced_sessions_total", "counter", ended, tally.fenced, labels)
    name = "heirflow_member_check_in_seconds"
    yield f"# HELP {name} How long a check-in with the store took, from the question to what follows from its answer."
    yield f"# TYPE {name} histogram"
    counts, total, seen = [*tally.check_ins], tally.check_ins_s, 0
    for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], counts, strict=True):
        seen += count
        yield f"{name}_bucket{_labels(election=election, le=bound)} {seen}"
    yield f"{name}_sum{labels} {total!r}"
    yield f"{name}_count{labels} {seen}"


def _gauges(facts: Mapping[str, Any] | None) -> Iterator[tuple[str, str, float | None]]:
    """Name, meaning and value; None: there is nothing to say."""
    yield "live", "Whether the loop of this member turns.", facts is not None
    if facts is None:
        return
    holds = facts["trusted_for_s"] is not None
    yield "ready", "As `heirflow probe ready`.", facts["ready"]
    yield "able", "As `heirflow probe able`.", facts["able"]
    yield (
        "leader",
        "As `heirflow probe leader`: it leads, its lease has not ended, and its command runs.",
        facts["leader"],
    )
    yield "runs_nothing", "Whether it leads and does not run its command.", holds and not facts["leader"]
    yield "term", "The term that it leads.", facts["term"] if holds else None
    yield "seat", "The seat that it leads.", facts["seat"]
    yield "seats", "How many members of the election may lead at once, as it last read.", facts["seats"]
    yield "place", "Its place in the line; 1 is the heir.", facts["place"]
    yield "heirs", "How many members are ready to take charge, as it last read.", facts["heirs"]
    yield "lease_remaining_seconds", "For how long it may still lead without a renewal.", facts["trusted_for_s"]
    yield "ttl_seconds", "How long its lease is, by its own settings.", facts["ttl_s"]


def _one(name: str, kind: str, meaning: str, value: float, labels: str) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    yield f"{name}{labels} {float(value)!r}"


def _labels(**texts: str) -> str:
    pairs = (f'{label}="{_escaped(text)}"' for label, text in texts.items())
    return f"{{{','.join(pairs)}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
