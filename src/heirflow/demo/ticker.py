"""The plain program of ``heirflow demo --no-airflow``: writes down, twenty times a second, that it runs, where and for which term.

Run as ``python -I -S ticker.py FILE HOST``. It stops in order when it gets a TERM: it finishes what it is at (0.1 s) first.
"""

import os
import signal
import sys
import time


def main() -> None:
    """Tick until a TERM."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    line = f"{sys.argv[2]} {os.environ.get('HEIRFLOW_TERM', '?')} {os.getpid()}\n"
    with open(sys.argv[1], "ab", buffering=0) as file:  # noqa: PTH123  (one write is one line, also with two writers)
        while not asked:
            file.write(f"{time.time():.6f} {line}".encode())
            time.sleep(0.05)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
