"""The plain program of `heirflow demo`: writes down, twenty times a second, that it runs, for which term and for which member.

Run as ``python -I -S ticker.py FILE``. Each line: nanoseconds of CLOCK_BOOTTIME, pid, term, member. It stops in order when it
gets a TERM: it finishes what it is at (0.1 s) first.

The laboratory has a ticker of its own (lab/rig/ticker.py), which ends at once on a TERM and starts as fast as it can. This one is
part of the product, which must not know the laboratory; both write the same lines.
"""

import os
import signal
import sys
import time


def main() -> None:
    """Tick until a TERM."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    tail = f" {os.getpid()} {os.environ.get('HEIRFLOW_TERM', '0')} {os.environ.get('HEIRFLOW_MEMBER', '-')}\n"
    with open(sys.argv[1], "ab", buffering=0) as file:  # noqa: PTH123  (one write is one line, also with two writers)
        while not asked:
            file.write(f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME)}{tail}".encode())
            time.sleep(0.05)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
