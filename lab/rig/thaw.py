"""A whole host frozen past its lease and thawed: every process of a leader stopped, an heir in charge, then all go on.

This is what no lease can answer. The frozen command's first act may be a write, before its guard has looked at the clock. The
judge is the database: it stamped each row with its own clock, and each change of leadership too.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import sqlalchemy as sa

from heirflow.guard.processes import lives
from lab.rig import writer
from lab.rig.rig import Member, Rig

LATE = """
SELECT count(*), max(late.by_s) FROM (
  SELECT w.at - (
    SELECT min(e.at) FROM heirflow_event e WHERE e.election = :election AND e.what = 'took charge' AND e.term > w.term
  ) AS by_s FROM written w
) late WHERE late.by_s > 0
"""
"""Rows of a term that were written after a later term had begun."""
END_LIMIT_S = 20.0
ALONE_LIMIT_S = 5.0
"""How long a thawed command goes on alone when nothing keeps it from writing."""


@dataclass(frozen=True, slots=True)
class Try:
    """One host frozen and thawed."""

    late_rows: int
    late_s: float
    """From the heir's taking charge to the last late row; 0 when there is none."""
    rows: int
    """Rows of all terms in this try."""
    instant_s: float
    """From the thaw to the end of the frozen command."""
    failures: int
    """Writes and logins of the thawed command that failed: without them nothing shows that it was there and tried."""


class ThawScene:
    """Two members whose command is `writer`, on one database."""

    def __init__(
        self, url: str, folder: Path, *, name: str | None = None, holds: bool = False, ttl_s: float = 3.0
    ) -> None:
        """`name`: what the commands call their sessions instead of what HeirFlow gave them. `holds`: see `writer`."""
        self._failures = folder / "failures"
        env: Mapping[str, str] = {
            "WRITER_URL": url, "WRITER_FAILURES": str(self._failures), "WRITER_HOLDS": "1" if holds else "",
            **({"WRITER_NAME": name} if name else {}),
        }  # fmt: skip
        self._engine = sa.create_engine(url, future=True, isolation_level="READ COMMITTED")
        self.rig = Rig(url, folder, ttl_s=ttl_s, election="thaw", command=[sys.executable, writer.__file__], env=env)

    def __enter__(self) -> ThawScene:  # noqa: PYI034  `Self` is not in Python 3.10
        with self._engine.begin() as conn:
            conn.execute(sa.text(writer.TABLE))
        self._failures.mkdir()
        self.rig.__enter__()
        for host in ("ada", "ben"):
            self.rig.add(host)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rig.end()
        self._engine.dispose()

    def once(self, dice: random.Random, *, alone: bool = False) -> Try:
        """Freeze the leader's host, wait for the heir's command to write, thaw, and count.

        `alone`: its guard goes on only when the command has tried to write and to log in. Otherwise the guard mostly comes first.
        """
        leader = self.rig.wait_for_line(2, 40)
        self._writes(leader)
        pids = [*leader.tree(), leader.process.pid]
        command = leader.seen["command"]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        before = self._failed(command)  # not of the thaw
        self._writes(self.rig.wait_for_leader(40, other_than=leader))
        time.sleep(dice.uniform(0, 0.3))
        # The worst order that a machine can choose: the command first.
        thawed_at = time.monotonic()
        if alone:
            os.kill(command, signal.SIGCONT)
            while self._failed(command) < before + 2 and time.monotonic() < thawed_at + ALONE_LIMIT_S:
                time.sleep(0.001)
        for pid in sorted(pids, key=lambda pid: pid != command):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        while lives(command) and time.monotonic() < thawed_at + END_LIMIT_S:
            time.sleep(0.001)  # it is what is measured
        instant_s = time.monotonic() - thawed_at
        self.rig.wait_for_line(2, 40)
        with self._engine.begin() as conn:
            late, late_s = conn.execute(sa.text(LATE), {"election": "thaw"}).one()
            rows = conn.execute(sa.text("DELETE FROM written")).rowcount
        return Try(late, float(late_s or 0), rows, instant_s, self._failed(command) - before)

    def _failed(self, pid: int) -> int:
        """How many lines this process has written about failures."""
        return (self._failures / str(pid)).read_bytes().count(b"\n")

    def _writes(self, member: Member) -> None:
        """Wait until this member's command has written in the term that it leads."""

        def written() -> bool:
            facts = member.ask() or {}
            with self._engine.begin() as conn:
                statement = sa.text("SELECT 1 FROM written WHERE member = :member AND term = :term LIMIT 1")
                values = {"member": facts.get("member"), "term": facts.get("term")}
                return conn.execute(statement, values).first() is not None

        self.rig.wait_for(written, "the first row of the leader's command", 40)
