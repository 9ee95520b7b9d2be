"""One connection to a database: made when it is needed, dropped at the first sign of trouble, severed from another thread."""

from __future__ import annotations

import os
import queue
import re
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from heirflow.errors import HeirflowError, first_line
from heirflow.stores.base import Address, StoreRefuses, StoreUnavailable
from heirflow.stores.sql.connecting import Connecting
from heirflow.stores.sql.flavour import Flavour
from heirflow.stores.sql.one_statement import code_of
from heirflow.stores.sql.troubles import named

HUNG_UP = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR | select.POLLNVAL


@dataclass(frozen=True, slots=True)
class Source:
    """Where the URL comes from when it can change."""

    address: Address
    parse: Callable[[str], sa.engine.URL]

    def url(self, before: sa.engine.URL) -> sa.engine.URL:
        """The URL as it is now. One of another place is not taken: who leads there may not know of who leads here."""
        try:
            found = self.parse(self.address.now())
        except HeirflowError:
            return before
        return found.set(drivername=before.drivername) if _place_of(found) == _place_of(before) else before


def _place_of(url: sa.engine.URL) -> tuple[Any, ...]:
    named = ("host", "hostaddr", "port", "dbname", "db", "service", "unix_socket")
    return url.get_backend_name(), url.host, url.port, url.database, *(url.query.get(name) for name in named)


