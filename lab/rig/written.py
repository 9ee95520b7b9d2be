"""What the commands themselves wrote down: one file for each start, judged by the stamps in it.

A *start* is one start of a command: by one member, in one term, with one main pid; its descendants write into the same file.
Two starts whose times intersect (`spans.overlaps`) are never right, whoever made them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from heirflow.guard.processes import lives

PIECE = 8192


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a command, and when its processes wrote. Seconds of CLOCK_BOOTTIME."""

    term: int
    member: str
    pid: int
    from_s: float
    to_s: float
    path: Path


def start_of(path: Path) -> Start | None:
    """None as long as nothing was written."""
    try:
        with path.open("rb") as file:
            head = _stamps(file.read(PIECE), whole=True)
            file.seek(max(0, os.fstat(file.fileno()).st_size - PIECE))
            tail = _stamps(file.read(), whole=file.tell() <= PIECE)
    except FileNotFoundError:
        return None
    if not head or not tail:
        return None
    term, member, pid, _ = path.name.split(".")
    # Several processes write: a line may stand a little after one that was stamped later.
    return Start(int(term), member, int(pid), min(head), max(tail), path)


def starts(folder: Path) -> list[Start]:
    """All starts, by their first line."""
    found = [start for path in folder.glob("*.ticks") if (start := start_of(path)) is not None]
    return sorted(found, key=lambda start: start.from_s)


def processes(folder: Path) -> dict[int, Path]:
    """Every living process that has a file in this folder on its command line, with the file."""
    found = {}
    mark = os.fsencode(folder) + b"/"
    for entry in _pids():
        try:
            words = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
            if not any(word.startswith(mark) and word.endswith(b".ticks") for word in words):
                continue
        except OSError:
            continue
        if lives(int(entry)):
            found[int(entry)] = next(
                Path(os.fsdecode(word)) for word in words if word.startswith(mark) and word.endswith(b".ticks")
            )
    return found


def words_of(pid: int) -> str:
    """A process's command line, for people; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _pids() -> Iterable[str]:
    return [entry for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208


def _stamps(piece: bytes, *, whole: bool) -> list[float]:
    """The stamps of the complete lines in a piece of a file; `whole`: it begins with the beginning of a line."""
    lines = piece.split(b"\n")[:-1]
    return [int(line.split()[0]) / 1e9 for line in (lines if whole else lines[1:]) if line]
