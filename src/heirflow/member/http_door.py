"""The member's door on the network, with `--http`: /live, /ready, /able, /leader, /status and /metrics, for whoever may reach it.

It says what `heirflow probe` says. It has one thread of its own, which never asks the loop for anything: after each turn the loop
puts down its state, which nobody changes any more, and the thread works out from that what is so at the moment of the question. So
nobody who asks, or does not read the answer, can make the loop wait. All clients together have this one thread, a few connections,
a few seconds for each, and a pause after each round, so that a flood of questions takes only a part of one processor.

A loop that has stopped turning puts nothing down any more: then the answer to everything is no.
"""

from __future__ import annotations

import json
import selectors
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any, NamedTuple

from heirflow.clock import boottime
from heirflow.election.line import FOREVER, line
from heirflow.election.state import State
from heirflow.election.timings import Timings
from heirflow.listening import listener
from heirflow.member.report import describe
from heirflow.member.tally import Tally, exposition
from heirflow.text import masked, printable

QUESTIONS = ("live", "ready", "able", "leader")
PATHS = (*(f"/{question}" for question in QUESTIONS), "/status", "/metrics")
MOST = 16
"""Connections at once. One more ends the oldest."""
LIMIT_S = 5.0
"""Of one connection, from its first byte to its last."""
REQUEST_LIMIT = 8192
BACKLOG = 64
PAUSE_S = 0.01
END_LIMIT_S = 1.0


class Shown(NamedTuple):
    """What the loop has put down."""

    state: State
    pids: dict[str, int | None]
    kill_is_sure: bool
    at: float


