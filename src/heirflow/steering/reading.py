"""What stands behind a page: one thread that has the stores, reads them again and again, and gives orders.

The page never waits for a store. What an order comes to is told as a sentence, its refusal too; a switchover is followed in
the readings until it has happened.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from heirflow.config.resolve import Config
from heirflow.election.record import Event
from heirflow.errors import HeirflowError
from heirflow.status import Snapshot
from heirflow.status.check import EVENTS, judged
from heirflow.status.seen import Away, Key, Seen, Shown, sorted_by_need
from heirflow.steering.orders import set_drained, set_paused
from heirflow.steering.places import check_place, chosen_election, place, store_for_people
from heirflow.steering.switchover import LeadsAlready, order_switchover, ordered, why_refused
from heirflow.steering.wishes import Kind, Wish
from heirflow.stores import Glance, Store, StoreUnavailable
from heirflow.text import brief

EVENTS_EVERY_S = 15.0
"""How often the events are read at least, of elections that nobody has chosen, where the store does not say what is new."""
FOCUSED_EVERY_S = 3.0
"""The same of one that somebody has chosen."""
ANEW_EVERY_S = 15.0
"""Where the store says it, so often the events of one election are read all the same, in turn: of two events that are written
at the same time, the one with the lower number may be seen last."""
FOLLOWED_S = 120.0
"""For so long a switchover is followed, as `heirflow switchover` waits."""


@dataclass(frozen=True, slots=True)
class Said:
    """What came of an order."""

    sentence: str
    well: bool
    given: bool | None = True
    """Whether it was given; None: nobody knows, as the store did not answer."""


Answer = Callable[[Said], None]
"""What takes in what came of one order."""


@dataclass(slots=True)
class _Source:
    """One store, and what it said last."""

    config: Config
    store: Store
    shown: tuple[Shown, ...] = ()
    seen_at: float | None = None
    away: Away | None = None
    is_open: bool = False
    anew_at: float = 0.0
    """When events were last read that the store did not call new."""

    def open(self) -> None:
        """Raises `HeirflowError`."""
        if not self.is_open:
            check_place(self.config)
            self.store.open(create=False)
            self.is_open = True

    def close(self) -> None:
        """Until it is opened again."""
        self.is_open = False
        self.store.close()

    def glance(self) -> Mapping[str, Glance]:
        """Those to show. Raises `HeirflowError`."""
        chosen: str | None = self.config["name"]
        found = self.store.glance(chosen)
        if chosen is not None and chosen not in found:
            chosen_election(self.store, self.config)  # which says that there is none, and what it may be called
        return found


@dataclass(frozen=True, slots=True)
class _Followed:
    """A switchover that was ordered."""

    key: Key
    seat: int
    leader: str | None
    term: int
    began: float


@dataclass(frozen=True, slots=True)
class _Events:
    """The newest events of an election, and what was so when they were read: the newest one's number, or what `_told` tells."""

    at: float
    told: object
    events: tuple[Event, ...]


