"""Prompt adoption: the row of a dead predecessor in Airflow's `job` table is marked failed at once.

Airflow believes a scheduler dead only when its row was not touched for 30 s, and looks for what the dead left behind only at
its start and then every 300 s. A successor that starts within a second would so leave the tasks of its predecessor waiting
for five minutes. With the row marked failed first, they are adopted, or reset, at the successor's start. For a triggerer it
is the `end_date` by which others see that its triggers are free.

This is all that HeirFlow ever writes to a table of Airflow's: one row, by the id that the predecessor's own process gave to
its member when it wrote that row, only while it says ``running``, and within the transaction that takes charge, when the
predecessor's command is proved dead or its lease is over.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

WHAT_FOR = {
    "SchedulerJob": ", so that its tasks are adopted at once",
    "TriggererJob": ", so that its triggers are taken over at once",
    "DagProcessorJob": "",
}
LARGEST = 2**63
"""No database has a whole number from here on."""


def job_of(note: str) -> tuple[int, str] | None:
    """Which row a command said that it has written."""
    try:
        said = json.loads(note)
        number, kind = said["job_id"], said["job_type"]
    except (ValueError, TypeError, KeyError, RecursionError):  # the last: brackets within brackets without end
        return None
    is_row = type(number) is int and 0 <= number < LARGEST and isinstance(kind, str) and kind in WHAT_FOR
    return (number, kind) if is_row else None


class NotAirflows(Exception):
    """The table does not have the columns that Airflow's has."""


class Adoption:
    """The hook that a store calls when its member takes charge. Calling it may raise what the database raises."""

    def __init__(self, schema: str | None) -> None:
        self._schema = schema

    def __call__(self, connection: sa.engine.Connection, note: str) -> str | None:
        """Mark the row that `note` names; returns the sentence for the history, None when there was nothing to do.

        One statement and no look at the table before: whoever takes charge on a busy machine has little time for this, and
        what was not marked now waits for five minutes. A table that is another one is told by the statement's failure, which
        leaves it as it was. Raises `NotAirflows` then; the transaction must be taken back to before this call.
        """
        job = job_of(note)
        if job is None:
            return None
        number, kind = job
        try:
            changed = connection.execute(failed(connection.dialect.name, self._schema, number, kind)).rowcount
        except sa.exc.DBAPIError as error:
            if _is_absent(error):
                raise NotAirflows("this is not Airflow's job table as HeirFlow knows it") from error
            raise
        if changed != 1:
            return None  # it ended in order, or was marked before
        return f"marked job {number} of the predecessor failed{WHAT_FOR[kind]}"


def _is_absent(error: sa.exc.DBAPIError) -> bool:
    """Whether a table or a column is not there, by any of the drivers."""
    said = str(error.orig).lower()
    return any(
        words in said
        for words in ("no such table", "no such column", "does not exist", "doesn't exist", "unknown column")
    )


def job_table(schema: str | None) -> sa.Table:
    """The columns of Airflow's `job` that are of use here; the same from Airflow 2.0 to 3.3."""
    return sa.Table(
        "job",
        sa.MetaData(schema=schema),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("job_type", sa.String),
        sa.Column("state", sa.String),
        sa.Column("end_date", sa.TIMESTAMP(timezone=True)),
        sa.Column("latest_heartbeat", sa.TIMESTAMP(timezone=True)),
        sa.Column("hostname", sa.String),
    )


def failed(dialect: str, schema: str | None, number: int, kind: str) -> Any:
    """The one statement."""
    job = job_table(schema)
    same = sa.and_(job.c.id == number, job.c.job_type == kind, job.c.state == "running")
    return job.update().where(same).values(state="failed", end_date=now_in(dialect))


def now_in(dialect: str) -> Any:
    """The database's clock, in the form in which Airflow keeps moments there: with its zone, or in UTC without one."""
    moment = sa.TIMESTAMP(timezone=True)
    if dialect in {"mysql", "mariadb"}:
        # TIMESTAMP: the session's zone is taken out again
        return sa.func.current_timestamp(sa.literal_column("6"), type_=moment)
    if dialect == "sqlite":
        return sa.func.strftime("%Y-%m-%d %H:%M:%f000", "now", type_=moment)
    return sa.func.clock_timestamp(type_=moment)
