"""What the members run: it writes down that it runs, outside the database and inside.

    python -S -E command.py FOLDER

Becomes a process whose command line names a file of its own, ``FOLDER/<term>.<member>.<pid>.ticks`` (in ``FOLDER/2`` for the second
seat of an election, whose terms are its own); one descendant, in a session
of its own and deaf to TERM, has the same. Both tick into it (lab/rig/ticker.py) every few milliseconds. A thread writes
rows into the database of HEIRFLOW's record as fast as `PACE_S` lets it, for ever anew: each row has its own term and member, and
beside them, read by the same statement, the term and leader that the record has at that moment. So the database
itself says, without any clock, whether it took a row from one who leads no more.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, os.path.abspath(f"{__file__}/../../.."))  # noqa: PTH100  (pathlib takes long to import)

from lab.rig.ticker import CLOCK, opened, own_file, tick, tick_for_ever

DESCENDANT_TICK_S = 0.02
PACE_S = 0.008
HELD_EVERY = 100
"""Rows: one of so many is written in a transaction that stays open for `HELD_S`."""
HELD_S = 0.3
WHOSE = "record varchar(200), term bigint, member varchar(200)"
COLUMNS = f"{WHOSE}, seen_term bigint, seen_leader varchar(200), tick bigint, held boolean"
TABLE = {
    "postgresql": [
        f"CREATE TABLE lab_written (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, {COLUMNS})",
        # What a transaction that was held open finds in the record as it commits, and not as it wrote.
        """CREATE FUNCTION lab_look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE lab_written w SET seen_term = e.term, seen_leader = e.leader FROM heirflow_election e
        WHERE w.id = NEW.id AND e.name = w.record;
        RETURN NULL; END $$""",
        """CREATE CONSTRAINT TRIGGER lab_look AFTER INSERT ON lab_written DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.held) EXECUTE FUNCTION lab_look()""",
    ],
    "mysql": [f"CREATE TABLE lab_written (id bigint AUTO_INCREMENT PRIMARY KEY, {COLUMNS})"],
}
ROW = (
    "INSERT INTO lab_written (record, term, member, seen_term, seen_leader, tick, held) "
    "SELECT e.name, %s, %s, e.term, e.leader, %s, %s FROM heirflow_election e WHERE e.name = %s"
)
LATE = (
    "SELECT term, member, CASE WHEN seen_term > term THEN 'deposed' WHEN seen_term = term AND seen_leader IS NULL "
    "THEN 'released' ELSE 'doubled' END, count(*), min(tick), max(tick), record FROM lab_written "
    "WHERE seen_term <> term OR seen_leader IS NULL OR seen_leader <> member GROUP BY 1, 2, 3, record ORDER BY 1"
)
"""Rows that the database took from one who did not lead: *deposed* by a later term; after its *release*; or *doubled*, while the
record named another leader of that very term, or went back to an earlier one."""


def main() -> None:
    if len(sys.argv) == 2:
        seat = os.environ.get("HEIRFLOW_SEAT", "1")
        folder = sys.argv[1] if seat == "1" else f"{sys.argv[1]}/{seat}"
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        path = own_file(folder)
        tick(opened(path))
        os.execv(sys.executable, [sys.executable, "-S", "-E", __file__, path, "tick"])
    file = opened(sys.argv[1])
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        tick_for_ever(file, DESCENDANT_TICK_S)
    os.wait()
    threading.Thread(target=write_rows, daemon=True).start()
    tick_for_ever(file)


def write_rows() -> None:
    import site

    site.main()  # we were started without it, to write the first line soon
    url = os.environ.get("LAB_URL")
    if url is None:
        return
    term, member = int(os.environ["HEIRFLOW_TERM"]), os.environ["HEIRFLOW_MEMBER"]
    election, seat = os.environ["HEIRFLOW_ELECTION"], os.environ.get("HEIRFLOW_SEAT", "1")
    record = election if seat == "1" else f"{election}#{seat}"
    while True:
        link: Any = None
        try:
            link = connect(url)
            cursor = link.cursor()
            for number in itertools.count(1):
                held = url.startswith("postgresql") and number % HELD_EVERY == 0
                if held:
                    cursor.execute("BEGIN")
                cursor.execute(ROW, (term, member, time.clock_gettime_ns(CLOCK), held, record))
                if held:
                    time.sleep(HELD_S)
                    cursor.execute("COMMIT")
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
