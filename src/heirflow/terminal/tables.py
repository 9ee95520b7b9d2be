"""Tables: with Rich on a terminal, aligned text elsewhere. Neither obeys what stands in a cell."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from heirflow.text import printable

CELL_LIMIT = 200
WHOLE = 10_000
"""Where nothing is cut that anybody means to tell."""


def console(out: TextIO | None = None) -> Console:
    """Where to write. Colours only on a terminal, and not when NO_COLOR is set."""
    return Console(file=out or sys.stdout, highlight=False, markup=False, emoji=False)


def on_terminal() -> bool:
    """Whether a person looks at the output."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def rich_table(head: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] | None = None) -> Table:
    """A table without a frame. `styles`: one for each row."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in head:
        table.add_column(title, overflow="fold")
    for number, row in enumerate(rows):
        cells = [Text(printable(cell, CELL_LIMIT)) for cell in row]
        table.add_row(*cells, style=styles[number] if styles else "")
    return table


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]], limit: int = CELL_LIMIT) -> str:
    """The same as text, aligned by the cells that a terminal gives to each character."""
    lines = [[printable(cell, limit) for cell in row] for row in (head, *rows)]
    widths = [max(cell_len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def show(*parts: RenderableType) -> None:
    """Write on the terminal, one below the other."""
    console().print(Group(*parts))


def styled(text: str, style: str = "", limit: int = 1000) -> Text:
    """A line that cannot speak to the terminal."""
    return Text(printable(text, limit), style=style)
