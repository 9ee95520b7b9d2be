"""The one clock that decides: it counts the time a machine is suspended, and nobody can set it.

A lease that was asked for before a laptop's lid was closed is over when it opens again. (A virtual machine that its
hypervisor pauses may not be told: docs/safety.md.) Clocks that stand still meanwhile (Python's `time.monotonic` on Linux)
would trust it for hours; clocks that people set (`time.time`) would trust it for as long as somebody likes. Linux:
CLOCK_BOOTTIME. Elsewhere: CLOCK_MONOTONIC_RAW, which on macOS is `mach_continuous_time`.

The guard loads this file too, alone and without the package: it imports the standard library only.
"""

from __future__ import annotations

import time

CLOCK = int(getattr(time, "CLOCK_BOOTTIME", 0) or getattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC))
"""The system's number for this clock, the same in every process of one machine."""


def boottime() -> float:
    """Seconds since the machine started, suspended time included. Comparable between processes, not between machines."""
    return time.clock_gettime(CLOCK)
