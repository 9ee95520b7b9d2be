"""The backstop: stands between member and guard, so that any two of the three may be killed and no process is left.

It waits for the guard's end and kills what the guard leaves. As a child subreaper it inherits every descendant of the
guard, so its own ECHILD is the proof. It also starts the will's helper when the guard asks, so that the helper is not a
child of the guard, whose proof must speak about the command alone.

The guard tells it each deadline. Should one pass while the guard is still there and has not said that the command is gone, the
guard is frozen, and the backstop kills it with everything else: a member that is dead as well cannot do it.
"""

from __future__ import annotations

import json
import os
import select
import time
from typing import Any, NoReturn

LATE_S = 0.05
"""How long after the deadline the guard may still be about its work. Waited twice: after a freeze of both, it comes first."""


def stand_by(processes: Any, clock: Any, request: int, helper_stdin: int, helper_stdout: int, cgroup: Any) -> NoReturn:
    """Wait for the guard's end, or for a deadline that it misses; then kill whatever is left until none is."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # the command's own; a reader of its output must see its end when it ends
        os.dup2(null, fd)
    timer, poll, inbox = processes.Timer(clock.CLOCK), select.poll(), b""
    deadline: float | None = None
    late = False
    for fd in (request, timer.fd):
        if fd >= 0:
            poll.register(fd, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll(None if timer.fd >= 0 or deadline is None else 100)]
        if request in ready:  # before the clock: after a freeze of us both, what the guard said meanwhile counts
            data = os.read(request, 4096)
            if not data:
                break
            *lines, inbox = (inbox + data).split(b"\n")
            for what, value in map(json.loads, lines):
                if what == "deadline":
                    deadline, late = value, False
                    timer.set(None if deadline is None else deadline + LATE_S)
                else:
                    processes.run_helper(value, helper_stdin, helper_stdout)
                    os.close(helper_stdin)
                    os.close(helper_stdout)
            continue
        now = clock.boottime()
        if deadline is not None and now >= deadline + LATE_S:
            if late:
                break
            late, deadline = True, now
            timer.set(deadline + LATE_S)
    pause_s = 0.0
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:  # a subreaper without children: nothing is left
            break
        if cgroup:
            cgroup.kill()
        processes.strike(os.getpid())
        time.sleep(pause_s)
        pause_s = min(0.05, pause_s + 0.001)
    if cgroup:
        processes.Cgroup.remove(cgroup.path)
    os._exit(0)
