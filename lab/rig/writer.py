"""A command that writes rows into PostgreSQL as fast as it can, and comes back at once when its session is ended.

Run as ``python writer.py`` with ``WRITER_URL`` (a libpq address) in the environment. It names its session by nothing but
PGAPPNAME, as any program that uses libpq does; with ``WRITER_NAME`` it gives another name, as a program would that HeirFlow
cannot tell. Each row: term, member, and the server's clock at the moment of writing. With ``WRITER_FAILURES``, a folder, each
write and each login that failed becomes a line of the file there that is named after the process.
"""

from __future__ import annotations

import os
import time

TABLE = "CREATE TABLE IF NOT EXISTS written (term bigint, member text, at double precision)"
ROW = "INSERT INTO written VALUES (%s, %s, EXTRACT(EPOCH FROM clock_timestamp()))"


def main() -> None:
    import psycopg

    url = os.environ["WRITER_URL"]
    folder = os.environ.get("WRITER_FAILURES")
    named = {"application_name": os.environ["WRITER_NAME"]} if "WRITER_NAME" in os.environ else {}
    told = os.open(f"{folder}/{os.getpid()}" if folder else os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    row = (int(os.environ["HEIRFLOW_TERM"]), os.environ["HEIRFLOW_MEMBER"])
    while True:
        try:
            with psycopg.connect(url, autocommit=True, connect_timeout=5, **named) as link:  # type: ignore[arg-type]
                while True:
                    link.execute(ROW, row)
        except psycopg.Error as error:  # noqa: PERF203
            os.write(told, " ".join(str(error).split()).encode() + b"\n")
            time.sleep(0.001)


if __name__ == "__main__":
    main()
