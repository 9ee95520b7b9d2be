"""A command that writes down that it runs: a line every few milliseconds, stamped with the machine-wide clock.

Run as ``python ticker.py FILE [PERIOD_MS]``. Each line: nanoseconds of CLOCK_BOOTTIME, pid, term, member. Standard library
only, so that it starts as fast as a Python program can.
"""

from __future__ import annotations

import os
import sys
import time

CLOCK = time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC_RAW


def main() -> None:
    path = sys.argv[1]
    period_s = float(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0.005
    tail = f" {os.getpid()} {os.environ.get('HEIRFLOW_TERM', '0')} {os.environ.get('HEIRFLOW_MEMBER', '-')}\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    while True:
        os.write(file, f"{time.clock_gettime_ns(CLOCK)}{tail}".encode())
        time.sleep(period_s)


if __name__ == "__main__":
    main()
