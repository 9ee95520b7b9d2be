"""A drill: the leader of one seat is made to hand over, on purpose and in order, and each step of it is timed.

What is ordered is a switchover and nothing else: the leader stops its command, proves it gone and releases, and the heir takes
charge. So a drill shows that the heir can lead, how long nobody led, and that the line becomes whole again. It does not show how
long a crash would take, in which a lease may have to run out first.

The steps are seen by looking again and again, so each may be told up to one look late. How long nobody led is what the new
leader itself wrote into the history, by the store's clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from heirflow.election.record import Event, Exchange, Reading, What
from heirflow.errors import HeirflowError
from heirflow.status import Seat, Snapshot, counted, duration
from heirflow.status.check import Level, judged
from heirflow.steering.orders import NotInTime, Order, Refused
from heirflow.steering.switchover import handed_over, named, not_yet, order_switchover
from heirflow.stores import Store, StoreUnavailable

LOOK_EVERY_S = 0.1
EVENTS = 20
Tell = Callable[[float, str], None]
"""Told of each step: how many seconds after the order, and what happened."""


@dataclass(slots=True)
class Round:
    """One hand-over, as far as it came. Times are seconds after the order, and None: not seen."""

    seat: int
    before: str
    after: str | None = None
    term: int | None = None
    released_s: float | None = None
    """Its command was proved gone."""
    took_charge_s: float | None = None
    runs_s: float | None = None
    """The new leader had said that its command runs, which it does at its next check-in."""
    whole_s: float | None = None
    """An heir was ready again."""
    gap_s: float | None = None
    """How long nobody led."""
    trouble: str | None = None


def seats_to_drill(line: Snapshot, seat: int | None) -> list[int]:
    """The numbers of the seats that are meant. Raises `Refused`."""
    known = [each.seat for each in line.by_seat if not each.over]
    if seat is None:
        return known
    if seat not in known:
        raise Refused(f"there is no seat {seat}: {line.election} has {counted(line.seats)}")
    return [seat]


def check_healthy(line: Snapshot) -> None:
    """Raises `Refused` where a drill would do harm: somebody must lead each seat, run its command, and have a ready heir."""
    # How often it was started of late does not count: the rounds of a drill are starts too.
    verdict = judged(line, ())
    if verdict.level is not Level.OK or line.leader is None:
        raise Refused(f"no drill now, as only a healthy line is drilled: {verdict.sentence}")
    if under_way := [seat for seat in line.by_seat if seat.switchover_to is not None]:
        raise Refused(f"no drill now: a switchover of {under_way[0].last_leader} is already under way")


def drill(store: Store, election: str, number: int, *, wait_s: float, tell: Tell) -> Round:
    """Order the leader of this seat to hand over, and watch until the line is whole again; returns what was seen.

    What keeps it from that is its `trouble`. Raises `Refused` before anything is ordered, and like the store then.
    """
    line = Snapshot.of(election, store.exchange(election, Exchange()))
    check_healthy(line)
    leader = _seat(line, number).leader
    assert leader is not None  # each seat of a healthy line has one
    done = Round(number, leader)
    try:
        given, to, _ = order_switchover(store, election, None, leader)
    except KeyboardInterrupt:
        done.trouble = f"{leader} may have been ordered to hand over, and then does so without us"
        raise Interrupted(done) from None
    watch = _Watch(store, election, given, to, done, tell)
    try:
        watch.until_whole(wait_s)
    except HeirflowError as error:
        done.trouble = str(error)
    except KeyboardInterrupt:
        done.trouble = watch.left_alone()
        raise Interrupted(done) from None
    return done


class Interrupted(Exception):
    """Somebody pressed Ctrl-C in the middle of a round. What is ordered goes on."""

    def __init__(self, done: Round) -> None:
        super().__init__()
        self.round = done


def _seat(line: Snapshot, number: int) -> Seat:
    return next(seat for seat in line.by_seat if seat.seat == number)


@dataclass(slots=True)
class _Watch:
    store: Store
    election: str
    given: Order
    to: str
    done: Round
    tell: Tell
    began: float = 0.0

    def until_whole(self, wait_s: float) -> None:
        """Raises `HeirflowError` where it does not become so in time."""
        self.began = time.monotonic()
        self.tell(0.0, f"{self.done.before} is ordered to hand over to {named(self.to)}")
        missing = ""
        while (now_s := time.monotonic() - self.began) < wait_s:
            try:
                missing = self._seen(self.store.exchange(self.election, Exchange()), now_s)
            except StoreUnavailable as error:  # it may answer again, and the members do not wait for us
                missing = str(error)
            if not missing:
                return
            time.sleep(LOOK_EVERY_S)
        if self.done.took_charge_s is None:
            raise NotInTime(not_yet(self.election, self.given, released=self.done.released_s is not None))
        raise NotInTime(f"the line is not whole again after {duration(wait_s)}: {missing}")

    def left_alone(self) -> str:
        """What is so when nobody watches any more."""
        if self.done.took_charge_s is not None:
            return f"{self.done.after} leads; whether the line becomes whole again is not watched any more"
        return f"{self.done.before} is ordered to hand over to {named(self.to)}, and does so without us"

    def _seen(self, reading: Reading, now_s: float) -> str:
        """Note what has happened; returns what is missing still, and nothing when the line is whole."""
        done, record = self.done, reading.record_of(self.done.seat)
        if record is None:
            return "its record is gone"
        if done.took_charge_s is None:
            over = handed_over(self.store, self.election, self.given, self.to, record)
            if done.released_s is None and (over or record.leader is None):
                done.released_s = now_s
                self.tell(now_s, f"{done.before} has released: its command is gone")
            if not over:
                return "nobody leads yet"
            done.after, done.term, done.took_charge_s = record.leader, record.term, now_s
            done.gap_s = self._gap_s()
            self.tell(now_s, f"{done.after} took charge, term {done.term}")
        line = Snapshot.of(self.election, reading)
        seat = _seat(line, done.seat)
        if (seat.last_leader, seat.term) != (done.after, done.term):
            raise NotInTime(f"{done.after} has not kept the lead: {seat.because}")
        verdict = judged(line, ())
        if done.runs_s is None and (seat.runs or (seat.runs is None and self._never_says(line))):
            done.runs_s = now_s
            self.tell(
                now_s,
                f"{done.after} says that its command runs" if seat.runs else f"{done.after} does not say what runs",
            )
        if verdict.level is not Level.OK:
            return verdict.said
        if done.runs_s is None:
            return f"{done.after} has not said yet that its command runs"
        done.whole_s = now_s
        self.tell(now_s, f"the line is whole again: {line.heir} is the heir")
        return ""

    def _never_says(self, line: Snapshot) -> bool:
        """Whether the new leader is of a version that says nothing of its work, or it is no `heirflow run`."""
        leading = next((row for row in line.succession if row.member == self.done.after), None)
        return leading is None or not leading.settings

    def _gap_s(self) -> float:
        """As the new leader wrote it; where it cannot be had, as it was seen."""
        done = self.done
        try:
            events = self.store.events(self.election, EVENTS * done.seat)
        except StoreUnavailable:
            events = ()
        told = next((event.took_s for event in events if self._took_charge(event)), None)
        assert done.took_charge_s is not None
        assert done.released_s is not None
        return done.took_charge_s - done.released_s if told is None else told

    def _took_charge(self, event: Event) -> bool:
        return event.what is What.TOOK_CHARGE and (event.term, event.seat) == (self.done.term, self.done.seat)
