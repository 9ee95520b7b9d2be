"""One member's story for tests of the rules: what happens to it, when, and what it does, in the order of telling."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from heirflow.election.record import MemberRow, Place, Reading, Record
from heirflow.election.rules import decide
from heirflow.election.state import Ask, Policy, State
from heirflow.election.steps import (
    Act,
    Answered,
    CommandGone,
    CommandStarted,
    Failed,
    GuardUp,
    Send,
    StateEvent,
    Tick,
)
from heirflow.election.timings import Timings
from heirflow.member.report import deserves_warning

AnyAct = TypeVar("AnyAct", bound=Act)


class Story:
    """Member b (ttl 10 s, check-in 2 s, margin 1 s), with a store that a test plays by hand."""

    def __init__(self, *, policy: Policy | None = None, timings: Timings | None = None) -> None:
        self.timings = timings or Timings.of(10.0)
        self.now = 0.0
        self.state = State(me="b", host="hb", pid=1, born_at=0.0, policy=policy or Policy())
        self.acts: tuple[Act, ...] = ()
        self.because: tuple[str, ...] = ()
        self.warned = False
        """Whether a person is to look at the last of what happened."""
        self.record: Record | None = None
        self.others: dict[int, Record | None] = {}
        """The records of the seats after the first, by their numbers."""
        self.stuck: set[int] = set()
        """Seats whose record nobody can write."""
        self.rows: dict[str, MemberRow] = {}
        self.history: str | None = None
        """What the store calls its own history; None: it has no name for it."""
        self.seats = 0
        """How many the store says there are; 0: as many as have a record."""

    # ---- what happens ----

    def at(self, now: float, event: StateEvent | None = None) -> tuple[str, ...]:
        """Let an event happen; its acts and sentences are kept. Returns the sentences."""
        self.now, event = now, event or Tick()
        step = decide(self.state, event, now, self.timings)
        self.warned = deserves_warning(self.state, event, step.state)
        self.state, self.acts, self.because = step.state, step.acts, step.because
        return step.because

    def answer(self, now: float, *, swapped: bool | None = None) -> tuple[str, ...]:
        """The store carries out the exchange that is under way, and its answer comes at once."""
        ask = self.asked
        swap = ask.exchange.swap
        if swap is not None and swapped is None:
            here = swap.under is None or swap.under == self.history
            stands = self.record if swap.seat == 1 else self.others[swap.seat]
            swapped = here and swap.expected == (stands.version if stands else None)
            if swapped and swap.seat == 1:
                self.record = swap.record
            elif swapped:
                self.others[swap.seat] = swap.record
        if ask.exchange.leave:
            self.rows.pop("b", None)
        elif ask.exchange.join or "b" in self.rows:
            check_in = ask.exchange.check_in
            assert check_in is not None
            last = max((row.seniority for row in self.rows.values()), default=0)
            mine = self.rows.get("b")
            place = last + 1 if ask.exchange.join or mine is None else mine.seniority
            self.rows["b"] = MemberRow(
                "b", place, "hb", 1, check_in.ready, drained=bool(mine and mine.drained), stamp=now
            )
        return self.hear(now, swapped)

    def hear(self, now: float, swapped: bool | None = None) -> tuple[str, ...]:
        """The answer comes, with whatever stands in the store."""
        rows = tuple(sorted(self.rows.values(), key=lambda row: row.seniority))
        others = tuple(Place(record, stuck=number in self.stuck) for number, record in sorted(self.others.items()))
        reading = Reading(
            self.record, rows, swapped, history=self.history, seats=self.seats or 1 + len(others), others=others
        )
        return self.at(now, Answered(self.asked.serial, reading))

    def fail(self, now: float, because: str = "connection refused") -> tuple[str, ...]:
        return self.at(now, Failed(self.asked.serial, because))

    def check_in(self, now: float) -> tuple[str, ...]:
        """A whole check-in: the question goes out at `now` and is answered 10 ms later."""
        told = self.at(now)
        return told + self.answer(now + 0.01) if self.state.ask else told

    # ---- what others do ----

    def other(
        self, name: str, seniority: int, *, ready: bool = True, stamp: float | None = None, drained: bool = False
    ) -> None:
        self.rows[name] = MemberRow(
            name, seniority, name, 1, ready, drained, stamp=self.now if stamp is None else stamp
        )

    def write(self, **changes: object) -> None:
        """Somebody else replaces the record."""
        before = self.record or Record(0, 0, None, 10.0)
        self.record = replace(before, version=before.version + 1, **changes)  # type: ignore[arg-type]

    def fails_over(self, to: str, **forgotten: object) -> None:
        """The database fails over; what was written last is forgotten: the record is one that stood there before."""
        self.history = to
        if self.record is not None:
            self.record = replace(self.record, version=self.record.version - 1, **forgotten)  # type: ignore[arg-type]

    def leaves(self, name: str) -> None:
        """The leader leaves in order: its row is gone and the record vacant."""
        self.rows.pop(name, None)
        self.write(leader=None, because=f"{name} left")

    # ---- what it does ----

    @property
    def asked(self) -> Ask:
        assert self.state.ask is not None, "nothing was asked"
        return self.state.ask

    def did(self, kind: type[AnyAct]) -> AnyAct:
        found = [act for act in self.acts if isinstance(act, kind)]
        assert len(found) == 1, f"{kind.__name__} once, not {self.acts}"
        return found[0]

    def did_not(self, kind: type[Act]) -> bool:
        return not any(isinstance(act, kind) for act in self.acts)

    def sent(self) -> Ask:
        return self.did(Send).ask


def newcomer(**options: object) -> Story:
    """Joined nothing yet; its guard is there."""
    story = Story(**options)  # type: ignore[arg-type]
    story.at(0.0, GuardUp())
    return story


def heir(**options: object) -> Story:
    """Member b behind the leader a of term 1; it has just read version 1."""
    story = newcomer(**options)
    story.other("a", 1)
    story.write(term=1, leader="a")
    story.answer(0.01)
    return story


def leader(**options: object) -> Story:
    """Member b leads term 1 alone, and its command runs since 0.02."""
    story = newcomer(**options)
    story.answer(0.01)
    story.answer(0.02)
    story.at(0.03, CommandStarted())
    return story


GONE_BY_ITSELF = CommandGone(1, "the command exited with 1")
