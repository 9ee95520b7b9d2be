"""The history of an election as rows of a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heirflow.election.record import Event, What
from heirflow.status import duration

HEAD = ("when", "term", "what", "member", "took", "because")
SEAT_AT = 1
"""Where the seat stands among these, where there are several."""


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


@dataclass(frozen=True, slots=True)
class Row:
    """An event as it is shown: one for a whole crash loop."""

    event: Event
    """The latest one."""
    since: float = 0.0
    """When the first one of the same row was; 0: it is the only one, or that is not known."""


def rows_of(events: Sequence[Event]) -> list[Row]:
    """One for each, but for a crash loop, which stands where its latest event is."""
    rows: list[Row] = []
    loops: dict[tuple[int, int, str], Row] = {}
    for event in events:
        row, whose = Row(event), (event.seat, event.term, event.member)
        if event.what is What.RESTARTED:
            before = loops.get(whose)
            if before is not None and event.times > 1 and event.times >= before.event.times:
                rows.remove(before)
                began = before.event.at if before.event.times == 1 else 0.0
                row = Row(event, before.since or began)
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


def has_seats(rows: Sequence[Row]) -> bool:
    """Whether any of these is about another seat than the first, so that each must say which one it is about."""
    return any(row.event.seat > 1 for row in rows)


def table_of(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Head and cells of the table; with the seats only where there are several."""
    cells = [cells_of(row) for row in rows]
    if not has_seats(rows):
        return HEAD, cells
    head = (*HEAD[:SEAT_AT], "seat", *HEAD[SEAT_AT:])
    return head, [with_seat(each, str(row.event.seat)) for each, row in zip(cells, rows, strict=True)]


def with_seat(cells: list[str], seat: str) -> list[str]:
    """The same cells, and the seat in its place."""
    return [*cells[:SEAT_AT], seat, *cells[SEAT_AT:]]


def cells_of(row: Row) -> list[str]:
    """The cells of the table."""
    event = row.event
    because = [event.because]
    if event.times > 1:
        began = f" since {_clock(row.since, '%H:%M:%S')}" if row.since else ""
        because.append(f"{event.times} times in a row{began}")
    if event.ago_s >= 1:
        because.append(f"written {duration(event.ago_s)} later")
    return [
        _clock(event.at, "%Y-%m-%d %H:%M:%S") if event.at else "not known",
        str(event.term),
        event.word,
        event.member,
        "" if event.took_s is None else duration(event.took_s),
        "; ".join(because),
    ]


def _clock(at: float, form: str) -> str:
    return time.strftime(form, time.localtime(at))
