"""Whole members as real processes on one machine, for tests and benchmarks that kill and freeze them.

    with Rig(url, folder, ttl_s=3) as rig:
        rig.add("a"); rig.add("b")
        leader = rig.wait_for_leader()
        leader.kill("command")

A member's processes are found by asking its local door, as a probe does. Leaving the block kills whatever is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from heirflow.clock import boottime
from heirflow.errors import HeirflowError
from heirflow.guard.processes import descendants, lives, stat_of
from heirflow.member.door import ask
from lab.rig import ticker, written
from lab.servers import servers
from lab.servers.etcd import etcd_ensemble, url_of
from lab.servers.zookeeper import zookeeper_ensemble

T = TypeVar("T")
STORES = ("postgres", "mysql", "sqlite", "zookeeper", "zookeeper3", "etcd", "etcd3")
PARTS = ("member", "backstop", "guard", "command")


class RigError(AssertionError):
    """What was waited for did not come; the message has the members' journals."""


class Member:
    """One `heirflow run` on its own "host"."""

    def __init__(self, host: str, process: subprocess.Popen[bytes], run_dir: Path, log: Path) -> None:
        self.host = host
        self.process = process
        self.log = log
        self._run_dir = run_dir
        self.seen: dict[str, int] = {"member": process.pid}
        """The process ids by part, as last told."""

    def ask(self, timeout_s: float = 0.5) -> dict[str, Any] | None:
        """What it says about itself; None when it does not answer."""
        try:
            facts = ask(self._run_dir, None, timeout_s, pid=self.process.pid)
        except HeirflowError:
            return None
        for part in ("guard", "command"):
            if facts.get(f"{part}_pid"):
                self.seen[part] = facts[f"{part}_pid"]
        if "guard" in self.seen:
            with contextlib.suppress(OSError):
                self.seen["backstop"] = int(stat_of(self.seen["guard"])[1])
        return facts

    def signal(self, part: str, number: int) -> None:
        """Send a signal to one of `PARTS`, or to ``tree``: all its processes."""
        pids = [self.process.pid, *self.tree()] if part == "tree" else [self.seen[part]]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self, *parts: str) -> None:
        """Kill these parts with -9, all of them before anything can react."""
        self.ask()
        pids = [self.seen[part] for part in parts]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def tree(self) -> list[int]:
        """All processes below the member."""
        pids: list[int] = descendants(self.process.pid, thorough=True)
        return pids

    def rss_kb(self) -> dict[str, int]:
        """Resident memory of each part in KiB."""
        self.ask()
        sizes = {}
        for part, pid in self.seen.items():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                sizes[part] = next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
        return sizes


