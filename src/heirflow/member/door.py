"""How a member is asked on its own host: one unix socket per member, answered from its own loop.

The member listens on ``<run_dir>/<election>.<member>.<pid>.sock``. Whoever connects gets one JSON object and the end of the
stream. That the answer comes from the loop itself is the point: a member that is frozen, or whose loop hangs, does not answer,
and is not live. Asking needs no database, no Click, no Rich, so that a probe costs next to nothing.

Two containers may share the folder, and each has a member with the process id 1. So a socket is named after its member, which is
unlike every other, and who asks is told by the kernel who listens (SO_PEERCRED): a member that the asker cannot see among the
processes runs in another container, and is asked only by its name. The same call says whose process it is: nobody believes
another user's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import stat
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from heirflow.errors import HeirflowError
from heirflow.ownership import OTHERS_WRITE, above

PATH_LIMIT = 100
"""Bytes that the path of a unix socket may have on every system that we know (Linux 107, macOS 103)."""
ANSWER_LIMIT = 64 * 1024
BACKLOG = 16
UNFINISHED_S = 60.0
"""Nobody takes so long from a socket's first name to its last."""


class NobodyAnswers(HeirflowError):
    """No member can be asked, or none answered in time."""

    exit_code = 1


class NotOneMember(HeirflowError):
    """There is no single member that is meant."""

    exit_code = 2


def safe_name(election: str) -> str:
    """The election's name as part of a file name; names that differ stay different."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", election)[:40]
    if plain == election:
        return plain
    return f"{plain[:31]}-{hashlib.sha256(election.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def prepare(run_dir: Path) -> None:
    """Make the folder for this user alone. Raises `HeirflowError` when somebody else could put sockets there."""
    try:
        for parent in reversed(run_dir.parents):
            parent.mkdir(mode=0o755, exist_ok=True)  # never open to others, whatever the umask is
        run_dir.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise HeirflowError(f"cannot make the folder for probes {run_dir}: {error.strerror}") from None
    mode = mode_of(run_dir)
    if mode is not None and mode & OTHERS_WRITE:
        run_dir.chmod(mode & ~OTHERS_WRITE)


def mode_of(run_dir: Path) -> int | None:
    """Who may do what in the folder; None: it is not there. Changes nothing. Raises `HeirflowError` where it is not our own."""
    try:
        state = run_dir.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HeirflowError(f"cannot look at the folder for probes {run_dir}: {error.strerror}") from None
    if not stat.S_ISDIR(state.st_mode):
        raise HeirflowError(f"{run_dir} is not a folder; choose another --run-dir")
    if state.st_uid != os.geteuid():
        raise HeirflowError(f"{run_dir} belongs to another user; ask as that user, or choose another --run-dir")
    if why := above(run_dir):
        raise HeirflowError(f"somebody else could replace {run_dir}: {why}; choose another --run-dir")
    return stat.S_IMODE(state.st_mode)


class LocalDoor:
    """The listening side. Never blocks; put `fileno()` into the loop's selector and call `answer` when it is readable.

    `member`: its id. Raises `HeirflowError` when it cannot be opened; a member does without it then and says so.
    """

    def __init__(self, run_dir: Path, election: str, pid: int | None = None, *, member: str = "") -> None:
        prepare(run_dir)
        remove_stale(run_dir)
        end = f".{pid or os.getpid()}.sock"
        for part in (_part(member), _part(member)[-MEMBER_TAIL:]):
            self.path = run_dir / f"{safe_name(election)}{'.' if part else ''}{part}{end}"
            if len(os.fsencode(self.path)) <= PATH_LIMIT:
                break
        if len(os.fsencode(self.path)) > PATH_LIMIT:
            raise HeirflowError(f"the path {self.path} is too long for a socket; choose a shorter --run-dir")
        if _is_answered(self.path):
            raise HeirflowError(f"somebody else listens on {self.path}")
        # A socket that is bound and does not listen yet looks stale to a member that starts at the same time: so it gets its
        # name only when it listens. This also replaces what an earlier process with our number left.
        unfinished = self.path.with_suffix(".new")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        try:
            with suppress(FileNotFoundError):
                unfinished.unlink()
            self._listener.bind(os.fspath(unfinished))
            unfinished.chmod(0o600)
            self._listener.listen(BACKLOG)
            self._inode = unfinished.stat().st_ino
            unfinished.rename(self.path)
        except OSError as error:
            self._listener.close()
            raise HeirflowError(f"cannot listen on {self.path}: {error.strerror}") from None

    def fileno(self) -> int:
        """The descriptor that becomes readable when somebody asks."""
        return self._listener.fileno()

    def answer(self, facts: dict[str, Any]) -> int:
        """Tell these facts to everybody who is asking now; returns how many they were. Never blocks, never raises."""
        message = json.dumps(facts, default=str).encode() + b"\n"
        answered = 0
        while answered < BACKLOG:
            try:
                asker, _ = self._listener.accept()
            except OSError:
                break
            answered += 1
            with asker, suppress(OSError):
                asker.setblocking(False)
                asker.send(message)  # a few hundred bytes always fit into a fresh socket's buffer
        return answered

    def close(self) -> None:
        """Stop listening and take the socket away, if it is still ours. Never raises."""
        with suppress(OSError):
            if self.path.lstat().st_ino == self._inode:
                self.path.unlink()
        with suppress(OSError):
            self._listener.close()


def remove_stale(run_dir: Path) -> None:
    """Take away sockets that nobody listens on."""
    for path in _sockets(run_dir, None):
        with suppress(OSError):
            if not _is_answered(path):
                path.unlink()
    with suppress(OSError):
        for path in run_dir.glob("*.new"):
            if path.is_socket() and path.lstat().st_mtime < time.time() - UNFINISHED_S:
                path.unlink()


def _is_answered(path: Path) -> bool:
    """Whether somebody listens there; a frozen member does, whose queue is merely full."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.setblocking(False)
        try:
            link.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):  # only this means nobody
            return False
        except OSError:
            return True
    return True


