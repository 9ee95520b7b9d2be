"""The guard's side of a gate: two pipes to a standby that waits, and what it says. `gate.py` is the other side.

A file that the guard loads from beside itself; it imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
from typing import Any

MESSAGE_LIMIT = 65536


class Gatekeeper:
    """One gate at a time: built, then opened once or never, then closed."""

    def __init__(self, poll: Any) -> None:
        self.poll = poll
        self.reader = self.writer = -1
        self.stands = False
        """The standby waits at its gate."""
        self.opened = True
        self.inbox = b""

    def build(self) -> tuple[int, int]:
        """The two descriptors for the child; give them to `built` once it has them."""
        child_r, self.writer = os.pipe()
        self.reader, child_w = os.pipe()
        os.set_blocking(self.reader, False)
        self.poll.register(self.reader, select.POLLIN)
        self.stands = self.opened = False
        self.inbox = b""
        return child_r, child_w

    def built(self, ends: tuple[int, int]) -> None:
        for fd in ends:
            os.close(fd)

    def hear(self) -> list[str]:
        """What it says: ``ready`` changes `stands`; anything else are facts about itself, and returned."""
        try:
            data = os.read(self.reader, 4096)
        except OSError:
            return []
        if not data:
            self._close_reader()
        *lines, self.inbox = (self.inbox + data)[-MESSAGE_LIMIT:].split(b"\n")
        if b"ready" in lines and not self.opened:
            self.stands = True
        return [line.decode(errors="replace") for line in lines if line != b"ready"]

    def open(self, env: dict[str, str]) -> None:
        self.stands, self.opened = False, True
        with contextlib.suppress(OSError):  # it ended just now, which waitpid tells
            os.write(self.writer, json.dumps(env).encode() + b"\n")

    def close(self) -> None:
        self._close_reader()
        if self.writer >= 0:
            os.close(self.writer)
        self.writer, self.stands, self.opened = -1, False, True

    def _close_reader(self) -> None:
        if self.reader >= 0:
            self.poll.unregister(self.reader)
            os.close(self.reader)
        self.reader = -1
