"""The proof that nothing of a command is left: the file that every release of a record rests on.

A guard is a child subreaper: a descendant of the command whose parent dies, whatever session or process group it made,
becomes a child of the guard. So there is one question with a sure answer, ``waitpid`` for any child. ECHILD means that no
child is left, and therefore no descendant. Everything else here is only haste: `hit` and the walk of `strike` make the end
come soon, and what they miss is found by the next pass, because the proof stays open until the last one is gone.

On macOS there is no subreaper: there the proof also needs an empty walk below the guard (docs/safety.md).

A file that the guard loads from beside itself; it imports nothing of ours.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

DISAGREE_AFTER_S = 0.25
"""A walk that finds nobody for so long, while `waitpid` still has children, does not see them: the kernel is asked for each."""
STUCK_AFTER_S, STUCK_EVERY_S = 2.0, 10.0
"""A killed process that is still there after so long is told, again and again: it waits in the kernel, or we may not kill it."""
LONGEST_PAUSE_S = 0.05


class Tree:
    """One command after another, each with all its descendants, from its fork to the proof that none of them is left."""

    def __init__(self, processes: Any, boottime: Callable[[], float], cgroup: Any) -> None:
        self.processes, self.boottime, self.cgroup = processes, boottime, cgroup
        self.main_pid = 0
        """The command's main process, dead or alive."""
        self.main = 0
        """The same while it is not reaped: only then may its number be used."""
        self.group = 0
        """Where there is no subreaper, its process group is searched too."""
        self.running = False
        """From fork until proved gone."""
        self.status: int | None = None
        """How the main process ended: exit code, or minus the signal."""
        self.why: Any = None
        """Why it is being killed; None while it is not."""
        self.detail = ""
        self.struck_at = self.pause_s = self.tell_at = 0.0
        self.left_behind = 0
        """How many others were there when the main process had ended by itself."""

    def begin(self, pid: int) -> None:
        """A command was forked."""
        self.main_pid = self.main = pid
        self.group = 0 if self.processes.LINUX else pid
        self.running, self.status, self.why, self.detail, self.left_behind = True, None, None, "", 0

    def send(self, *numbers: int) -> None:
        """Signals to the main process, if it is there."""
        for number in numbers:
            if self.main:
                self.processes.send([self.main], number)

    def kill(self, why: Any, detail: str = "") -> None:
        """Begin to kill the whole tree; `finish` goes on until it is proved gone."""
        if self.running and self.why is None:
            self.hit()
            self.why, self.detail, self.struck_at, self.pause_s = why, detail, self.boottime(), 0.0
            self.tell_at = self.struck_at + STUCK_AFTER_S
            self.strike()

    def hit(self) -> None:
        """The quickest blow at the most: one call each, before any walk."""
        if self.cgroup:
            self.cgroup.kill()
        if self.main:
            try:
                os.killpg(self.main, signal.SIGKILL)
            except OSError:  # it has not made its session yet: the walk finds it
                self.send(signal.SIGKILL)

    def strike(self) -> list[int]:
        """Walk the tree and kill what is found; returns that."""
        struck: list[int] = self.processes.strike(os.getpid(), group=self.group)
        if not struck and self.why and self.boottime() > self.struck_at + DISAGREE_AFTER_S:
            struck = self.processes.asked_children()
            self.processes.send(struck, signal.SIGKILL)
        return struck

    def others(self) -> list[int]:
        """What lives besides the main process, as a walk finds it."""
        found: list[int] = self.processes.descendants(os.getpid(), group=self.group)
        return [pid for pid in found if pid != self.main and (not self.processes.PROC or self.processes.lives(pid))]

    def reap(self) -> bool:
        """Collect the dead. True when no child is left at all, which for a subreaper means: no descendant."""
        while True:
            try:
                pid, raw = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.main:
                self.main, self.status = 0, os.waitstatus_to_exitcode(raw)

    def all_gone(self) -> bool:
        """The proof. Every release of a record rests on this one answer."""
        gone = self.reap() and (self.cgroup is None or self.cgroup.empty())
        return gone and (self.processes.LINUX or not self.processes.descendants(os.getpid(), group=self.group))

    def finish(self) -> list[int] | None:
        """While killing: one more look, and one more blow when something is left.

        None when it is proved that nothing is; then `running` is false. Otherwise the processes that have withstood for
        `STUCK_AFTER_S`, told again and again: mostly none.
        """
        if self.all_gone():
            self.running = False
            return None
        self.hit()
        left = self.strike()
        if not left or self.boottime() <= self.tell_at:
            return []
        self.tell_at = self.boottime() + STUCK_EVERY_S
        table = self.processes.process_table()
        return [pid for pid in left if table.get(pid, (0, 0, ""))[2] == "D" or self.processes.refuses(pid)] or left

    def next_look_s(self) -> float:
        """How long to wait between two looks of `finish`: short at first, as most die at once."""
        self.pause_s = min(LONGEST_PAUSE_S, self.pause_s + 0.001)
        return self.pause_s
