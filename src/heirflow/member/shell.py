"""A shell command that a member runs beside the one it keeps: a health check, or a program that wants to hear of a change."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping

from heirflow.member.environment import command_environment
from heirflow.member.sweep import SPARING

# Its standard input is a pipe of ours: should we be killed, it ends, and the watch kills the whole session.
# The inner shell's code is read from a pipe too: as PID 1 our member collects every child, this one's code with it.
_SCRIPT = """\
exec 3<&0 </dev/null
{{ read -r _ <&3; kill -9 0; }} >/dev/null 2>&1 &
/bin/sh -c "$1" 3<&- {where}
code=$?
{{ kill -9 $!; wait $!; }} 2>/dev/null
echo "$code"
"""


def run_beside(text: str, children: set[int], limit_s: float, *, extra: Mapping[str, str], speaks: bool) -> int | None:
    """Its exit code; None when it was killed by somebody. It has a session of its own, which is ended with it.

    `children`: processes of ours that a guard must leave alone; this one is in it while it runs. `extra` comes on top of our
    environment without what is private. `speaks`: what it prints goes to our standard error. Raises `OSError` when it cannot be
    started and `subprocess.TimeoutExpired` when it takes longer than `limit_s`.
    """
    argv = ["/bin/sh", "-c", _SCRIPT.format(where=">&2" if speaks else ">/dev/null 2>&1"), "sh", text]
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as watched, os.fdopen(write_end, "w"):
        with SPARING:
            process = subprocess.Popen(
                argv,
                stdin=watched,
                stdout=subprocess.PIPE,
                stderr=None if speaks else subprocess.DEVNULL,
                env=command_environment(os.environ, extra),
                start_new_session=True,
            )
            children.add(process.pid)
        try:
            out, _ = process.communicate(timeout=limit_s)
        finally:
            _end(process.pid)
            process.communicate()
            children.discard(process.pid)
    return int(out) if out.strip().isdigit() else None


def end_all(children: set[int]) -> None:
    """Kill those that still run, whoever waits for them: their member leaves."""
    with SPARING:
        for pid in children:
            _end(pid)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
