"""What the judge sees of a world: its time, its store, its members, their guards and commands.

The judge stands below the world that it judges. So it knows these shapes, and none of the classes that have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from heirflow.election.record import Record
from heirflow.election.state import State
from heirflow.election.timings import Timings
from lab.sim.clock import Agenda, Host, Owner
from lab.sim.register import SimStore


class SeenMember(Protocol):
    """One member process."""

    @property
    def id(self) -> str: ...
    @property
    def host(self) -> Host: ...
    @property
    def timings(self) -> Timings: ...
    @property
    def state(self) -> State:
        """What its rules know now."""

    @property
    def stop_asked(self) -> int:
        """How often somebody asked it to stop."""


class SeenGuard(Protocol):
    """The guard of one member."""

    @property
    def member(self) -> SeenMember: ...
    @property
    def command(self) -> SeenCommand | None: ...
    @property
    def frozen(self) -> bool: ...
    @property
    def orphaned(self) -> bool:
        """Its member is gone."""


class SeenCommand(Owner, Protocol):
    """One run of a command, with all its descendants. The judge keeps some notes on it."""

    suspended: bool
    """Frozen with its whole host: it does nothing."""
    late: bool
    """Thawed with its host when no kill could come in time any more."""
    dead_by: float
    """When it must be gone then, on its host's clock."""
    guard_slept: bool
    """Whether its guard did not go on with the host: then its member strikes, unless a renewal was confirmed meanwhile."""

    @property
    def member(self) -> SeenMember: ...
    @property
    def guard(self) -> SeenGuard: ...
    @property
    def term(self) -> int: ...
    @property
    def seat(self) -> int: ...
    @property
    def dying(self) -> bool: ...


class SeenWorld(Protocol):
    """The world itself."""

    @property
    def agenda(self) -> Agenda: ...
    @property
    def store(self) -> SimStore: ...
    @property
    def members(self) -> Mapping[str, SeenMember]:
        """Those that live."""

    @property
    def everybody(self) -> Mapping[str, SeenMember]:
        """Those that live, and those that ended."""

    @property
    def longest_ttl_s(self) -> float: ...
    def say(self, who: str, sentence: str) -> None: ...
    def leadership_changed(self, record: Record) -> None:
        """Hear that the judge saw a change."""
