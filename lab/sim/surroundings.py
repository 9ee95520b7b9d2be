"""What a world gives to the processes that live in it, and what these show to one another.

Members, guards and the network all stand below the world. So each of them knows these shapes only: the world that surrounds
it, and as much of a member as it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Protocol

from heirflow.election.state import Ask
from heirflow.election.steps import StateEvent
from heirflow.election.timings import Timings
from lab.sim.clock import Owner
from lab.sim.judge import Judge
from lab.sim.seen import SeenGuard, SeenMember, SeenWorld

FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Manners:
    """How a command behaves, in true seconds."""

    obeys_term_after_s: float = 0.02
    """Infinite for one that ignores TERM."""
    exits_after_s: float = FOREVER
    exit_status: int = 1
    kill_takes_s: float = 0.01
    """From KILL until the last descendant is gone; inside `kill_lead_s`, or no lease could be kept."""


class Inhabitant(Owner, SeenMember, Protocol):
    """A member process, as the network reaches it."""

    def happen(self, event: StateEvent) -> None:
        """Decide about one event, and act."""

    def post(self, event: StateEvent) -> None:
        """Let something happen to this member, soon."""

    def late_s(self) -> float:
        """How late the next event reaches this member."""


class Guarded(Inhabitant, Protocol):
    """A member process, as its guard and its command know it."""

    @property
    def world(self) -> Surroundings: ...
    def hear_guard(self, guard: SeenGuard, event: StateEvent) -> None:
        """Get a word from the guard, in order."""

    def guard_ended(self, guard: SeenGuard) -> None:
        """Come to know that the guard is dead, and that nothing it ran is left."""


class Carrier(Protocol):
    """The way to the store."""

    def send(self, member: Inhabitant, ask: Ask) -> None:
        """Carry a question there, and the answer back."""

    def will(self, member: Inhabitant, term: int) -> None:
        """Carry out a killed member's will."""


class Surroundings(SeenWorld, Protocol):
    """The world, as those see it who live in it."""

    @property
    def judge(self) -> Judge: ...
    @property
    def network(self) -> Carrier: ...
    @property
    def members(self) -> Mapping[str, Inhabitant]: ...
    @property
    def rng(self) -> Random:
        """Luck."""

    @property
    def calm(self) -> bool:
        """Whether faults are over: commands behave, messages are quick."""

    @property
    def act_s(self) -> float:
        """When the safety act ends, and every fault with it."""

    @property
    def member_strikes(self) -> bool:
        """Whether a member strikes when its frozen guard misses the deadline."""

    @property
    def frozen_starts(self) -> float:
        """The share of starts before which the member is frozen, between deciding and acting."""

    def little_s(self) -> float:
        """What anything takes on a host that is well."""

    def manners(self, timings: Timings) -> Manners:
        """How the next command behaves."""

    def member_ended(self, member: SeenMember) -> None:
        """Hear that a member process is gone."""
