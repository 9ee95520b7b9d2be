"""A health check that looks at a file: the command is well while the file's time of modification goes on changing.

How old a file is, is not asked: its time is of another clock than ours, the wall clock of this host or of a file server, and a
clock that jumps would make a well command look dead, or a dead one well. That the time *changed* between two looks needs no clock
but the one by which the looks are counted. So a command is given up when nothing changed for the whole timeout.
"""

from __future__ import annotations

import os

from heirflow.member.asker import CannotTell

Seen = tuple[int, int, int, int]
"""Device, number, time of modification, size: a file that is replaced by another was written too."""


class FileCheck:
    """An `asker.Check`. What it sees first, at the start of the command, may be of an earlier run and is no sign of life."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111  for a ~ that names nobody, too
        self._before: Seen | None = None
        self._known = False
        """Whether `_before` is what was there, and not merely what could not be looked at."""

    def begin(self) -> None:
        """See `asker.Begins`."""
        try:
            self._before, self._known = self._see(), True
        except OSError:
            self._before, self._known = None, False

    def look(self, note: str, limit_s: float) -> str:
        try:
            seen = self._see()
        except OSError as error:
            raise CannotTell(f"{self._path}: {error.strerror or error}") from error
        changed = self._known and seen != self._before
        self._before, self._known = seen, True
        if seen is None:
            return f"{self._path} is not there"
        return "" if changed else f"{self._path} has not been written to"

    def _see(self) -> Seen | None:
        """None when it is not there. Raises `OSError`. May wait for a file server without end: `Asker` has a thread for that."""
        try:
            about = os.stat(self._path)  # noqa: PTH116  a path with a ~ that names nobody is a text
        except FileNotFoundError:
            return None
        return about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size
