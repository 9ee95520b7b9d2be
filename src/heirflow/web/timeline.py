"""Who led when: the history of an election as bands, gaps and marks over a stretch of time.

All moments are seconds since 1970 by the store's clock. What the history does not tell is left out, and `known_since` says from
where on it tells all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from heirflow.election.record import Event, What, said_in
from heirflow.status import Snapshot, duration
from heirflow.web.bands import Band, Gap, Mark, Spell, bands_of, joined, led_by

SLOTS = 600
"""So many places a stretch has for the eye: spells that are shorter and close together become one."""
MARKS = {
    What.RESTARTED: "restarted",
    What.LOST: "lost",
    What.FENCED: "fenced",
    What.REFUSED: "refused",
    What.ORDERED: "ordered",
}


@dataclass(frozen=True, slots=True)
class Timeline:
    """A stretch of time, by member."""

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
    bands, hidden = bands_of(spells, marks, hosts, slot)
    return Timeline(
        line.election,
        since,
        until,
        known_since,
        bands,
        joined(gaps, slot),
        hidden,
        sum(gap.until - gap.since for gap in gaps),
        led_by(spells),
    )


def _is_once(line: Snapshot) -> bool:
    """Whether it is a line of `heirflow once`, which nobody leads between two calls, as is right."""
    return line.done_at is not None or any("once" in said_in(row.note) for row in line.succession)


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
    if since <= each.since and each.until <= until:
        return each
    return replace(each, since=max(each.since, since), until=min(each.until, until))


def sentence_of(spell: Spell, *, several: bool) -> str:
    """What is so, in words."""
    seat = f"seat {spell.seat}, " if several else ""
    if spell.times > 1:
        often = f"{spell.times} leaderships within {duration(spell.until - spell.since)}"
        return f"{often}, the last {seat}term {spell.term}: {spell.member}"
    lasted = duration(spell.until - spell.since)
    how_long = f"leads for {lasted}" if spell.goes_on else f"led for {lasted}"
    return f"{seat}term {spell.term}: {spell.member} {how_long}; {spell.because}"
