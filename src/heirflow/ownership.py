"""Whose word stands in a file or a folder: ours and root's only, or could somebody else have put it there?

What HeirFlow reads from a folder decides which programs it runs and whom it believes. A folder in which others may write, or a
parent that others may rename, is enough to put something else there. So the whole way to a path is looked at: its own folder,
every parent, and where each symbolic link on the way leads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

OTHERS_WRITE = 0o022


def stranger(path: Path) -> str:
    """Why what stands at `path` could be somebody else's: half a sentence. Empty when only this user and root could put it there.

    A file and its folder, or a folder, must be closed to others. A parent farther up may be open where nobody can rename what is
    not theirs, as in ``/tmp``. Where the file system is mounted read-only, no right to write counts.
    """
    try:
        near = [path.stat()] if path.is_dir() else [path.parent.stat(), path.resolve().parent.stat()]
    except OSError as error:
        return _unseen(error)
    return _first(path, near)


def above(folder: Path) -> str:
    """The same for the parents of `folder` alone: who else could put another one in its place.

    A volume of root's may be open to all, as each `emptyDir` of Kubernetes is, often the only place where a container may write.
    So whoever relies on this also asks the kernel whose process answers there.
    """
    return _first(folder.absolute().parent, [], volumes=True)


def _first(path: Path, near: list[os.stat_result], *, volumes: bool = False) -> str:
    try:
        for each, state in _way(path):
            is_near = not stat.S_ISDIR(state.st_mode) or any(os.path.samestat(state, other) for other in near)
            if state.st_uid not in {0, os.geteuid()} and (is_near or not _is_unmapped(state.st_uid)):
                return f"{each} belongs to {_name(state.st_uid)}"
            if stat.S_ISLNK(state.st_mode) or not state.st_mode & OTHERS_WRITE or _is_read_only(each):
                continue
            if volumes and state.st_uid == 0 and os.path.ismount(each):
                continue
            if is_near or not state.st_mode & stat.S_ISVTX:
                return f"other users may write to {each}"
    except OSError as error:
        return _unseen(error)
    return ""


def _unseen(error: OSError) -> str:
    return f"it cannot be seen who may write to it ({error.strerror})"


def _way(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The path and every parent, also those of what links on the way lead to."""
    to_see, seen = [path.absolute()], set()
    while to_see:
        start = to_see.pop()
        for each in (start, *start.parents):
            if each in seen:
                continue
            seen.add(each)
            state = each.lstat()
            if stat.S_ISLNK(state.st_mode):
                to_see.append(each.parent / each.readlink())
            yield each, state


def _is_read_only(path: Path) -> bool:
    """A folder of a Kubernetes ConfigMap has mode 777, and nobody can write there."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _is_unmapped(uid: int) -> bool:
    """In a user namespace, the machine's root looks like this user, so parents of root's do too."""
    try:
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
        whole = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    except (OSError, ValueError):
        return False
    return uid == overflow and not whole


def _name(uid: int) -> str:
    import pwd  # asked only where something is refused

    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user with the number {uid}"
