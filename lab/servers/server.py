"""One real database server for tests and demonstrations: start, stop, crash, freeze. `servers` makes them."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

START_LIMIT_S = 60.0
STOP_LIMIT_S = 20.0
NAME = "heirflow"
"""Of the role and of the database that `Server.url` uses."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server stands when it does not stand on loopback: in a network namespace, on all addresses there."""

    netns: Path
    port: int
    network: str
    """Who may come in, as ``10.77.0.0/24``."""
    address: str = ""
    """Its own there, for servers that must name it to others."""
    words: tuple[str, ...] = ()
    """What its program is started by: it goes between the place and the program."""


class ServerTrouble(RuntimeError):
    """A server could not be started, stopped or asked; the message has the end of its log."""


class Server:
    """One server process and its children. Made by `postgres_server` and `mariadb_server`."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        password: str,
        command: Sequence[str],
        user: str | None,
        ready: Callable[[Server], bool],
        client: Callable[[Server, str, str], list[str]],
        client_environment: Mapping[str, str],
        schemes: Mapping[str, str],
        superuser: str,
        stop_signal: signal.Signals,
        read_only_sql: Mapping[bool, str],
        place: Place | None = None,
        socket: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`socket`: what a URL has after ``?`` to reach a server in another `place` from here, over a unix socket."""
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"
        self.port = port
        self.password = password
        self._command = list(command)
        self.user = user
        self._ready = ready
        self._client = client
        self._client_environment = dict(client_environment)
        self._schemes = dict(schemes)
        self._superuser = superuser
        self._stop_signal = stop_signal
        self._read_only_sql = dict(read_only_sql)
        self.place = place
        self._socket = socket
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, driver: str, *, user: str = NAME, database: str = NAME, password: str | None = None) -> str:
        """A database URL for SQLAlchemy's name of a driver, as an ordinary role that owns the database."""
        secret = self.password if password is None else password
        where = f"/{database}?{self._socket}" if self.place else f"127.0.0.1:{self.port}/{database}"
        return f"{self._schemes[driver]}://{user}:{secret}@{where}"

    def sql(self, statement: str, *, database: str = NAME) -> str:
        """Carry out statements as the superuser and return what they print, without headings."""
        environment = {**os.environ, **self._client_environment}
        done = subprocess.run(
            self._client(self, statement, database), env=environment, capture_output=True, text=True, check=False,
            timeout=START_LIMIT_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode != 0:
            raise ServerTrouble(f"{statement!r} failed: {done.stderr.strip()}")
        return done.stdout.strip()

    @property
    def program(self) -> str:
        """The file of the server's program."""
        return self._command[0]

    @property
    def pid(self) -> int | None:
        """Of the main process; None while it does not run."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def processes(self) -> list[int]:
        """Every process of this server, the main one first."""
        return sorted(_at_home(self.data), key=lambda pid: (pid != self.pid, pid))

    def begin(self) -> None:
        """Start the server without waiting: some answer only when others run too."""
        if self.pid is not None:
            return
        enter, who = self._enter()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*enter, *self._command], cwd=self.data, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=self._env, **who,
            )  # type: ignore[call-overload]  # fmt: skip

    def start(self) -> None:
        """Start the server and wait until it answers. Raises `ServerTrouble`."""
        if self.pid is not None:
            return
        self.begin()
        _wait(lambda: self.pid is None or self._ready(self), START_LIMIT_S)
        if not self._ready(self):
            raise ServerTrouble(f"{Path(self._command[0]).name} did not start:\n{self.log_end()}")

    def _enter(self) -> tuple[list[str], dict[str, object]]:
        return entrance(self.place, self.user)

    def stop(self) -> None:
        """End sessions and stop in good order; what does not stop in time is killed."""
        if self._process is None:
            return
        self.thaw()
        for _ in range(int(STOP_LIMIT_S)):
            # Again and again: a MariaDB that has only just started can miss it.
            self._process.send_signal(self._stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
                break
        self.crash()

    def immediate(self) -> None:
        """Stop at once, without a last word on disk (PostgreSQL: ``-m immediate``); the next start recovers."""
        if self._process is not None and self.pid is not None and self._stop_signal is signal.SIGINT:
            self._process.send_signal(signal.SIGQUIT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_LIMIT_S)
        self.crash()

    def restart(self) -> None:
        """Stop in good order and start again."""
        self.stop()
        self.start()

    def crash(self) -> None:
        """Kill every process at once, as a power cut would (what the operating system has is kept)."""

        def gone() -> bool:
            left = self.processes()
            _signal(left, signal.SIGKILL)
            return not left

        if not _wait(gone, STOP_LIMIT_S):
            raise ServerTrouble(f"processes {self.processes()} do not die")
        if self._process is not None:
            self._process.wait(STOP_LIMIT_S)
            self._process = None

    def freeze(self) -> None:
        """Stop every process where it stands (SIGSTOP); connections stay open and nobody answers."""
        stopped: set[int] = set()

        def all_stopped() -> bool:
            new = [pid for pid in self.processes() if pid not in stopped]
            _signal(new, signal.SIGSTOP)
            stopped.update(new)
            return not new

        _wait(all_stopped, STOP_LIMIT_S)

    def thaw(self) -> None:
        """Undo `freeze`."""
        _signal(self.processes(), signal.SIGCONT)

    def read_only(self, on: bool) -> None:
        """Let ordinary roles write, or not."""
        for statement in self._read_only_sql[on].split(";"):
            self.sql(statement)

    def log_end(self, lines: int = 30) -> str:
        """The last lines of the server's log."""
        with suppress(OSError):
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])
        return ""


def _at_home(folder: Path) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208
        with suppress(OSError):
            if entry.isdigit() and os.readlink(f"/proc/{entry}/cwd") == str(folder):  # noqa: PTH115
                found.append(int(entry))
    return found


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _wait(condition: Callable[[], bool], limit_s: float) -> bool:
    limit = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def identity(user: str | None) -> dict[str, object]:
    """Arguments of `subprocess` that run a program as that user; None: as we are."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "umask": 0o077}


def entrance(place: Place | None, user: str | None) -> tuple[list[str], dict[str, object]]:
    """The words before a command, and arguments of `subprocess`: into its place, and only then as its user."""
    who = identity(user)
    if place is None:
        return [], who
    words = ["nsenter", f"--net={place.netns}"]
    if who:
        words += ["-S", str(who["user"]), "-G", str(who["group"])]
    return [*words, "--", *place.words], {"umask": 0o077}
