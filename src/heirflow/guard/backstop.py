"""The backstop: stands between member and guard, so that any two of the three may be killed and no process is left.

It waits for the guard's end and kills what the guard leaves. As a child subreaper it inherits every descendant of the
guard, so its own ECHILD is the proof. It also starts the will's helper when the guard asks, so that the helper is not a
child of the guard, whose proof must speak about the command alone. When guard and member are both dead, it carries out the
will itself, after its own proof.

The guard tells it each deadline. Should one pass while the guard is still there and has neither said that the command is gone
nor that it is killing, the guard is frozen, and the backstop kills it with everything else: a member that is dead as well
cannot do it.

A file that the guard loads from beside itself; it imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from typing import Any, NoReturn

LATE_S = 0.05
"""How long after the deadline the guard may still be about its work. Waited twice: after a freeze of both, it comes first."""
LOOK_S = 0.005
DYING_S = 2.0
"""How long a member that was killed may take to be gone."""


class Backstop:
    """Knows a deadline and a will; `stand_by` is its whole life."""

    def __init__(self, processes: Any, clock: Any, will_sender: Any, tree: Any) -> None:
        """`tree`: a `proof.Tree` of everything below this process."""
        self.processes, self.clock, self.will_sender, self.tree = processes, clock, will_sender, tree
        self.member = os.getppid()
        self.timer = processes.Timer(clock.CLOCK)
        self.deadline: float | None = None
        self.late = False
        self.payload: dict[str, Any] | None = None
        self.argv: list[str] = []

    def stand_by(self, request: int, helper_stdin: int, helper_stdout: int, why: Any) -> NoReturn:
        """Wait for the guard's end, or for a deadline that it misses; then kill whatever is left until none is."""
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):  # the command's own; a reader of its output must see its end when it ends
            os.dup2(null, fd)
        self.wait(request, helper_stdin, helper_stdout)
        self.tree.running = True
        self.tree.kill(why)
        while self.tree.finish() is not None:
            time.sleep(self.tree.next_look_s())
        if self.payload is not None and self.member_is_dead():
            self.carry_out_will(null)
        if self.tree.cgroup:
            self.processes.Cgroup.remove(self.tree.cgroup.path)
        os._exit(0)

    def wait(self, request: int, helper_stdin: int, helper_stdout: int) -> None:
        """Returns when the guard is gone or has missed its deadline."""
        poll, inbox = select.poll(), b""
        for fd in (request, self.timer.fd):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll(None if self.timer.fd >= 0 or self.deadline is None else 100)]
            if request in ready:  # before the clock: after a freeze of us both, what the guard said meanwhile counts
                data = os.read(request, 65536)
                if not data:
                    return
                *lines, inbox = (inbox + data).split(b"\n")
                for what, value in map(json.loads, lines):
                    if what == "deadline":
                        self.deadline, self.late = value, False
                        self.timer.set(None if value is None else value + LATE_S)
                    elif what == "will":
                        self.payload, self.argv = value
                    else:
                        with contextlib.suppress(OSError):  # no process to be had: the guard sees the helper's end
                            self.processes.run_helper(value, helper_stdin, helper_stdout)
                        os.close(helper_stdin)
                        os.close(helper_stdout)
                continue
            now = self.clock.boottime()
            if self.deadline is not None and now >= self.deadline + LATE_S:
                if self.late:
                    return
                self.late, self.deadline = True, now
                self.timer.set(now + LATE_S)

    def member_is_dead(self) -> bool:
        """Our parent is another one then. A member that was killed just now may take a moment to be gone."""
        give_up_at = self.clock.boottime() + DYING_S
        while os.getppid() == self.member and self.processes.is_dying(self.member):
            if self.clock.boottime() > give_up_at:
                break
            time.sleep(LOOK_S)
        return os.getppid() != self.member

    def carry_out_will(self, null: int) -> None:
        """Member and guard are dead, and nothing of the command is left: release in their place."""
        give_up_at = self.clock.boottime() + self.will_sender.WILL_LIMIT_S
        stdin, writer = os.pipe()
        text = self.will_sender.order(self.clock, self.payload, give_up_at, "its backstop") + b"go\n"
        with contextlib.suppress(OSError):
            helper = self.processes.run_helper(self.argv, stdin, null)
            os.close(stdin)
            while text:
                text = text[os.write(writer, text) :]
            while not os.waitpid(helper, os.WNOHANG)[0]:
                if self.clock.boottime() > give_up_at + 1:  # it hangs in the driver
                    self.processes.send([helper], signal.SIGKILL)
                time.sleep(LOOK_S)
