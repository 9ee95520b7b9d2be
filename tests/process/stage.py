"""A stage for one command and its guard: starts a driver, kills and freezes by role, and judges from what was written."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from heirflow.clock import boottime
from lab.rig import written
from tests.promises import broken

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "src"
NASTY = HERE / "nasty" / "program.py"
BECAUSE = "me was killed, and {prover} proved it"
"""As in a member's will."""
NOBODY = 65534
"""An ordinary user."""


def wait_until(condition: Callable[[], Any], what: str, limit_s: float = 10.0) -> Any:
    until = time.monotonic() + limit_s
    while True:
        if value := condition():
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.005)


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marker = "stage-" + uuid.uuid4().hex
        self.ticks_file, self.events_file, self.database = folder / "ticks", folder / "events", folder / "store.db"
        self.driver: subprocess.Popen[bytes] | None = None

    def command(self, behaviour: str, *more: object) -> list[str]:
        words = [sys.executable, "-S", str(NASTY), behaviour, str(self.ticks_file), self.marker]
        return [*words, *map(str, more)]

    def run(
        self,
        *argv: str,
        stdout: Any = None,
        stderr: Any = None,
        environ: Any = None,
        enter: Sequence[str] = (),
        source: Path = SOURCE,
        **options: Any,
    ) -> None:
        """`enter`: words before the driver's own, which exec the rest. `source`: where the product lies."""
        options = {
            "argv": argv,
            "events": str(self.events_file),
            "marker": self.marker,
            "cwd": str(self.folder),
            **options,
        }
        self.driver = subprocess.Popen(
            [*enter, sys.executable, str(HERE / "driver.py"), json.dumps(options)],
            env={**(environ or os.environ), "PYTHONPATH": str(source)},
            stdout=stdout,
            stderr=stderr,
        )

    # what happened

    def events(self, what: str | None = None) -> list[dict[str, Any]]:
        if not self.events_file.exists():
            return []
        lines = self.events_file.read_text().splitlines()
        return [event for event in map(json.loads, lines) if what in (None, event["what"])]

    def wait_for(self, what: str, limit_s: float = 10.0) -> dict[str, Any]:
        return wait_until(lambda: self.events(what), f"{what}; events: {self.events()}", limit_s)[-1]

    def ticks(self) -> list[tuple[float, int]]:
        """(seconds of CLOCK_BOOTTIME, pid), sorted; what the commands themselves wrote."""
        return sorted((tick.at_s, tick.pid) for tick in written.ticks_in(self.ticks_file))

    def wait_for_ticks(self, writers: int = 1) -> None:
        wait_until(lambda: len({pid for _, pid in self.ticks()}) >= writers, f"{writers} writers of ticks")

    def pids(self) -> set[int]:
        """Every live process with our marker on its command line. The environment may have been cleared."""
        found = set()
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    words = Path("/proc", entry, "cmdline").read_bytes()
                    state = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[0]
                except OSError:
                    continue
                if self.marker.encode() in words and state not in "ZX":
                    found.add(int(entry))
        return found

    def wait_for_nobody(self, limit_s: float = 10.0) -> None:
        """No process left, and no new tick after the last look."""

        self.wait_for("start")
        # Who is still there so long after the order is an orphan.
        wait_until(lambda: not self.pids(), broken(f"the end of {self.pids()}; events: {self.events()}"), limit_s)
        assert self.driver
        self.driver.wait(limit_s)
        size = self.ticks_file.stat().st_size if self.ticks_file.exists() else 0
        assert not self.pids(), broken(self.pids())
        assert size == (self.ticks_file.stat().st_size if self.ticks_file.exists() else 0)

    # what we do to it

    def role(self, name: str) -> int:
        if name == "command":
            return int(self.wait_for("Started")["pid"])
        return int(self.wait_for("hello")[name])

    def send(self, number: int, *roles: str) -> float:
        """To these roles, one right after the other; returns the time after the last."""
        for position, pid in enumerate([self.role(name) for name in roles]):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                assert position > 0, "the second may have ended already because the first was killed"
        return boottime()

    def wait_until_past(self, moment: float) -> None:
        wait_until(lambda: boottime() > moment, "a moment in time", limit_s=max(1.0, moment - boottime() + 5))

    # the record that a will releases

    def make_record(self) -> dict[str, Any]:
        """A record that we lead in term 7; returns the will that releases it."""
        with sqlite3.connect(self.database) as connection:
            connection.execute("CREATE TABLE record (leader TEXT, term INTEGER, at REAL)")
            connection.execute("INSERT INTO record VALUES ('me', 7, NULL)")
            connection.execute("CREATE TABLE event (what TEXT)")
        connection.close()
        now = "(julianday('now') - 2440587.5) * 86400.0"
        release = f"UPDATE record SET leader = NULL, at = {now} WHERE leader = ? AND term = ?"
        return {
            "module": "sqlite3",
            "connect_args": [str(self.database)],
            "connect_kwargs": {"timeout": 0.2},
            "statements": [[release, ["me", 7]], ["INSERT INTO event VALUES (:what)", {"what": BECAUSE}]],
            "because": BECAUSE,
        }

    def record(self) -> tuple[str | None, float | None]:
        """(leader, when it was released in CLOCK_BOOTTIME)."""
        connection = sqlite3.connect(self.database)
        leader, at, events = connection.execute(
            "SELECT leader, at, (SELECT count(*) FROM event) FROM record"
        ).fetchone()
        connection.close()
        assert events == (leader is None)
        return leader, None if at is None else at - time.time() + boottime()

    def because(self) -> str:
        """What the release says of itself."""
        connection = sqlite3.connect(self.database)
        [(said,)] = connection.execute("SELECT what FROM event").fetchall()
        connection.close()
        return str(said)

    # the end

    def sweep(self) -> set[int]:
        """Kill what is left; returns what that was."""
        left = self.pids()
        until = time.monotonic() + 10
        while (again := self.pids()) and time.monotonic() < until:
            for pid in again:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self.driver is not None:
            self.driver.kill()
            self.driver.wait()
        return left
