"""The backstop: stands between member and guard, so that any two of the three may be killed and no process is left.

It waits for the guard's end and kills what the guard leaves. As a child subreaper it inherits every descendant of the
guard, so its own ECHILD is the proof. It also starts the will's helper when the guard asks, so that the helper is not a
child of the guard, whose proof must speak about the command alone.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, NoReturn


def stand_by(processes: Any, request: int, helper_stdin: int, helper_stdout: int, cgroup: Any) -> NoReturn:
    """Wait for the guard's end, then kill whatever is left until none is. Starts the will's helper when asked."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # the command's own; a reader of its output must see its end when it ends
        os.dup2(null, fd)
    while line := os.read(request, 4096):
        processes.run_helper(json.loads(line), helper_stdin, helper_stdout)
        os.close(helper_stdin)
        os.close(helper_stdout)
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
