"""Whether the machine itself keeps time: how much later than asked for a small sleep ends, and what a hypervisor steals.

A laboratory on a machine that is busy with other things cannot keep a time, whatever HeirFlow does. So the judge of times is
told how much the machine took away; the judges of overlaps, orphans and rows are not: no slowness excuses these. The sleeper
is a process of its own, so that what the laboratory's other threads are busy with does not pass for the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from bisect import bisect_right
from pathlib import Path

from heirflow.clock import boottime

BEAT_S = 0.02
USUAL_S = 0.005
"""By how much a sleep is late on a machine that has nothing else to do."""
STANDSTILL_S = 0.3
KEPT_EVERY_S = 0.2
WORDS = [sys.executable, "-m", "lab.campaign.machine"]


def stolen_s() -> float:
    """How long, since the machine started, its processors were wanted here and ran somebody else's machine; a mean over them.

    One that gets a tenth of its processors answers a small sleep almost in time, and yet does all work ten times slower.
    """
    try:
        fields = Path("/proc/stat").read_text("ascii").split(maxsplit=9)
        return int(fields[8]) / os.sysconf("SC_CLK_TCK") / (os.cpu_count() or 1)
    except (OSError, IndexError, ValueError):  # not Linux
        return 0.0


class Machine:
    """Beats from entering to leaving."""

    def __init__(self) -> None:
        self.standstills_s: list[float] = []
        """Each time that nothing of ours ran for longer than `STANDSTILL_S`."""
        self.stolen_s = 0.0
        """What a hypervisor took of all processors together, see `stolen_s`."""
        self._at: list[float] = []
        self._lost: list[float] = []

    def __enter__(self) -> Machine:  # noqa: PYI034  `Self` is not in Python 3.10
        self._process = subprocess.Popen(
            WORDS, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True
        )
        self._thread = threading.Thread(target=self._listen, name="machine", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._thread.join()
        self._process.communicate()

    def lost_s(self, from_s: float, to_s: float) -> float:
        """How much of this time (CLOCK_BOOTTIME) the machine took away."""
        return max(0.0, self._until(to_s) - self._until(from_s))

    def _until(self, at_s: float) -> float:
        index = bisect_right(self._at, at_s) - 1
        return self._lost[index] if index >= 0 else 0.0

    def _listen(self) -> None:
        lost, last_stolen, began = 0.0, None, 0.0
        assert self._process.stdout is not None
        for line in self._process.stdout:
            now, late, stolen, standstills = json.loads(line)
            if last_stolen is None:
                last_stolen = began = stolen
            self.stolen_s = stolen - began
            self.standstills_s += standstills
            lost += max(late, stolen - last_stolen)  # the same loss may show in both
            last_stolen = stolen
            self._lost.append(lost)  # first: whoever looks meanwhile finds as many of these
            self._at.append(now)


def main() -> None:
    """Write down what was late and what is stolen, a line for every `KEPT_EVERY_S`, until nobody listens."""
    before = keep_at = boottime()
    late, standstills = 0.0, []
    while True:
        time.sleep(BEAT_S)
        now = boottime()
        late_s = now - before - BEAT_S
        if late_s > USUAL_S:
            late += late_s
        if late_s > STANDSTILL_S:
            standstills.append(round(late_s, 3))
        if now >= keep_at:
            try:
                os.write(1, json.dumps([now, late, stolen_s(), standstills]).encode() + b"\n")
            except BrokenPipeError:
                return
            keep_at, late, standstills = now + KEPT_EVERY_S, 0.0, []
        before = now


if __name__ == "__main__":
    main()
