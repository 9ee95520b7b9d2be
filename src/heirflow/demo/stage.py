"""Where the demonstration's processes run: their folder, their logs, and the warden that leaves none of them behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from heirflow.demo import warden
from heirflow.errors import HeirflowError

PRIVATE = ("AIRFLOW", "_AIRFLOW", "HEIRFLOW", "PG", "PYTHON", "VIRTUAL_ENV", "NOTIFY_SOCKET", "CELERY")
"""What a person has set for other things must not reach the demonstration."""
CLOSE_LIMIT_S = 15.0


class Trouble(HeirflowError):
    """The demonstration cannot go on; the sentence says why and where to look."""


@dataclass(frozen=True, slots=True)
class Process:
    """Something that was started."""

    name: str
    pid: int
    log: Path

    def log_end(self, lines: int = 12) -> str:
        """The last lines of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text("utf-8", "replace").rstrip().splitlines()[-lines:])
        return ""


class Stage:
    """A folder and the processes that were started in it. Leaving it kills them all and removes the folder.

    `folder`: work there and leave it; None: in a temporary one that goes away. `keep`: it stays as well.
    """

    def __init__(self, folder: Path | None = None, *, keep: bool = False) -> None:
        self.stays = keep or folder is not None
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="heirflow-demo-"))
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self._ended: dict[int, int] = {}
        self._answers: list[dict[str, object]] = []
        self._heard = b""
        self._lock = threading.RLock()
        """Held by the thread that speaks with the warden: else one could take another's answer."""
        self._channel, other = socket.socketpair()
        removed = "" if self.stays else str(self.folder)
        try:
            with other:
                self._warden = subprocess.Popen(
                    [sys.executable, "-I", "-S", warden.__file__, str(other.fileno()), removed],
                    pass_fds=[other.fileno()],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    cwd="/",
                )
        except BaseException:
            if not self.stays:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def __enter__(self) -> Stage:  # noqa: PYI034  (Self needs Python 3.11)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str], *, cwd: Path | None = None) -> Process:
        """Start a program whose output goes to ``logs/<name>.log``. Raises `Trouble` when it cannot be executed."""
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        request = {"start": name, "argv": list(argv), "env": dict(env), "cwd": str(cwd or self.folder), "log": str(log)}
        try:
            with self._lock:
                self._channel.sendall(json.dumps(request).encode() + b"\n")
                while not self._answers:
                    self._hear(None)
                answer = self._answers.pop(0)
        except OSError as error:
            raise Trouble(f"the demonstration's warden is gone ({error.strerror})") from error
        if "failed" in answer:
            raise Trouble(f"{name} cannot be started: {answer['because']}")
        return Process(name, int(str(answer["pid"])), log)

    def status(self, process: Process) -> int | None:
        """Its exit code, or minus the signal; None while it runs."""
        self._hear(0.0)
        return self._ended.get(process.pid)

    def wait(self, process: Process, limit_s: float) -> int | None:
        """Wait for its end; None when it does not come in time."""
        limit = time.monotonic() + limit_s
        while (status := self.status(process)) is None and time.monotonic() < limit:
            self._hear(0.1)
        return status

    def signal(self, process: Process, number: signal.Signals) -> None:
        """Nothing happens when it has ended: its id is not given to others before the warden has collected it."""
        if self.status(process) is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def keep(self) -> None:
        """Let the folder stay: somebody will want to read the logs."""
        self.stays = True
        with contextlib.suppress(OSError):
            self._channel.sendall(b'{"keep": true}\n')

    def close(self) -> None:
        """Kill everything at once, and wait until it is gone. Never raises."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._warden.wait(CLOSE_LIMIT_S)
        if not self.stays:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _hear(self, wait_s: float | None) -> None:
        """Take in what the warden says. Raises `OSError` when it is gone and an answer is waited for."""
        with self._lock:
            if self._channel.fileno() < 0:
                return
            self._channel.settimeout(wait_s)
            try:
                data = self._channel.recv(65536)
            except (BlockingIOError, TimeoutError):
                return
            if not data:
                raise ConnectionResetError(104, "it was killed")
            *lines, self._heard = (self._heard + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "ended" in message:
                    self._ended[message["pid"]] = message["status"]
                else:
                    self._answers.append(message)


def clean_environment(**own: str) -> dict[str, str]:
    """Ours without what would lead a program astray, with `own` on top."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
    return {**kept, "PYTHONUNBUFFERED": "1", **own}