class Reader:
    """Reads in a thread of its own. `wake` is called there whenever there is something new.

    `idle_s`: it stops to read when nobody has called `want` for so long, until somebody does, and calls `asleep` there then.
    None: it never stops.
    """

    def __init__(
        self,
        configs: Sequence[Config],
        every_s: float,
        wake: Callable[[], None],
        *,
        name: str,
        idle_s: float | None = None,
        asleep: Callable[[], None] = lambda: None,
    ) -> None:
        self._sources = [_Source(config, store_for_people(config, name)) for config in configs]
        self._every_s, self._wake = every_s, wake
        self._idle_s, self._wanted_at, self._asleep = idle_s, time.monotonic(), asleep
        self._nudged = threading.Event()
        self._wishes: queue.SimpleQueue[tuple[Wish, Answer] | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._focus: frozenset[Key] = frozenset()
        self._events: dict[Key, _Events] = {}
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

    def ask(self, wish: Wish, answer: Answer | None = None) -> None:
        """Give this order. `answer` is called in the thread with what came of it; without one, `said` has it."""
        self._wishes.put((wish, answer or self._tell))

    def want(self) -> None:
        """Somebody looks: it reads, and goes on for `idle_s`."""
        slept, self._wanted_at = self._sleeps(), time.monotonic()
        if slept:
            self._nudge()

    def focus(self, *keys: Key) -> None:
        """Which elections' events are read more often."""
        new = frozenset(keys) - self._focus
        self._focus = frozenset(keys)
        if any(key not in self._events for key in new):
            self._nudge()

    def _nudge(self) -> None:
        """Read at once; however often it is asked for, once."""
        if not self._nudged.is_set():
            self._nudged.set()
            self._wishes.put(None)

    def _sleeps(self) -> bool:
        return self._idle_s is not None and time.monotonic() - self._wanted_at > self._idle_s

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                due = time.monotonic() + self._every_s
                self._look()
                self.read_once.set()
                self._wake()
                with suppress(queue.Empty):
                    wait_s: float | None = max(0.0, due - time.monotonic())
                    if self._sleeps():
                        wait_s = None
                        for source in self._sources:
                            source.close()
                        self._asleep()
                    asked = self._wishes.get(timeout=wait_s)
                    self._nudged.clear()
                    if asked is not None:
                        wish, answer = asked
                        answer(self._given(wish))
        except Exception as error:  # the page must not stand still without a word
            self.broken = error
            self.read_once.set()
            self._wake()
        finally:
            for source in self._sources:
                source.close()

    def _look(self) -> None:
        began = time.time()
        for number, source in enumerate(self._sources):
            if self._over.is_set():
                return
            try:
                source.shown = self._shown(number, source)
            except HeirflowError as error:
                source.is_open = False
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
        source.open()
        found = []
        glances = source.glance()
        for name, glance in glances.items():
            snapshot = Snapshot.of(name, glance.reading)
            events = self._events_of(source, (number, name), snapshot, glance.newest)
            verdict = judged(snapshot, events)
            found.append(
                Shown(snapshot, int(verdict.level), verdict.state, events, number, verdict.said, newest=glance.newest)
            )
            self._follow(source.store, found[-1])
        self._events = {key: read for key, read in self._events.items() if key[0] != number or key[1] in glances}
        return tuple(found)

    def _events_of(self, source: _Source, key: Key, snapshot: Snapshot, newest: int | None) -> tuple[Event, ...]:
        """Read anew where there are new ones, as far as the store or the line tells, and otherwise now and then."""
        told, now = _told(snapshot) if newest is None else newest, time.monotonic()
        known = self._events.get(key)
        if known is not None and known.told == told and not self._is_due(source, key, known, now, newest):
            return known.events
        self._events[key] = _Events(now, told, source.store.events(key[1], EVENTS * snapshot.seats))
        return self._events[key].events

    def _is_due(self, source: _Source, key: Key, known: _Events, now: float, newest: int | None) -> bool:
        """Whether they are read although nothing tells that there are new ones."""
        if newest is None:
            return now - known.at > (FOCUSED_EVERY_S if key in self._focus else EVENTS_EVERY_S)
        if now - source.anew_at < ANEW_EVERY_S or known.at > min(
            (read.at for other, read in self._events.items() if other[0] == key[0]), default=0.0
        ):
            return False
        source.anew_at = now
        return True

    def _tell(self, said: Said) -> None:
        self._said.put(said)
        self._wake()

    # Orders, by the code of the commands

    def _given(self, wish: Wish) -> Said:
        number, election = wish.key
        if number >= len(self._sources):
            return Said(f"there is no store {number}", well=False, given=False)
        source = self._sources[number]
        warnings: list[str] = []
        try:
            source.open()
            sentence = self._carried_out(source.store, election, wish, warnings)
        except StoreUnavailable as error:
            return Said(_sentence(error), well=False, given=None)
        except HeirflowError as error:
            return Said(_sentence(error), well=False, given=False)
        return Said("; ".join((sentence, *warnings)), well=not warnings)

    def _carried_out(self, store: Store, election: str, wish: Wish, warnings: list[str]) -> str:
        if wish.kind is Kind.SWITCHOVER:
            began = time.monotonic()
            try:
                given, to, _ = order_switchover(store, election, wish.member, wish.leaving, by=wish.by)
            except LeadsAlready as leads:
                return leads.sentence(election)
            before = given.before
            self._followed.append(_Followed(wish.key, given.seat, before.leader, before.term, began))
            return ordered(election, given, to)
        if wish.kind in {Kind.PAUSE, Kind.RESUME}:
            return set_paused(store, election, on=wish.kind is Kind.PAUSE, by=wish.by)
        assert wish.member is not None
        on = wish.kind is Kind.DRAIN
        return set_drained(store, election, wish.member, on=on, tell=warnings.append, by=wish.by)[1]

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


def _told(snapshot: Snapshot) -> object:
    """What of an election does not change without an event."""
    return (
        tuple((seat.term, seat.leader, seat.because, seat.paused, seat.switchover_to) for seat in snapshot.by_seat),
        tuple((row.member, row.runs, row.because, row.drained) for row in snapshot.succession),
    )
