"""A thread that waits for word of one key, on a connection of its own, and rings a bell. How it asks is each coordinator's own."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from heirflow.stores.keyed.keys import Bell

REST_S, LONGEST_REST_S = 0.1, 2.0
"""After a question that failed; the rest doubles from the first to this."""


class Asks(Protocol):
    """What a watcher asks with."""

    def sever(self) -> None:
        """End a call that hangs in another thread. Never raises."""

    def close(self) -> None:
        """Give the connection back. Never raises."""


A = TypeVar("A", bound=Asks)


class Watcher(ABC, Generic[A]):
    """Rings its bell whenever a key has another number."""

    name: str
    """Of the thread."""

    def __init__(self, asks: A, key: str, number: int, bell: Bell) -> None:
        self._asks, self._key, self._number, self._bell = asks, key, number, bell
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._live, name=self.name, daemon=True)
        self._thread.start()

    @abstractmethod
    def _watch(self) -> None:
        """Until it is stopped."""

    def _live(self) -> None:
        self._watch()
        self._asks.close()

    def stop(self) -> None:
        """Begin to end."""
        self._stopped.set()
        self._asks.sever()

    def join(self, limit_s: float) -> None:
        """See that it has ended. Never raises."""
        limit = time.monotonic() + limit_s
        while self._thread.is_alive() and time.monotonic() < limit:
            self._asks.sever()  # again: it may have begun a call just then
            self._thread.join(0.02)


def end(watchers: Iterable[Watcher[A]], limit_s: float) -> None:
    """All of them, at the same time. Never raises."""
    ending = list(watchers)
    for watcher in ending:
        watcher.stop()
    for watcher in ending:
        watcher.join(limit_s)
