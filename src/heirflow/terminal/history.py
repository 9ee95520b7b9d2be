"""The history of an election as rows of a table."""

from __future__ import annotations

import time
from collections.abc import Sequence

from heirflow.status import duration
from heirflow.status.history import Row, because_of, has_seats

HEAD = ("when", "term", "what", "member", "took", "because")
SEAT_AT = 1
"""Where the seat stands among these, where there are several."""


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
    return [
        _clock(event.at, "%Y-%m-%d %H:%M:%S") if event.at else "not known",
        str(event.term),
        event.word,
        event.member,
        "" if event.took_s is None else duration(event.took_s),
        because_of(event, f" since {_clock(row.since, '%H:%M:%S')}" if row.since else ""),
    ]


def _clock(at: float, form: str) -> str:
    return time.strftime(form, time.localtime(at))
