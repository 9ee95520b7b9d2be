"""Which of the two a process is, for people who read `ps`: both were started with the same words.

The word `START` stands among them, and is as long as the longest role, so that a role can be written over it in place.

A file that the guard loads from beside itself; it imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from typing import Any

START = "backstop"
ARG_START, ARG_END = 45, 46
"""Fields of /proc/PID/stat after the name: where the words of the command line lie in memory."""
PR_SET_NAME = 15


def show(processes: Any, role: str) -> None:
    """Show the role in place of `START`, and as the short name of the process. Linux only; never raises."""
    if not processes.LINUX:
        return
    processes.libc.prctl(PR_SET_NAME, f"hf-{role}".encode(), 0, 0, 0)
    with suppress(OSError, IndexError, ValueError):
        begin, end = (int(processes.stat_of(os.getpid())[field]) for field in (ARG_START, ARG_END))
        if 0 < begin < end:  # 0: the kernel does not tell
            at = ctypes.string_at(begin, end - begin).find(f"\0{START}\0".encode())
            if at >= 0:
                ctypes.memmove(begin + at + 1, role.ljust(len(START)).encode(), len(START))