class Door(NamedTuple):
    """A member's socket as who asks sees it."""

    path: Path
    link: socket.socket
    pid: int | None
    """Who listens there, among the processes that we can see; 0: nobody of them. None: the system does not tell."""

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(".sock")


def ask(
    run_dir: Path,
    election: str | None = None,
    timeout_s: float = 1.0,
    *,
    pid: int | None = None,
    member: str | None = None,
) -> dict[str, Any]:
    """What the member on this host says about itself.

    Raises `NobodyAnswers` (none is there, or it does not answer in time), `NotOneMember` (several are; name one), or
    `HeirflowError` where somebody else could have put sockets into the folder.
    """
    ends_at = time.monotonic() + timeout_s
    _check_folder(run_dir)
    paths = [path for path in _sockets(run_dir, election) if member is None or _is_of(path, member)]
    doors = [door for path in paths if (door := _connect(path, timeout_s / 2)) is not None]
    try:
        door = _the_one(doors, run_dir, election, pid=pid, named=member is not None)
        return _listen(door.link, ends_at, door.path)
    finally:
        for door in doors:
            door.link.close()


def everybody(run_dir: Path, election: str | None = None, timeout_s: float = 1.0) -> list[dict[str, Any]]:
    """What each member that listens in the folder says about itself; of one that does not answer, where it listens and why.

    Raises `HeirflowError` like `ask`.
    """
    _check_folder(run_dir)
    found = []
    for path in _sockets(run_dir, election):
        if (door := _connect(path, timeout_s / 2)) is not None:
            with door.link:
                try:
                    found.append(_listen(door.link, time.monotonic() + timeout_s, path))
                except NobodyAnswers as error:
                    found.append({"member": door.name, "live": False, "pid": door.pid, "sentence": str(error)})
    return found


def _check_folder(run_dir: Path) -> None:
    mode = mode_of(run_dir)
    if mode is not None and mode & OTHERS_WRITE:
        raise HeirflowError(f"other users may write to {run_dir}, so no member there is believed; run chmod go-w on it")


def _the_one(doors: list[Door], run_dir: Path, election: str | None, *, pid: int | None, named: bool) -> Door:
    here = [door for door in doors if named or door.pid != 0]
    if pid is not None:
        here = [door for door in here if door.pid == pid] or [door for door in here if _pid(door.path) == pid]
    if len(here) == 1:
        return here[0]
    if here:
        names = ", ".join(door.name for door in here)
        raise NotOneMember(f"several members run on this host ({names}); name one with --name, --pid or --member")
    whose = f" of {election}" if election else ""
    if elsewhere := ", ".join(door.name for door in doors if door.pid == 0):
        raise NobodyAnswers(
            f"no member{whose} runs in this container; {elsewhere} of another one listens in {run_dir}: "
            "name it with --member to ask it"
        )
    raise NobodyAnswers(f"no member{whose} runs on this host (none listens in {run_dir})")


def _listen(link: socket.socket, ends_at: float, path: Path) -> dict[str, Any]:
    received = b""
    try:
        while len(received) < ANSWER_LIMIT:
            link.settimeout(max(0.001, ends_at - time.monotonic()))
            piece = link.recv(8192)
            if not piece:
                break
            received += piece
            if time.monotonic() > ends_at:
                raise TimeoutError
        facts = json.loads(received)
    except TimeoutError:
        raise NobodyAnswers(
            f"the member {path.name.removesuffix('.sock')} does not answer in time: frozen, or overloaded"
        ) from None
    except (OSError, ValueError, RecursionError):  # the last: brackets within brackets without end
        raise NobodyAnswers(f"the member {path.name.removesuffix('.sock')} broke off its answer") from None
    if not isinstance(facts, dict):
        raise NobodyAnswers(f"the member {path.name.removesuffix('.sock')} answered something else")
    return facts


def _sockets(run_dir: Path, election: str | None) -> list[Path]:
    start = f"{safe_name(election)}." if election else ""
    try:
        found = [path for path in run_dir.iterdir() if path.name.startswith(start) and _pid(path) is not None]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HeirflowError(f"cannot read the folder for probes {run_dir}: {error.strerror}") from None
    return sorted(path for path in found if path.is_socket())


def _pid(path: Path) -> int | None:
    match = re.fullmatch(r"[^.]+\.(?:[^.]+\.)?(\d+)\.sock", path.name)
    return int(match[1]) if match else None


MEMBER_TAIL = 6
"""Characters at the end of a member's id that no other has: what remains of it where the path would be too long."""


def _part(member: str) -> str:
    """A member's id as part of a file name."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", member)


def _is_of(path: Path, member: str) -> bool:
    parts = path.name.split(".")
    return len(parts) == 4 and parts[1] in {_part(member), _part(member)[-MEMBER_TAIL:]}


def _connect(path: Path, timeout_s: float) -> Door | None:
    """An open link, or None when nobody listens there (any more), or another user does."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(timeout_s)
    try:
        link.connect(os.fspath(path))
        pid, uid = _peer(link)
    except OSError:
        link.close()
        return None
    if uid not in {None, 0, os.geteuid()}:
        link.close()
        return None
    return Door(path, link, pid)


def _peer(link: socket.socket) -> tuple[int | None, int | None]:
    """Process and user of who listens, as the kernel knows them."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:  # macOS
        return None, None
    pid, uid, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return pid, uid
