"""HTTP to a coordinator of several servers: each call asks one, ends within its limit, and never does a write twice.

A server that fails is left at once for the next one, and asked last from then on. A reading goes on to the next server whenever
there was no good answer; a write only when no connection could be made at all. Once it was sent, an answer that is lost means
*not known*: `StoreUnavailable`, and the next reading tells. Nothing is retried, redirected or sent through a proxy by the client
below, and no time-out of a single packet counts, but one deadline for the whole call: a server that drips is left as well.

    http = Http("etcd", place.hosts, limit_s=1.5, secure=place.secure, options=place.options, clock=TheirClock())
    answer = http.call("POST", "/v3/kv/range", {"key": "…"}, writes=False)
    answer.status, answer.json(), answer.headers.get("X-Consul-Index")

One thread uses it at a time, except `sever`. Who waits for news has a second one of its own.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heirflow.stores.base import StoreRefuses, StoreUnavailable
from heirflow.stores.keyed.clock import TheirClock
from heirflow.stores.keyed.line import FAILURES, Endpoint, Line, refuses, why

LARGEST = 64 * 1024 * 1024
"""So many bytes has an answer at most."""
TRUST = "ca", "cert", "key"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said, of whatever status."""

    status: int
    headers: Mapping[str, str]
    """By names in any case."""
    body: bytes
    at: str
    """The server, for people."""

    def json(self) -> Any:
        """The body. Raises `StoreUnavailable` where that is no JSON: it is another program, or half an answer."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise StoreUnavailable(f"{self.at} answers {self.status} and no JSON: {excerpt(self.body)}") from None


def excerpt(body: bytes) -> str:
    """The beginning of an answer, for people."""
    return repr(body[:100].decode("utf-8", "replace").strip())


class Http:
    """Calls to the servers of one coordinator, over one connection that is kept."""

    def __init__(
        self,
        title: str,
        endpoints: Sequence[Endpoint],
        *,
        limit_s: float,
        secure: bool = False,
        options: Mapping[str, str] | None = None,
        clock: TheirClock | None = None,
    ) -> None:
        """`limit_s`: of one call, over all servers. `options`: files ``ca``, ``cert``, ``key``. `clock`: learns of each answer."""
        self._title, self._limit_s = title, limit_s
        self._order = list(endpoints)
        self._secure = secure
        self._files = {name: Path(file) for name, file in (options or {}).items() if name in TRUST}
        self._clock = clock
        self._trust: tuple[object, ssl.SSLContext] | None = None
        self._line: Line | None = None
        self._severed = False
        self._answered = False
        """Whether there ever was an answer."""

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        writes: bool,
        headers: Mapping[str, str] | None = None,
        limit_s: float | None = None,
    ) -> Answer:
        """Ask one server, or for a reading one after the other until one answers with a status below 500.

        `body`: sent as JSON; bytes as they are. `writes`: it may change something. `limit_s`: another limit than usual.
        Raises `StoreUnavailable`, or `StoreRefuses` where TLS is refused.
        """
        deadline = time.monotonic() + (self._limit_s if limit_s is None else limit_s)
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self._severed = False
        failed: list[str] = []
        answer: Answer | None = None
        refused = False
        for turn, endpoint in enumerate(list(self._order), 1):
            last = turn == len(self._order)
            until = deadline if last else _half_way(deadline)
            line: Line | None = None
            try:
                line = self._lined_up(endpoint, until)
                line.until(deadline if writes else until)
                answer = self._asked(line, method, path, data, headers or {})
                if writes or answer.status < 500:
                    return answer
                self.leave()
                continue
            except StoreRefuses:
                raise  # a file of ours
            except FAILURES as error:
                self.leave(endpoint)
                refused |= refuses(error)
                failed.append(f"{_shown(endpoint)} {why(error, late=time.monotonic() >= until)}")
                if self._severed or (writes and line is not None):
                    break
        if answer is not None:
            return answer
        kind = StoreRefuses if refused else StoreUnavailable
        if not (self._answered or self._secure or self._severed) and time.monotonic() < deadline:
            failed.append(f"if it speaks TLS only, the URL begins with {self._title}s://")
        sent = "; whether it was written is not known" if writes and line is not None else ""
        raise kind(f"{self._title} does not answer: {'; '.join(failed)}{sent}")

    def lines(
        self, path: str, body: object, *, headers: Mapping[str, str] | None = None, idle_s: float
    ) -> Iterator[bytes]:
        """The lines of an answer that does not end, as they come. It ends when none came for so long, or by `sever`.

        What is no 200 is one line. Raises `StoreUnavailable` when it breaks.
        """
        endpoint = self._order[0]
        self._severed = False
        try:
            line = self._lined_up(endpoint, time.monotonic() + self._limit_s)
            line.until(time.monotonic() + self._limit_s)
            answer = line.ask("POST", path, json.dumps(body).encode(), headers or {})
            rest = b""
            parts = answer.stream(65536, decode_content=False)
            while not self._severed:
                line.until(time.monotonic() + idle_s)
                if not (part := next(parts, b"")):
                    break
                *whole, rest = (rest + part).split(b"\n")
                yield from whole
                if len(rest) > LARGEST:
                    raise ValueError("a line without an end")
            if rest:
                yield rest
        except FAILURES as error:
            self.leave(endpoint)
            raise StoreUnavailable(
                f"{self._title} does not answer: {_shown(endpoint)} {why(error, late=False)}"
            ) from None
        finally:
            self._hang_up()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection to the server that is asked next, as far as is known here."""
        return self._line is not None and self._line.endpoint == self._order[0] and self._line.is_open

    def leave(self, endpoint: Endpoint | None = None) -> None:
        """This server (the one asked last) does not serve us: the next call asks another one first."""
        left = self._order[0] if endpoint is None else endpoint
        self._order.remove(left)
        self._order.append(left)
        self._hang_up()

    def sever(self) -> None:
        """End a call that hangs in another thread. Never raises."""
        self._severed = True
        if (line := self._line) is not None:
            line.cut()

    def close(self) -> None:
        """Give the connection back. Never raises."""
        self._hang_up()

    def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _lined_up(self, endpoint: Endpoint, until: float) -> Line:
        """A connection to that server: the one that is there, or a new one."""
        if self._line is not None and self._line.endpoint == endpoint and self._line.is_open:
            return self._line
        self._hang_up()
        trust = self._trusted() if self._secure else None
        host, port = endpoint
        addresses = list(
            dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        )
        for turn, address in enumerate(addresses, 1):
            last = turn == len(addresses)
            try:
                self._line = Line(endpoint, address, trust, until if last else _half_way(until))
                break
            except FAILURES:
                if last or self._severed:
                    raise
        assert self._line is not None
        if self._severed:
            raise ConnectionAbortedError("severed")
        return self._line

    def _asked(self, line: Line, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> Answer:
        asked_at = time.time()
        response = line.ask(method, path, data, headers)
        self._answered = True
        if self._clock is not None:
            self._clock.date(response.headers.get("Date"), asked_at, time.time())
        body = b""
        for part in response.stream(65536, decode_content=False):  # unlike one `read`, it sees when the end is missing
            body += part
            if len(body) > LARGEST:
                raise ValueError(f"an answer of more than {LARGEST} bytes")
        if response.headers.get("Connection", "").lower() == "close":
            self._hang_up()
        return Answer(response.status, response.headers, body, f"{self._title} at {_shown(line.endpoint)}")

    def _trusted(self) -> ssl.SSLContext:
        """Whom we trust and who we are: read again when a file has changed. Raises `StoreRefuses`."""
        name = ""
        try:
            state = []
            for name, file in self._files.items():
                state.append((name, file.stat().st_mtime_ns, file.stat().st_ino))
            if self._trust is not None and self._trust[0] == state:
                return self._trust[1]
            name, ca = "ca", self._files.get("ca")
            context = ssl.create_default_context(cafile=None if ca is None else str(ca))
            if (cert := self._files.get("cert")) is not None:
                name, key = "cert", self._files.get("key")

                def no_terminal() -> str:
                    raise ValueError("the key has a pass phrase")

                context.load_cert_chain(cert, key, password=no_terminal)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise StoreRefuses(f"cannot use the {name} {self._files[name]} for {self._title}: {reason}") from None
        self._trust = (state, context)
        return context


def _half_way(deadline: float) -> float:
    now = time.monotonic()
    return now + max(0.0, deadline - now) / 2


def _shown(endpoint: Endpoint) -> str:
    return f"{endpoint[0]}:{endpoint[1]}"
