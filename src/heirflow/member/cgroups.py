"""Which cgroup a process lives in, and who else lives there: what a service manager that kills a whole group rests on.

Cgroup v2 only. A cgroup is named by its folder and by the number that the kernel gave it, which no other cgroup of this boot
ever has: in another container the same folder is another cgroup. A process that has begun to exit and has no memory and no
open file any more is not in the list of its cgroup; a zombie is not either.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from heirflow.guard.processes import cgroup_folder, lives, stat_of

BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Cgroup:
    """One cgroup, wherever it is asked for."""

    folder: str
    number: int
    """The folder's inode."""
    boot: str
    """The boot of the machine in which this number means it."""


def cgroup_of(pid: int) -> Cgroup | None:
    """Where this process lives; None where there is no cgroup v2, or where that cannot be seen from here."""
    try:
        folder = Path(cgroup_folder(pid))
        return Cgroup(str(folder), folder.stat().st_ino, boot())
    except (OSError, ValueError):
        return None


def boot() -> str:
    """The name of this boot of the machine. Raises OSError where there is none."""
    return BOOT.read_text().strip()


def is_same(cgroup: Cgroup) -> bool:
    """Whether the folder is that very cgroup, here and now."""
    try:
        return Path(cgroup.folder).stat().st_ino == cgroup.number and boot() == cgroup.boot
    except OSError:
        return False


def members_of(folder: str, spare: Collection[int]) -> list[int]:
    """Who lives in this cgroup or below it, without `spare`; 0 is somebody of another pid namespace.

    Raises OSError when it cannot be told.
    """

    def fail(error: OSError) -> None:
        raise error

    found: list[int] = []
    for each, _, _ in os.walk(folder, onerror=fail):
        found += map(int, Path(each, "cgroup.procs").read_text().split())
    return [pid for pid in found if pid not in spare]


def own_line() -> set[int]:
    """This process and its parents."""
    found, pid = set(), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            pid = int(stat_of(pid)[1])
        except OSError:
            break
    return found


def those_named(word: str) -> Iterator[int]:
    """Live processes of this machine, of those whose environment we may read, that have exactly this entry in theirs."""
    entry = b"\0" + os.fsencode(word) + b"\0"
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if entry in b"\0" + (folder / "environ").read_bytes() + b"\0" and lives(int(folder.name)):
                    yield int(folder.name)
