"""The history of an election as rows of a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from heirflow.election.record import Event
from heirflow.status import duration

HEAD = ("when", "term", "what", "member", "took", "because")


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


def added(before: Sequence[Event], now: Sequence[Event]) -> Sequence[Event]:
    """What is new among the newest events, both as they were written."""
    for length in range(len(now), 0, -1):
        if before and now[length - 1] == before[-1]:
            return now[length:]
    return now


def facts_of(event: Event) -> dict[str, Any]:
    """The same for a program: moments in seconds since 1970 by the store's clock, null where one is not known."""
    return {
        "at": event.at or None,
        "written_at": event.at + event.ago_s if event.at else None,
        "term": event.term,
        "what": event.word,
        "member": event.member,
        "took_s": event.took_s,
        "because": event.because,
    }


def rows_of(events: Sequence[Event]) -> list[list[str]]:
    """The table's rows, one for each event."""
    return [
        [
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at)) if event.at else "not known",
            str(event.term),
            event.word,
            event.member,
            "" if event.took_s is None else duration(event.took_s),
            f"{event.because}; written {duration(event.ago_s)} later" if event.ago_s >= 1 else event.because,
        ]
        for event in events
    ]
