"""The one program that ticks: every few milliseconds it writes down that it runs.

    python -S -E ticker.py FILE [PERIOD_MS]

A line is nanoseconds of the decisive clock, pid, term, member; `written` reads it. Each line is one write to a file that is opened
for appending, so that the lines of several writers never mix. A TERM ends it at once.

Standard library only and without site, so that it starts as fast as a Python program can. Some programs do more than tick
(lab/campaign/command.py), misbehave (tests/process/nasty) or are Airflow's (bench/many/plugins): they take the line and the file
from here. None of them can import `heirflow.clock`; CLOCK is the same clock, and a test compares the two.
"""

from __future__ import annotations

import os
import sys
import time

CLOCK = int(getattr(time, "CLOCK_BOOTTIME", 0) or getattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC))
USUAL_PERIOD_S = 0.005


def opened(path: str) -> int:
    """The file to tick into, made when it is absent."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def tick(file: int) -> None:
    """One line. The term is looked up each time: a warm standby hears of it late, and others clear their environment."""
    term, member = os.environ.get("HEIRFLOW_TERM", "0"), os.environ.get("HEIRFLOW_MEMBER", "-")
    os.write(file, f"{time.clock_gettime_ns(CLOCK)} {os.getpid()} {term} {member}\n".encode())


def tick_for_ever(file: int, period_s: float = USUAL_PERIOD_S) -> None:
    """A line in each period."""
    while True:
        tick(file)
        time.sleep(period_s)


def file_name(term: object, member: object, pid: object) -> str:
    """What the file of one start of a command is called where each start has its own."""
    return f"{term}.{member}.{pid}.ticks"


def own_file(folder: str) -> str:
    """The path of the file of this process's start."""
    return f"{folder}/{file_name(os.environ['HEIRFLOW_TERM'], os.environ['HEIRFLOW_MEMBER'], os.getpid())}"


if __name__ == "__main__":
    tick_for_ever(opened(sys.argv[1]), *(float(word) / 1000 for word in sys.argv[2:]))
