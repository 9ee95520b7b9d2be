"""All elections of a database in one statement, for pages: members never ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any

from heirflow.stores.base import Glance, StoreMisfit
from heirflow.stores.rows import Answer
from heirflow.stores.sql.further import is_further, names


def glances(
    rows: Iterable[Any], hidden: Callable[[], tuple[str, ...]], seats: Mapping[str, int], only: str | None
) -> dict[str, Glance]:
    """`rows`: as `Statements.glance` answers. `hidden`: tells why rows may be hidden. `seats`: how many elections had before.

    Raises `StoreMisfit` where there is nothing to be seen, and there may be something.
    """
    found = {name: list(each) for name, each in groupby(rows, key=lambda row: str(row.name))}
    for told in () if found else hidden():
        raise StoreMisfit(told)
    every = frozenset(found)
    return {
        name: _glance(name, lines, found, hidden, seats.get(name, 1))
        for name, lines in found.items()
        if only in (None, name) and not is_further(name, every)
    }


def _glance(
    name: str, lines: list[Any], found: Mapping[str, list[Any]], hidden: Callable[[], tuple[str, ...]], seats: int
) -> Glance:
    first = lines[0]
    further = [] if first.e_seats is None else [found[each][0] for each in names(name) if each in found]
    answer = Answer(lines, None, (), hidden() if first.e_version is None else (), further)
    return Glance(answer.reading(name, (), seats)[0], int(first.newest or 0))
