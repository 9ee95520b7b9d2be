"""A terminal for tests: a real one of the kernel's at the far end, and what stands on its screen at ours.

It knows the sequences that `heirflow watch` may use, and fails at any other.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from types import TracebackType

from rich.cells import cell_len

LIMIT_S = 30.0
_TAKES_IT = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
_PIECE = re.compile(r"\x1b\[([0-?]*)([@-~])|\x1b(.)|(\r|\n|\x08|\x07)|([^\x00-\x1f\x7f]+)", re.DOTALL)


class Screen:
    """What a person sees."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.modes: dict[str, bool] = {"25": True, "1049": False}
        """By number: 25 the cursor is seen, 1049 the other screen is shown."""
        self.entered = 0
        self.looks: set[int] = set()
        """Every number by which a look was asked for; 30 to 49 and from 90 on are colours."""
        """How often the other screen was asked for."""
        self._normal: list[list[str]] = []
        self._cells: list[list[str]] = self._empty()
        self._at = self._place = [0, 0]
        self._rest = ""

    def _empty(self) -> list[list[str]]:
        return [[" "] * self.columns for _ in range(self.rows)]

    @property
    def text(self) -> str:
        return "\n".join("".join(row).rstrip() for row in self._cells)

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._cells = [(row + [" "] * columns)[:columns] for row in (self._cells + self._empty())[:rows]]
        self._at = [min(self._at[0], rows - 1), min(self._at[1], columns)]

    def feed(self, text: str) -> None:
        text, self._rest = self._rest + text, ""
        done = 0
        for match in _PIECE.finditer(text):
            assert match.start() == done, f"not understood: {text[done : done + 20]!r}"
            done = match.end()
            numbers, letter, other, control, plain = match.groups()
            if letter is not None:
                self._obey(numbers, letter)
            elif other is not None:
                raise AssertionError(f"not understood: ESC {other!r}")
            elif control is not None:
                self._control(control)
            else:
                for character in plain:
                    self._put(character)
        self._rest = text[done:]
        assert len(self._rest) < 20, f"not understood: {self._rest[:20]!r}"

    def _control(self, control: str) -> None:
        if control == "\r":
            self._at[1] = 0
        elif control == "\n":
            if self._at[0] == self.rows - 1:
                self._cells = [*self._cells[1:], [" "] * self.columns]
            else:
                self._at[0] += 1

    def _put(self, character: str) -> None:
        width = cell_len(character)
        if self._at[1] + width > self.columns:
            self._control("\r")
            self._control("\n")
        row, column = self._at
        self._cells[row][column : column + width] = [character, *[""] * (width - 1)]
        self._at[1] += width

    def _obey(self, numbers: str, letter: str) -> None:
        row, column = self._at
        if letter == "m":
            self.looks |= {int(each) for each in numbers.split(";") if each}
            return
        if letter in "hl" and numbers.startswith("?"):
            number, on = numbers[1:], letter == "h"
            if number == "1049":
                assert on != self.modes["1049"], "asked for twice, which loses the place of the cursor"
                if on:
                    self.entered += 1
                    self._normal, self._place = self._cells, [*self._at]
                self._cells, self._at = (self._empty(), self._at) if on else (self._normal, self._place)
            self.modes[number] = on
        elif (numbers, letter) == ("", "H"):
            self._at = [0, 0]
        elif (numbers, letter) == ("", "K"):
            self._cells[row][column:] = [" "] * (self.columns - column)
        elif letter == "J" and numbers in ("", "2"):
            keep = (
                []
                if numbers
                else [*self._cells[:row], (self._cells[row][:column] + [" "] * self.columns)[: self.columns]]
            )
            self._cells = [*keep, *self._empty()[len(keep) :]]
        else:
            raise AssertionError(f"not understood: CSI {numbers}{letter}")


class Terminal:
    """A session with a terminal of its own, in which a command runs as under a person's hands."""

    def __init__(self, *command: str, columns: int = 80, rows: int = 24, **env: str) -> None:
        self._ours, theirs = pty.openpty()
        self.name = os.ttyname(theirs)
        self.screen = Screen(columns, rows)
        self._size(columns, rows)
        environment = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "COLUMNS", "LINES"}}
        environment |= {"TERM": "xterm-256color", **env}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKES_IT, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:  # noqa: PYI034
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._ours)  # whoever is left gets a SIGHUP
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def text(self) -> str:
        return self.screen.text

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(columns, rows)
        self._size(columns, rows)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def stall(self) -> None:
        """Nothing that is written there is taken in any more, until somebody says otherwise."""
        theirs = os.open(self.name, os.O_RDWR | os.O_NOCTTY)
        try:
            termios.tcflow(theirs, termios.TCOOFF)
        finally:
            os.close(theirs)

    def read(self, wait_s: float = 0.05) -> bool:
        """Take in what was written; False: nobody writes any more."""
        if not select.select([self._ours], [], [], wait_s)[0]:
            return True
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # how a terminal says that its other end is closed
            return False
        while True:
            try:
                text = data.decode()
            except UnicodeDecodeError:  # cut within a character
                data += os.read(self._ours, 1)
            else:
                break
        self.screen.feed(text)
        return bool(data)

    def until(self, seen: str | Callable[[str], object], limit_s: float = LIMIT_S) -> str:
        """Wait until this stands on the screen, or is so of its text."""
        ends_at = time.monotonic() + limit_s
        while not (seen in self.text if isinstance(seen, str) else seen(self.text)):
            alive = self.read()
            what = seen if isinstance(seen, str) else "what was awaited"
            assert time.monotonic() < ends_at, f"{what!r}: not within {limit_s:g} s; seen:\n{self.text}"
            assert alive or (seen in self.text if isinstance(seen, str) else seen(self.text)), f"it ended:\n{self.text}"
        return self.text

    def ended(self) -> int:
        """Wait for its end; returns the exit code."""
        ends_at = time.monotonic() + LIMIT_S
        while self.read() and self.process.poll() is None:
            assert time.monotonic() < ends_at, f"it has not ended; seen:\n{self.text}"
        code = self.process.wait(LIMIT_S)
        while self.read(0.0) and select.select([self._ours], [], [], 0)[0]:
            pass
        return code
