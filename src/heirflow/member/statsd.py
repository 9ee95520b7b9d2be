"""What a member tells by StatsD, with `--statsd`, for whoever collects metrics that way.

The loop puts its state down, as for `http_door`, and a thread of its own makes words of it. The thread looks the host's name up,
now and then again, and sends by UDP without waiting for anybody. So no name server and no network can hold up the loop, and nobody
learns whether a word arrived.

StatsD has no labels, so what they would be stands in the name: ``heirflow.is_leader.<election>.<seat>.<host>``. A gauge stays as it
was told last. So what is not so any more is told as 0, and only what nobody can take for the present is left out. All is told
again after each check-in: a collector that was started again has the whole within seconds, and one that forgets what it has not
heard for a minute forgets members that are gone.
"""

from __future__ import annotations

import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from heirflow.clock import boottime
from heirflow.election.line import FOREVER, line
from heirflow.election.state import NEVER, State
from heirflow.election.timings import Timings
from heirflow.member.report import describe
from heirflow.member.tally import Tally

NAME_LIMIT = 250
"""Characters of a name, as Airflow has it."""
DATAGRAM_LIMIT = 1400
"""Bytes that pass every usual network in one piece."""
RESOLVE_S = 60.0
"""How often the name of the host is looked up."""
END_LIMIT_S = 1.0
MOST_WAITING = 100
"""Check-ins whose time is not told yet. With more, a thread that stands still lets the oldest go."""

_ODD = re.compile(r"[^A-Za-z0-9_/-]")


class Where(NamedTuple):
    """To whom it is told, and how."""

    place: str
    """``HOST:PORT``."""
    prefix: str
    """What each name begins with."""


class Shown(NamedTuple):
    """What the loop has put down."""

    state: State
    at: float


class Statsd:
    """A `Listener` that sends what a member has to tell. Nothing that fails here is told to anybody."""

    def __init__(self, where: Where, election: str, host: str, timings: Timings) -> None:
        self._where, self._timings = where, timings
        self._election, self._host = part(election), part(host)
        self._name = election
        self.tally = Tally()
        self._shown: Shown | None = None
        self._told: tuple[object, ...] = ()
        self._told_at = self._checked_in_at = NEVER
        self._took: deque[float] = deque(maxlen=MOST_WAITING)
        self._counted: dict[str, int] = {}
        self._seats = 0
        self._address: tuple[int, Any] | None = None
        self._resolve_at = NEVER
        self._socket: socket.socket | None = None
        self._ending = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heirflow-statsd", daemon=True)
        self._thread.start()

    # ---- what the loop calls ----

    def look(self, state: State, facts: Callable[[], Mapping[str, Any]]) -> None:
        now = boottime()
        self.tally.look(state, now)
        if state.checked_in_at != self._checked_in_at:
            self._checked_in_at = state.checked_in_at
            self._took.append(max(0.0, now - state.checked_in_at))
        # Not only after a check-in: one that does not come leaves a lease that ends.
        seen = (state.checked_in_at, state.term, state.idle, state.working, state.leaving is not None)
        if seen != self._told or now - self._told_at >= self._timings.check_in_s:
            self._told, self._told_at = seen, now
            self._shown = Shown(state, now)
            self._wake.set()

    def wake_at(self) -> float:
        return FOREVER

    def close(self) -> None:
        self._ending = True
        self._wake.set()
        self._thread.join(END_LIMIT_S)

    # ---- what is told ----

    def lines(self, shown: Shown) -> Iterator[str]:
        """All that there is to say, each as StatsD has it."""
        state, at = shown
        now = max(at, boottime())
        facts = describe(self._name, state, {}, now, self._timings)
        seat = facts["seat"] if facts["leader"] else None
        # Seats that are gone are told of once more, so that nobody seems to lead them.
        self._seats, seats = state.seats, max(state.seats, self._seats, state.seat.number)
        for number in range(1, seats + 1):
            yield self._line("is_leader", number == seat, "g", str(number))
        holds = facts["trusted_for_s"] is not None
        gauges: dict[str, float | None] = {
            "ready": facts["ready"],
            "able": facts["able"],
            "runs_nothing": holds and not facts["leader"],
            "seats": state.seats,
            "place": facts["place"] or 0,
            "heirs": len(line(state, now, self._timings)),
            "lease_remaining_seconds": facts["trusted_for_s"] or 0,
            "ttl_seconds": self._timings.ttl_s,
            "term": facts["term"] if holds else None,
            "last_gap_seconds": self.tally.gap_s,
        }
        for name, value in gauges.items():
            if value is not None:
                yield self._line(name, value, "g")
        while self._took:
            yield self._line("check_in", 1000 * self._took.popleft(), "ms")
        takeovers = {f"takeovers/{cause.value}": times for cause, times in self.tally.takeovers.items()}
        counts = {**takeovers, "restarts": self.tally.restarts, "fenced_sessions": self.tally.fenced}
        for name, times in counts.items():
            more, self._counted[name] = times - self._counted.get(name, 0), times
            fact, _, cause = name.partition("/")
            yield self._line(fact, more, "c", *([cause] if cause else []))

    def _line(self, fact: str, value: float, kind: str, *between: str) -> str:
        own = ".".join((self._where.prefix, fact, self._election, *between))
        name = f"{own}.{self._host[: max(1, NAME_LIMIT - len(own) - 1)]}"
        return f"{name}:{round(float(value), 3):.12g}|{kind}"

    # ---- the thread ----

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            last = self._ending
            with suppress(Exception):  # whatever it is, the next word says it all again
                if self._shown is not None:
                    self._send(self._shown)
            if last:
                break
        if self._socket is not None:
            self._socket.close()

    def _send(self, shown: Shown) -> None:
        if boottime() >= self._resolve_at:
            self._resolve_at = boottime() + RESOLVE_S
            self._resolve()
        if self._socket is None or self._address is None:  # what is counted is told later
            return
        for piece in packed(self.lines(shown)):
            with suppress(OSError):  # nobody listens, or there is no room to be had just now
                self._socket.sendto(piece, self._address[1])

    def _resolve(self) -> None:
        """Look the name up. Where that fails, the address that was known stays."""
        host, _, port = self._where.place.rpartition(":")
        with suppress(OSError, UnicodeError):
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICSERV)
            # Most collectors listen by IPv4 only, and nobody would tell that the other address is deaf.
            family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
            if self._socket is None or self._address is None or self._address[0] != family:
                fresh = socket.socket(family, socket.SOCK_DGRAM)
                fresh.setblocking(False)
                if self._socket is not None:
                    self._socket.close()
                self._socket = fresh
            self._address = (family, address)


def part(text: str) -> str:
    """A text as one part of a name: a dot would begin another one."""
    return _ODD.sub("_", text) or "_"


def packed(lines: Iterator[str]) -> Iterator[bytes]:
    """As few datagrams as they fit in."""
    piece = b""
    for each in lines:
        more = each.encode("ascii", "replace")
        if piece and len(piece) + 1 + len(more) > DATAGRAM_LIMIT:
            yield piece
            piece = b""
        piece = piece + b"\n" + more if piece else more
    if piece:
        yield piece
