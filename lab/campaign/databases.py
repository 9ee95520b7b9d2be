"""The database of one world, on hosts of its own: a PostgreSQL with a synchronous standby, or a MariaDB with a replica.

Members know one address only, which moves with the primary. The PostgreSQL has HeirFlow's login trigger installed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from heirflow.stores import open_store
from heirflow.stores.sql import fence_login
from heirflow.stores.sql.schema import tables
from lab.campaign import command
from lab.campaign.clocks import Clocks
from lab.campaign.ground import Ground
from lab.servers.replicas import caught_up, follow, follow_mariadb, postgres_replica, replicating
from lab.servers.server import Place, Server, ServerTrouble
from lab.servers.servers import mariadb_server, postgres_server

PORTS = {"postgres": 5432, "mariadb": 3306}
DRIVERS = {"postgres": "psycopg", "mariadb": "pymysql"}
HOSTS = ("db1", "db2")


class Database:
    """The server that answers at the floating address, and the one that would follow it."""

    def __init__(self, kind: str, ground: Ground, server: Server, standby: Server) -> None:
        self.kind, self.ground = kind, ground
        self.server, self.standby = server, standby
        self.host, self.standby_host = HOSTS

    @property
    def clock_hosts(self) -> tuple[str, ...]:
        """Whose wall clocks can jump."""
        return (self.host,)

    def url(self) -> str:
        """What the members are given."""
        where = sa.engine.make_url(self.server.url(DRIVERS[self.kind]))
        return where.set(host=self.ground.floating, port=self.server.port, query={}).render_as_string(
            hide_password=False
        )

    def command_env(self) -> dict[str, str]:
        """What the commands are given: where they write their rows."""
        scheme = "postgresql" if self.kind == "postgres" else "mysql"
        return {"LAB_URL": f"{scheme}://{self.url().partition('://')[2]}"}

    def order_url(self) -> str:
        """What people use, whom no fault of the network touches."""
        return self.server.url(DRIVERS[self.kind])

    def order_words(self) -> list[str]:
        """What carries a command to where people are: nothing, they are here."""
        return []

    @contextmanager
    def engine(self) -> Iterator[sa.engine.Engine]:
        """A way in that no fault of the network touches."""
        engine = sa.create_engine(self.server.url(DRIVERS[self.kind]), future=True)
        try:
            yield engine
        finally:
            engine.dispose()

    def prepare(self) -> None:
        """HeirFlow's tables, the table of the commands, the fence."""
        store = open_store(self.server.url(DRIVERS[self.kind]), call_limit_s=10)
        store.open()
        store.close()
        with self.engine() as engine, engine.begin() as conn:
            for statement in command.TABLE["postgresql" if self.kind == "postgres" else "mysql"]:
                conn.exec_driver_sql(statement)
        if self.kind == "postgres":
            address = sa.engine.make_url(self.server.url("psycopg")).set(username="postgres")
            engine = sa.create_engine(address, future=True)
            with engine.begin() as conn:
                fence_login.install(conn, tables(None))
            engine.dispose()
            self.synchronous(True)

    def synchronous(self, on: bool) -> None:
        """Whether a commit waits for the standby. Waits until it is so. MariaDB's never does."""
        if self.kind != "postgres":
            return
        names = "*" if on else ""
        if on:
            self._await("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "1")
        self.server.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'", database="postgres")
        self.server.sql("SELECT pg_reload_conf()", database="postgres")
        if on:
            self._await("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", "1")

    def whole(self) -> None:
        """Wait until a commit need not wait: a standby that lost its primary takes a moment to come back.

        A primary calls a standby synchronous that was cut off, until it notices; a commit of its own tells whether it is there.
        """
        if self.kind == "postgres" and self.standby.pid is not None:
            self._await("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", "1")
            self.server.sql("SELECT pg_logical_emit_message(true, 'lab', '')", database="postgres")

    def in_step(self) -> None:
        """Wait until the standby has all that the primary has confirmed."""
        if self.kind == "postgres":
            self.whole()
        elif not caught_up(
            self.standby, self.server
        ):  # a fault before this one has cost it a part of the primary's log
            self.rebuild()

    def _await(self, question: str, answer: str) -> None:
        until = time.monotonic() + 30
        while self.server.sql(question, database="postgres") != answer:
            if time.monotonic() > until:
                raise ServerTrouble(f"{question} did not become {answer}:\n{self.server.log_end()}")
            time.sleep(0.05)

    def fail_over(self, *, lag_s: float | None, wait: Callable[[float], Any]) -> None:
        """Kill the primary and promote the standby, which takes the address.

        `lag_s`: None for a synchronous standby. Otherwise the standby is asynchronous and has been out of reach for so long: what
        the primary confirmed in that time is forgotten.
        """
        if lag_s is None:
            self._await("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", "1")
        else:
            self.synchronous(False)
            self.part(True)
            wait(lag_s)
        self.take_over()

    def part(self, severed: bool) -> None:
        """Cut primary and standby from each other, or join them again."""
        pairs = {(self.host, self.standby_host), (self.standby_host, self.host)}
        self.ground.severed = self.ground.severed | pairs if severed else self.ground.severed - pairs
        self.ground.apply()

    def take_over(self) -> None:
        """Kill the primary; the standby is promoted and takes the address."""
        self.server.crash()
        if self.kind == "postgres":
            self.standby.sql("SELECT pg_promote(true, 20)", database="postgres")
        else:
            self.standby.sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = 0")
        self.ground.carry_floating(self.standby_host, away_from=self.host)
        self.part(False)
        self.server, self.standby = self.standby, self.server
        self.host, self.standby_host = self.standby_host, self.host

    def rebuild(self) -> None:
        """After `fail_over`: what was the primary becomes a copy that follows the new one; on PostgreSQL a synchronous standby."""
        following = follow if self.kind == "postgres" else follow_mariadb
        following(self.standby, self.server, self.ground.address(self.host))
        self.synchronous(True)

    def settle(self) -> None:
        """After a fault: what was the primary becomes a standby."""
        if self.standby.pid is None:
            self.rebuild()

    def clock_offset_s(self) -> float:
        """How far the wall clock of the server is from the true one."""
        now = "extract(epoch FROM clock_timestamp())" if self.kind == "postgres" else "unix_timestamp(sysdate(6))"
        return float(self.server.sql(f"SELECT {now}")) - time.time()

    def late_rows(self) -> list[tuple[Any, ...]]:
        """What the database took from those who did not lead.

        Term, member, why, rows, first and last tick, and the number of the seat (`command.LATE`).
        """
        with self.engine() as engine, engine.begin() as conn:
            return [(*row[:-1], _seat(row[-1])) for row in conn.execute(sa.text(command.LATE)).all()]

    def rows(self) -> int:
        """All rows that commands wrote."""
        with self.engine() as engine, engine.begin() as conn:
            return int(conn.execute(sa.text("SELECT count(*) FROM lab_written")).scalar_one())

    def took_charge(self, election: str) -> set[tuple[int, str, int]]:
        """Term, member and seat of every change of leadership in the history."""
        asked = sa.text(
            "SELECT term, member, coalesce(seat, 1) FROM heirflow_event WHERE election = :election AND what = 'took charge'"
        )
        with self.engine() as engine, engine.begin() as conn:
            rows = conn.execute(asked, {"election": election}).all()
            return {(int(term), str(member), int(seat)) for term, member, seat in rows}


def _seat(record: str) -> int:
    """Which seat a record of this name is of."""
    number = record.rpartition("#")[2]
    return int(number) if number.isdecimal() else 1


@contextmanager
def database(kind: str, ground: Ground, clocks: Clocks) -> Iterator[Database]:
    """The real servers of one world, ready for members."""
    places = {host: Place(ground.space(host), PORTS[kind], ground.network) for host in HOSTS}
    if kind == "mariadb":
        with (
            mariadb_server(settings=replicating(1), place=places["db1"], env=clocks.env("db1")) as server,
            mariadb_server(
                settings=replicating(2), place=places["db2"], env=clocks.env("db2"), password=server.password
            ) as standby,
        ):
            ground.carry_floating("db1")
            made = Database(kind, ground, server, standby)
            made.prepare()
            made.rebuild()
            yield made
        return
    settings = {
        "max_wal_senders": "4", "wal_keep_size": "64MB", "wal_retrieve_retry_interval": "100ms", "hot_standby": "on",
        "max_connections": "60",
    }  # fmt: skip
    with (
        postgres_server(settings=settings, place=places["db1"], env=clocks.env("db1")) as server,
        postgres_replica(
            server, ground.address("db1"), settings=settings, place=places["db2"], env=clocks.env("db2")
        ) as standby,
    ):
        ground.carry_floating("db1")
        made = Database(kind, ground, server, standby)
        made.prepare()
        yield made
