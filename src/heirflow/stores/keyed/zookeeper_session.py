"""One session with ZooKeeper: kazoo's client, which connects once, and within limits of ours. A new one follows a lost one.

Left to itself, kazoo goes on after a loss, waits for a frozen host as long as a session lasts, and retries.
Here every call has one limit, no write is sent twice, and a session that was lost is over: no reader can take it for another.
"""

# The client has no types.
# mypy: disable-error-code="import-untyped", allow-subclassing-any

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import AuthFailedError
from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.security import ACL, CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, Id, Permissions

from heirflow.errors import ConfigError
from heirflow.stores.base import StoreRefuses
from heirflow.stores.keyed.place import Place

SESSION_S = 10.0
"""Asked of the server. When it ends a session decides nothing: there are no ephemeral nodes here."""
GOODBYE_S = 0.5
ENDING_S = 2.0


class NotReached(Exception):
    """No host could be used in time. Says why."""


class Session:
    """A client that was connected, or never was. Used by one thread, except `sever`."""

    def __init__(self, place: Place, secret: str, *, call_limit_s: float, lost: Callable[[], None]) -> None:
        """`lost`: called in a thread of kazoo when the connection breaks by itself. Raises `StoreRefuses`."""
        several = len(place.hosts) + 1
        self._handler = _Handler(tls_of(place), call_limit_s if len(place.hosts) == 1 else call_limit_s / several)
        self.client = KazooClient(
            hosts=[f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in place.hosts],
            timeout=SESSION_S,
            handler=self._handler,
            auth_data=[("digest", f"{place.user}:{secret}")] if place.user else None,
            connection_retry={"max_tries": 1},  # each host once
            logger=_silence(),
        )
        self._lost = lost
        self._ender: threading.Thread | None = None
        self.client.add_listener(self._changed)

    @property
    def is_over(self) -> bool:
        """Whether its connection is gone."""
        return self._handler.over

    def start(self, limit: float) -> None:
        """Connect. Raises `NotReached`, or kazoo's `AuthFailedError`."""
        self.client.start_async()
        self._handler.settled.wait(left(limit))
        if self.client.client_state == KeeperState.AUTH_FAILED:
            raise AuthFailedError
        if not self.client.connected:
            nowhere = "none of them has an address" if self._handler.over else "their addresses are not known in time"
            raise NotReached(self._handler.trouble or nowhere)

    def wait(self, result: Any, limit: float) -> Any:
        """What a call came to. Raises what kazoo does."""
        return result.get(timeout=left(limit))

    def sever(self) -> None:
        """Let its socket end, and with it every call that waits. Never raises."""
        self._handler.sever()

    def end(self, *, at_once: bool) -> None:
        """Give back its threads and sockets, and say goodbye first unless `at_once`. Never raises.

        What still hangs then, as in a name server, ends by itself: `ended` waits for it.
        """
        self._lost = _nothing
        if at_once:
            self.sever()
        self._ender = threading.Thread(target=self._end, name="zookeeper-end", daemon=True)
        self._ender.start()
        self._ender.join(0.05 if at_once else GOODBYE_S)
        self.sever()

    def ended(self, wait_s: float) -> bool:
        """Whether all is given back."""
        if self._ender is None:
            return True
        self._ender.join(wait_s)
        return not self._ender.is_alive()

    def _end(self) -> None:
        for act in (self.client.stop, self.client.close):
            with suppress(Exception):
                act()

    def _changed(self, state: str) -> None:
        """By a thread of kazoo."""
        if state == KazooState.CONNECTED:
            self._handler.greeted = True
            self._handler.settled.set()
        elif self._handler.greeted and not self._handler.over:
            self._handler.over = True
            self._lost()


def left(limit: float) -> float:
    """Seconds until then."""
    return max(0.0, limit - time.monotonic())


