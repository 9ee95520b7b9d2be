"""Who led when: the history of an election as bands, gaps and marks over a stretch of time.

All moments are seconds since 1970 by the store's clock. What the history does not tell is left out, and `known_since` says from
where on it tells all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeVar

from heirflow.election.record import Event, What, said_in
from heirflow.status import Snapshot, duration

SLOTS = 600
"""So many places a stretch has for the eye: spells that are shorter and close together become one."""
ROWS = 12
"""So many bands are drawn at most: of the hosts that led last."""
MARKS = {
    What.RESTARTED: "restarted",
    What.LOST: "lost",
    What.FENCED: "fenced",
    What.REFUSED: "refused",
    What.ORDERED: "ordered",
}


@dataclass(frozen=True, slots=True)
class Spell:
    """One leadership, or several short ones that the eye could not tell apart."""

    seat: int
    term: int
    member: str
    since: float
    until: float
    because: str
    """Why it began."""
    goes_on: bool = False
    times: int = 1


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch in which nobody led a seat."""

    seat: int
    since: float
    until: float
    because: str
    goes_on: bool = False
    times: int = 1


Part = TypeVar("Part", Spell, Gap)


@dataclass(frozen=True, slots=True)
class Mark:
    """What happened to a leader at one moment."""

    at: float
    kind: str
    """A word of `MARKS`."""
    seat: int
    member: str
    because: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class Band:
    """One row: all that concerns one host."""

    host: str
    spells: tuple[Spell, ...]
    marks: tuple[Mark, ...]
    led_s: float
    """For how long a member on it led, in seconds; of several seats, together."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """A stretch of time, by host."""

    election: str
    since: float
    until: float
    known_since: float
    """Before it the history tells nothing any more; not after `until`."""
    bands: tuple[Band, ...]
    gaps: tuple[Gap, ...]
    hidden: int = 0
    """Hosts that led in it and have no band here."""
    gap_s: float = 0.0
    """For how long nobody led, of all seats together, in seconds."""
    led_s: Mapping[str, float] = field(default_factory=dict)
    """Member -> for how long it led, in seconds."""

    def to_json(self) -> dict[str, Any]:
        """Plain values only."""
        return {
            "election": self.election,
            "since": self.since,
            "until": self.until,
            "known_since": self.known_since,
            "gap_s": round(self.gap_s, 3),
            "leaderships": [
                {
                    "host": band.host,
                    "seat": spell.seat,
                    "term": spell.term,
                    "member": spell.member,
                    "since": spell.since,
                    "until": None if spell.goes_on else spell.until,
                    "because": spell.because,
                    "times": spell.times,
                }
                for band in self.bands
                for spell in band.spells
            ],
            "gaps": [
                {
                    "seat": gap.seat,
                    "since": gap.since,
                    "until": None if gap.goes_on else gap.until,
                    "because": gap.because,
                    "times": gap.times,
                }
                for gap in self.gaps
            ],
            "marks": [
                {
                    "at": mark.at,
                    "what": mark.kind,
                    "seat": mark.seat,
                    "member": mark.member,
                    "because": mark.because,
                    "times": mark.times,
                }
                for band in self.bands
                for mark in band.marks
            ],
        }


def timeline_of(line: Snapshot, events: Sequence[Event], stretch_s: float) -> Timeline:
    """The last `stretch_s` seconds. `events`: in the order of their moments, as `status.history.in_order` has them."""
    until, since = line.at, line.at - stretch_s
    events = [event for event in events if 0 < event.at <= until]
    hosts = {row.member: row.host for row in line.succession if row.host}
    spells: list[Spell] = []
    gaps: list[Gap] = []
    known_since, once = since, _is_once(line)
    for seat in sorted({event.seat for event in events} | {seat.seat for seat in line.by_seat}):
        told = _told_whole([event for event in events if event.seat == seat])
        never = next((each for each in line.by_seat if each.seat == seat and each.term == 0), None)
        if never is not None:
            if not (never.over or once):
                gaps.append(Gap(seat, since, until, "nobody has led it yet", goes_on=True))
        elif not told:
            known_since = until
        elif not (told[0].what is What.TOOK_CHARGE and told[0].term == 1):
            known_since = max(known_since, told[0].at)
        _tell_seat(line, told, seat, spells, gaps)
    spells = [cut for spell in spells if (cut := _within(spell, since, until)) is not None]
    gaps = [cut for gap in gaps if not once and (cut := _within(gap, since, until)) is not None]
    slot = stretch_s / SLOTS
    marks = [
        Mark(event.at, MARKS[event.what], event.seat, event.member, event.because, event.times)
        for event in events
        if isinstance(event.what, What) and event.what in MARKS and event.at >= since
    ]
    bands, hidden = _bands(spells, marks, hosts, slot)
    return Timeline(
        line.election,
        since,
        until,
        known_since,
        bands,
        _joined(gaps, slot),
        hidden,
        sum(gap.until - gap.since for gap in gaps),
        _led(spells),
    )


def _is_once(line: Snapshot) -> bool:
    """Whether it is a line of `heirflow once`, which nobody leads between two calls, as is right."""
    return line.done_at is not None or any("once" in said_in(row.note) for row in line.succession)


def _led(spells: Iterable[Spell]) -> dict[str, float]:
    found: dict[str, float] = {}
    for spell in spells:
        found[spell.member] = found.get(spell.member, 0.0) + spell.until - spell.since
    return found


def _told_whole(events: Sequence[Event]) -> Sequence[Event]:
    """The newest part of one seat's history in which no leadership is missing.

    Of what is older than the history is kept, each member's newest `took charge` stays, and what was between them is gone.
    """
    next_term: int | None = None
    for place in range(len(events) - 1, -1, -1):
        if events[place].what is What.TOOK_CHARGE:
            if next_term is not None and events[place].term < next_term - 1:
                return events[place + 1 :]
            next_term = events[place].term
    return events


def _tell_seat(line: Snapshot, events: Sequence[Event], number: int, spells: list[Spell], gaps: list[Gap]) -> None:
    """The leaderships of one seat, and what is between them."""
    taken = [event for event in events if event.what is What.TOOK_CHARGE]
    ends = [event for event in events if event.what in {What.RELEASED, What.LOST} and event.because]
    moments = [event.at for event in ends]
    for event, later in pairwise(taken):
        ended = max(event.at, later.at - (later.took_s or 0.0))
        spells.append(Spell(number, event.term, event.member, event.at, ended, event.because))
        if later.took_s:
            place = bisect_right(moments, later.at)
            said = ends[place - 1].because if place and moments[place - 1] >= event.at else later.because
            gaps.append(Gap(number, ended, later.at, said))
    if taken:
        _tell_last(line, events, taken[-1], spells, gaps)


def _tell_last(line: Snapshot, events: Sequence[Event], event: Event, spells: list[Spell], gaps: list[Gap]) -> None:
    """The newest leadership that the history tells of: it goes on, or is over and nobody has followed."""
    seat = next((seat for seat in line.by_seat if seat.seat == event.seat), None)
    if seat is not None and seat.leader == event.member and seat.term == event.term:
        spells.append(Spell(event.seat, event.term, event.member, event.at, line.at, event.because, goes_on=True))
        return
    over = [each for each in events if each.what in {What.RELEASED, What.LOST} and each.term >= event.term]
    if over:
        ended, why = min(each.at for each in over), over[0].because
    elif seat is not None and seat.expired and seat.renewed_s is not None:
        ended, why = line.at - seat.renewed_s + seat.ttl_s, "its lease ended and nobody followed"
    elif seat is not None and seat.since is not None:
        ended, why = seat.since, seat.because
    else:
        return
    ended = min(max(event.at, ended), line.at)
    spells.append(Spell(event.seat, event.term, event.member, event.at, ended, event.because))
    if seat is not None and seat.leader is None and not seat.over:
        gaps.append(Gap(event.seat, ended, line.at, why, goes_on=True))


def _within(each: Any, since: float, until: float) -> Any:
    """The part of a spell or a gap that is in the stretch; None: nothing is."""
    if each.until < since or each.since > until:
        return None
    return replace(each, since=max(each.since, since), until=min(each.until, until))


def _bands(
    spells: Sequence[Spell], marks: Sequence[Mark], hosts: dict[str, str], slot: float
) -> tuple[tuple[Band, ...], int]:
    """One for each host, those that led last where there are too many, by name: a row keeps its place when the leader changes."""
    newest: dict[str, float] = {}
    own: dict[str, list[Spell]] = {}
    for spell in spells:
        host = hosts.get(spell.member) or _host_in(spell.member)
        newest[host] = max(newest.get(host, 0.0), spell.until)
        own.setdefault(host, []).append(spell)
    found: dict[str, list[Mark]] = {}
    for mark in marks:
        host = hosts.get(mark.member) or _host_in(mark.member)
        if host not in own:  # a person's order: it is shown at whom it concerns
            host = next((host for host in own if any(_holds(spell, mark) for spell in own[host])), host)
        found.setdefault(host, []).append(mark)
    return tuple(
        Band(
            host,
            _joined(own[host], slot),
            tuple(_joined_marks(found.get(host, ()), slot)),
            sum(_led(own[host]).values()),
        )
        for host in sorted(sorted(newest, key=lambda host: -newest[host])[:ROWS])
    ), max(0, len(newest) - ROWS)


def _holds(spell: Spell, mark: Mark) -> bool:
    return spell.seat == mark.seat and spell.since <= mark.at <= spell.until


def _host_in(member: str) -> str:
    """The host in a member's id, which ends in a random word; whoever is not in the line any more says it nowhere else."""
    return member.rpartition("-")[0] or member


