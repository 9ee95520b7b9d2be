"""A Consul server in this process, for tests on machines where none can be installed: what is documented, and nothing more.

    with consul_double() as consul:
        open_store(consul.url, call_limit_s=1.5)
        consul.fail(500, "No cluster leader", of="PUT")

It speaks HTTP for keys (``/v1/kv``), transactions, status and ``agent/self``, with blocking queries, access control and limits, and
has a switch for each way in which a real one disappoints. It is no proof that a real one does the same: the contract runs against
one as well, when ``CONSUL_HTTP_ADDR`` names it.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from lab.servers.consul_requests import Answered, AnswerError, Asked, Request
from lab.servers.consul_state import MOST_OPERATIONS, DeniedError, NoTokenError, Snapshot, State


@dataclass
class Fault:
    """What goes wrong with a request."""

    of: str
    """Its method; empty: any."""
    times: int
    status: int = 0
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    acts: bool = False
    """Whether what was asked happens all the same."""
    drops: bool = False
    """The connection ends instead of an answer."""
    doubles: bool = False
    """It is carried out twice, as a proxy does that sends it again; the second answer is given."""


class ConsulDouble:
    """One server: `state` is what it keeps, the rest are switches."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.state = State()
        self.asked: list[Asked] = []
        self.version = "1.21.5"
        self.peers = ["127.0.0.1:8300", "127.0.0.2:8300", "127.0.0.3:8300"]
        self.leads = True
        self.known_leader = True
        self.last_contact_ms = 0
        self.agent_may_be_read = True
        self.checks_names = True
        self.most_operations = MOST_OPERATIONS
        self.slow_s = 0.0
        self.jitter = True
        self.index_offset = 0
        """Added to each index that a blocking query is told."""
        self.woken = 0
        self.blocked = 0
        """So many blocking queries wait now."""
        self._faults: list[Fault] = []
        self._thawed = threading.Event()
        self._thawed.set()
        self._context = context
        self._server: _Server | None = None
        self._port = 0

    @property
    def endpoint(self) -> str:
        """Where it is, once it was started."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """For `open_store`."""
        return f"consul{'' if self._context is None else 's'}://{self.endpoint}/heirflow"

    # Switches

    def fail(
        self, status: int, body: str = "", *, of: str = "", times: int = 1, acts: bool = False, **headers: str
    ) -> None:
        """The next requests get this answer."""
        named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        self._faults.append(Fault(of, times, status, body, named, acts))

    def drop(self, *, of: str = "", times: int = 1, acts: bool) -> None:
        """The next requests get no answer. `acts`: what they ask happens all the same."""
        self._faults.append(Fault(of, times, acts=acts, drops=True))

    def double(self, *, of: str = "PUT", times: int = 1) -> None:
        """The next requests come twice, as through a proxy that has not seen the first answer."""
        self._faults.append(Fault(of, times, acts=True, doubles=True))

    def heal(self) -> None:
        """No more of that."""
        self._faults.clear()

    def freeze(self) -> None:
        """Answer nobody, and do nothing."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Go on with all that was asked."""
        self._thawed.set()

    def wake(self) -> None:
        """End all blocking queries, without a change."""
        with self.state.changed:
            self.woken += 1
            self.state.changed.notify_all()

    def snapshot(self) -> Snapshot:
        """To be restored later."""
        return self.state.snapshot()

    def restore(self, snapshot: Snapshot, *, fresh: bool = True) -> None:
        """See `State.restore`."""
        self.state.restore(snapshot, fresh=fresh)

    def start(self) -> None:
        """Begin to serve, at the port of before."""
        self._server = _Server(self, self._port, self._context)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="consul-double", daemon=True).start()

    def stop(self) -> None:
        """Be away, with all connections ended; the data stays."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            self.wake()
            server.cut()

    def crash(self) -> None:
        """The same: it has no disk, and forgets nothing."""
        self.stop()

    def restart(self) -> None:
        """Be away for a moment."""
        self.stop()
        self.start()

    @property
    def connections(self) -> int:
        """How many there are now."""
        return 0 if self._server is None else len(self._server.open)

    def fault(self, method: str) -> Fault | None:
        """The one for the next request."""
        for fault in self._faults:
            if fault.of in {"", method}:
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
                return fault
        return None

    def wait_while_frozen(self) -> None:
        """As long as it is."""
        self._thawed.wait()


@contextmanager
def consul_double(context: ssl.SSLContext | None = None) -> Iterator[ConsulDouble]:
    """One that runs. `context`: for TLS."""
    double = ConsulDouble(context)
    double.start()
    try:
        yield double
    finally:
        double.thaw()
        double.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, double: ConsulDouble, port: int, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.double, self.context = double, context
        self.open: set[socket.socket] = set()

    def finish_request(self, request: Any, client_address: Any) -> None:
        link = request if self.context is None else self.context.wrap_socket(request, server_side=True)
        self.open.add(link)
        try:
            super().finish_request(link, client_address)
        finally:
            self.open.discard(link)
            with suppress(OSError):
                link.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is no event."""

    def cut(self) -> None:
        for link in list(self.open):
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        double = self.server.double
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        bearer = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        asked = Asked(self.command, unquote(url.path), query, self.headers.get("X-Consul-Token") or bearer, body)
        double.asked.append(asked)
        double.wait_while_frozen()
        time.sleep(double.slow_s)
        fault = double.fault(asked.method)
        answer: Answered = (0, "", {})
        if fault is None or fault.acts:
            for _ in range(2 if fault is not None and fault.doubles else 1):
                answer = self._answered(asked)
        if fault is not None and fault.drops:
            self.close_connection = True
            return
        if fault is not None and not fault.doubles:
            answer = (fault.status, fault.body, dict(fault.headers))
        self._send(*answer)

    def _answered(self, asked: Asked) -> Answered:
        try:
            return Request(self.server.double, asked).answered()
        except AnswerError as error:
            return error.status, error.body, error.headers
        except NoTokenError:
            return 403, "ACL not found", {}
        except DeniedError:
            return 403, "Permission denied", {}

    def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
        """Texts go as they are, all else as JSON."""
        raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        plain = isinstance(body, str | bytes)
        denies = self.server.double.state.rights.tokens is not None
        shown = {
            "Content-Type": "text/plain" if plain else "application/json",
            "Content-Length": str(len(raw)),
            "X-Consul-Default-Acl-Policy": "deny" if denies else "allow",
            **headers,
        }
        for name, value in shown.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)