def acl_of(place: Place) -> list[Any]:
    """Who may do what with the nodes that we make. Raises `ConfigError`."""
    known = bool(place.user or "cert" in place.options)
    said = place.options.get("acl") or ("creator" if known else "open")
    if said == "open":
        return list(OPEN_ACL_UNSAFE)
    if said == "creator":
        if not known:
            raise ConfigError("the zookeeper URL has acl=creator and names no user, nor a cert")
        return list(CREATOR_ALL_ACL)
    bits = {
        "c": Permissions.CREATE,
        "d": Permissions.DELETE,
        "r": Permissions.READ,
        "w": Permissions.WRITE,
        "a": Permissions.ADMIN,
    }
    found = []
    for entry in said.split(","):
        who, _, letters = entry.rpartition(":")
        scheme, _, name = who.partition(":")
        if not (scheme and name and letters) or set(letters) - bits.keys():
            raise ConfigError(
                f"the zookeeper URL has an acl that cannot be read: {entry!r}; write creator, open, or a list like "
                "digest:anna:<hash>:cdrwa,world:anyone:r"
            )
        found.append(ACL(sum(bits[letter] for letter in set(letters)), Id(scheme, name)))
    return found


def tls_of(place: Place) -> ssl.SSLContext | None:
    """How a host is known, and how we are; None: no TLS. Raises `StoreRefuses`."""
    if not place.secure:
        return None
    try:
        context = ssl.create_default_context(cafile=place.options.get("ca"))
        if "cert" in place.options:
            context.load_cert_chain(place.options["cert"], place.options.get("key"))
    except OSError as error:  # ssl.SSLError is one
        raise StoreRefuses(f"cannot use the certificates that the zookeeper URL names: {error}") from None
    return context


def dial(host: str, port: int, name: str, context: ssl.SSLContext | None, limit_s: float) -> socket.socket:
    """A connection that no program inherits. Raises OSError."""
    link = socket.create_connection((host, port), limit_s)
    try:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link if context is None else context.wrap_socket(link, server_hostname=name)
    except BaseException:
        link.close()
        raise


class _Handler(SequentialThreadingHandler):
    """kazoo's threads and sockets, with a limit for each host, and an end that can be asked for from any thread."""

    def __init__(self, context: ssl.SSLContext | None, host_limit_s: float) -> None:
        super().__init__()
        self._context, self._host_limit_s = context, host_limit_s
        self._socket: socket.socket | None = None
        self.greeted = False
        """Whether a host has taken us."""
        self.over = False
        """No host is tried any more."""
        self.settled = threading.Event()
        """It is known whether a host has taken us."""
        self.trouble = ""

    def create_connection(self, address: tuple[str, int], hostname: str, **_: object) -> socket.socket:
        self._check()
        where = f"{hostname}:{address[1]}"
        self.trouble = f"{where} does not answer in time"
        try:
            self._socket = dial(*address[:2], hostname, self._context, self._host_limit_s)
        except OSError as error:
            self.trouble = f"{where}: {error.strerror or error}"
            raise
        self.trouble = f"{where} takes connections and does not serve"
        try:
            self._check()
        except ConnectionAbortedError:
            self._socket.close()
            raise
        return self._socket

    def _check(self) -> None:
        if self.over:
            raise ConnectionAbortedError("the session is over")

    def select(self, *args: Any, **_: object) -> Any:
        *lists, timeout = args
        return super().select(*lists, timeout if self.greeted else min(timeout, self._host_limit_s))

    def spawn(self, func: Callable[..., object], *args: Any, **kwargs: Any) -> threading.Thread:
        def quietly() -> None:
            # An answer that kazoo does not know ends its thread: for us it is no answer, and stderr is not told.
            with suppress(Exception):
                func(*args, **kwargs)
            if getattr(func, "__name__", "") == "zk_loop":
                self.over = True
                self.settled.set()

        thread = threading.Thread(target=quietly, name="zookeeper", daemon=True)
        thread.start()
        return thread

    def sever(self) -> None:
        self.over = True
        self.settled.set()
        if (link := self._socket) is not None:
            with suppress(OSError):
                # The plain one below TLS too: nobody waits for a farewell.
                socket.socket.shutdown(link, socket.SHUT_RDWR)


def _silence() -> logging.Logger:
    logger = logging.Logger("kazoo", logging.CRITICAL + 1)  # noqa: LOG001 - not among those that a program configures
    logger.addHandler(logging.NullHandler())
    return logger


def _nothing() -> None:
    """Nobody is told."""


__all__ = ["KazooTimeoutError", "NotReached", "Session", "acl_of", "dial", "left", "tls_of"]
