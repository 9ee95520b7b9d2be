"""MySQL and MariaDB. These databases push no notifications: members look at every check-in.

A frozen member must not keep the record's row. MariaDB ends a transaction that stands idle; MySQL can only end a session
that does, so there an idle session ends after two limits of a call, and the store connects again without anybody noticing.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from heirflow.election.record import Exchange, Reading, Swap, Told
from heirflow.stores.base import Finding, KeptOut
from heirflow.stores.sql.connecting import Arguments, Place, is_address
from heirflow.stores.sql.fence import Led
from heirflow.stores.sql.schema import Tables

NO_RIGHT = {1044, 1142, 1143, 1227, 1290, 1792, 1836, 3261}
"""Errors for: no access to the database, command denied (table, column), privilege needed, read-only server (four kinds)."""

LEASE_ONLY = "lease only: this database cannot tell the sessions of one member's command from those of another"
"""A client names itself in connection attributes, but no driver takes them from the environment, so a command's cannot be named."""

ADDRESS = "heirflow_address"
"""Among the arguments of a place: the one of the host's addresses that is meant."""


class Mysql:
    """The `Flavour` of MySQL and MariaDB, with PyMySQL or mysqlclient."""

    title = "MySQL"
    encoding = "utf8mb4"
    news_poll_s: float | None = None
    terse = False
    roles = True
    # UNIX_TIMESTAMP() would go through the session's time zone, and back by an hour every autumn.
    now: sa.sql.elements.ColumnElement[float] = sa.literal_column(
        "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) / 1000000.0)", sa.Float(53)
    )
    notify: sa.sql.expression.Executable | None = None

    def __init__(self, url: sa.engine.URL, *, call_limit_s: float, connect_args: dict[str, Any]) -> None:
        self._pymysql = url.get_driver_name() == "pymysql"
        self._limit_s = call_limit_s
        self.history: str | None = None
        # PyMySQL takes fractions of seconds, mysqlclient does not.
        limit = call_limit_s if self._pymysql else max(1, math.ceil(call_limit_s))
        # They are ours to choose, too: whoever hangs longer is given up anyway.
        wanted = {"connect_timeout": limit, "read_timeout": limit, "write_timeout": limit}
        # The character set is ours to choose: labels may hold anything.
        self._connect_args = {
            **connect_args,
            **wanted,
            "charset": "utf8mb4",
        }

    def engine_options(self) -> dict[str, Any]:
        return {"connect_args": self._connect_args, "isolation_level": "READ COMMITTED"}

    def storable(self, text: str) -> str:
        return text

    def prepare(self, *, create: bool) -> bool:
        return True

    def places(self, arguments: Arguments) -> Sequence[Place]:
        host = str(arguments.get("host") or "localhost")
        title = f"{host}:{arguments.get('port') or 3306}"
        if arguments.get("unix_socket") or host == "localhost" or is_address(host):
            return (Place(arguments, title),)

        def at(addresses: Sequence[str]) -> Sequence[Place]:
            if not self._pymysql:
                return (Place(arguments, title),)
            return [Place({**arguments, ADDRESS: address}, f"{title} ({address})") for address in addresses]

        return (Place(arguments, title, host, at),)

    def dial(self, driver: Any, words: Sequence[Any], arguments: Arguments) -> Any:
        if ADDRESS not in arguments:
            return driver.connect(*words, **arguments)
        # The name stays the host's, which its certificate is compared with.
        named = {key: value for key, value in arguments.items() if key != ADDRESS}
        connection = driver.connect(**named, defer_connect=True)
        link = socket.create_connection((arguments[ADDRESS], connection.port), self._limit_s)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.connect(link)
        return connection

    def repeats(self, connection: Any) -> bool:
        return False

    def set_up(self, conn: sa.engine.Connection) -> None:
        settings = ["innodb_lock_wait_timeout = 1", "lock_wait_timeout = 1", self._idle_limit(conn.dialect)]
        if getattr(conn.dialect, "is_mariadb", False):
            self.title = "MariaDB"
            settings.append(f"max_statement_time = {0.8 * self._limit_s:.3f}")
        conn.exec_driver_sql("SET SESSION " + ", ".join(settings))
        self.history = _history(conn)
        conn.commit()

    def begin(self, conn: sa.engine.Connection, *, writes: bool, lone: bool = False) -> None:
        pass  # the driver begins with the first statement

    def at_once(self, *_: object) -> None:
        return None  # no statement changes rows and reads others here

    def commit(self, conn: sa.engine.Connection) -> bool:
        conn.commit()
        return True

    def patient(self, conn: sa.engine.Connection) -> None:
        pass

    def hurry(self, conn: sa.engine.Connection, limit_s: float | None) -> None:
        # MySQL itself has no such limit; there a wait for a lock ends after the second that `set_up` has set.
        if getattr(conn.dialect, "is_mariadb", False):
            conn.exec_driver_sql(f"SET SESSION max_statement_time = {limit_s or 0.8 * self._limit_s:.3f}")

    def try_lock(self, conn: sa.engine.Connection) -> bool:
        return conn.execute(sa.select(sa.func.get_lock("heirflow tables", 0))).scalar() == 1

    def unlock(self, conn: sa.engine.Connection) -> None:
        conn.execute(sa.select(sa.func.release_lock("heirflow tables")))

    def fence(
        self, conn: sa.engine.Connection, here: Tables, election: str, swap: Swap, led: Led | None = None
    ) -> tuple[Told, ...]:
        return ()

    def fenced(self, conn: sa.engine.Connection, here: Tables) -> Finding:
        return Finding("fence", "note", LEASE_ONLY, {"state": KeptOut.LEASE_ONLY})

    def insert_if_absent(self, table: sa.Table) -> Any:
        return mysql.insert(table).inline().prefix_with("IGNORE")

    def fileno(self, driver: Any) -> int | None:
        link = getattr(driver, "_sock", None) if self._pymysql else driver
        fileno = getattr(link, "fileno", None)
        return None if fileno is None else int(fileno())

    def interrupt(self, driver: Any) -> None:
        pass

    def stale(self) -> bool:
        return False

    def news_fd(self, driver: Any) -> int | None:
        return None

    def news(self, conn: sa.engine.Connection, election: str, here: Tables) -> bool:
        return False

    def saw(self, election: str, request: Exchange, reading: Reading) -> None:
        pass

    def refuses(self, error: BaseException) -> bool:
        return bool(error.args) and error.args[0] in NO_RIGHT

    def may_create(self, conn: sa.engine.Connection, here: Tables) -> bool | None:
        from heirflow.stores.sql.rights import may_create_mysql

        return may_create_mysql(conn)

    def will_guard(self) -> None:
        return None

    def will_options(self, dialect: Any) -> dict[str, Any]:
        # The helper's session, too, must not keep the record's row when its host freezes between two statements.
        return {"init_command": f"SET SESSION innodb_lock_wait_timeout = 1, {self._idle_limit(dialect)}"}

    def _idle_limit(self, dialect: Any) -> str:
        if getattr(dialect, "is_mariadb", False):
            seconds = max(1, math.ceil(self._limit_s))
            return f"idle_transaction_timeout = {seconds}, idle_write_transaction_timeout = {seconds}"
        # A check-in is longer than the limit of a call, and shorter than two.
        return f"wait_timeout = {max(2, math.ceil(2 * self._limit_s))}"

    def hides(self, conn: sa.engine.Connection, here: Tables) -> None:
        return None

    def examine(self, conn: sa.engine.Connection, here: Tables) -> list[Finding]:
        from heirflow.stores.sql.examine import examine_mysql

        return examine_mysql(conn)


def _history(conn: sa.engine.Connection) -> str:
    """The server's own name: these databases have none for a history, so a fail-over is told by another server answering.

    MySQL makes one up for each data folder (`server_uuid`). MariaDB has what is configured, and a hash of the machine's network
    address and the port where it is new enough (`server_uid`). All nodes of a Galera cluster share one history.
    """
    named = "server_uuid", "server_uid", "wsrep_on", "wsrep_cluster_name"
    words = ", ".join(f"'{name}'" for name in named)
    asked = conn.exec_driver_sql(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({words})")
    found = {str(name): str(value) for name, value in asked.all()}
    if found.get("wsrep_on", "OFF").upper() in {"ON", "1"} and "wsrep_cluster_name" in found:
        text = "CONCAT('galera/', @@wsrep_cluster_name)"
    elif "server_uuid" in found:
        text = "@@server_uuid"
    else:
        uid = ", @@server_uid" if "server_uid" in found else ""
        text = f"CONCAT_WS('/', @@server_id, LEFT(@@hostname, 100), @@port{uid})"
    return text
