"""A table that fits: columns give way in an order, then cells are cut, and no line is ever wider than the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from heirflow.text import printable

NARROW = 60
"""Below so many columns, words give way."""
CELL_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    title: str
    least: int = 0
    """Down to how many cells it may be cut; 0: it is whole, or not there."""
    short: str = ""
    """The title where room is scarce."""
    keep: int = 0
    """The lowest one is left out first where not all have room; the highest stays."""
    right: bool = False
    """Numbers stand below each other at the right."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Which columns have room, and how much each."""

    columns: tuple[Column, ...]
    shown: tuple[int, ...]
    widths: tuple[int, ...]
    gap: int = 2
    """How many cells lie between two of them."""

    def head(self) -> str:
        """The titles."""
        return self.line([column.title for column in self.columns])

    def line(self, cells: Sequence[str]) -> str:
        """One row; it has all cells, also those without room."""
        return (" " * self.gap).join(
            cut(cells[column], width, right=self.columns[column].right)
            for column, width in zip(self.shown, self.widths, strict=True)
        )


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Fitted:
    """Columns in which no row has anything are left out."""
    gap = 1 if width < NARROW else 2
    if width < NARROW:
        columns = [
            replace(column, title=column.short or column.title, least=min(column.least, 12)) for column in columns
        ]
    natural = [
        max(cell_len(column.title), *(cell_len(visible(row[index])) for row in rows), 0)
        if any(row[index] for row in rows)
        else 0
        for index, column in enumerate(columns)
    ]
    shown = [index for index in range(len(columns)) if natural[index]]
    least = [min(natural[index], column.least or natural[index]) for index, column in enumerate(columns)]
    while len(shown) > 1 and _sum((least[index] for index in shown), gap) > width:
        shown.remove(min(shown, key=lambda index: columns[index].keep))
    widths = {index: natural[index] for index in shown}
    while shown and _sum(widths.values(), gap) > width:
        widest = max(shown, key=lambda index: widths[index] - least[index])
        if widths[widest] <= least[widest]:
            break
        widths[widest] -= 1
    return Fitted(tuple(columns), tuple(shown), tuple(min(widths[index], width) for index in shown), gap)


def _sum(widths: Iterable[int], gap: int) -> int:
    each = list(widths)
    return sum(each) + gap * max(0, len(each) - 1)


def visible(text: str) -> str:
    """A cell that cannot speak to the terminal."""
    return printable(text, CELL_LIMIT)


def cut(text: str, width: int, *, right: bool = False) -> str:
    """Exactly so many cells."""
    text = visible(text)
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…" if width > 0 else ""
    return " " * (width - length) + text if right else text + " " * (width - length)


def wrapped(text: str, width: int, style: str = "", *, most: int = 3, hanging: int = 0) -> list[Text]:
    """A sentence in at most so many lines, the later ones indented; what has no room ends with …"""
    width = max(width, 1)
    hanging = hanging if width > hanging * 2 else 0
    lines: list[str] = []
    line = ""
    for word in printable(text).split(" "):
        room = width - (hanging if lines else 0)
        if line and cell_len(line) + 1 + cell_len(word) > room:
            lines.append(line)
            line, room = "", width - hanging
        line = f"{line} {word}" if line else word
        while cell_len(line) > room:  # a word that is longer than a line
            part = set_cell_size(line, room).rstrip(" ")
            lines.append(part)
            line, room = line[len(part) :], width - hanging
    lines.append(line)
    if len(lines) > most:
        lines[most - 1 :] = [cut(" ".join(lines[most - 1 :]), width - (hanging if most > 1 else 0))]
    return [Text((" " * hanging if number else "") + each, style=style) for number, each in enumerate(lines)]
