"""What the commands wrote down, read once and kept small: for each start, the stretches of time in which it ran."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.rig import written

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

    @property
    def start(self) -> tuple[int, str, int]:
        return self.term, self.member, self.pid

    @property
    def host(self) -> str:
        """The members of a laboratory are named after their hosts."""
        return self.member.split("-")[0]


def runs_of(path: Path) -> list[Run]:
    """The stretches of one start. A half-written last line is left out."""
    term, member, pid, _ = path.name.split(".")
    stamps = sorted(int(line.split()[0]) for line in path.read_bytes().split(b"\n")[:-1] if line)
    found: list[Run] = []
    begin = 0
    for index in range(1, len(stamps) + 1):
        if index == len(stamps) or stamps[index] - stamps[index - 1] > PAUSE_S * 1e9:
            found.append(Run(int(term), member, int(pid), stamps[begin] / 1e9, stamps[index - 1] / 1e9))
            begin = index
    return found


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which no command ran."""

    from_s: float
    to_s: float

    @property
    def lasted_s(self) -> float:
        return self.to_s - self.from_s


def gaps(runs: Iterable[Run]) -> list[Gap]:
    """Between one start and the next however short, and within one start if it paused."""
    found: list[Gap] = []
    last: Run | None = None
    for run in sorted(runs, key=lambda run: run.from_s):
        if last is not None and run.from_s > last.to_s:
            found.append(Gap(last.to_s, run.from_s))
        if last is None or run.to_s > last.to_s:
            last = run
    return found


class Ledger:
    """The starts of one world. Files of those that have ended are read and removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ended: list[Run] = []

    def absorb(self) -> None:
        """Read and remove the files that no process writes any more."""
        paths = list(self.folder.glob("*.ticks"))
        living = set(
            written.processes(self.folder).values()
        )  # asked afterwards: who wrote a file then, and lives, is seen
        for path in paths:
            if path not in living:
                self._ended += runs_of(path)
                path.unlink()

    def runs(self) -> list[Run]:
        """All stretches so far."""
        return [*self._ended, *(run for path in self.folder.glob("*.ticks") for run in runs_of(path))]

    def recent(self, after_s: float) -> list[Run]:
        """Those that reach beyond a moment."""
        return [run for run in self.runs() if run.to_s >= after_s]
