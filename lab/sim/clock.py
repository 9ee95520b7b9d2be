"""Time in a simulated world: one true time, an agenda of what happens when, and a clock per host that runs a little wrong.

Nothing here waits. The agenda jumps from one moment to the next, so that an hour of a world takes milliseconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

Action = Callable[..., object]
AT_ONE_INSTANT = 10_000
"""More than this at the same moment means that time does not pass any more."""


class StandsStill(AssertionError):
    """Time does not pass any more."""


@dataclass(slots=True)
class Host:
    """One machine: a clock that counts suspended time, a link to the store, and perhaps a freeze."""

    name: str
    rate: float = 1.0
    """Seconds that this host's clock counts in one true second."""
    offset_s: float = 0.0
    frozen: bool = False
    """The whole machine stands still; its clock goes on."""
    out_cut: int = 0
    """How many faults keep its questions from the store."""
    in_cut: int = 0
    """How many faults keep the store's answers from it."""
    slow: int = 0
    lossy: int = 0
    hanging_starts: int = 0
    """How many faults keep guards from beginning what they are told to start."""

    def local(self, true_s: float) -> float:
        """What this host's clock shows at a true time."""
        return self.offset_s + self.rate * true_s

    def true(self, local_s: float) -> float:
        """When, in true time, this host's clock shows `local_s`."""
        return (local_s - self.offset_s) / self.rate


@dataclass(slots=True, eq=False)
class Process:
    """Something that runs on a host and can be frozen or killed. What it should do meanwhile waits in its backlog."""

    host: Host
    alive: bool = True
    frozen: bool = False
    backlog: list[tuple[Action, tuple[Any, ...]]] = field(default_factory=list)


class Owner(Protocol):
    """Whoever an entry of the agenda belongs to: a `Process`."""

    backlog: list[tuple[Action, tuple[Any, ...]]]

    @property
    def host(self) -> Host: ...
    @property
    def alive(self) -> bool: ...
    @property
    def frozen(self) -> bool: ...


class Agenda:
    """What happens when, in true seconds. Entries of a frozen process wait for its thaw; those of a dead one are dropped."""

    def __init__(self) -> None:
        self.now = 0.0
        self._count = 0
        self._heap: list[tuple[float, int, Owner | None, Action, tuple[Any, ...]]] = []

    def at(self, when_s: float, owner: Owner | None, action: Action, *args: Any) -> None:
        """Do `action` at a true time, but never in the past; in the order of asking when two moments are the same."""
        self._count += 1
        heapq.heappush(self._heap, (max(when_s, self.now), self._count, owner, action, args))

    def after(self, delay_s: float, owner: Owner | None, action: Action, *args: Any) -> None:
        """Do `action` after a delay in true seconds."""
        self.at(self.now + delay_s, owner, action, *args)

    def thaw(self, process: Owner) -> None:
        """Let a process catch up with what waited for it, in order."""
        waiting, process.backlog = process.backlog, []
        for action, args in waiting:
            self.at(self.now, process, action, *args)

    def run_until(self, end_s: float) -> None:
        """Let everything happen up to and including `end_s`."""
        heap, instant, count = self._heap, self.now, 0
        while heap and heap[0][0] <= end_s:
            self.now, _, owner, action, args = heapq.heappop(heap)
            instant, count = (instant, count + 1) if self.now == instant else (self.now, 0)
            if count >= AT_ONE_INSTANT:
                raise StandsStill(f"time stands still at {self.now} with {action}")
            if owner is not None:
                if not owner.alive:
                    continue
                if owner.frozen or owner.host.frozen:
                    owner.backlog.append((action, args))
                    continue
            action(*args)
        self.now = end_s
