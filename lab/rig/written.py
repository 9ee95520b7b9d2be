"""What the commands themselves wrote down: the one reader of what a `ticker` writes. It asks nobody else.

A *start* is one start of a command: by one member, in one term, with one main pid. In most scenes each start has a file of its
own, which is named after it (`ticker.file_name`) and into which its descendants write too: `start_of`, `starts`. In others all
starts write into one file, and each line says whose it is: `starts_in`. Two starts whose times intersect (`spans.overlaps`) are
never right, whoever made them. Only what was written is known here: a command that runs and writes nothing is found by looking
for its process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from heirflow.guard.processes import lives

PIECE = 8192


class Tick(NamedTuple):
    """One line. Seconds of CLOCK_BOOTTIME."""

    at_s: float
    pid: int
    term: int
    member: str


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a command, and when its processes wrote. Seconds of CLOCK_BOOTTIME."""

    term: int
    member: str
    pid: int
    from_s: float
    to_s: float
    path: Path


def ticks(piece: bytes) -> Iterator[Tick]:
    """The lines of a piece that begins with the beginning of a line. A half-written last line is left out."""
    for line in piece.split(b"\n")[:-1]:
        nanoseconds, pid, term, member = line.split()
        yield Tick(int(nanoseconds) / 1e9, int(pid), int(term), member.decode())


def ticks_in(path: Path) -> list[Tick]:
    """All lines of a file, as they stand; none when there is no file yet."""
    return list(ticks(path.read_bytes())) if path.exists() else []


def named(path: Path) -> tuple[int, str, int]:
    """Term, member and pid of the start that has this file of its own."""
    term, member, pid, _ = path.name.split(".")
    return int(term), member, int(pid)


def start_of(path: Path) -> Start | None:
    """None as long as nothing was written."""
    try:
        with path.open("rb") as file:
            head = file.read(PIECE)
            file.seek(max(0, os.fstat(file.fileno()).st_size - PIECE))
            whole = file.tell() == 0
            tail = file.read()
    except FileNotFoundError:
        return None
    first = [tick.at_s for tick in ticks(head)]
    last = [tick.at_s for tick in ticks(tail if whole else tail.partition(b"\n")[2])]
    if not first or not last:
        return None
    # Several processes write: a line may stand a little after one that was stamped later.
    return Start(*named(path), min(first), max(last), path)


def starts(folder: Path) -> list[Start]:
    """All starts that have files of their own there, by their first line."""
    found = [start for path in folder.glob("*.ticks") if (start := start_of(path)) is not None]
    return sorted(found, key=lambda start: start.from_s)


def starts_in(path: Path) -> list[Start]:
    """All starts that wrote into this one file, by their first line."""
    found: dict[tuple[int, str, int], Start] = {}
    for at_s, pid, term, member in ticks_in(path):
        known = found.get((term, member, pid))
        from_s, to_s = (min(known.from_s, at_s), max(known.to_s, at_s)) if known else (at_s, at_s)
        found[term, member, pid] = Start(term, member, pid, from_s, to_s, path)
    return sorted(found.values(), key=lambda start: start.from_s)


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
