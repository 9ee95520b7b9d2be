"""Connecting within a limit, whatever the URL says: a host that is silent costs its share of the time, and no more.

What a driver waits for has limits of its own or none: a resolver that does not answer, ``connect_timeout=0`` in the URL,
libpq's two seconds or more for each host. So every attempt (a name to look up, an address to connect to) runs in a thread of
its own, and who wants the connection waits for the first that has one. The next attempt begins when the one before failed,
or was silent for its share of the limit; that one goes on meanwhile, as it may only be slow.

The order is the URL's. Where one server only repeats another (a hot standby), it is taken when no other can be had. An attempt
that comes too late gives its connection back. One that hangs keeps its thread: with too many of these, new attempts at the
same place fail at once.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from heirflow.errors import first_line

STUCK_LIMIT = 12
"""Attempts at one place that may hang at a time. libpq hangs for 2 s at least, and with a short ttl many begin in that time."""
FIRST_SHARE = 0.5
"""Of the limit: when all places have been tried, where each is silent. The rest is for those that are slow."""

HOST_WORDS = ("host", "hostaddr", "port")
"""How libpq is told where to connect."""

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One place to connect to: what the driver is told, and the name that must be looked up first, if any."""

    arguments: Arguments = field(repr=False)
    title: str
    """For people."""
    name: str = ""
    at: Callable[[Sequence[str]], Sequence[Place]] | None = None
    """The places that the addresses of `name` are."""


def hosts_apart(places: Sequence[Place]) -> list[dict[str, str]]:
    """Several hosts of libpq's, or one with a name, as a helper of few words tries them; empty where there is one address."""
    if len(places) < 2 and not any(place.name for place in places):
        return []
    return [{word: place.arguments[word] for word in HOST_WORDS} for place in places if "hostaddr" in place.arguments]


class NotConnected(OSError):
    """No place could be connected to in time; says what each answered."""

    def __init__(self, said: str, causes: Sequence[BaseException] = (), *, waits: bool = False) -> None:
        super().__init__(said)
        self.causes = tuple(causes)
        self.waits = waits
        """Whether some had not answered yet."""


class Severed(OSError):
    """Somebody gave up this call."""


_stuck: Counter[str] = Counter()
"""Attempts that nobody waits for any more, by their title."""
_lock = threading.Lock()


class Connecting:
    """One try to connect. `sever` may be called from another thread."""

    def __init__(self, driver: Callable[[Arguments], Any], reserve: Callable[[Any], bool]) -> None:
        """`driver` connects; `reserve` says of a connection that another one is better."""
        self._driver = driver
        self._reserve = reserve
        self._told: queue.SimpleQueue[tuple[Place | None, Any]] = queue.SimpleQueue()
        # Both are guarded by the lock.
        self._under_way: list[Place] = []
        self._over = False

    def sever(self) -> None:
        """End the waiting. Never raises."""
        self._told.put((None, Severed("it was given up")))

    def connect(self, places: Sequence[Place], limit_s: float) -> Any:
        """The driver's connection. Raises the driver's own error where there is one place, `NotConnected` or `Severed`."""
        try:
            return self._connect(deque(places), time.monotonic() + limit_s, limit_s)
        finally:
            with _lock:
                self._over = True
                _stuck.update(place.title for place in self._under_way)
            while not self._told.empty():
                _close(self._told.get()[1])

    def _connect(self, waiting: deque[Place], end: float, limit_s: float) -> Any:
        share_s = FIRST_SHARE * limit_s / max(1, len(waiting))
        running, failed, kept, next_at = 0, list[tuple[str, BaseException]](), None, 0.0
        while waiting or running:
            now = time.monotonic()
            if now >= end:
                break
            if waiting and (now >= next_at or not running):
                place = waiting.popleft()
                next_at = now + share_s
                if (refused := self._begin(place)) is None:
                    running += 1
                else:
                    failed.append((place.title, refused))
                continue
            try:
                told, answer = self._told.get(timeout=max(0.0, min(end, next_at if waiting else end) - now))
            except queue.Empty:
                continue
            running -= 1
            if told is None:
                _close(kept)
                raise answer
            if isinstance(answer, BaseException):
                failed.append((told.title, answer))
                next_at = 0.0
            elif told.name:
                assert told.at is not None
                found = told.at(answer)
                waiting.extendleft(reversed(found))
                share_s, next_at = min(share_s, FIRST_SHARE * limit_s / max(1, len(waiting))), 0.0
            elif kept is None and self._reserve(answer):
                kept = answer
            else:
                _close(kept)
                return answer
        if kept is not None:
            return kept
        if len(failed) == 1 and not running:
            raise failed[0][1]
        said = [f"{title}: {first_line(error)}" for title, error in failed]
        answers = "; ".join([*said, *([f"no answer within {limit_s:g} s"] if running else [])])
        raise NotConnected(answers, [error for _, error in failed], waits=running > 0)

    def _begin(self, place: Place) -> BaseException | None:
        with _lock:
            if _stuck[place.title] >= STUCK_LIMIT:
                return NotConnected("earlier attempts to connect still hang")
            self._under_way.append(place)
        try:
            threading.Thread(target=self._attempt, args=(place,), name="heirflow-connecting", daemon=True).start()
        except RuntimeError as error:  # no thread to be had just now
            with _lock:
                self._under_way.remove(place)
            return error
        return None

    def _attempt(self, place: Place) -> None:
        answer: Any
        try:
            answer = _addresses(place.name) if place.name else self._driver(place.arguments)
        except BaseException as error:  # noqa: BLE001  whatever it is, it is told to who waits
            answer = error
        with _lock:
            self._under_way.remove(place)
            if not self._over:
                self._told.put((place, answer))
                return
            _stuck[place.title] -= 1
        _close(answer)


def _addresses(name: str) -> list[str]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def is_address(host: str) -> bool:
    """Whether there is nothing to look up."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, host)
            return True
    return False


def _close(answer: Any) -> None:
    close = getattr(answer, "close", None)
    if close is not None:
        with suppress(Exception):
            close()
