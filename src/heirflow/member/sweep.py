"""What a member does itself when its guard cannot: kill what is left below this process, collect it, and prove it gone.

The member is a child subreaper too. With guard and backstop dead, all that they ran becomes its children; so an empty list of
children, found twice, is the proof.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection

from heirflow.guard import processes
from heirflow.guard.proof import STUCK_AFTER_S, STUCK_EVERY_S

SPARING = threading.Lock()
"""Held by a thread that starts a child to be spared, until the child is in `GuardLink.spare`: no sweep may come in between."""


class Sweep:
    """The children of this process, but for those in `spare`: they are not the guard's (hooks, checks, other guards)."""

    def __init__(self, spare: Collection[int], reap: Callable[[int], None], backstop: int = 0) -> None:
        """`reap`: collects one child if it is dead. `backstop`: whose guard may have put the command into a cgroup."""
        self._backstop = backstop
        self._spare, self._reap = spare, reap
        self._clean = 0
        """Looks in a row that found nothing."""
        self.left: list[int] = []
        """What the last look found."""
        self._tell_at: float | None = None

    def collect(self) -> None:
        """Collect the dead, whoever made them, but never a spared one: whoever started that collects it in a moment."""
        if SPARING.acquire(blocking=False):  # otherwise the next time
            try:
                self._collect()
            finally:
                SPARING.release()

    def finish(self, *, strike: bool) -> bool:
        """One more look, after a blow when `strike`. True when it is proved that nothing is left below this process."""
        me = os.getpid()
        with SPARING:
            if strike:
                processes.strike(me, self._spare)
                processes.Cgroup.kill_made_by(self._backstop)  # in it, the command may have become another user's
                self._collect()
            self.left = self._children() or processes.descendants(me, self._spare, thorough=True)
        self._clean = 0 if self.left else self._clean + 1
        return self._clean >= 2  # twice: a list of processes that is read while they fork may miss one

    def withstands(self, now: float) -> bool:
        """Whether what is left is to be told: it was struck and is still there. Again and again, as a guard tells it."""
        first = self._tell_at is None
        if self._tell_at is not None and now < self._tell_at:
            return False
        self._tell_at = now + (STUCK_AFTER_S if first else STUCK_EVERY_S)
        return bool(self.left) and not first

    def _collect(self) -> None:
        seen = 0
        while (pid := processes.dead_child()) not in (None, seen, *self._spare):
            assert pid is not None
            self._reap(pid)
            seen = pid  # one that was not collected is not tried without end

    def _children(self) -> list[int]:
        return [pid for pid in processes.children(os.getpid()) if pid not in self._spare]
