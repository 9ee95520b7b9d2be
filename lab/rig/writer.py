"""A command that writes rows as fast as it can, and comes back at once when its session is ended.

Run as ``python writer.py`` with ``WRITER_URL`` (as SQLAlchemy writes it) in the environment. On PostgreSQL it names its session by
nothing but PGAPPNAME, as any program that uses libpq does; with ``WRITER_NAME`` it gives another name, as a program would that
HeirFlow cannot tell. With ``WRITER_HOLDS`` each transaction ends with `Lead.hold`. Each row: term, member, and the server's clock
at the moment of writing. With ``WRITER_FAILURES``, a folder, each write and each login that failed becomes a line of the file there
that is named after the process.
"""

from __future__ import annotations

import os
import time

import sqlalchemy as sa

from heirflow import Lead, LostLead

TABLE = "CREATE TABLE IF NOT EXISTS written (term bigint, member text, at double precision)"
CLOCKS = {"postgresql": "EXTRACT(EPOCH FROM clock_timestamp())", "mysql": "UNIX_TIMESTAMP(SYSDATE(6))"}


def main() -> None:
    url = sa.engine.make_url(os.environ["WRITER_URL"])
    folder = os.environ.get("WRITER_FAILURES")
    named = {"application_name": os.environ["WRITER_NAME"]} if "WRITER_NAME" in os.environ else {}
    told = os.open(f"{folder}/{os.getpid()}" if folder else os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    lead, holds = Lead.of_command(), bool(os.environ.get("WRITER_HOLDS"))
    engine = sa.create_engine(
        url,
        future=True,
        isolation_level=None if holds else "AUTOCOMMIT",
        poolclass=sa.pool.NullPool,
        connect_args={"connect_timeout": 5, **named},
    )
    row = sa.text(f"INSERT INTO written VALUES (:term, :member, {CLOCKS[url.get_backend_name()]})")
    values = {"term": lead.term, "member": lead.member}
    while True:
        try:
            with engine.connect() as link:
                while True:
                    with link.begin():
                        link.execute(row, values)
                        if holds:
                            lead.hold(link)
        except (sa.exc.DBAPIError, LostLead) as error:  # noqa: PERF203
            os.write(told, " ".join(str(error).split()).encode() + b"\n")
            time.sleep(0.001)


if __name__ == "__main__":
    main()
