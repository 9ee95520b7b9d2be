"""From the fork of a command until it is known whether it could be executed.

Where it can be, a command is born in its cgroup. A process that ends at once shows beforehand whether whoever is born there
lives: with the kernels that kill such a child it would look as if somebody had killed the command. Otherwise it is forked, and
writes itself there. Either way it is below the one cgroup that guard and backstop kill and ask, so the proof is the same.
A child that waits in the cgroup for its command to come would be as quick, but every proof would have to tell it from a command.

A pipe that is closed by a successful exec tells it: end of file means that the program runs, anything else is the error.

A file that the guard loads from beside itself; it imports nothing of ours.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from typing import Any

NOT_FOUND, NOT_RUNNABLE = 127, 126
"""Exit codes of commands that never ran, as shells have them."""

BIRTH_S = 0.5
"""A command that was killed so soon was perhaps killed for where it was born: the next ones are moved."""


class Launch:
    """Of one command after another."""

    def __init__(self, processes: Any, poll: Any, cgroup: Any) -> None:
        self.processes, self.poll, self.cgroup = processes, poll, cgroup
        self.born_there = False
        """Whether commands are born in the cgroup."""
        self.fd = -1
        """To be watched while it is not known whether the command runs."""
        self.failed: int | None = None
        """The exit code of a command that could not be executed."""
        self._forked_at = 0.0
        self._try_birth()

    def _try_birth(self) -> None:
        """Find out whether whoever is born in the cgroup lives: once, while nobody waits for this guard."""
        try:
            pid = self.cgroup.fork() if self.cgroup else -1
        except OSError:
            pid = -1
        if pid == 0:
            os._exit(0)
        self.born_there = pid > 0 and os.waitpid(pid, 0)[1] == 0

    def ended(self, status: int | None, now: float) -> None:
        """A command is gone. Whoever moved this guard to another cgroup may have made it one whose newborn are killed."""
        if status == -signal.SIGKILL and now < self._forked_at + BIRTH_S:
            self.born_there = False

    def fork(self, now: float) -> tuple[int, int, bool]:
        """The child's pid, which is 0 in the child, the end of the pipe that is the child's, and whether it is in the cgroup.

        Signals sent to it wait until it has made them its own: the guard ignores them, and so would its child until then, and an
        order to end that came at once would be lost.

        Raises `OSError` when no process or descriptor is to be had just now.
        """
        self.failed, self._forked_at = None, now
        ours, theirs = os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid, born_there = -1, self.born_there
        try:
            if born_there:
                try:
                    pid = self.cgroup.fork()
                except OSError:
                    born_there = False
            if not born_there:
                pid = os.fork()
        except OSError:
            os.close(ours)
            os.close(theirs)
            raise
        finally:
            if pid:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if pid:
            os.close(theirs)
            os.set_blocking(ours, False)
            self.poll.register(ours, select.POLLIN)
            self.fd = ours
        return pid, theirs, born_there

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
