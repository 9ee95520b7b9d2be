"""What the members run: it writes down that it runs, outside the database and inside.

    python -S -E command.py FOLDER

Becomes a process whose command line names a file of its own, ``FOLDER/<term>.<member>.<pid>.ticks``; one descendant, in a session
of its own and deaf to TERM, has the same. Both write the machine-wide clock into it every few milliseconds. A thread writes
rows into the database of HEIRFLOW's record as fast as `PACE_S` lets it, for ever anew: each row has its own term and member, and
beside them, read by the same statement, the term and leader that the record has at that moment. So the database
itself says, without any clock, whether it took a row from one who leads no more.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import Any

TICK_S = 0.005
DESCENDANT_TICK_S = 0.02
PACE_S = 0.008
TABLE = {
    "postgresql": "CREATE TABLE lab_written (id bigint GENERATED ALWAYS AS IDENTITY, term bigint, member text, "
    "seen_term bigint, seen_leader text, tick bigint)",
    "mysql": "CREATE TABLE lab_written (id bigint AUTO_INCREMENT PRIMARY KEY, term bigint, member varchar(200), "
    "seen_term bigint, seen_leader varchar(200), tick bigint)",
}
ROW = (
    "INSERT INTO lab_written (term, member, seen_term, seen_leader, tick) "
    "SELECT %s, %s, e.term, e.leader, %s FROM heirflow_election e WHERE e.name = %s"
)
LATE = (
    "SELECT term, member, seen_term > term, count(*), min(tick), max(tick) FROM lab_written "
    "WHERE seen_term <> term OR seen_leader IS NULL OR seen_leader <> member "
    "GROUP BY term, member, seen_term > term ORDER BY term"
)
"""Rows that the database took from one who led no more: deposed by a later term, or else after its release."""


def main() -> None:
    if len(sys.argv) == 2:
        name = f"{os.environ['HEIRFLOW_TERM']}.{os.environ['HEIRFLOW_MEMBER']}.{os.getpid()}.ticks"
        os.execv(sys.executable, [sys.executable, "-S", "-E", __file__, f"{sys.argv[1]}/{name}", "tick"])
    file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    tick(file)
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        while True:
            tick(file)
            time.sleep(DESCENDANT_TICK_S)
    os.wait()
    threading.Thread(target=write_rows, daemon=True).start()
    while True:
        tick(file)
        time.sleep(TICK_S)


def tick(file: int) -> None:
    os.write(file, b"%d %d\n" % (time.clock_gettime_ns(time.CLOCK_BOOTTIME), os.getpid()))


def write_rows() -> None:
    import site

    site.main()  # we were started without it, to write the first line soon
    url = os.environ.get("LAB_URL")
    if url is None:
        return
    term, member = int(os.environ["HEIRFLOW_TERM"]), os.environ["HEIRFLOW_MEMBER"]
    election = os.environ["HEIRFLOW_ELECTION"]
    while True:
        link: Any = None
        try:
            link = connect(url)
            cursor = link.cursor()
            while True:
                cursor.execute(ROW, (term, member, time.clock_gettime_ns(time.CLOCK_BOOTTIME), election))
                time.sleep(PACE_S)
        except Exception:  # noqa: BLE001  whatever the driver calls it: an outage, a refusal, an ended session
            time.sleep(0.02)
        finally:
            if link is not None:
                close(link)


def connect(url: str) -> Any:
    if url.startswith("postgresql"):
        import psycopg

        return psycopg.connect(url, autocommit=True, connect_timeout=2)
    from urllib.parse import urlsplit

    import pymysql

    to = urlsplit(url)
    return pymysql.connect(
        host=to.hostname, port=to.port or 3306, user=to.username, password=to.password or "", database=to.path[1:],
        autocommit=True, connect_timeout=2, read_timeout=5, write_timeout=5, ssl_disabled=True,
        # Otherwise the statement would hold the record's row against renewals.
        init_command="SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    )  # fmt: skip


def close(link: Any) -> None:
    with contextlib.suppress(Exception):  # it was broken already
        link.close()


if __name__ == "__main__":
    main()
