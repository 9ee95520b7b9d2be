"""What a strike needs of its world, and how it says that it cannot be carried out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from heirflow.errors import HeirflowError
from lab.campaign.clocks import Clocks
from lab.campaign.coordinators import Coordinator
from lab.campaign.databases import Database
from lab.campaign.ground import Ground
from lab.campaign.pair import Pair
from lab.campaign.plan import Fault
from lab.rig.rig import Member


class NotNow(HeirflowError):
    """This fault cannot be carried out here or now; the sentence says why. It does not count."""


class Stage(Protocol):
    """What a strike needs of its world."""

    ground: Ground
    clocks: Clocks
    store: Database | Coordinator
    election: str

    @property
    def database(self) -> Database:
        """The store, in a world that has a database."""

    @property
    def coordinator(self) -> Coordinator:
        """The ensemble that is the store, or that the store's Patroni pair agrees by."""

    @property
    def pair(self) -> Pair:
        """The store, in a world that has a Patroni pair."""

    def member(self, host: str) -> Member:
        """The member of a host; raises `NotNow` when there is none."""

    def start(self, host: str) -> Member:
        """Start a member on a host that has none."""

    def wait(self, seconds: float) -> bool:
        """Wait; True when the run is ending."""

    def tell(self, sentence: str) -> None:
        """Write into the record of the run."""

    def phase(self, phase: str, fault: Fault, host: str) -> None:
        """Write that a strike has come so far."""


Strike = Callable[[Stage, Fault, str], AbstractContextManager[None]]