class Link:
    """Used by one thread at a time, except `sever`."""

    def __init__(
        self, url: sa.engine.URL, flavour: Flavour, *, connect_limit_s: float, source: Source | None = None
    ) -> None:
        self.url = url
        self._source = source
        self._connect_limit_s = connect_limit_s
        self.options = flavour.engine_options()
        self.engine = sa.create_engine(
            url,
            future=True,
            poolclass=NullPool,
            pool_reset_on_return=None,
            hide_parameters=True,
            enable_from_linting=False,  # the one read joins on bound values, which looks like a mistake to it
            **self.options,
        )
        sa.event.listen(self.engine, "do_connect", self._dial)
        self.dbapi: Any = self.engine.dialect.dbapi
        """The driver's module."""
        self.conn: sa.engine.Connection | None = None
        self.driver: Any = None
        """The driver's own connection."""
        self.answer_limit_s: float | None = None
        """When a call that hangs is severed from here; None: somebody else does."""
        self._flavour = flavour
        self._socket: socket.socket | None = None
        self._watch: select.poll | None = None
        self._lock = threading.Lock()  # between `sever` and whoever replaces the connection; never held while waiting
        self._severed = False
        self._connecting: Connecting | None = None
        self._asking: queue.SimpleQueue[bool] | None = None

    @property
    def _failures(self) -> tuple[type[BaseException], ...]:
        """What a database or the network does."""
        return sa.exc.SQLAlchemyError, OSError, UnicodeError, self.dbapi.Error

    @property
    def where(self) -> str:
        """Which database this is, for people: never the password."""
        url, title = self.url, self._flavour.title
        if url.get_backend_name() == "sqlite":
            return f"{title} at {url.database}"
        host = url.host or url.query.get("host") or url.query.get("unix_socket") or "the local socket"
        host = host if isinstance(host, str) else ",".join(host)
        port = "" if url.port is None else f":{url.port}"
        return f"{title} at {host}{port}/{url.database or ''}"

    def connect(self) -> sa.engine.Connection:
        """Connect and set the session up."""
        self._severed = False
        try:
            conn = self.engine.connect()
        except self._failures:
            raise
        except Exception as error:  # PyMySQL's RuntimeError where it lacks `cryptography`
            raise self._trouble(error) from error
        with self._lock:
            self.conn = conn
        if self._severed:
            raise StoreUnavailable(f"{self.where} took too long to connect")
        self._flavour.set_up(conn)
        return conn

    def _dial(self, dialect: Any, record: Any, words: Any, arguments: dict[str, Any]) -> Any:
        """The driver's connection, for SQLAlchemy, which then asks things on it: so `sever` must know it by now."""
        text = "" if self._source is None else self._source.address.now()
        try:
            driver = self._dial_once(*self._told(dialect, words, arguments))
        except self._failures:
            if self._source is None or not self._another(self._source.address, text) or self._severed:
                raise
            driver = self._dial_once(*self._told(dialect, words, arguments))
        if self._source is not None:
            self._source.address.accepted()
        number = self._flavour.fileno(driver)
        with self._lock:
            self._connecting, self.driver = None, driver
            # A descriptor of our own, so that `sever` can never hit a number that the driver has closed.
            self._socket = None if number is None else socket.socket(fileno=os.dup(number))
        if self._socket is not None:
            self._watch = select.poll()
            self._watch.register(self._socket, HUNG_UP)
        return driver

    def _another(self, address: Address, refused: str) -> bool:
        """Whether there is another URL than the one that was refused. Who is asked may take long: the waiting can be severed."""
        told = queue.SimpleQueue[bool]()

        def ask() -> None:
            found = False
            with suppress(Exception):
                found = address.refused(refused)
            told.put(found)

        with self._lock:
            if self._severed:
                return False
            self._asking = told
        try:
            threading.Thread(target=ask, name="heirflow-asking", daemon=True).start()
            return told.get()
        except RuntimeError:  # no thread to be had just now
            return False
        finally:
            with self._lock:
                self._asking = None

    def look_up(self) -> None:
        """Learn the URL anew, where it can change."""
        if self._source is not None:
            self.url = self._source.url(self.url)

    def _told(self, dialect: Any, words: Any, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        before = self.url
        self.look_up()
        if self._source is None or self.url == before == self.engine.url:
            return words, arguments
        words, fresh = dialect.create_connect_args(self.url)
        return words, {**fresh, **self.options.get("connect_args", {})}

    def _dial_once(self, words: Any, arguments: dict[str, Any]) -> Any:
        places = self._flavour.places(arguments)
        if places:
            connecting = Connecting(lambda chosen: self._flavour.dial(self.dbapi, (), chosen), self._flavour.repeats)
            with self._lock:
                self._connecting = connecting
            if self._severed:
                connecting.sever()
            return connecting.connect(places, self._connect_limit_s)
        return self._flavour.dial(self.dbapi, words, arguments)

    def usable(self) -> sa.engine.Connection | None:
        """The connection, if there is one that has not hung up."""
        if self.hung_up():
            self.drop()
        return self.conn

    def hung_up(self) -> bool:
        """Whether the connection is of no use any more, as far as that can be seen without asking."""
        if self.conn is not None and self._flavour.stale():
            return True
        return self._watch is not None and bool(self._watch.poll(0))

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Whatever fails in here ends the connection; what the database or the network did becomes `StoreUnavailable`.

        Where nobody else severs a call that hangs, the answer's own limit does.
        """
        limit = None
        if self.answer_limit_s is not None:
            limit = threading.Timer(self.answer_limit_s, self.sever)
            limit.daemon = True
            limit.start()
        try:
            yield
        except HeirflowError:
            self.drop()
            raise
        except BaseException as error:
            self.drop()
            if isinstance(error, self._failures):
                cause = getattr(error, "orig", None) or error
                trouble = self._trouble(cause)
                late = limit is not None and limit.finished.is_set()
                if late and not isinstance(trouble, StoreRefuses):
                    trouble = StoreUnavailable(f"{self.where} did not answer within {self.answer_limit_s:g} s")
                raise trouble from cause
            raise
        finally:
            if limit is not None:
                limit.cancel()

    def attempt(self, statement: tuple[str, Any]) -> str:
        """Carry out one statement of the driver's in a transaction of its own; returns why it failed."""
        try:
            with self.asking():
                try:
                    self.driver.autocommit = True
                    self.driver.cursor().execute(*statement)
                    self.driver.autocommit = False
                except self.dbapi.Error as error:
                    if self.driver.closed:
                        raise
                    self.driver.autocommit = False
                    return f"the others could not be told at once: {first_line(error)}"
        except StoreUnavailable as error:
            return f"the others could not be told at once: {error}"
        return ""

    def _trouble(self, cause: BaseException) -> StoreUnavailable:
        first = re.sub(r"connection failed: |FATAL:\s+", "", first_line(cause))
        for secret in (self.url.password, self.url.query.get("password"), self.url.query.get("passwd")):
            if secret:
                first = first.replace(str(secret), "***")
        if (trouble := named(cause, code_of(cause))) is None:
            return StoreUnavailable(f"{self.where} did not answer as it should: {first}")
        return trouble.kind(f"{self.where} {trouble.said}: {first}; {trouble.advice}")

    def sever(self) -> None:
        """Break the connection from another thread, so that a call that hangs there ends. Never raises."""
        with self._lock:
            self._severed = True
            if self._asking is not None:
                self._asking.put(False)
            with suppress(Exception):
                if self._connecting is not None:
                    self._connecting.sever()
                elif self._socket is not None:
                    self._socket.shutdown(socket.SHUT_RDWR)
                elif self.driver is not None:
                    self._flavour.interrupt(self.driver)

    def drop(self, *, politely: bool = False) -> None:
        """Forget the connection without waiting for the server, which might hang; politely: with the driver's word of farewell."""
        with self._lock:
            conn, link, driver = self.conn, self._socket, self.driver
            self.conn = self.driver = self._socket = self._watch = self._connecting = None
        if conn is not None and politely:
            with suppress(Exception):
                conn.close()
        if link is not None:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()
        if conn is not None:
            with suppress(Exception):
                conn.invalidate()
            with suppress(Exception):
                conn.close()
        elif driver is not None:  # it failed while SQLAlchemy made its acquaintance
            with suppress(Exception):
                driver.close()
