"""What stands behind a page: one thread that has the stores, reads them again and again, and gives orders.

The page never waits for a store. What an order comes to is told as a sentence, its refusal too; a switchover is followed in
the readings until it has happened.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from heirflow.config.resolve import Config
from heirflow.election.record import Event, Exchange
from heirflow.errors import HeirflowError
from heirflow.status import Snapshot
from heirflow.status.check import EVENTS, judged
from heirflow.status.seen import Away, Key, Seen, Shown, sorted_by_need
from heirflow.steering.orders import set_drained, set_paused
from heirflow.steering.places import check_place, chosen_election, place, store_for_people
from heirflow.steering.switchover import LeadsAlready, order_switchover, ordered, why_refused
from heirflow.steering.wishes import Kind, Wish
from heirflow.stores import Store, StoreUnavailable
from heirflow.text import brief

EVENTS_EVERY_S = 15.0
"""How often the events are read of elections that are not chosen."""
FOLLOWED_S = 120.0
"""For so long a switchover is followed, as `heirflow switchover` waits."""


@dataclass(frozen=True, slots=True)
class Said:
    """What came of an order."""

    sentence: str
    well: bool


@dataclass(slots=True)
class _Source:
    """One store, and what it said last."""

    config: Config
    store: Store
    shown: tuple[Shown, ...] = ()
    seen_at: float | None = None
    away: Away | None = None


@dataclass(frozen=True, slots=True)
class _Followed:
    """A switchover that was ordered."""

    key: Key
    seat: int
    leader: str | None
    term: int
    began: float


class Reader:
    """Reads in a thread of its own. `wake` is called there whenever there is something new."""

    def __init__(self, configs: Sequence[Config], every_s: float, wake: Callable[[], None], *, name: str) -> None:
        self._sources = [_Source(config, store_for_people(config, name)) for config in configs]
        self._every_s, self._wake = every_s, wake
        self._wishes: queue.SimpleQueue[Wish | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._focus: Key | None = None
        self._events: dict[Key, tuple[float, tuple[Event, ...]]] = {}
        self._followed: list[_Followed] = []
        self._said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self.seen: Seen | None = None
        """The newest reading."""
        self.broken: Exception | None = None
        """What ended the thread, where something is wrong in our own code."""
        self.error: HeirflowError | None = None
        """Why the first reading failed, where it did."""
        self.read_once = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End it, also where a store does not answer."""
        self._over.set()
        self._wishes.put(None)
        self._thread.join(0.5)
        if self._thread.is_alive():
            for source in self._sources:
                source.store.sever()
            self._thread.join(0.5)

    def said(self) -> Said | None:
        """What came of an order, each once."""
        with suppress(queue.Empty):
            return self._said.get_nowait()
        return None

    def ask(self, wish: Wish) -> None:
        """Give this order."""
        self._wishes.put(wish)

    def focus(self, key: Key | None) -> None:
        """Which election's events are read each time."""
        if key != self._focus:
            self._focus = key
            if key not in self._events:
                self._wishes.put(None)

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                due = time.monotonic() + self._every_s
                self._look()
                self.read_once.set()
                self._wake()
                with suppress(queue.Empty):
                    wish = self._wishes.get(timeout=max(0.0, due - time.monotonic()))
                    if wish is not None:
                        self._tell(self._given(wish))
        except Exception as error:  # the page must not stand still without a word
            self.broken = error
            self.read_once.set()
            self._wake()
        finally:
            for source in self._sources:
                source.store.close()

    def _look(self) -> None:
        began = time.time()
        for number, source in enumerate(self._sources):
            if self._over.is_set():
                return
            try:
                source.shown = self._shown(number, source)
            except HeirflowError as error:
                self.error = error if not self.read_once.is_set() else self.error
                since = source.away.since if source.away is not None else began
                answers = not isinstance(error, StoreUnavailable)
                source.away = Away(number, _sentence(error), since, source.seen_at, answers)
            else:
                if source.away is not None:
                    self._tell(
                        Said(f"the store answers again after {time.time() - source.away.since:.0f} s", well=True)
                    )
                source.away, source.seen_at = None, time.time()
        self.seen = Seen(
            sorted_by_need(shown for source in self._sources for shown in source.shown),
            tuple(source.away for source in self._sources if source.away is not None),
            tuple(place(source.config) for source in self._sources),
            time.time(),
        )

    def _shown(self, number: int, source: _Source) -> tuple[Shown, ...]:
        """One reading of each election, and its events: of the chosen one always, of the others now and then."""
        store, config = source.store, source.config
        check_place(config)
        store.open(create=False)
        names = [chosen_election(store, config)] if config["name"] else store.elections()
        found = []
        for name in names:
            snapshot = Snapshot.of(name, store.exchange(name, Exchange()))
            events = self._events_of(store, (number, name), snapshot.seats)
            verdict = judged(snapshot, events)
            found.append(Shown(snapshot, int(verdict.level), verdict.state, events, number))
            self._follow(store, found[-1])
        return tuple(found)

    def _events_of(self, store: Store, key: Key, seats: int) -> tuple[Event, ...]:
        at, events = self._events.get(key, (0.0, ()))
        now = time.monotonic()
        if key == self._focus or key not in self._events or now - at > EVENTS_EVERY_S:
            events = store.events(key[1], EVENTS * seats)
            self._events[key] = now, events
        return events

    def _tell(self, said: Said) -> None:
        self._said.put(said)
        self._wake()

    # Orders, by the code of the commands

    def _given(self, wish: Wish) -> Said:
        source, election = self._sources[wish.key[0]], wish.key[1]
        warnings: list[str] = []
        try:
            source.store.open(create=False)
            sentence = self._carried_out(source.store, election, wish, warnings)
        except HeirflowError as error:
            return Said(_sentence(error), well=False)
        return Said("; ".join((sentence, *warnings)), well=not warnings)

    def _carried_out(self, store: Store, election: str, wish: Wish, warnings: list[str]) -> str:
        if wish.kind is Kind.SWITCHOVER:
            began = time.monotonic()
            try:
                given, to, _ = order_switchover(store, election, wish.member, wish.leaving)
            except LeadsAlready as leads:
                return leads.sentence(election)
            before = given.before
            self._followed.append(_Followed(wish.key, given.seat, before.leader, before.term, began))
            return ordered(election, given, to)
        if wish.kind in {Kind.PAUSE, Kind.RESUME}:
            return set_paused(store, election, on=wish.kind is Kind.PAUSE)
        assert wish.member is not None
        on = wish.kind is Kind.DRAIN
        return set_drained(store, election, wish.member, on=on, tell=warnings.append)[1]

    def _follow(self, store: Store, shown: Shown) -> None:
        """Tell what came of the switchovers of this election."""
        for each in [each for each in self._followed if each.key == shown.key]:
            said = _came_of(store, shown.snapshot, each)
            if said is not None or time.monotonic() > each.began + FOLLOWED_S:
                self._followed.remove(each)
                self._tell(
                    said or Said(f"{each.leader} has not handed over yet; the order remains in force", well=False)
                )


def _sentence(error: HeirflowError) -> str:
    """As `cli.complain` tells it."""
    return brief(" ".join(str(error).split()))


def _came_of(store: Store, snapshot: Snapshot, followed: _Followed) -> Said | None:
    """None: nothing yet."""
    seat = next((seat for seat in snapshot.by_seat if seat.seat == followed.seat), None)
    if seat is None or seat.leader is None:
        return None
    if seat.leader != followed.leader:
        what = f"seat {seat.seat}, term {seat.term}" if snapshot.several else f"term {seat.term}"
        return Said(f"{snapshot.election}: {seat.leader} leads {what}.", well=True)
    if seat.term > followed.term:
        return Said(f"{seat.leader} leads again: {seat.because}", well=False)
    if seat.switchover_to is None:
        why = why_refused(store, snapshot.election, seat.seat)
        return Said(why or f"{seat.leader} did not carry out the order: {seat.because}", well=False)
    return None
