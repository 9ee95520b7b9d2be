"""PostgreSQL: news by NOTIFY on the very connection that asks, and a session that cannot hold a lock while its owner is frozen.

All that a session must remember (time limits, LISTEN) is set only when the server process that answers is the one that the
driver connected to. Behind a pooler that shares sessions it would land on other people's sessions and be missing from ours;
there the limits travel with each transaction instead, and there is no news. Safety needs neither.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from heirflow.election.record import Exchange, Reading, Swap, Told
from heirflow.stores.base import Finding
from heirflow.stores.sql.bound import Bound
from heirflow.stores.sql.connecting import HOST_WORDS, Arguments, Place, is_address
from heirflow.stores.sql.encodings import TELLS_ANY_PAYLOAD, codec_of
from heirflow.stores.sql.fence import NAME_LIMIT, POOLED, Led, SessionFence, fence_of
from heirflow.stores.sql.flavour import AtOnce
from heirflow.stores.sql.one_statement import Carrier, Kind, code_of
from heirflow.stores.sql.schema import LOCK_LIMIT_S, Tables
from heirflow.stores.sql.service import hosts_of

if TYPE_CHECKING:
    from heirflow.stores.sql.statements import Statements

CHANNEL = "heirflow"
TABLES_LOCK = int.from_bytes(b"HeirFlow", "big")
"""Advisory lock for making the tables. Airflow's own are 1 and 2."""
FENCE_WAIT = 0.2
"""Share of the limit of a call that whoever takes charge waits for the sessions that it ends."""
NO_RIGHT = "42501"
READ_ONLY = "25006"
PREPARE_NONE = 2**31
"""psycopg prepares by itself what was executed so often; we say what."""


