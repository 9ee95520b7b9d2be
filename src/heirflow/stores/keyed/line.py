"""One connection to an HTTP server, every wait on which ends at one moment, and what it means when it breaks."""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException, RemoteDisconnected
from typing import Any

from urllib3 import BaseHTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

FAILURES = (OSError, HTTPException, HTTPError, ValueError)
"""What a call can end with: ValueError comes of a TLS socket that another thread has shut."""
Endpoint = tuple[str, int]
REFUSALS = {
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "UNKNOWN_CA",
    "CERTIFICATE_EXPIRED",
    "HANDSHAKE_FAILURE",
    "ACCESS_DENIED",
}
"""Alerts of a server that will not have our certificate."""


class Line:
    """One connection, every wait on which ends at one moment."""

    def __init__(self, endpoint: Endpoint, address: str, trust: ssl.SSLContext | None, until: float) -> None:
        self.endpoint = endpoint
        host, port = endpoint
        wait = max(0.001, until - time.monotonic())
        self._http: HTTPConnection
        if trust is None:
            self._http = HTTPConnection(address, port, timeout=wait)
        else:
            self._http = HTTPSConnection(address, port, timeout=wait, ssl_context=trust, server_hostname=host)
        self._host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._http.connect()
            sock = self._http.sock
            assert sock is not None
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._timed = _Timed(sock)
            self._http.sock = self._timed
        except BaseException:
            self._http.close()
            raise
        self.until(until)

    @property
    def is_open(self) -> bool:
        """Whether the server has not ended it, as far as is known here."""
        return bool(self._http.is_connected)

    def until(self, deadline: float) -> None:
        """Every wait ends then."""
        self._timed.deadline = deadline

    def ask(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> BaseHTTPResponse:
        """Send a request, and wait for the head of its answer."""
        said = {"Host": self._host, "Accept-Encoding": "identity", **headers}
        if data is not None:
            said = {"Content-Type": "application/json", **said}
        self._http.request(method, path, data, said, preload_content=False, decode_content=False)
        return self._http.getresponse()

    def cut(self) -> None:
        """From another thread: every wait ends now."""
        with suppress(OSError):
            # Not what a TLS socket has of that name: it takes the state away under the thread that reads.
            socket.socket.shutdown(self._timed.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Give it back."""
        with suppress(*FAILURES):
            self._http.close()
        with suppress(OSError):
            self._timed.sock.close()


class _Timed:
    """A socket whose every wait ends at the deadline, however often there was something."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.deadline = 0.0

    def _in_time(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.sock.settimeout(left)

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._in_time()
            view = view[self.sock.send(view) :]

    def recv_into(self, into: memoryview) -> int:
        self._in_time()
        return self.sock.recv_into(into)

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


class _Incoming(io.RawIOBase):
    def __init__(self, timed: _Timed) -> None:
        self._from = timed

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        return self._from.recv_into(into)


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def refuses(error: BaseException) -> bool:
    """Whether the server will not have our certificate."""
    codes = [str(each.reason) for each in _causes(error) if isinstance(each, ssl.SSLError) and each.reason]
    alerts = {code.rpartition("ALERT_")[2] for code in codes if "ALERT_" in code}
    return bool(alerts & REFUSALS)


def why(error: BaseException, *, late: bool) -> str:
    """The same for people."""
    causes = list(_causes(error))
    for each in causes:
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"shows a certificate that is not trusted here ({each.verify_message or each})"
        if isinstance(each, ssl.SSLError):
            return f"ends the TLS connection ({each.reason or each})"
    for each in causes:
        if isinstance(each, socket.gaierror):
            return f"has a name that cannot be looked up ({each.strerror})"
        if isinstance(each, ConnectionRefusedError):
            return "refuses the connection"
        if isinstance(each, TimeoutError):
            return "does not answer in time"
        if isinstance(each, RemoteDisconnected):
            return "ends the connection without an answer"
    if late:
        return "does not answer in time"
    return f"breaks the connection ({type(error).__name__})"