class HttpDoor:
    """A `Listener` that answers HTTP. `place`: ``HOST:PORT``. Raises `ConfigError` where nobody can listen there."""

    def __init__(self, place: str, election: str, timings: Timings) -> None:
        self._election, self._timings = election, timings
        self._shown: Shown | None = None
        self.tally = Tally()
        self._ending = threading.Event()
        self._listener = listener(place, BACKLOG)
        self.address: tuple[Any, ...] = self._listener.getsockname()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="heirflow-http", daemon=True)
        self._thread.start()

    # ---- what the loop calls ----

    def look(self, state: State, facts: Callable[[], Mapping[str, Any]]) -> None:
        said, now = facts(), boottime()
        self.tally.look(state, now)
        pids = {name: said[f"{name}_pid"] for name in ("guard", "command", "standby")}
        self._shown = Shown(state, pids, said["kill_is_sure"], now)

    def wake_at(self) -> float:
        return FOREVER

    def close(self) -> None:
        self._ending.set()
        with suppress(OSError):
            self._wake_writer.send(b".")
        self._thread.join(END_LIMIT_S)
        self._wake_writer.close()

    # ---- what is answered ----

    def answer(self, path: str) -> tuple[int, str, str]:
        """Status, type and text."""
        facts, why_not = self._facts()
        if path == "/metrics":
            text = exposition(self._election, facts and {**facts, **self._more()}, self.tally)
            return HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", text
        if path == "/status":
            said = facts or {"live": False, "sentence": why_not}
            return _yes(facts is not None), "application/json", json.dumps(said, default=str) + "\n"
        if path in PATHS:
            yes = facts is not None and bool(facts[path.removeprefix("/")])
            who = why_not if facts is None else f"{self._election}: {facts['member']} {facts['sentence']}"
            return _yes(yes), "text/plain; charset=utf-8", printable(f"{'yes' if yes else 'no'}, {who}") + "\n"
        return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", f"there are {', '.join(PATHS)}\n"

    def _facts(self) -> tuple[dict[str, Any] | None, str]:
        """What `heirflow probe` would be told now, or why it would get no answer."""
        shown, now = self._shown, boottime()
        if shown is None:
            return None, f"{self._election}: the member has only just started"
        # The loop waits for a check-in at most.
        if (stood_s := now - shown.at) > 2 * self._timings.check_in_s + 1.0:
            return None, f"{self._election}: {shown.state.me} has a loop that stands still for {stood_s:.0f} s"
        facts = describe(self._election, shown.state, shown.pids, now, self._timings)
        told = {name: masked(facts[name]) for name in ("because", "sentence")}  # a driver's own words may be in it
        return {**facts, **told, "kill_is_sure": shown.kill_is_sure}, ""

    def _more(self) -> dict[str, Any]:
        """What metrics say and a probe does not."""
        heirs = 0 if self._shown is None else len(line(self._shown.state, boottime(), self._timings))
        return {"ttl_s": self._timings.ttl_s, "heirs": heirs}

    # ---- the thread ----

    def _run(self) -> None:
        guests: dict[socket.socket, Guest] = {}
        try:
            with self._listener, self._wake_reader:
                self._listener.setblocking(False)
                while not self._ending.is_set():
                    self._try(guests)
        finally:
            for link in guests:
                link.close()

    def _try(self, guests: dict[socket.socket, Guest]) -> None:
        try:
            self._round(guests)
        except Exception:  # no memory to be had just now: all must go, and others are welcome in a while
            while guests:
                guests.popitem()[0].close()
            self._ending.wait(LIMIT_S)

    def _round(self, guests: dict[socket.socket, Guest]) -> None:
        with selectors.PollSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            for link, guest in guests.items():
                selector.register(link, selectors.EVENT_WRITE if guest.answer else selectors.EVENT_READ)
            first = min((guest.until for guest in guests.values()), default=None)
            ready = {key.fileobj for key, _ in selector.select(None if first is None else max(0.0, first - boottime()))}
        for link in [*guests]:
            if (link in ready and not self._serve(link, guests[link])) or boottime() >= guests[link].until:
                del guests[link]
                link.close()
        if self._listener in ready:
            self._welcome(guests)
        self._ending.wait(PAUSE_S)

    def _welcome(self, guests: dict[socket.socket, Guest]) -> None:
        for _ in range(MOST):
            try:
                link, _ = self._listener.accept()
            except OSError:  # nobody any more, or no descriptor to be had just now: the pause comes first
                return
            link.setblocking(False)
            if len(guests) >= MOST:
                oldest = next(iter(guests))
                del guests[oldest]
                oldest.close()
            guests[link] = Guest(boottime() + LIMIT_S)

    def _serve(self, link: socket.socket, guest: Guest) -> bool:
        """Go on with one connection; False: it is over."""
        try:
            if not guest.answer:
                piece = link.recv(REQUEST_LIMIT)
                guest.asked += piece
                if not piece or len(guest.asked) > REQUEST_LIMIT:
                    return False
                if b"\r\n\r\n" not in guest.asked and b"\n\n" not in guest.asked:
                    return True
                guest.answer = Question(guest.asked, self.answer).wfile.getvalue()
            guest.answer = guest.answer[link.send(guest.answer) :]
            if guest.answer:
                return True
            link.shutdown(socket.SHUT_WR)
        except (BlockingIOError, InterruptedError):
            return True
        except Exception:  # whatever somebody sends, the others are answered
            return False
        return False


@dataclass(slots=True)
class Guest:
    """One connection."""

    until: float
    asked: bytes = b""
    answer: bytes = b""
    """What is still to be sent."""


class Question(BaseHTTPRequestHandler):
    """One question that has come as a whole: it reads and writes memory. `wfile` has the answer."""

    def __init__(self, asked: bytes, answer: Callable[[str], tuple[int, str, str]]) -> None:
        self.rfile, self.wfile = BytesIO(asked), BytesIO()
        self.wfile: BytesIO
        self.client_address = ("", 0)
        self._answer = answer
        self.handle_one_request()

    def do_GET(self) -> None:
        status, kind, text = self._answer(self.path.partition("?")[0])
        body = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  http.server looks for these names

    def version_string(self) -> str:
        return "heirflow"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nobody's question is worth a line in the journal."""


def _yes(yes: bool) -> int:
    return HTTPStatus.OK if yes else HTTPStatus.SERVICE_UNAVAILABLE
