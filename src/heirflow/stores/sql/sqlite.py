"""SQLite: one file for several members on one host.

Every exchange that writes begins with ``BEGIN IMMEDIATE``: a transaction that reads first and writes later can fail in the
middle, one that takes the write lock first only waits. News is found by looking: ``PRAGMA data_version`` says whether any
other connection has written since, and only then a small read says whether that was more than a renewal.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from heirflow.election.record import Exchange, Reading, Swap, Told, record_name, record_names
from heirflow.errors import ConfigError, HeirflowError
from heirflow.stores.base import Finding, KeptOut, StoreMisfit, StoreUnavailable
from heirflow.stores.sql.connecting import Arguments, Place
from heirflow.stores.sql.fence import Led
from heirflow.stores.sql.schema import Tables

Known = tuple[Any, ...]
LEASE_ONLY = "lease only: SQLite has no sessions that could be ended"


class Sqlite:
    """The `Flavour` of SQLite."""

    title = "SQLite"
    encoding = "UTF-8"
    news_poll_s: float | None = 0.1
    terse = False
    roles = False
    now: sa.sql.elements.ColumnElement[float] = sa.literal_column(
        "((julianday('now') - 2440587.5) * 86400.0)", sa.Float(53)
    )
    notify: sa.sql.expression.Executable | None = None

    def __init__(self, url: sa.engine.URL, *, call_limit_s: float, connect_args: dict[str, Any]) -> None:
        name = url.database or ""
        if not name or name == ":memory:" or "mode=memory" in name:
            raise ConfigError(
                "SQLite in memory is known to one process only; name a file: sqlite:////var/lib/heirflow/line.db"
            )
        self.path = Path(name.removeprefix("file:").split("?")[0])
        if not self.path.is_absolute():
            raise ConfigError(
                f"{self.path} is a relative path, so members started in two folders would be two lines; give all of it: "
                f"sqlite:///{self.path.absolute()}"
            )
        self._busy_s = 0.6 * call_limit_s
        self._connect_args = connect_args
        self._inode: tuple[int, int] | None = None
        self._was_there = False
        self.history: str | None = None
        self._data_version: int | None = None
        self._known: dict[str, Known] = {}
        self._who: dict[str, str] = {}

    def engine_options(self) -> dict[str, Any]:
        # The store is used by one thread at a time, which need not be the one that opened it.
        return {"connect_args": {"timeout": self._busy_s, "check_same_thread": False, **self._connect_args}}

    def storable(self, text: str) -> str:
        return text

    def prepare(self, *, create: bool) -> bool:
        """Make the folder and the file, for this user only, before SQLite would make the file for everybody."""
        if self.path.exists() and not self.path.is_file():
            raise self._misfit("it is not a file")
        folder = next(each for each in self.path.parents if each.exists())
        if not folder.is_dir():
            raise self._misfit(f"{folder} is not a folder")
        if not create:
            return self.path.exists()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        return True

    def places(self, arguments: Arguments) -> Sequence[Place]:
        return ()

    def dial(self, driver: Any, words: Sequence[Any], arguments: Arguments) -> Any:
        return driver.connect(*words, **arguments)

    def repeats(self, connection: Any) -> bool:
        return False

    def set_up(self, conn: sa.engine.Connection) -> None:
        # Our own BEGIN instead of the module's, which comes late and cannot be IMMEDIATE.
        driver: Any = conn.connection.dbapi_connection
        driver.isolation_level = None
        driver.text_factory = lambda raw: raw.decode("utf-8", "replace")  # one bad byte hides nothing else
        found = self.path.stat()
        self._inode, self._data_version = (found.st_dev, found.st_ino), None
        # A copy that was put in its place is another file. The device is left out: its number may change at a restart.
        self.history = f"'inode {found.st_ino}'"
        try:
            mode = conn.exec_driver_sql("PRAGMA journal_mode").scalar()
        except sa.exc.DatabaseError as error:
            # The file's first bytes are not looked at from here: closing it would give back SQLite's own locks on it.
            if "not a database" not in str(error.orig):
                raise
            raise self._misfit("it is not an SQLite database") from error
        if mode != "wal":
            # SQLite does not wait here by itself when several do this at once.
            self._patiently(lambda: driver.execute("PRAGMA journal_mode = WAL"))
        # A power cut must not take back a term that was confirmed.
        conn.exec_driver_sql("PRAGMA synchronous = FULL")
        conn.commit()
        self._was_there = True

    def _misfit(self, said: str) -> HeirflowError:
        """The error of what cannot be a database. Where there was one, it may be on its way back: a member goes on trying."""
        kind = StoreUnavailable if self._was_there else StoreMisfit
        return kind(f"{self.path} cannot be the database: {said}; name another file in the URL, or move that one away")

    def _patiently(self, attempt: Callable[[], object]) -> None:
        limit = time.monotonic() + self._busy_s
        while True:
            try:
                attempt()
                return
            except sqlite3.OperationalError as error:  # noqa: PERF203
                if "locked" not in str(error) or time.monotonic() > limit:
                    raise
                time.sleep(random.uniform(0.002, 0.008))  # noqa: S311

    def begin(self, conn: sa.engine.Connection, *, writes: bool, lone: bool = False) -> None:
        driver: Any = conn.connection.dbapi_connection
        if not writes:
            driver.execute("BEGIN")
            return
        # SQLite's own waiting sleeps longer the longer it has waited, so that among many the last to come is served first
        # and the first may starve. Asking at an even pace is fair.
        driver.execute("PRAGMA busy_timeout = 0")
        self._patiently(lambda: driver.execute("BEGIN IMMEDIATE"))
        driver.execute(f"PRAGMA busy_timeout = {int(1000 * self._busy_s)}")

    def at_once(self, *_: object) -> None:
        return None  # the write lock is taken first, by a BEGIN of ours

    def commit(self, conn: sa.engine.Connection) -> bool:
        conn.commit()
        return True

    def patient(self, conn: sa.engine.Connection) -> None:
        pass

    def hurry(self, conn: sa.engine.Connection, limit_s: float | None) -> None:
        pass  # whoever is in a transaction that writes has the only lock there is

    def try_lock(self, conn: sa.engine.Connection) -> bool:
        return True  # BEGIN IMMEDIATE was the lock

    def unlock(self, conn: sa.engine.Connection) -> None:
        pass

    def fence(
        self, conn: sa.engine.Connection, here: Tables, election: str, swap: Swap, led: Led | None = None
    ) -> tuple[Told, ...]:
        return ()

    def fenced(self, conn: sa.engine.Connection, here: Tables) -> Finding:
        return Finding("fence", "note", LEASE_ONLY, {"state": KeptOut.LEASE_ONLY})

    def insert_if_absent(self, table: sa.Table) -> Any:
        return sqlite.insert(table).on_conflict_do_nothing()

    def fileno(self, driver: Any) -> int | None:
        return None

    def interrupt(self, driver: Any) -> None:
        driver.interrupt()

    def stale(self) -> bool:
        """Whether somebody has removed or replaced the file: what we would write then, nobody else would read."""
        try:
            found = self.path.stat()
        except OSError:
            return True
        return self._inode != (found.st_dev, found.st_ino)

    def news_fd(self, driver: Any) -> int | None:
        return None

    def news(self, conn: sa.engine.Connection, election: str, here: Tables) -> bool:
        version = conn.exec_driver_sql("PRAGMA data_version").scalar()
        if version == self._data_version:
            conn.rollback()
            return False
        e, m = here.election.c, here.member.c
        found = conn.execute(
            sa.select(e.name, e.term, e.leader, e.paused, e.switchover_to).where(e.name.in_(record_names(election)))
        ).all()
        mine = sa.and_(m.election == election, m.id == self._who.get(election, ""))
        drained = conn.execute(sa.select(m.drained).where(mine)).scalar()
        conn.rollback()
        self._data_version = version
        now = _known(election, {name: tuple(record) for name, *record in found}, drained)
        changed = now != self._known.get(election)
        self._known[election] = now
        return changed

    def saw(self, election: str, request: Exchange, reading: Reading) -> None:
        if request.check_in is not None:
            self._who[election] = request.check_in.id
        who = self._who.get(election, "")
        drained = next((row.drained for row in reading.members if row.id == who), None)
        records = {
            record_name(election, seat): (record.term, record.leader, record.paused, record.switchover_to)
            for seat, place in enumerate(reading.places, 1)
            if (record := place.record) is not None
        }
        self._known[election] = _known(election, records, drained)

    def refuses(self, error: BaseException) -> bool:
        return "readonly" in str(error)

    def may_create(self, conn: sa.engine.Connection, here: Tables) -> bool | None:
        return True

    def will_guard(self) -> None:
        return None

    def will_options(self, dialect: Any) -> dict[str, Any]:
        return {}

    def hides(self, conn: sa.engine.Connection, here: Tables) -> None:
        return None

    def examine(self, conn: sa.engine.Connection, here: Tables) -> list[Finding]:
        from heirflow.stores.sql.examine import examine_sqlite

        return examine_sqlite(conn, self.path)


def _known(election: str, records: Mapping[str, Sequence[Any]], drained: Any) -> Known:
    """What would be news: the first record whatever it says, of the others those that are led."""
    told = {
        name: (term, leader, bool(paused), to)
        for name, (term, leader, paused, to) in records.items()
        if name == election or leader is not None
    }
    return told, None if drained is None else bool(drained)
