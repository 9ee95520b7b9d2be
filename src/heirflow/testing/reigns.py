"""Reads what the commands themselves wrote down, and counts overlaps and gaps. It asks nobody else.

A *reign* is the time from the first to the last line of one member's command in one term. Two reigns that intersect are an
overlap. Only what was written is known here: a command that runs and writes nothing is found by looking for its process.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Reign:
    """One member's command in one term. Seconds of CLOCK_BOOTTIME."""

    term: int
    member: str
    first_s: float
    last_s: float


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two commands at once."""

    earlier: Reign
    later: Reign

    @property
    def lasted_s(self) -> float:
        return min(self.earlier.last_s, self.later.last_s) - self.later.first_s


def reigns(path: Path) -> list[Reign]:
    """All reigns in a ticker's file, by their beginning. A half-written last line is left out."""
    found: dict[tuple[int, str], Reign] = {}
    text = path.read_text(errors="replace") if path.exists() else ""
    for line in text.splitlines():
        words = line.split()
        if len(words) != 4 or not words[0].isdigit():
            continue
        at_s, key = int(words[0]) / 1e9, (int(words[2]), words[3])
        known = found.get(key) or Reign(*key, at_s, at_s)
        found[key] = Reign(*key, min(known.first_s, at_s), max(known.last_s, at_s))
    return sorted(found.values(), key=lambda reign: reign.first_s)


def overlaps(path: Path) -> list[Overlap]:
    """Every pair of reigns that intersect."""
    ordered = reigns(path)
    return [
        Overlap(earlier, later)
        for index, earlier in enumerate(ordered)
        for later in ordered[index + 1 :]
        if later.first_s <= earlier.last_s
    ]


def gaps_s(path: Path) -> list[float]:
    """How long nothing ran between one reign and the next."""
    return [later.first_s - earlier.last_s for earlier, later in pairwise(reigns(path))]