def _joined(parts: Iterable[Part], slot: float) -> tuple[Part, ...]:
    """The same, but those of one seat as one that are too short and too close together for the eye."""
    found: list[Part] = []
    last: dict[int, int] = {}
    for part in sorted(parts, key=lambda each: (each.since, each.until)):
        place = last.get(part.seat)
        before = found[place] if place is not None else None
        if before is not None and part.since - before.until < slot and _short(before, slot) and _short(part, slot):
            found[last[part.seat]] = replace(part, since=before.since, times=before.times + part.times)
        else:
            last[part.seat] = len(found)
            found.append(part)
    return tuple(found)


def _joined_marks(marks: Iterable[Mark], slot: float) -> Iterator[Mark]:
    before: Mark | None = None
    for mark in marks:
        if before is not None and before.kind == mark.kind and before.seat == mark.seat and mark.at - before.at < slot:
            before = replace(mark, at=before.at, times=max(before.times + 1, mark.times))
        else:
            if before is not None:
                yield before
            before = mark
    if before is not None:
        yield before


def _short(each: Spell | Gap, slot: float) -> bool:
    """Whether the eye cannot see how long it is, alone or with those it has been joined with."""
    return each.until - each.since < slot or each.times > 1


def sentence_of(spell: Spell, *, several: bool) -> str:
    """What is so, in words."""
    seat = f"seat {spell.seat}, " if several else ""
    if spell.times > 1:
        often = f"{spell.times} leaderships within {duration(spell.until - spell.since)}"
        return f"{often}, the last {seat}term {spell.term}: {spell.member}"
    lasted = duration(spell.until - spell.since)
    how_long = f"leads for {lasted}" if spell.goes_on else f"led for {lasted}"
    return f"{seat}term {spell.term}: {spell.member} {how_long}; {spell.because}"
