"""What can be seen of a line at work, all of it read from where anybody could read it: the store, and what was started."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from heirflow.demo.stage import Process
from heirflow.election.record import Event, Exchange, What
from heirflow.errors import HeirflowError
from heirflow.status import Snapshot
from heirflow.stores import Store

EVENTS = 200


@dataclass(frozen=True, slots=True)
class Start:
    """One piece of work that a command began."""

    at: float
    """Seconds since 1970."""
    host: str
    what: str


class Play(Protocol):
    """What is run in the line: real Airflow or a plain program."""

    election: str
    noun: str
    """What is done again and again: ``tasks``."""
    verb: str
    """What is done to it: ``started``."""
    command: str
    """What the wrapped command is called in sentences."""
    hosts: tuple[str, ...]
    """Where its members run, in the order in which they join."""
    pause_s: float
    """How long to look on between two acts."""
    warm_up_s: float
    """Longest time until the first piece of work starts."""

    def open_store(self) -> Store: ...
    def called(self, host: str) -> str:
        """This host's member, in sentences and in the names of logs."""

    def start_member(self, host: str) -> Process: ...
    def starts(self, after: float) -> Sequence[Start]:
        """What was started later than `after`, in order."""

    def in_loop_at(self, after: float) -> float | None:
        """When the first command that began later than `after` was ready to work."""

    def order(self, *words: str) -> str:
        """Carry out ``heirflow <words>`` as a person would and return what it prints."""

    def start_page(self, place: str) -> Process:
        """Start `heirflow serve` as a person would, at ``HOST:PORT``."""

    def farewell(self) -> str:
        """What a person may do while it is kept up."""

    def stop_rest(self) -> None:
        """Stop what is not in line, in good order."""


@dataclass(slots=True)
class Watch:
    """Looks, and remembers what it saw."""

    play: Play
    store: Store
    snapshot: Snapshot | None = None
    events: tuple[Event, ...] = ()
    starts: list[Start] = field(default_factory=list)
    _seen: int = 0

    @property
    def did(self) -> str:
        """``tasks started``."""
        return f"{self.play.noun} {self.play.verb}"

    def look(self) -> list[Event]:
        """Read once; returns the events that are new. A store that does not answer is asked again the next time."""
        try:
            self.snapshot = Snapshot.of(self.play.election, self.store.exchange(self.play.election, Exchange()))
            self.events = self.store.events(self.play.election, EVENTS)
        except HeirflowError:
            return []
        self.starts.extend(self.play.starts(self.starts[-1].at if self.starts else 0.0))
        new = list(self.events[self._seen :])
        self._seen = len(self.events)
        return new

    def leader_host(self) -> str | None:
        """The host of the leader, if somebody leads."""
        if self.snapshot is None or self.snapshot.leader is None:
            return None
        return next((row.host for row in self.snapshot.succession if row.member == self.snapshot.leader), None)

    def in_line(self) -> list[str]:
        """The hosts of leader, heir and the rest of the line, in this order."""
        return [row.host for row in self.snapshot.succession if row.rank] if self.snapshot else []

    def charge_after(self, at: float) -> Event | None:
        """The first time that somebody took charge later than `at`."""
        return next((event for event in self.events if event.what is What.TOOK_CHARGE and event.at > at), None)

    def start_after(self, at: float) -> Start | None:
        """The first piece of work later than `at`."""
        return next((start for start in self.starts if start.at > at), None)

    def pause_around(self, at: float) -> float | None:
        """How long nothing was started around a moment; None while nothing has been since."""
        before = [start.at for start in self.starts if start.at <= at]
        after = self.start_after(at)
        return after.at - before[-1] if before and after else None

    def usual_pause(self, since: float, until: float) -> float | None:
        """The middle one of the pauses between two starts in this time."""
        moments = [start.at for start in self.starts if since <= start.at <= until]
        pauses = sorted(later - earlier for earlier, later in itertools.pairwise(moments))
        return pauses[len(pauses) // 2] if pauses else None


@dataclass(slots=True)
class Incident:
    """Something that was done to the leader, and what came of it."""

    what: str
    host: str
    watch: Watch
    at: float = field(default_factory=time.time)
    charge: Event | None = None
    successor: str = ""
    in_loop_at: float | None = None
    start: Start | None = None
    pause_s: float | None = None

    def follow(self) -> bool:
        """Fill in what has come to pass; True when all has."""
        watch = self.watch
        if self.charge is None and (charge := watch.charge_after(self.at)):
            self.charge, self.successor = charge, charge.member.rsplit("-", 1)[0]
        if self.charge is None:
            return False
        if self.in_loop_at is None:
            self.in_loop_at = watch.play.in_loop_at(self.charge.at)
        if self.start is None and (start := watch.start_after(self.charge.at)):
            self.start, self.pause_s = start, watch.pause_around(self.charge.at)
        return self.in_loop_at is not None and self.start is not None

    @property
    def started_at(self) -> float | None:
        return None if self.start is None else self.start.at

    def after(self, moment: float | None) -> str:
        """A moment as seconds since this began."""
        return "–" if moment is None else f"{moment - self.at:.2f} s"
