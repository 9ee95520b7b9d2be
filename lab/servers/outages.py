"""What can happen to a database, one function for each way, on a real server."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from heirflow.guard.processes import lives
from lab.servers.etcd import EtcdServer
from lab.servers.server import NAME, Server, identity
from lab.servers.zookeeper import mode

Outage = Callable[[Any], AbstractContextManager[None]]
"""Over the block the database is out; when the block ends it answers again."""
LEADS = {"leader", "standalone"}


@contextlib.contextmanager
def down(server: Server) -> Iterator[None]:
    server.stop()
    yield
    server.start()


@contextlib.contextmanager
def crashed(server: Server) -> Iterator[None]:
    server.crash()
    yield
    server.start()


@contextlib.contextmanager
def frozen(server: Server) -> Iterator[None]:
    server.freeze()
    yield
    server.thaw()


@contextlib.contextmanager
def read_only(server: Server) -> Iterator[None]:
    server.read_only(True)
    yield
    server.read_only(False)


@contextlib.contextmanager
def disk_full(server: Server) -> Iterator[None]:
    """No file may be written any more: the limit on the size of files, which servers take for a full disk.

    Both servers end themselves when they cannot write their log; so whoever makes room has to start them again.
    """
    _limit_files(server, "1")
    yield
    _limit_files(server, "unlimited")
    if server.pid is None:
        server.crash()
        server.start()


def _limit_files(server: Server, limit: str) -> None:
    # As the server's own user: to change another user's limits takes more than root has in a container.
    for pid in server.processes():
        words = ["prlimit", f"--pid={pid}", f"--fsize={limit}:unlimited"]
        done = subprocess.run(words, check=False, capture_output=True, cwd="/", **identity(server.user))  # type: ignore[call-overload]
        assert done.returncode == 0 or not lives(pid), done.stderr


@contextlib.contextmanager
def connections_exhausted(server: Server) -> Iterator[None]:
    """Others have taken every connection that the server gives to ordinary roles."""
    turned_away, ending = Rounds(), threading.Event()

    def take_all() -> None:
        with ExitStack() as held:
            while not ending.is_set():
                try:
                    held.callback(session(server).close)
                except Exception:  # noqa: BLE001, PERF203  whatever the driver calls it
                    turned_away.add()
                    ending.wait(0.01)

    with superuser(server) as ask:
        taker = threading.Thread(target=take_all, name="taker")
        taker.start()
        try:
            until = time.monotonic() + 30
            quiet = 0
            while quiet < 3:  # nothing of theirs is left, and what became free was taken: several times in a row
                assert time.monotonic() < until, "the members' sessions come back"
                turned_away.wait_for_next()
                theirs = ask()
                quiet = 0 if theirs else quiet + 1
            yield
        finally:
            ending.set()
            taker.join()


class Rounds:
    """Counts, and waits for the next one."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def add(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait_for_next(self) -> None:
        """Two: the first may have begun before this call."""
        with self._changed:
            wanted = self._count + 2
            assert self._changed.wait_for(lambda: self._count >= wanted, 30), (
                "the server gives out connections without end"
            )


@contextlib.contextmanager
def superuser(server: Server) -> Iterator[Callable[[], int]]:
    """Gives a function that ends every session of the members and tells how many there were."""
    if is_mysql(server):
        import pymysql

        with pymysql.connect(unix_socket=str(server.folder / "socket"), user="root") as link, link.cursor() as cursor:

            def end_theirs() -> int:
                # The takers' sessions have no database.
                cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (NAME,))
                found = cursor.fetchall()
                for (number,) in found:
                    with contextlib.suppress(pymysql.MySQLError):
                        cursor.execute("KILL %s", (number,))
                return len(found)

            yield end_theirs
    else:
        import psycopg

        url = server.url("", user="postgres", database="postgres")
        with psycopg.connect(url, autocommit=True) as link:

            def end_theirs() -> int:
                found = link.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'heirflow-member/%'"
                )
                return len(found.fetchall())

            yield end_theirs


def session(server: Server) -> Any:
    """One that does nothing."""
    if is_mysql(server):
        import pymysql

        where: dict[str, Any] = {"host": "127.0.0.1", "port": server.port}
        if server.place is not None:
            where = {"unix_socket": str(server.folder / "socket")}
        return pymysql.connect(**where, user=NAME, password=server.password, connect_timeout=5, ssl_disabled=True)
    import psycopg

    return psycopg.connect(server.url(""), connect_timeout=5)


def is_mysql(server: Server) -> bool:
    return server.url("").startswith("mysql")


@contextlib.contextmanager
def record_locked(server: Server) -> Iterator[None]:
    """Somebody's transaction holds the record's row."""
    holder = session(server)
    try:
        cursor = holder.cursor()
        table = f"{NAME}.heirflow_election" if is_mysql(server) else "heirflow_election"
        cursor.execute(f"SELECT name FROM {table} FOR UPDATE")
        cursor.fetchall()
        yield
        holder.rollback()
    finally:
        holder.close()


@contextlib.contextmanager
def restarted(server: Server) -> Iterator[None]:
    server.restart()
    yield


@contextlib.contextmanager
def sessions_ended(server: Server) -> Iterator[None]:
    """An administrator ends every session of ours."""
    with superuser(server) as end_theirs:
        assert end_theirs()
    yield


# an ensemble


def leading(servers: Sequence[Server]) -> Server | None:
    """The server of an ensemble that leads it; None as long as there is none."""
    return next(
        (each for each in servers if (each.leads if isinstance(each, EtcdServer) else mode(each) in LEADS)), None
    )


def wait_for_leading(servers: Sequence[Server], limit_s: float = 30) -> Server:
    """The same, waited for."""
    until = time.monotonic() + limit_s
    while (found := leading(servers)) is None:
        assert time.monotonic() < until, "the ensemble has no leader"
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def most_killed(servers: Sequence[Server]) -> Iterator[None]:
    """All servers but one: what is left may neither write nor tell what was written."""
    leader = wait_for_leading(servers)
    killed = [leader, *(each for each in servers if each is not leader)][: len(servers) // 2 + 1]
    for server in killed:
        server.crash()
    yield
    for server in killed:
        server.start()
    wait_for_leading(servers)


# a file


@contextlib.contextmanager
def file_locked(path: Path) -> Iterator[None]:
    holder = sqlite3.connect(path, timeout=5, isolation_level=None)
    try:
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")
    finally:
        holder.close()


@contextlib.contextmanager
def file_away(path: Path) -> Iterator[None]:
    """Like a file system that is not mounted for a while."""
    away = path.parent / "away"
    away.mkdir()
    files = list(path.parent.glob(f"{path.name}*"))
    for file in files:
        file.rename(away / file.name)
    yield
    for file in path.parent.glob(f"{path.name}*"):
        raise AssertionError(f"somebody made {file.name} behind a leader's back")
    for file in files:
        (away / file.name).rename(file)
    shutil.rmtree(away)
