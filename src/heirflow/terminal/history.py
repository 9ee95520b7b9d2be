"""The history of an election as rows of a table."""

from __future__ import annotations

import time
from collections.abc import Sequence

from heirflow.election.record import Event
from heirflow.status import duration

HEAD = ("when", "term", "what", "member", "took", "because")


def rows_of(events: Sequence[Event]) -> list[list[str]]:
    """The table's rows, one for each event."""
    return [
        [
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at)),
            str(event.term),
            event.what.value,
            event.member,
            "" if event.took_s is None else duration(event.took_s),
            event.because,
        ]
        for event in events
    ]
