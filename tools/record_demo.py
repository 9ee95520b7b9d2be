"""Records a program as it looks in a real terminal, and writes what was seen as a moving SVG: `make picture`.

The picture needs nothing but a browser: each different row of the terminal is drawn once, the screens lie below each other and
refer to these rows, and one CSS animation moves from screen to screen at the times that were measured. Who has asked their
system for less motion sees the last screen only.

    tools/record_demo.py OUTPUT [--columns 98] [--rows 28] [--begin TEXT] -- PROGRAM [ARGUMENT …]
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import struct
import sys
import termios
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise
from pathlib import Path

import pyte

CELL_W, CELL_H, BASE, EDGE = 8.4, 18, 13, 12
"""A character's width and height, how far below its top its letters stand, and the edge around all; in pixels."""
FRAME_S = 0.25
"""Screens that follow each other faster are one."""
STILL_S = 3.0
"""A screen that stands longer is cut to this."""
LAST_S = 9.0
"""How long the last screen stands before all begins again."""
COLOURS = {
    "default": "#d8dee9", "black": "#4c566a", "red": "#ff7b72", "green": "#7ee787", "brown": "#e3b341",
    "yellow": "#e3b341", "blue": "#79c0ff", "magenta": "#d2a8ff", "cyan": "#76e3ea", "white": "#f0f6fc",
}  # fmt: skip
DIM = "#8b949e"
BACKGROUND = "#161b22"

Row = tuple[tuple[int, str, str, bool], ...]
"""What is drawn of a row: runs of column, text, colour and whether it is bold."""


@dataclass(frozen=True)
class Screen:
    at_s: float
    rows: tuple[Row, ...]


class Terminal(pyte.HistoryScreen):
    """pyte knows no dim text; here it is kept as italics, which the programs that we record do not use."""

    def select_graphic_rendition(self, *attributes: int, **more: bool) -> None:
        extended = 38 in attributes or 48 in attributes
        super().select_graphic_rendition(*(3 if each == 2 and not extended else each for each in attributes), **more)


def row_of(cells: Sequence[pyte.screens.Char]) -> Row:
    runs, column = [], 0
    for (name, bold, dim), group in groupby(cells, lambda cell: (cell.fg, cell.bold, cell.italics)):
        text = "".join(cell.data for cell in group)
        lead = len(text) - len(text.lstrip(" "))
        if text.strip():
            colour = DIM if dim else COLOURS.get(name.removeprefix("bright"), COLOURS["default"])
            runs.append((column + lead, text.strip(" "), colour, bold))
        column += len(text)
    return tuple(runs)


def seen(terminal: Terminal, *, scrolled_back: bool = False) -> tuple[Row, ...]:
    """What the terminal shows. `scrolled_back`: as far as nothing is empty below."""
    above = list(terminal.history.top) if scrolled_back else []
    lines = [*above, *(terminal.buffer[line] for line in range(terminal.lines))]
    rows = [row_of([line[column] for column in range(terminal.columns)]) for line in lines]
    while scrolled_back and len(rows) > terminal.lines and not rows[-1]:
        rows.pop()
    return tuple(rows[-terminal.lines :])


def record(argv: Sequence[str], columns: int, rows: int) -> list[Screen]:
    """Run a program in a terminal of this size, and return what was to be seen, from its first moment."""
    terminal = Terminal(columns, rows)
    stream = pyte.ByteStream(terminal)
    pid, end = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(columns), LINES=str(rows), LOGNAME="operator")
        os.execvp(argv[0], argv)
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    began = time.monotonic()
    screens: list[Screen] = []
    while True:
        try:
            said = os.read(end, 65536)
        except OSError:  # the program has ended
            said = b""
        if not said:
            break
        stream.feed(said)
        screens.append(Screen(time.monotonic() - began, seen(terminal)))
    screens.append(Screen(time.monotonic() - began, seen(terminal, scrolled_back=True)))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0:
        sys.exit(f"{argv[0]} ended with exit code {code}")
    return screens