class Rig:
    """Members of one election against one store."""

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        ttl_s: float = 3.0,
        election: str = "rig",
        command: Sequence[str] | None = None,
        tick_ms: float = 5,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        stdout: int | None = None,
    ) -> None:
        """`command`: what the members run; a `ticker` that writes to `ticks` unless given. `stdout`: theirs, else the log."""
        self.url = url
        self.folder = folder
        self.ttl_s = ttl_s
        self.election = election
        self.ticks = folder / "ticks"
        self.members: dict[str, Member] = {}
        self._run_dir = folder / "run"
        self._command = list(command or [sys.executable, "-S", "-E", ticker.__file__, str(self.ticks), str(tick_ms)])
        self._options = list(options)
        self._stdout = stdout
        self._env = {**os.environ, **(env or {}), "HEIRFLOW_DB_URL": url}

    def __enter__(self) -> Rig:  # noqa: PYI034  `Self` is not in Python 3.10
        self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def add(self, host: str, *options: str, enter: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Member:
        """Start a member; the same name again is a new incarnation. `enter`: words before the command, which exec the rest."""
        log = self.folder / f"{host}.log"
        words = [
            "run",
            "--name",
            self.election,
            "--ttl",
            f"{self.ttl_s}s",
            "--host",
            host,
            "--run-dir",
            str(self._run_dir),
        ]
        with log.open("ab") as out:
            process = subprocess.Popen(
                [*enter, sys.executable, "-m", "heirflow", *words, *self._options, *options, "--", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=out if self._stdout is None else self._stdout,
                stderr=out,
                env={**self._env, **(env or {})},
                cwd=self.folder,
                start_new_session=True,
            )
        self.members[host] = Member(host, process, self._run_dir, log)
        return self.members[host]

    def leader(self) -> Member | None:
        """The member that says it leads with its command running, if exactly one does."""
        leading = []
        for member in self.members.values():
            if member.process.poll() is None:
                facts = member.ask()
                if facts and facts["leader"] and facts["command_pid"]:
                    leading.append(member)
        return leading[0] if len(leading) == 1 else None

    def wait_for_leader(self, limit_s: float = 20, *, other_than: Member | None = None) -> Member:
        """The leader, once its command runs. Raises `RigError` after the limit."""

        def found() -> Member | None:
            leader = self.leader()
            return None if leader is other_than else leader

        return self.wait_for(found, "a leader with its command running", limit_s)

    def wait_for_line(self, size: int, limit_s: float = 20) -> Member:
        """A leader and a line of this many members in all, each of them ready."""

        def found() -> Member | None:
            facts = [member.ask() for member in self.members.values() if member.process.poll() is None]
            standing = sum(1 for fact in facts if fact and fact["ready"] and (fact["leader"] or fact["place"]))
            return self.leader() if standing == size else None

        return self.wait_for(found, f"a line of {size}", limit_s)

    def wait_for(self, found: Callable[[], T | None], what: str, limit_s: float) -> T:
        """Poll until `found` gives something. Raises `RigError` after the limit."""
        ends_at = time.monotonic() + limit_s
        while True:
            result = found()
            if result:
                return result
            if time.monotonic() > ends_at:
                raise RigError(f"waited {limit_s:g} s for {what}\n{self.story()}")
            time.sleep(0.02)

    def wait_for_start(self, after_s: float, limit_s: float, *, other_than: str | None = None) -> written.Start:
        """The first command that began after this moment (CLOCK_BOOTTIME) and is not that member's, by its own lines."""

        def found() -> written.Start | None:
            starts = written.starts_in(self.ticks)
            return next((start for start in starts if start.from_s > after_s and start.member != other_than), None)

        return self.wait_for(found, "a new command's first line", limit_s)

    def story(self) -> str:
        """The journals of all members."""
        return "\n".join(
            f"--- {host}\n{member.log.read_text(errors='replace')}" for host, member in self.members.items()
        )

    def journal(self) -> Iterator[dict[str, Any]]:
        """The lines of members that run with ``--log-format json``."""
        for member in self.members.values():
            for line in member.log.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def orphans(self) -> list[int]:
        """Processes of this rig's commands whose member is dead, found by the ticks file that they name."""
        living = {pid for member in self.members.values() if member.process.poll() is None for pid in member.tree()}
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) not in living:
                with contextlib.suppress(OSError):
                    if str(self.ticks).encode() in (entry / "cmdline").read_bytes() and lives(int(entry.name)):
                        found.append(int(entry.name))
        return [pid for pid in found if pid not in {member.process.pid for member in self.members.values()}]

    def end(self) -> None:
        """Kill everything that is left."""
        for member in self.members.values():
            member.signal("tree", signal.SIGCONT)
            pids = [*member.tree(), member.process.pid]
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            member.process.wait()
        for pid in self.orphans():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def store_url(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a real store of this kind, one of `STORES`, started for the block; a ``3`` behind it: an ensemble of three."""
    if kind == "postgres":
        with servers.postgres_server() as server:
            yield server.url("psycopg")
    elif kind == "mysql":
        with servers.mariadb_server() as server:
            yield server.url("pymysql")
    elif kind.startswith("zookeeper"):
        with zookeeper_ensemble(3 if kind.endswith("3") else 1) as ensemble:
            yield ensemble.url
    elif kind.startswith("etcd"):
        with etcd_ensemble(3 if kind.endswith("3") else 1) as members:
            yield url_of(members)
    else:
        yield f"sqlite:///{folder / 'heirflow.db'}"


def now_s() -> float:
    """The clock that the lines are stamped with."""
    return boottime()
