"""The history of an election as people read it: in order, a crash loop as one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heirflow.election.record import Event, What
from heirflow.status.words import duration


def oddities(events: Sequence[Event]) -> str | None:
    """What cannot be among these events, in one sentence; None: nothing."""
    odd = [event.odd for event in events if event.odd]
    if not odd:
        return None
    more = f" (and {len(odd) - 1} more of the events shown have such values)" if len(odd) > 1 else ""
    return f"{odd[0]}{more}; somebody else wrote into heirflow_event"


def in_order(events: Sequence[Event]) -> list[Event]:
    """By when they happened. One of which that is not known stays behind the one that was written before it."""
    moments, last = [], 0.0
    for event in events:
        last = event.at or last
        moments.append(last)
    return [events[index] for index in sorted(range(len(events)), key=moments.__getitem__)]


LOOPS = {What.RESTARTED, What.RELEASED}
"""Events of which a crash loop has many: each says the how manieth in a row it is."""


@dataclass(frozen=True, slots=True)
class Row:
    """An event as it is shown: one for a whole crash loop."""

    event: Event
    """The latest one."""
    since: float = 0.0
    """When the first one of the same row was; 0: it is the only one, or that is not known."""


def rows_of(events: Sequence[Event]) -> list[Row]:
    """One for each, but for a crash loop, which stands where its latest event is.

    One that goes on from host to host is a row for each member, and the short leaderships in between have none.
    """
    rows: list[Row] = []
    loops: dict[tuple[What | str, int, int, str], Row] = {}
    taken: dict[tuple[int, int, str], Row] = {}
    for event in events:
        row, term = Row(event), event.term if event.what is What.RESTARTED else 0
        if event.what is What.TOOK_CHARGE:
            taken[event.seat, event.term, event.member] = row
        elif event.what in LOOPS:
            whose = event.what, event.seat, term, event.member
            before = loops.get(whose)
            if before is not None and event.times > 1 and event.times >= before.event.times:
                rows.remove(before)
                began = before.event.at if before.event.times == 1 else 0.0
                row = Row(event, before.since or began)
                took = taken.get((event.seat, event.term, event.member))
                if event.what is What.RELEASED and took in rows:
                    rows.remove(took)
            loops[whose] = row
        rows.append(row)
    return rows


def added(before: Sequence[Event], now: Sequence[Event]) -> Sequence[Event]:
    """What is new among the newest events, both as they were written. The latest ones may have been deleted since."""
    for known in reversed(before):
        if known in now:
            return now[len(now) - now[::-1].index(known) :]
    return now


def facts_of(row: Row) -> dict[str, Any]:
    """The same for a program: moments in seconds since 1970 by the store's clock, null where one is not known."""
    event = row.event
    return {
        "at": event.at or None,
        "written_at": event.at + event.ago_s if event.at else None,
        "since": row.since or (event.at if event.times == 1 else 0.0) or None,
        "times": event.times,
        "seat": event.seat,
        "term": event.term,
        "what": event.word,
        "member": event.member,
        "took_s": event.took_s,
        "because": event.because,
    }


def because_of(event: Event, began: str = "") -> str:
    """Why it happened, how often in a row, and how late that was written. `began`: words for since when, behind the number."""
    said = [event.because]
    if event.times > 1:
        said.append(f"{event.times} times in a row{began}")
    if event.ago_s >= 1:
        said.append(f"written {duration(event.ago_s)} later")
    return "; ".join(said)


def has_seats(rows: Sequence[Row]) -> bool:
    """Whether any of these is about another seat than the first, so that each must say which one it is about."""
    return any(row.event.seat > 1 for row in rows)
