"""What all viewers share: one thread that reads while somebody looks, the history, and who gives orders.

A server asks from any thread, and from an event loop by `wait`. No viewer makes another reading than the one that is made anyway.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from heirflow.config.resolve import Config
from heirflow.election.record import Event
from heirflow.errors import HeirflowError
from heirflow.status.history import in_order
from heirflow.status.seen import Key, Seen, Shown
from heirflow.steering.places import store_for_people
from heirflow.steering.reading import Reader, Said
from heirflow.steering.wishes import Wish
from heirflow.stores import Store

EVERY_S = 1.0
IDLE_S = 15.0
"""For so long it reads on after the last viewer has gone."""
FRESH_S = 2.0
"""A reading that is older than this, and than twice the time between two, is waited for; after `WAIT_S` it is shown as it is."""
WAIT_S = 6.0
ORDER_S = 30.0
"""For so long the outcome of an order is waited for."""
EVENTS = 5000
"""So many of an election's newest events are read for its timeline and its metrics."""
HISTORY_EVERY_S = 2.0
"""The history is read again at most so often."""
HISTORY_LASTS_S = 600.0
"""And so seldom where nothing has happened that is known."""


class NoAnswer(HeirflowError):
    """The outcome of an order is not known in time."""


@dataclass(slots=True)
class _Kept:
    """The history of one election as it was read."""

    events: tuple[Event, ...] = ()
    newest: object = None
    """What was the newest event then."""
    trouble: str = ""
    """Why it could not be read again."""
    read_at: float = float("-inf")


@dataclass(slots=True)
class _Shelf:
    """The histories of one store, and a connection of their own: a long history must not keep the live page waiting."""

    store: Store
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_open: bool = False
    kept: dict[str, _Kept] = field(default_factory=dict)


def _is_new(kept: _Kept, newest: object) -> bool:
    """Whether it need not be read again. One that could not be read is tried again soon."""
    age_s = time.monotonic() - kept.read_at
    limit_s = HISTORY_LASTS_S if newest == kept.newest and not kept.trouble else HISTORY_EVERY_S
    return age_s < limit_s


class Desk:
    """See above. Safe for threads. `start` in the process that serves, so after a fork."""

    def __init__(self, configs: Sequence[Config], *, every_s: float = EVERY_S, idle_s: float = IDLE_S) -> None:
        self._every_s = every_s
        self._reader = Reader(configs, every_s, self._woken, name="web", idle_s=idle_s, asleep=self._rest)
        self._shelves = [_Shelf(store_for_people(config, "web")) for config in configs]
        self._changed = threading.Condition()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._looked: dict[Key, float] = {}

    def start(self) -> None:
        """Begin to read."""
        self._reader.start()

    def stop(self) -> None:
        """End it, also where a store does not answer."""
        self._reader.stop()
        self._woken()
        for shelf in self._shelves:
            shelf.store.sever()

    @property
    def broken(self) -> Exception | None:
        """What ended the reading, where something is wrong in our own code."""
        return self._reader.broken

    # Readings

    def seen(self, key: Key | None = None) -> Seen | None:
        """The newest reading, for somebody who waits here; None: there is none in time. `key`: the election that is looked at."""
        self.look(key)
        ends_at = time.monotonic() + WAIT_S
        with self._changed:
            while not self._is_fresh() and self.broken is None and time.monotonic() < ends_at:
                self._changed.wait(ends_at - time.monotonic())
        return self._reader.seen

    async def seen_soon(self, key: Key | None = None) -> Seen | None:
        """The same for an event loop."""
        self.look(key)
        ends_at = time.monotonic() + WAIT_S
        while not self._is_fresh() and self.broken is None and time.monotonic() < ends_at:
            await self.wait(ends_at - time.monotonic())
        return self._reader.seen

    async def wait(self, limit_s: float) -> None:
        """Until there is something new, or for so long."""
        mine = asyncio.get_running_loop(), asyncio.Event()
        with self._changed:
            self._waiting.add(mine)
        try:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(mine[1].wait(), max(0.0, limit_s))
        finally:
            with self._changed:
                self._waiting.discard(mine)

    def look(self, key: Key | None) -> None:
        """Somebody looks at this election, or at all of them, and the reading goes on for a while."""
        now, seen = time.monotonic(), self._reader.seen
        with self._changed:
            if key is not None and seen is not None and seen.of(key) is not None:
                self._looked[key] = now
            self._looked = {each: at for each, at in self._looked.items() if now - at < IDLE_S}
            focus = tuple(self._looked)
        self._reader.want()
        self._reader.focus(*focus)

    def _is_fresh(self) -> bool:
        seen = self._reader.seen
        return seen is not None and time.time() - seen.at < max(FRESH_S, 2 * self._every_s)

    def _woken(self) -> None:
        with self._changed:
            self._changed.notify_all()
            for loop, event in self._waiting:
                with suppress(RuntimeError):  # the loop is over
                    loop.call_soon_threadsafe(event.set)
        while self._reader.said() is not None:
            pass  # what comes of orders is seen on the page

    def _rest(self) -> None:
        """Nobody looks any more: no connection stays."""
        for shelf in self._shelves:
            if shelf.lock.acquire(blocking=False):
                shelf.is_open = False
                shelf.store.close()
                shelf.lock.release()

    # The history

    def history(self, shown: Shown) -> tuple[tuple[Event, ...], str]:
        """The events of an election in their order, and why these are old; empty: they are not. For threads that may wait.

        Where the store is away or slow, or somebody else is reading, nobody waits for more than what was read before.
        """
        shelf, election = self._shelves[shown.store], shown.snapshot.election
        kept = shelf.kept.setdefault(election, _Kept())
        newest = shown.newest, shown.events[-1:]
        if _is_new(kept, newest):
            return kept.events, kept.trouble
        seen = self._reader.seen
        if seen is None or seen.is_away(shown.store) or not self._is_fresh():
            return kept.events, kept.trouble
        if not shelf.lock.acquire(timeout=0.0 if kept.events else WAIT_S):
            return kept.events, kept.trouble
        try:
            kept = shelf.kept[election]
            if _is_new(kept, newest):  # somebody else has read it in the meantime
                return kept.events, kept.trouble
            events, trouble = self._read(shelf, election, kept.events)
            shelf.kept[election] = _Kept(events, newest, trouble, time.monotonic())
        finally:
            shelf.lock.release()
        return events, trouble

    def _read(self, shelf: _Shelf, election: str, before: tuple[Event, ...]) -> tuple[tuple[Event, ...], str]:
        try:
            if not shelf.is_open:
                shelf.store.open(create=False)
                shelf.is_open = True
            return tuple(in_order(shelf.store.events(election, EVENTS))), ""
        except HeirflowError as error:
            shelf.is_open = False
            return before, str(error)

    # Orders

    def give(self, wish: Wish) -> Said:
        """Give an order, for somebody who waits here. Raises `NoAnswer`."""
        done, found = threading.Event(), []

        def answer(said: Said) -> None:
            found.append(said)
            done.set()

        self._reader.want()
        self._reader.ask(wish, answer)
        if not done.wait(ORDER_S):
            raise NoAnswer(f"the store did not answer within {ORDER_S:g} s; the order may still be carried out")
        return found[0]
