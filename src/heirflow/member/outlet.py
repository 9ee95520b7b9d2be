"""Standard error, written by somebody who may not wait, and without changing it for the command that shares it.

A pipe or a terminal is opened once more, so that its writes end at once when nobody reads: O_NONBLOCK belongs to the open
description, and the command has the same one. A socket takes a flag with each write. What is left may hold up a writer without
limit: a pipe or a terminal of another user's (supervisord with `user=`, gosu, su), which cannot be opened again, and a file on
a disk that hangs. A thread of its own writes there, and only so many lines wait for it.
"""

from __future__ import annotations

import atexit
import os
import queue
import signal
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import suppress

WAITING_AT_MOST = 200
"""Lines, which are at most 4,096 bytes each."""
KEEPS_UP_S = 0.1
"""How long a line waits for the thread that writes it, if all before it are written: so lines stand in order with the command's."""
LAST_WORDS_S = 1.0
"""How long the end of the process waits for the lines that are not written yet."""


class Outlet:
    """Takes whole lines. `write` says whether a line was taken, `lost` how many of those that were taken came to nothing since."""

    def __init__(self, fd: int = 2) -> None:
        self._writer: _Writer | None = None
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            self._put = _closed
            return
        if stat.S_ISSOCK(mode):
            link = socket.socket(fileno=os.dup(fd))
            self._put = lambda line: link.send(line, socket.MSG_DONTWAIT)
            return
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            with suppress(OSError):  # no /proc, or not ours to open
                own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
                self._put = lambda line: os.write(own, line)
                return
        self._writer = _Writer(fd)
        self._put = self._writer.put

    _put: Callable[[bytes], int]

    def write(self, line: bytes) -> bool:
        """Whether the line was taken."""
        try:
            return self._put(line) > 0
        except OSError:
            return False

    def lost(self) -> int:
        """How many lines were taken and could not be written, since this was last asked."""
        return 0 if self._writer is None else self._writer.take_lost()


def _closed(_line: bytes) -> int:
    return 0


class _Writer:
    """A thread that writes to what may hold it up."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: queue.Queue[bytes] = queue.Queue(WAITING_AT_MOST)
        self._lost = 0
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, line: bytes) -> int:
        if self._thread is None and not self._start():
            return 0
        keeps_up = not self._lines.unfinished_tasks
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            return 0
        if keeps_up:
            self._wait(KEEPS_UP_S)
        return len(line)

    def take_lost(self) -> int:
        with self._turn:
            lost, self._lost = self._lost, 0
        return lost

    def _start(self) -> bool:
        thread = threading.Thread(target=self._write, name="heirflow-journal", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread to be had just now
            return False
        self._thread = thread
        atexit.register(self._wait, LAST_WORDS_S)
        return True

    def _wait(self, limit_s: float) -> None:
        """Until all is written, and no longer than this."""
        with self._lines.all_tasks_done:
            self._lines.all_tasks_done.wait_for(lambda: not self._lines.unfinished_tasks, limit_s)

    def _write(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the loop
        while True:
            left = self._lines.get()
            try:
                while left:
                    left = left[os.write(self._fd, left) :]
            except OSError:
                with self._turn:
                    self._lost += 1
            self._lines.task_done()
