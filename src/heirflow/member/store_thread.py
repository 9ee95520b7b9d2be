"""One thread that talks to the store, so that the member's loop never waits.

A call that hangs is given up by replacing the whole thread: its connection is severed, its thread ends when the driver
notices, and its answer, should one come, goes nowhere. Between calls the thread waits for news, holding no transaction.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from heirflow.election.record import Exchange, Keep, Reading
from heirflow.errors import HeirflowError
from heirflow.stores.base import Address, Register, StoreMisfit

STUCK_LIMIT = 4
"""Hung calls that may be left behind; with more, new calls fail at once until one of them ends."""
PRUNE_EVERY_S = 600.0
"""A leader deletes old history at its first renewal, then so often; until it is done, after each renewal."""


class Prune:
    """How much history stays, and when somebody looks next: whichever thread talks to the store then."""

    def __init__(self, keep: Keep) -> None:
        self.keep, self.next_at = keep, 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one call."""

    serial: int
    reading: Reading | None = None
    error: str = ""
    fatal_code: int | None = None


class StoreThread:
    """Runs exchanges one at a time. `fileno` becomes readable when `take` has something."""

    def __init__(
        self,
        store_factory: Callable[[], Register],
        election: str,
        address: Address | None = None,
        keep: Keep | None = None,
    ) -> None:
        """`address`: it is asked after each call, so that who only looks at what is known of it learns of a change.

        `keep`: how much history stays; None: all.
        """
        self._store_factory = store_factory
        self._election, self._address = election, address
        self._prune = None if keep is None else Prune(keep)
        self._inner = _Thread(store_factory(), election, address, self._prune)
        self._left_behind: list[_Thread] = []

    def fileno(self) -> int:
        """The descriptor to wait on. It changes with `abandon`."""
        return self._inner.outbox.fileno()

    def submit(self, serial: int, exchange: Exchange) -> Outcome | None:
        """Begin a call; an outcome is returned only when it failed without having been tried."""
        self._replace()
        if self._inner.given_up:
            return Outcome(serial, error="earlier calls still hang, and no other can be begun")
        self._inner.submit(serial, exchange)
        return None

    def abandon(self) -> None:
        """Give up the call that is under way."""
        if self._inner.busy:
            self._inner.sever()
            self._replace()

    def take(self) -> tuple[list[Outcome], bool]:
        """The outcomes that have come, and whether there is news."""
        self._replace()
        return self._inner.take()

    def _replace(self) -> None:
        """Put a new thread in the place of one that was given up, as soon as there is room for another one that hangs."""
        if not self._inner.given_up:
            return
        self._left_behind = [thread for thread in self._left_behind if thread.alive]
        if len(self._left_behind) < STUCK_LIMIT or not self._inner.alive:
            try:
                fresh = _Thread(self._store_factory(), self._election, self._address, self._prune)
            except (OSError, RuntimeError):  # no thread or descriptor to be had just now: tried again at the next call
                return
            self._inner.let_go()
            self._left_behind.append(self._inner)
            self._inner = fresh

    def close(self) -> None:
        """End the thread and give the connection back, without waiting for a call that hangs."""
        for thread in (self._inner, *self._left_behind):
            thread.end()


class _Thread:
    """The thread itself, its store and its two pipes. It owns all of them and closes them when it ends."""

    def __init__(self, store: Register, election: str, address: Address | None, prune: Prune | None) -> None:
        self._store = store
        self._election, self._address, self._prune = election, address, prune
        self._job: tuple[int, Exchange] | None = None
        self._outcomes: deque[Outcome] = deque()
        self._news = False
        self._ending = threading.Event()
        self.busy = self.given_up = False
        # The first and the last belong to the thread, the middle two to the member; each side closes its own.
        self._inbox, self._wake = socket.socketpair()
        self.outbox, self._told = socket.socketpair()
        for end in (self._inbox, self._wake, self.outbox, self._told):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="heirflow-store", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            for end in (self._inbox, self._wake, self.outbox, self._told):
                end.close()
            raise

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    # The member's side.

    def submit(self, serial: int, exchange: Exchange) -> None:
        self._job = (serial, exchange)
        self.busy = True
        _nudge(self._wake)

    def take(self) -> tuple[list[Outcome], bool]:
        _drain(self.outbox)
        outcomes = []
        while self._outcomes:
            outcomes.append(self._outcomes.popleft())
            self.busy = False
        news, self._news = self._news, False
        return outcomes, news

    def sever(self) -> None:
        self.given_up = True
        self._ending.set()
        self._store.sever()

    def end(self) -> None:
        self._ending.set()
        self.let_go()
        if not self.busy:
            self._thread.join(timeout=0.5)

    def let_go(self) -> None:
        """Nobody waits on `outbox` any more."""
        self._wake.close()  # which wakes the thread
        self.outbox.close()

    # The thread's side.

    def _run(self) -> None:
        while not self._ending.is_set():
            waiting = select.poll()
            waiting.register(self._inbox, select.POLLIN)
            news_fd = self._store.news_fd()
            if news_fd is not None:
                waiting.register(news_fd, select.POLLIN)
            poll_s = self._store.news_poll_s
            ready = {fd for fd, _ in waiting.poll(None if poll_s is None else poll_s * 1000)}
            if self._inbox.fileno() in ready:
                _drain(self._inbox)
                job, self._job = self._job, None
                if job is not None and not self._ending.is_set():
                    outcome = self._call(*job)
                    self._outcomes.append(outcome)
                    _nudge(self._told)
                    # What came in during the exchange may be newer than its answer, and wakes no descriptor any more.
                    self._look_for_news()
                    if self._has_pruned(job[1], outcome.reading):
                        self._look_for_news()
            elif not self._ending.is_set():
                self._look_for_news()
        self._store.close()
        self._inbox.close()
        self._told.close()

    def _call(self, serial: int, exchange: Exchange) -> Outcome:
        try:
            reading = self._store.exchange(self._election, exchange)
            if self._address is not None:
                self._address.now()
            return Outcome(serial, reading=reading)
        except StoreMisfit as error:
            return Outcome(serial, error=str(error), fatal_code=error.exit_code)
        except HeirflowError as error:
            return Outcome(serial, error=str(error))
        except (
            Exception
        ) as error:  # a store must not end the member: what it did not foresee counts as "did not answer"
            return Outcome(serial, error=f"{type(error).__name__}: {error}")

    def _has_pruned(self, exchange: Exchange, reading: Reading | None) -> bool:
        """Delete some old history after a renewal, when its answer is out and a whole lease is ahead; whether it was tried."""
        swap, who, prune = exchange.swap, exchange.check_in, self._prune
        if prune is None or swap is None or who is None or time.monotonic() < prune.next_at:
            return False
        if reading is None or not reading.swapped or swap.record.leader != who.id or swap.takes_over is not None:
            return False
        prune.next_at = time.monotonic() + PRUNE_EVERY_S  # also where this call hangs, and another thread goes on
        with contextlib.suppress(Exception):  # the next exchange tells what is wrong with the connection
            if self._store.prune(self._election, prune.keep):
                prune.next_at = 0.0
        return True

    def _look_for_news(self) -> None:
        with contextlib.suppress(Exception):  # the next exchange tells what is wrong with the connection
            if self._store.news(self._election):
                self._news = True
                _nudge(self._told)


def _nudge(end: socket.socket) -> None:
    with contextlib.suppress(OSError):  # full: it will look anyway; closed: nobody is there to look
        end.send(b".")


def _drain(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while end.recv(4096):
            pass
