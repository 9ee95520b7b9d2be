"""What Airflow's own tables tell beside the line: whether the component still writes its row, and the database's version.

Each look opens a connection, asks one statement and gives the connection back: a look every 15 s, by the leader only, and
one every 30 s for the version of the database, by who has a standby.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from heirflow.errors import HeirflowError
from heirflow.member.asker import CannotTell
from heirflow.programs.airflow.adopt import job_of, job_table
from heirflow.stores.sql.store import SqlStore

StoreFactory = Callable[[], SqlStore]


class RowCheck:
    """An `asker.Check`: well while the row's `latest_heartbeat` goes on changing. No clock is compared with another."""

    def __init__(self, store_factory: StoreFactory, schema: str | None) -> None:
        self._store_factory = store_factory
        self._job = job_table(schema)
        self._seen: tuple[int, Any] | None = None

    def look(self, note: str, limit_s: float) -> str:
        named = job_of(note)
        if named is None:
            return "it has not written its row in Airflow's job table"
        number, kind = named
        job = self._job
        rows = _ask(self._store_factory, sa.select(job.c.latest_heartbeat).where(job.c.id == number))
        if not rows:
            raise CannotTell(f"job {number} is not there")
        seen = (number, rows[0][0])
        changed, self._seen = seen != self._seen, seen
        return "" if changed else f"{kind} {number} does not write its heartbeat"


class Fingerprint:
    """What a standby of Airflow's has frozen: its configuration, its code, and the version of the database it fits.

    A value of None means that it could not be told now.
    """

    def __init__(self, files: Mapping[str, str], store_factory: StoreFactory | None, schema: str | None) -> None:
        """`files`: name for people -> path."""
        self._files = files
        self._store_factory = store_factory
        version = sa.Table("alembic_version", sa.MetaData(schema=schema), sa.Column("version_num", sa.String))
        self._version = sa.select(version.c.version_num)

    def __call__(self) -> dict[str, Any]:
        return {**{name: _stamp(Path(path)) for name, path in self._files.items()}, **self._database()}

    def _database(self) -> dict[str, Any]:
        if self._store_factory is None:
            return {}
        try:
            rows = _ask(self._store_factory, self._version)
        except CannotTell:
            rows = []
        return {"the version of the metadata database": sorted(row[0] for row in rows) or None}


def _ask(store_factory: StoreFactory, statement: Any) -> list[Any]:
    store = store_factory()
    try:
        return store.ask(statement)
    except HeirflowError as error:
        raise CannotTell(str(error)) from error
    finally:
        store.close()


def _stamp(path: Path) -> tuple[int, int] | str | None:
    try:
        about = path.stat()
    except FileNotFoundError:
        return "absent"
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size
