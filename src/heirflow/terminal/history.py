"""The history of an election as rows of a table."""

from __future__ import annotations

import time
from collections.abc import Sequence

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


def rows_of(events: Sequence[Event]) -> list[list[str]]:
    """The table's rows, one for each event."""
    return [
        [
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at)) if event.at else "not known",
            str(event.term),
            event.word,
            event.member,
            "" if event.took_s is None else duration(event.took_s),
            event.because,
        ]
        for event in events
    ]
