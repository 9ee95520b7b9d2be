"""A terminal that is ours for a while: single keys, a screen of its own, and all of it given back, whatever happens.

What a shell gave us is kept and put back: at the end, before a stop (Ctrl-Z), and when Python ends in any way but SIGKILL.
"""

from __future__ import annotations

import atexit
import errno
import os
import re
import select
import termios
import tty
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

OTHER_SCREEN = b"\x1b[?1049h"
AGAIN = b"\x1b[?25l\x1b[2J"
"""No cursor, and nothing on the screen."""
LEAVE = b"\x1b[0m\x1b[?25h\x1b[?1049l"
BEGIN_FRAME, END_FRAME = "\x1b[?2026h\x1b[H", "\x1b[J\x1b[?2026l"
"""Drawn as one where the terminal knows that, and ignored elsewhere."""
IFLAG = 0
"""Where the flags of the input stand in what `termios` tells."""
ESCAPE_WAIT_S = 0.05
"""An Esc that nothing follows within this is the key of that name."""

_NAMES = {
    b"A": "up", b"B": "down", b"C": "right", b"D": "left", b"H": "home", b"F": "end",
    b"1~": "home", b"7~": "home", b"4~": "end", b"8~": "end", b"5~": "page up", b"6~": "page down",
}  # fmt: skip
_TOKEN = re.compile(rb"\x1b(?:\[([0-?]*[ -/]*[@-~])|O([ -~]))|(\x1b)|([\x00-\x7f])|[^\x00-\x7f]+")
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
_PLAIN = {b"\r": "enter", b"\n": "enter", b"\x7f": "escape", b"\x08": "escape"}
"""Backspace goes back, as Esc does."""


def keys_in(data: bytes) -> list[str]:
    """Names of keys, or the characters themselves; what is no key that we know is left out whole."""
    found = []
    for match in _TOKEN.finditer(data):
        sequence, shifted, escape, plain = match.groups()
        if sequence is not None or shifted is not None:
            name = _NAMES.get(sequence if sequence is not None else shifted)
        elif escape is not None:
            name = "escape"
        elif plain is not None:
            name = _PLAIN.get(plain) or (plain.decode() if plain.isascii() and plain.decode().isprintable() else None)
        else:
            name = None
        if name is not None:
            found.append(name)
    return found


class Terminal:
    """Use it as a `with` block. One thread has it."""

    def __init__(self, keys: int, out: int, encoding: str = "utf-8") -> None:
        self.keys, self.out, self.encoding = keys, out, encoding
        self.draws = False
        """Whether it is being written to, which lasts where nobody takes it in. A signal's handler may end that by raising."""
        self._before: list[Any] | None = None

    def __enter__(self) -> Terminal:  # noqa: PYI034  (Self needs Python 3.11)
        atexit.register(self.leave)
        self.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        atexit.unregister(self.leave)

    def enter(self) -> None:
        """Take it, or take it again where somebody else has had it meanwhile. Raises `OSError` where it is gone."""
        ours = self._before is not None
        if not ours:
            self._before = _asked(lambda: termios.tcgetattr(self.keys))
        _asked(lambda: tty.setcbreak(self.keys, termios.TCSANOW))
        # Ctrl-S would stop our own output, and with it all that we do.
        set_now = _asked(lambda: termios.tcgetattr(self.keys))
        set_now[IFLAG] &= ~termios.IXON
        _asked(lambda: termios.tcsetattr(self.keys, termios.TCSANOW, set_now))
        # To ask for the other screen twice would lose the place of the cursor on the first one.
        self._write(AGAIN if ours else OTHER_SCREEN + AGAIN)

    def leave(self) -> None:
        """Give it back as it was. Never raises; a second time does nothing."""
        before, self._before = self._before, None
        if before is None:
            return
        with suppress(OSError):
            _asked(lambda: termios.tcsetattr(self.keys, termios.TCSANOW, before))
        self.forget_keys()
        with suppress(OSError):  # what still waits to be shown is of no use any more, and must not hold us up
            _asked(lambda: termios.tcflow(self.out, termios.TCOON))
            _asked(lambda: termios.tcflush(self.out, termios.TCOFLUSH))
            self._write(LEAVE)

    def forget_keys(self) -> None:
        """What was typed and not read yet counts for nothing: it was not meant for what is shown now."""
        with suppress(OSError):
            _asked(lambda: termios.tcflush(self.keys, termios.TCIFLUSH))

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        with suppress(OSError):
            columns, rows = os.get_terminal_size(self.out)
            if columns and rows:
                return columns, rows
        return 80, 24

    def draw(self, lines: Sequence[str]) -> None:
        """Show exactly these lines, each drawn over what stood there. Raises `OSError` where the terminal is gone."""
        frame = "\x1b[K\r\n".join(lines)
        data = (BEGIN_FRAME + frame + "\x1b[0m" + END_FRAME).encode(self.encoding, "replace")
        self.draws = True
        try:
            self._write(data)
        finally:
            self.draws = False

    def read(self) -> list[str] | None:
        """The keys that were pressed; waits only for the rest of one. None: nobody is there any more."""
        try:
            data = os.read(self.keys, 4096)
            while data and _UNFINISHED.search(data) and select.select([self.keys], [], [], ESCAPE_WAIT_S)[0]:
                more = os.read(self.keys, 4096)
                if not more:
                    break
                data += more
        except OSError:
            return None
        return keys_in(data) if data else None

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.out, data) :]


def _asked(call: Callable[[], Any]) -> Any:
    """A question to the terminal; asked again where a signal came in between (a stop in the background). Raises `OSError`."""
    while True:
        try:
            return call()
        except termios.error as error:  # noqa: PERF203
            if error.args[0] != errno.EINTR:
                raise OSError(*error.args) from error
