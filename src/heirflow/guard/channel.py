"""The guard's end of the socket to its member: lines of JSON, each way, that never block.

A file that the guard loads from beside itself; it imports nothing of ours.
"""

from __future__ import annotations

import json
import os
from typing import Any


class Channel:
    """What a frozen member does not take waits here; what a dead one would not take is dropped."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closed = False
        """The member is gone."""
        self.inbox = self.outbox = b""

    def send(self, what: str, **fields: Any) -> None:
        """Send to the member, now or as soon as it reads."""
        self.outbox += json.dumps({"what": what, **fields}).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Send what waits."""
        try:
            while self.outbox and not self.closed:
                self.outbox = self.outbox[os.write(self.fd, self.outbox) :]
        except OSError:  # full (the member is frozen), or broken: reading will tell
            pass

    def read(self) -> list[dict[str, Any]]:
        """What the member has said. Sets `closed` at end of file."""
        try:
            while data := os.read(self.fd, 65536):
                self.inbox += data
            self.closed = True
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        *lines, self.inbox = self.inbox.split(b"\n")
        return [json.loads(line) for line in lines]
