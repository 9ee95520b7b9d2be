"""A tracer: what is seized and killed stays a child of its parent until it is let go, like a process stuck in the kernel.

With `forks`, whatever a process forks stops before it does anything: a start that is never answered.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from types import TracebackType

SEIZE, CONT, DETACH = 0x4206, 7, 17
FORKS = 0x2 | 0x4 | 0x8
"""PTRACE_O_TRACEFORK, -VFORK, -CLONE."""
MINE = 0x40000000 | 0x20000000 | os.WNOHANG
"""__WALL, and only what this thread traces or started."""


class Tracer(threading.Thread):
    """Holds on to one process until the end of the block, or until `let_go`. All calls come from its own thread."""

    def __init__(self, pid: int, *, forks: bool = False) -> None:
        super().__init__(daemon=True)
        self._pid, self._forks = pid, forks
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self._seized, self._over = threading.Event(), threading.Event()
        self._error = 0
        self.held: list[int] = []
        """Those that were forked, and stand still."""

    def __enter__(self) -> Tracer:  # noqa: PYI034  `Self` is not in Python 3.10
        self.start()
        assert self._seized.wait(5) and not self._error, os.strerror(self._error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()

    def let_go(self) -> None:
        self._over.set()
        self.join(5)

    def _ask(self, what: int, pid: int, data: int = 0) -> bool:
        return bool(self._libc.ptrace(what, pid, None, data or None) == 0)

    def run(self) -> None:
        if not self._ask(SEIZE, self._pid, FORKS if self._forks else 0):
            self._error = ctypes.get_errno()
        self._seized.set()
        while not self._over.wait(0.002):
            if not self._forks:
                continue  # its end is kept from its parent as long as nobody waits for it here
            for pid, status in self._waited():
                if pid != self._pid:
                    if os.WIFSTOPPED(status) and pid not in self.held:
                        self.held.append(pid)
                elif os.WIFSTOPPED(status):
                    number = 0 if status >> 16 else os.WSTOPSIG(status)
                    self._ask(CONT, pid, 0 if number == signal.SIGTRAP else number)
        self._waited()
        for pid in (*self.held, self._pid):
            self._ask(DETACH, pid)
        # The end of this thread lets go of whatever is left.

    def _waited(self) -> list[tuple[int, int]]:
        found = []
        while True:
            try:
                pid, status = os.waitpid(-1, MINE)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            found.append((pid, status))
