"""Reads what the commands themselves wrote down, and tells reigns and gaps. It asks nobody else.

A *reign* is the time from the first to the last line of one member's command in one term. Two reigns that intersect
(`spans.overlaps`) are never right. Only what was written is known here: a command that runs and writes nothing is found by
looking for its process.
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
    from_s: float
    to_s: float


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
        found[key] = Reign(*key, min(known.from_s, at_s), max(known.to_s, at_s))
    return sorted(found.values(), key=lambda reign: reign.from_s)


def gaps_s(path: Path) -> list[float]:
    """How long nothing ran between one reign and the next."""
    return [later.from_s - earlier.to_s for earlier, later in pairwise(reigns(path))]