def film(screens: Iterable[Screen], begin: str = "") -> list[tuple[float, tuple[Row, ...]]]:
    """The screens to show, and how long each stands: none before `begin` is on one, and none shorter than a person can see."""
    chosen: list[Screen] = []
    for screen in screens:
        if not chosen and not any(begin in text for row in screen.rows for _, text, _, _ in row):
            continue
        if chosen and screen.at_s - chosen[-1].at_s < FRAME_S:
            chosen[-1] = Screen(chosen[-1].at_s, screen.rows)
        elif not chosen or screen.rows != chosen[-1].rows:
            chosen.append(screen)
    lasts = [min(after.at_s - before.at_s, STILL_S) for before, after in pairwise(chosen)]
    return list(zip([*lasts, LAST_S], (screen.rows for screen in chosen), strict=True))


def drawing(frames: Sequence[tuple[float, tuple[Row, ...]]], columns: int, rows: int, title: str) -> str:
    numbers: dict[Row, int] = {}
    classes: dict[tuple[str, bool], str] = {}
    for _, lines in frames:
        for line in filter(None, lines):
            numbers.setdefault(line, len(numbers))
            for _, _, colour, bold in line:
                classes.setdefault((colour, bold), f"c{len(classes)}")
    width, height = columns * CELL_W + 2 * EDGE, rows * CELL_H + 2 * EDGE
    whole_s = sum(lasts_s for lasts_s, _ in frames)
    steps, at_s = [], 0.0
    for number, (lasts_s, _) in enumerate(frames):
        steps.append(f"{100 * at_s / whole_s:.2f}%{{transform:translateY({-number * rows * CELL_H}px)}}")
        at_s += lasts_s
    last = -(len(frames) - 1) * rows * CELL_H
    style = [
        "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}",
        *(f".{name}{{fill:{colour}{';font-weight:bold' if bold else ''}}}" for (colour, bold), name in classes.items()),
        f"#film{{animation:film {whole_s:.2f}s step-end infinite}}",
        f"@keyframes film{{{''.join(steps)}}}",
        f"@media (prefers-reduced-motion:reduce){{#film{{animation:none;transform:translateY({last}px)}}}}",
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        f"<style>{''.join(style)}</style>",
        "<defs>",
    ]
    for line, number in numbers.items():
        runs = "".join(
            f'<text x="{column * CELL_W:.1f}" textLength="{len(text) * CELL_W:.1f}" class="{classes[colour, bold]}">'
            f"{escape(text, quote=False)}</text>"
            for column, text, colour, bold in line
        )
        parts.append(f'<g id="r{number}">{runs}</g>')
    parts.append(
        f'</defs><rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>'
        f'<svg x="{EDGE}" y="{EDGE}" width="{columns * CELL_W:.0f}" height="{rows * CELL_H}"><g id="film">'
    )
    for number, (_, lines) in enumerate(frames):
        top = number * rows * CELL_H + BASE
        parts.append(
            "".join(f'<use href="#r{numbers[line]}" y="{top + k * CELL_H}"/>' for k, line in enumerate(lines) if line)
        )
    parts.append("</g></svg></svg>")
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--columns", type=int, default=98)
    parser.add_argument("--rows", type=int, default=28)
    parser.add_argument("--title", default="A recorded terminal")
    parser.add_argument("--begin", default="", metavar="TEXT", help="leave out what comes before this text is seen")
    parser.add_argument("program", nargs="+", metavar="PROGRAM [ARGUMENT …]")
    asked = parser.parse_args()
    frames = film(record(asked.program, asked.columns, asked.rows), asked.begin)
    if not frames:
        sys.exit(f"nothing was to be seen{f' with {asked.begin!r} in it' if asked.begin else ''}")
    text = drawing(frames, asked.columns, asked.rows, asked.title)
    asked.output.write_text(text, "utf-8")
    whole_s = sum(lasts_s for lasts_s, _ in frames)
    print(f"{asked.output}: {len(frames)} screens, {whole_s:.0f} s, {len(text.encode()) / 1000:.0f} KB")


if __name__ == "__main__":
    main()
