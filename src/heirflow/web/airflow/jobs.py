"""Which row of Airflow's `job` table belongs to which member, and what Airflow knows of it.

A member whose component was warm tells the number of its row; a cold one (`--cold`) does not know it. All who look share one query.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from heirflow.programs.airflow.adopt import job_of, job_table, now_in
from heirflow.programs.airflow.beside import age_s
from heirflow.status import duration
from heirflow.status.seen import Key, Shown
from heirflow.stores import kind_of
from heirflow.web.views import Beside

EVERY_S = 5.0
"""The rows of an election are read at most so often."""
CHANGED_S = 1.0
"""The same where a member tells of another row."""
TITLE = "Airflow's job"
Jobs = dict[str, tuple[int, str]]
"""Member -> number and kind of the row that it tells of."""


@dataclass(frozen=True, slots=True)
class _Row:
    state: str
    host: str
    age_s: float | None
    """Of its heartbeat when it was read."""


@dataclass(frozen=True, slots=True)
class _Read:
    at: float
    wanted: Jobs
    rows: dict[tuple[int, str], _Row]


class JobRows:
    """Calling it tells of one election; for threads that may wait. None: no member tells of a row, or they cannot be read.

    `ask` carries out a statement in Airflow's database.
    """

    def __init__(self, ask: Callable[[Any], Sequence[Any]], url: str, schema: str | None) -> None:
        self._ask, self._schema, self._now = ask, schema, now_in(kind_of(url))
        self._lock = threading.Lock()
        self._read: dict[Key, _Read] = {}

    def __call__(self, shown: Shown) -> Beside | None:
        line = shown.snapshot.succession
        told = ((row.member, job_of(row.note)) for row in line)
        wanted = {member: job for member, job in told if job is not None}
        if not wanted:
            return None
        with self._lock:
            read = self._read.get(shown.key)
            now = time.monotonic()
            if read is None or now - read.at >= (EVERY_S if read.wanted == wanted else CHANGED_S):
                try:
                    read = _Read(now, wanted, self._rows(wanted))
                except sa.exc.SQLAlchemyError as error:
                    logging.getLogger(__name__).warning("Airflow's job table cannot be read: %s", error)
                    read = _Read(now, wanted, {})
                self._read[shown.key] = read
        if not read.rows:
            return None
        since_s, hosts = now - read.at, {row.member: row.host for row in line}
        said = {member: _said(job, read.rows.get(job), since_s, hosts[member]) for member, job in wanted.items()}
        return Beside(TITLE, said)

    def _rows(self, wanted: Jobs) -> dict[tuple[int, str], _Row]:
        job = job_table(self._schema)
        asked = sa.select(job.c.id, job.c.job_type, job.c.state, job.c.hostname, job.c.latest_heartbeat, self._now)
        rows = self._ask(asked.where(job.c.id.in_([number for number, _ in wanted.values()])))
        return {
            (row[0], row[1]): _Row(row[2] or "", row[3] or "", None if row[4] is None else age_s(row[4], row[5]))
            for row in rows
        }


def _said(job: tuple[int, str], row: _Row | None, since_s: float, host: str) -> str:
    """As people read it: ``17: running, heartbeat 2 s ago``, and where Airflow calls the host by another name, that one."""
    number, kind = job
    if row is None:
        return f"{number}: there is no such {kind}"
    beat = f", heartbeat {duration(max(0.0, row.age_s + since_s))} ago" if row.age_s is not None else ""
    where = f" on {row.host}" if row.host not in {"", host} else ""
    return f"{number}{where}: {row.state or 'no state'}{beat}"
