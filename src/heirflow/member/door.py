"""How a member is asked on its own host: one unix socket per member, answered from its own loop.

The member listens on ``<run_dir>/<election>.<pid>.sock``. Whoever connects gets one JSON object and the end of the stream.
That the answer comes from the loop itself is the point: a member that is frozen, or whose loop hangs, does not answer, and
is not live. Asking needs no database, no Click, no Rich, so that a probe costs next to nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from heirflow.errors import HeirflowError

PATH_LIMIT = 100
"""Bytes that the path of a unix socket may have on every system that we know (Linux 107, macOS 103)."""
OTHERS_WRITE = 0o022
ANSWER_LIMIT = 64 * 1024
BACKLOG = 16


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
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        raise HeirflowError(f"{run_dir} belongs to another user; choose another --run-dir")
    return stat.S_IMODE(state.st_mode)


class LocalDoor:
    """The listening side. Never blocks; put `fileno()` into the loop's selector and call `answer` when it is readable.

    Raises `HeirflowError` when it cannot be opened; a member does without it then and says so.
    """

    def __init__(self, run_dir: Path, election: str, pid: int | None = None) -> None:
        prepare(run_dir)
        remove_stale(run_dir)
        self.path = run_dir / f"{safe_name(election)}.{pid or os.getpid()}.sock"
        if len(os.fsencode(self.path)) > PATH_LIMIT:
            raise HeirflowError(f"the path {self.path} is too long for a socket; choose a shorter --run-dir")
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
        """Stop listening and take the socket away. Never raises."""
        with suppress(OSError):
            self.path.unlink()
        with suppress(OSError):
            self._listener.close()


def remove_stale(run_dir: Path) -> None:
    """Take away sockets that nobody listens on."""
    for path in _sockets(run_dir, None):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.setblocking(False)
            try:
                link.connect(os.fspath(path))
            except ConnectionRefusedError:  # only this means nobody; a frozen member's queue is merely full
                path.unlink()


def ask(
    run_dir: Path, election: str | None = None, timeout_s: float = 1.0, *, pid: int | None = None
) -> dict[str, Any]:
    """What the member on this host says about itself.

    Raises `NobodyAnswers` (none is there, or it does not answer in time) or `NotOneMember` (several are; name one).
    """
    ends_at = time.monotonic() + timeout_s
    paths = [path for path in _sockets(run_dir, election) if pid is None or _pid(path) == pid]
    open_ones = [(path, link) for path in paths if (link := _connect(path, timeout_s / 2)) is not None]
    try:
        if not open_ones:
            whose = f" of {election}" if election else ""
            raise NobodyAnswers(f"no member{whose} runs on this host (none listens in {run_dir})")
        if len(open_ones) > 1:
            names = ", ".join(path.name.removesuffix(".sock") for path, _ in open_ones)
            raise NotOneMember(f"several members run on this host ({names}); name one with --name or --pid")
        path, link = open_ones[0]
        return _listen(link, ends_at, path)
    finally:
        for _, link in open_ones:
            link.close()


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
    except (OSError, ValueError):
        raise NobodyAnswers(f"the member {path.name.removesuffix('.sock')} broke off its answer") from None
    if not isinstance(facts, dict):
        raise NobodyAnswers(f"the member {path.name.removesuffix('.sock')} answered something else")
    return facts


def _sockets(run_dir: Path, election: str | None) -> list[Path]:
    start = f"{safe_name(election)}." if election else ""
    try:
        found = [path for path in run_dir.iterdir() if path.name.startswith(start) and _pid(path) is not None]
    except OSError:
        return []
    return sorted(path for path in found if path.is_socket())


def _pid(path: Path) -> int | None:
    match = re.fullmatch(r"[^.]+\.(\d+)\.sock", path.name)
    return int(match[1]) if match else None


def _connect(path: Path, timeout_s: float) -> socket.socket | None:
    """An open link, or None when nobody listens there (any more)."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(timeout_s)
    try:
        link.connect(os.fspath(path))
    except OSError:
        link.close()
        return None
    return link
