"""What the commands wrote down, read once and kept small: for each start, the stretches of time in which it ran."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.rig import spans, written

PAUSE_S = 0.25
"""A start that wrote nothing for longer than this did not run meanwhile: it was stopped, or starved."""


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch in which one start of a command wrote without a pause. Seconds of CLOCK_BOOTTIME."""

    term: int
    member: str
    pid: int
    from_s: float
    to_s: float
    seat: int = 1

    @property
    def start(self) -> tuple[int, str, int, int]:
        return self.term, self.member, self.pid, self.seat

    @property
    def lead(self) -> tuple[int, str, int]:
        """Which leadership it belongs to."""
        return self.term, self.member, self.seat

    @property
    def host(self) -> str:
        """The members of a laboratory are named after their hosts."""
        return self.member.split("-")[0]


def runs_of(path: Path) -> list[Run]:
    """The stretches of one start."""
    term, member, pid = written.named(path)
    seat = int(path.parent.name) if path.parent.name.isdecimal() else 1
    moments = (tick.at_s for tick in written.ticks_in(path))
    return [Run(term, member, pid, from_s, to_s, seat) for from_s, to_s in spans.stretches(moments, PAUSE_S)]


class Ledger:
    """The starts of one world. Files of those that have ended are read and removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ended: list[Run] = []

    def absorb(self) -> None:
        """Read and remove the files that no process writes any more."""
        paths = list(self.folder.rglob("*.ticks"))
        living = set(
            written.processes(self.folder).values()
        )  # asked afterwards: who wrote a file then, and lives, is seen
        for path in paths:
            if path not in living:
                self._ended += runs_of(path)
                path.unlink()

    def runs(self) -> list[Run]:
        """All stretches so far."""
        return [*self._ended, *(run for path in self.folder.rglob("*.ticks") for run in runs_of(path))]

    def recent(self, after_s: float) -> list[Run]:
        """Those that reach beyond a moment."""
        return [run for run in self.runs() if run.to_s >= after_s]