class Postgres:
    """The `Flavour` of PostgreSQL, with psycopg (3) or psycopg2."""

    title = "PostgreSQL"
    terse = True
    news_poll_s: float | None = None
    roles = True
    now: sa.sql.elements.ColumnElement[float] = sa.literal_column(
        "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)", sa.Float(53)
    )

    def __init__(
        self, url: sa.engine.URL, *, call_limit_s: float, connect_args: dict[str, Any], application_name: str
    ) -> None:
        self._new_psycopg = url.get_driver_name() == "psycopg"
        self._call_limit_s = call_limit_s
        self._limit_ms = max(1, int(1000 * call_limit_s))
        seconds = math.ceil(call_limit_s)
        wanted: dict[str, Any] = {
            "application_name": f"heirflow-{application_name}"[:NAME_LIMIT],
            "keepalives": 1,
            "keepalives_idle": seconds,
            "keepalives_interval": 1,
            "keepalives_count": 3,
            "tcp_user_timeout": self._limit_ms,
        }
        if self._new_psycopg:
            wanted["prepare_threshold"] = None  # a prepared statement belongs to a session, which a pooler may change
        # Of connecting our limit holds, whatever is asked for; libpq takes whole seconds and makes two of one. How we speak is
        # ours to choose: psycopg makes bytes of all text where the server or the environment says SQL_ASCII.
        self._connect_args = {
            **{key: value for key, value in wanted.items() if key not in url.query},
            **connect_args,
            "connect_timeout": max(2, seconds),
            "client_encoding": "utf8",
        }
        self.encoding = "UTF8"
        self._codec: str | None = None
        # Committing this must not wait for a standby, nor long for somebody else who does; all who notify queue up there.
        wait_ms = max(1, self._limit_ms // 10)
        self.notify: sa.sql.expression.Executable | None = sa.select(
            _setting("synchronous_commit", "off"),
            _setting("lock_timeout", str(wait_ms)),
            sa.func.pg_notify(sa.literal_column(f"'{CHANNEL}'"), sa.bindparam("p_election", type_=sa.String())),
        )
        self._settings: dict[str, str] = {}
        self._asked: set[bytes] = set()
        """The elections that somebody asks about here. What is told of others is not kept: anybody may send it."""
        self._heard: set[bytes] = set()
        """Those of them that there is news of."""
        self._heard_early = False
        """Something came before anybody had asked about an election: it may have been meant for whoever asks first."""
        self._own_pid = 0
        self._warnings: Any = []
        """What the server warned of since it was cleared."""
        self._fence: SessionFence | None = None
        self._carrier = Carrier()
        self.direct = False
        """Whether the session is ours alone."""
        self.standby = False
        """Whether this server only repeats what another one does."""
        self.history: str | None = None

    def engine_options(self) -> dict[str, Any]:
        # With the isolation level set at the driver it travels inside BEGIN and costs nothing.
        return {
            "connect_args": self._connect_args,
            "isolation_level": "READ COMMITTED",
            "use_native_hstore": False,
        }

    def storable(self, text: str) -> str:
        return text if self._codec is None else text.encode(self._codec, "replace").decode(self._codec)

    def prepare(self, *, create: bool) -> bool:
        return True

    def places(self, arguments: Arguments) -> Sequence[Place]:
        if (service := hosts_of(arguments)) is None:
            return (Place(arguments, "the service"),)  # libpq alone finds it, and tries its hosts in turn
        told = (arguments.get(word) or service.get(word) or os.environ.get(f"PG{word.upper()}") for word in HOST_WORDS)
        hosts, addresses, ports = (str(each or "").split(",") for each in told)
        found = []
        for index in range(max(len(hosts), len(addresses))):
            host, address, port = (each[min(index, len(each) - 1)] for each in (hosts, addresses, ports))
            one = {"host": host, "hostaddr": address, "port": port}
            found.append(_place({**arguments, **one}, host, address, f":{port}" if port else ""))
        return found

    def dial(self, driver: Any, words: Sequence[Any], arguments: Arguments) -> Any:
        return driver.connect(**{key: value for key, value in arguments.items() if value != ""})

    def repeats(self, connection: Any) -> bool:
        if self._new_psycopg:
            return bool(connection.pgconn.parameter_status(b"in_hot_standby") == b"on")
        return bool(connection.get_parameter_status("in_hot_standby") == "on")

    def set_up(self, conn: sa.engine.Connection) -> None:
        driver = conn.connection.dbapi_connection
        row = conn.exec_driver_sql(
            "SELECT pg_backend_pid(), pg_is_in_recovery(), current_setting('synchronous_commit'), "
            "CAST(current_setting('server_version_num') AS integer), current_setting('server_encoding')"
        ).one()
        self.encoding = str(row[4])
        self._codec = codec_of(self.encoding)
        self._own_pid = backend_pid(driver)
        self.direct = row[0] == self._own_pid
        self.standby = bool(row[1])
        self.history = self._history(conn)
        self._heard.clear()
        limit = self._limit_ms
        self._settings = {
            "client_min_messages": "warning",  # `commit` must hear of them
            "lock_timeout": str(max(1, limit // 2)),
            "statement_timeout": str(max(1, limit * 4 // 5)),
            # Where no BEGIN says it: with a stricter level a lost swap would be an error.
            "default_transaction_isolation": "read committed",
            "idle_in_transaction_session_timeout": str(limit),
        }
        if row[3] >= 170000:
            self._settings["transaction_timeout"] = str(2 * limit)  # as `Timings.patient_limit_s`
        if row[2] in {"off", "local"}:
            self._settings["synchronous_commit"] = "on"  # a confirmed renewal must not be forgotten in a crash
        if self.direct:
            if row[3] >= 120000:
                self._settings["plan_cache_mode"] = "force_generic_plan"  # or the first five uses each make a plan anew
            self._set(conn, self._settings, local=False)
            if self._listens:
                conn.exec_driver_sql(f"LISTEN {CHANNEL}")
            if self._new_psycopg:
                driver.prepare_threshold = PREPARE_NONE if self._carrier.prepares else None  # type: ignore[union-attr]
                # What comes in during an exchange. psycopg's own handler would decode what anybody has sent, and fail.
                driver.pgconn.notify_handler = lambda told: self._take(told.relname, told.extra, told.be_pid)  # type: ignore[union-attr]
        conn.commit()
        if self._new_psycopg:
            self._warnings = []
            driver.add_notice_handler(self._warnings.append)  # type: ignore[union-attr]
        else:
            self._warnings = driver.notices  # type: ignore[union-attr]
            if self.direct:
                # The session has it by now. psycopg2 would set and reset it around each statement of its own transaction.
                driver.isolation_level = None  # type: ignore[union-attr]

    def _history(self, conn: sa.engine.Connection) -> str | None:
        """The cluster's identifier and the timeline that it writes *now*: a promotion begins a new one.

        `pg_control_checkpoint` would go on naming the old timeline until the first checkpoint after a promotion. Both functions
        are open to every role; a service that has taken one away leaves us without a name, as before.
        """
        identifier = "(SELECT CAST(system_identifier AS text) FROM pg_control_system())"
        timeline = "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
        named = "CASE WHEN NOT pg_is_in_recovery() THEN {} || '/' || " + timeline + " END"
        try:
            cluster = conn.exec_driver_sql(f"SELECT {identifier}, {named.format(identifier)}").one()[0]
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated:
                raise
            conn.rollback()
            return None
        # Behind a pooler the next transaction may go to another cluster.
        where = f"'{int(cluster)}'" if self.direct else identifier
        return named.format(where)

    def _set(self, conn: sa.engine.Connection, settings: dict[str, str], *, local: bool) -> None:
        # Names and values are ours: words and digits.
        calls = ", ".join(f"set_config('{key}', '{value}', {local})" for key, value in settings.items())
        conn.exec_driver_sql(f"SELECT {calls}")

    def begin(self, conn: sa.engine.Connection, *, writes: bool, lone: bool = False) -> None:
        if not self.direct:
            self._set(conn, self._settings, local=True)
            return
        # `at_once` leaves the connection without transactions, which spares an heir the change to and fro.
        driver: Any = conn.connection.dbapi_connection
        if driver.autocommit is not lone:
            driver.autocommit = lone

    def at_once(
        self,
        conn: sa.engine.Connection,
        here: Tables,
        sql: Statements,
        election: str,
        kind: Kind,
        swap: Swap | None,
        bound: Bound,
    ) -> AtOnce | None:
        if not self.direct:
            return None
        fence = None if swap is None or swap.record.leader is None else self._session_fence(here)
        return self._carrier.carry_out(conn, here, sql, election, kind, swap, bound, self._warnings, fence)

    def commit(self, conn: sa.engine.Connection) -> bool:
        # When somebody cancels the wait for a synchronous standby, the commit succeeds, with a warning. No time-out of ours does.
        self._warnings.clear()
        conn.commit()
        driver: Any = conn.connection.dbapi_connection
        driver.commit()  # SQLAlchemy knows nothing of what `at_once` has begun
        return not self._warnings

    def patient(self, conn: sa.engine.Connection) -> None:
        names = self._settings.keys() & {"lock_timeout", "statement_timeout", "transaction_timeout"}
        self._set(conn, dict.fromkeys(names, str(int(1000 * LOCK_LIMIT_S))), local=True)

    def hurry(self, conn: sa.engine.Connection, limit_s: float | None) -> None:
        names = ("lock_timeout", "statement_timeout")
        if limit_s is None:
            self._set(conn, {name: self._settings[name] for name in names}, local=True)
        else:
            self._set(conn, dict.fromkeys(names, str(max(1, int(1000 * limit_s)))), local=True)

    def try_lock(self, conn: sa.engine.Connection) -> bool:
        return bool(conn.execute(sa.select(sa.func.pg_try_advisory_xact_lock(TABLES_LOCK))).scalar())

    def unlock(self, conn: sa.engine.Connection) -> None:
        pass  # ends with the transaction

    def fence(
        self, conn: sa.engine.Connection, here: Tables, election: str, swap: Swap, led: Led | None = None
    ) -> tuple[Told, ...]:
        record, taking = swap.record, swap.takes_over is not None
        if not self.direct:
            return (Told(POOLED, failed=True),) if taking else ()
        wait_s = FENCE_WAIT * self._call_limit_s if taking else None
        # Who makes a seat vacant sits down nowhere: the term that is over has earlier sessions, and there is no own one.
        leader, term = (record.leader, record.term) if record.leader is not None else ("", record.term + 1)
        fence = self._session_fence(here) if led is None else SessionFence(here, led)
        return fence.end(conn, election, leader, term, wait_s, swap.start)

    def _session_fence(self, here: Tables) -> SessionFence:
        if self._fence is None:
            self._fence = SessionFence(here)
        return self._fence

    def fenced(self, conn: sa.engine.Connection, here: Tables) -> Finding:
        self.begin(conn, writes=False)
        return fence_of(conn, here, direct=self.direct)

    def insert_if_absent(self, table: sa.Table) -> Any:
        return postgresql.insert(table).inline().on_conflict_do_nothing()

    def fileno(self, driver: Any) -> int | None:
        return int(driver.fileno())

    def interrupt(self, driver: Any) -> None:
        pass

    def stale(self) -> bool:
        return False

    def news_fd(self, driver: Any) -> int | None:
        return int(driver.fileno()) if self._listens and not driver.closed else None

    @property
    def _listens(self) -> bool:
        """Whether news comes here. One payload that the server cannot put into UTF-8 would end our session."""
        return self.direct and not self.standby and self.encoding in TELLS_ANY_PAYLOAD

    def news(self, conn: sa.engine.Connection, election: str, here: Tables) -> bool:
        driver: Any = conn.connection.dbapi_connection
        wanted = election.encode()
        self._asked.add(wanted)
        if self._new_psycopg:
            driver.pgconn.consume_input()
            while (notify := driver.pgconn.notifies()) is not None:
                self._take(notify.relname, notify.extra, notify.be_pid)
        else:
            driver.poll()
            for notify in driver.notifies:
                self._take(notify.channel.encode(), notify.payload.encode(), notify.pid)
            driver.notifies.clear()
        known = wanted in self._heard or self._heard_early
        self._heard.discard(wanted)
        self._heard_early = False
        return known

    def _take(self, channel: bytes, payload: bytes, pid: int) -> None:
        # What we told ourselves is no news.
        if channel == CHANNEL.encode() and pid != self._own_pid:
            if payload in self._asked:
                self._heard.add(payload)
            self._heard_early |= not self._asked

    def saw(self, election: str, request: Exchange, reading: Reading) -> None:
        self._asked.add(election.encode())

    def refuses(self, error: BaseException) -> bool:
        return code_of(error) in {NO_RIGHT, READ_ONLY}

    def may_create(self, conn: sa.engine.Connection, here: Tables) -> bool | None:
        from heirflow.stores.sql.rights import may_create_postgres

        return may_create_postgres(conn, here)

    def will_guard(self) -> Any:
        # The helper's session has no settings of ours. This sets them within its transaction before it takes the row lock,
        # so that a host that freezes between two statements does not keep the record from the heirs.
        return _setting("idle_in_transaction_session_timeout", str(self._limit_ms)).is_not(None)

    def will_options(self, dialect: Any) -> dict[str, Any]:
        return {}

    def hides(self, conn: sa.engine.Connection, here: Tables) -> str | None:
        from heirflow.stores.sql.rights import hidden_by_postgres

        return hidden_by_postgres(conn, here)

    def examine(self, conn: sa.engine.Connection, here: Tables) -> list[Finding]:
        from heirflow.stores.sql.examine import examine_postgres

        return examine_postgres(conn, direct=self.direct, settings=self._settings, encoding=self.encoding)


def _place(arguments: Arguments, host: str, address: str, port: str) -> Place:
    title = f"{host or address or 'the local socket'}{port}"
    if address or not host or host.startswith(("/", "@")) or is_address(host):
        return Place(arguments, title)

    def at(addresses: Sequence[str]) -> Sequence[Place]:
        return [Place({**arguments, "hostaddr": each}, f"{title} ({each})") for each in addresses]

    return Place(arguments, title, host, at)


def _setting(name: str, value: str) -> Any:
    """A setting for one transaction, as an expression. Names and values are ours: words and digits."""
    return sa.func.set_config(sa.literal_column(f"'{name}'"), sa.literal_column(f"'{value}'"), sa.true())


def backend_pid(driver: Any) -> int:
    """The server process that the driver was told it talks to."""
    return int(driver.info.backend_pid)
