"""From the fork of a command until it is known whether it could be executed.

A pipe that is closed by a successful exec tells it: end of file means that the program runs, anything else is the error.

A file that the guard loads from beside itself; it imports nothing of ours.
"""

from __future__ import annotations

import errno
import os
import select
from typing import Any

NOT_FOUND, NOT_RUNNABLE = 127, 126
"""Exit codes of commands that never ran, as shells have them."""


class Launch:
    """Of one command after another."""

    def __init__(self, processes: Any, poll: Any) -> None:
        self.processes, self.poll = processes, poll
        self.fd = -1
        """To be watched while it is not known whether the command runs."""
        self.failed: int | None = None
        """The exit code of a command that could not be executed."""

    def fork(self) -> tuple[int, int]:
        """The child's pid, which is 0 in the child, and the end of the pipe that is the child's.

        Raises `OSError` when no process or descriptor is to be had just now.
        """
        self.failed = None
        ours, theirs = os.pipe()
        try:
            pid: int = self.processes.fork()
        except OSError:
            os.close(ours)
            os.close(theirs)
            raise
        if pid:
            os.close(theirs)
            os.set_blocking(ours, False)
            self.poll.register(ours, select.POLLIN)
            self.fd = ours
        return pid, theirs

    def hear(self) -> str | None:
        """None while nothing (more) is to be known, nothing when it runs, otherwise why it could not be executed."""
        if self.fd < 0:
            return None
        try:
            report = os.read(self.fd, 4096)
        except BlockingIOError:
            return None
        self.poll.unregister(self.fd)
        os.close(self.fd)
        self.fd = -1
        if not report:
            return ""
        number, _, path = report.decode(errors="replace").partition(" ")
        self.failed = NOT_FOUND if int(number) == errno.ENOENT else NOT_RUNNABLE
        return f"{os.strerror(int(number))}: {path}"
