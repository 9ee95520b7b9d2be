"""Three members of one election on one store, a nasty program as their command, and a judge who reads what it wrote."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from heirflow.election.record import What
from heirflow.election.timings import Timings
from heirflow.stores import open_store
from lab.rig import ticker, written
from lab.rig.rig import Member, Rig, RigError, now_s
from lab.rig.spans import overlaps
from lab.rig.written import Start
from tests.faults.campaign import Run
from tests.promises import broken

STARTER = Path(__file__).with_name("starter.py")
HOSTS = ("ada", "ben", "cleo")
PROCESSES = {"daemon": 4, "stops-itself": 2}
"""How many processes a behaviour has when it is fully there; one where nothing is said."""
NOISE_S = 3.0
"""What a busy machine with two cores may add to any time. The table at the end tells how often it was needed."""
SETTLE_LIMIT_S = 90.0
"""For a line to be whole where nothing was promised: new members on a busy machine may need several tries to connect."""


class Scene:
    """Members whose commands write into `ticks`, one file for each start."""

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        behaviour: str = "ordinary",
        ttl_s: float = 3.0,
        more: tuple[str, ...] = (),
        hosts: tuple[str, ...] = HOSTS,
        options: tuple[str, ...] = (),
    ) -> None:
        folder.mkdir(parents=True)
        self.folder, self.ticks = folder, folder / "ticks"
        self.ticks.mkdir()
        self.behaviour, self.hosts = behaviour, hosts
        self.timings = Timings.of(ttl_s)
        self._sink = Sink()
        self.rig = Rig(
            url,
            folder,
            ttl_s=ttl_s,
            election=folder.name,
            command=[sys.executable, "-S", "-E", str(STARTER), behaviour, str(self.ticks), *more],
            options=["--log-format", "json", *options],
            stdout=self._sink.write_end,
        )

    def __enter__(self) -> Scene:  # noqa: PYI034 -- typing.Self is newer than our oldest Python
        self.rig.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.rig.end()
        finally:
            for pid in written.processes(self.ticks):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._sink.close()

    # who is there

    def fill(self) -> None:
        """Start a member on every host that has none."""
        for host in self.hosts:
            member = self.rig.members.get(host)
            if member is None or member.process.poll() is not None:
                self.rig.add(host)

    def whole(self, limit_s: float = SETTLE_LIMIT_S, *, size: int | None = None) -> tuple[Member, Start]:
        """A leader whose command is fully there, and a line of `size` in all (all hosts). Raises `RigError` after the limit."""
        wanted = len(self.hosts) if size is None else size

        def found() -> tuple[Member, Start] | None:
            facts = {host: member.ask() for host, member in self.rig.members.items() if member.process.poll() is None}
            leading = [host for host, fact in facts.items() if fact and fact["leader"] and fact["command_pid"]]
            standing = [
                host for host, fact in facts.items() if fact and fact["ready"] and (fact["leader"] or fact["place"])
            ]
            if len(leading) != 1 or len(standing) != wanted:
                return None
            fact = facts[leading[0]] or {}
            name = ticker.file_name(fact["term"], fact["member"], fact["command_pid"])
            start = written.start_of(self.ticks / name)
            if start is None or len(self.processes(start)) < PROCESSES.get(self.behaviour, 1):
                return None
            return self.rig.members[leading[0]], start

        return self.wait_for(found, f"a leader with its command, and a line of {wanted}", limit_s)

    def processes(self, start: Start) -> list[int]:
        """The living processes of one start."""
        return [pid for pid, path in written.processes(self.ticks).items() if path == start.path]

    def next_start(self, before: Start, limit_s: float) -> Start:
        """The first start after that one. Raises `RigError` after the limit."""

        def found() -> Start | None:
            return next((start for start in written.starts(self.ticks) if start.from_s > before.from_s), None)

        return self.wait_for(found, "the next command's first line", limit_s)

    def wait_for(self, found, what: str, limit_s: float):  # type: ignore[no-untyped-def]
        """Poll until `found` gives something. Raises `RigError` after the limit."""
        until = time.monotonic() + limit_s
        while not (value := found()):
            if time.monotonic() > until:
                raise RigError("\n".join([f"waited {limit_s:g} s for {what}", *self.overlaps(), self.story()]))
            time.sleep(0.03)
        return value

    def wait_until(self, moment_s: float) -> None:
        """Until a moment of CLOCK_BOOTTIME: where time itself is what a fault is made of."""
        while (left_s := moment_s - now_s()) > 0:
            time.sleep(min(left_s, 0.1))

    # what they did

    def overlaps(self) -> list[str]:
        """A sentence for each two starts that wrote at the same time, of all that was written until now."""
        return [
            broken(f"{both.later.path.name} began {both.lasted_s:.3f} s before {both.earlier.path.name} ended")
            for both in overlaps(written.starts(self.ticks))
        ]

    def orphans(self, current: Start) -> dict[int, Path]:
        """Living processes of any start but the current one."""
        return {pid: path for pid, path in written.processes(self.ticks).items() if path != current.path}

    def judge(self, current: Start, run: Run) -> None:
        """Overlaps of all that was written, and who is left. What was judged is forgotten: here, and nowhere else."""
        judged = written.starts(self.ticks)
        found, orphans = self.overlaps(), self.orphans(current)
        run.overlaps += len(found)
        run.orphans += len(orphans)
        run.wrong += found
        if orphans:
            run.wrong.append(broken(f"left behind: {orphans}"))
        if run.wrong:
            run.wrong.append(self.story())
        for start in judged:
            if start.path != current.path:
                start.path.unlink()

    def forgive(self, start: Start, since_s: float) -> None:
        """Take out what a start that has ended wrote from that moment on; all that it wrote before will be judged."""
        lines = start.path.read_bytes().splitlines(keepends=True)
        start.path.write_bytes(b"".join(line for line in lines for tick in written.ticks(line) if tick.at_s < since_s))

    def why_after(self, before: Start) -> str:
        """Why somebody took charge after that start's term, by the election's history; empty when nobody did."""
        with contextlib.closing(open_store(self.rig.url, call_limit_s=5)) as store:
            told = store.events(self.rig.election, 50)
        return next((each.because for each in told if each.what is What.TOOK_CHARGE and each.term > before.term), "")

    def story(self) -> str:
        """The end of every member's journal, and every start."""
        lines = [f"{s.from_s:.3f} … {s.to_s:.3f}  {s.path.name}" for s in written.starts(self.ticks)]
        for host, member in self.rig.members.items():
            said = member.log.read_text(errors="replace").splitlines()
            lines += [f"--- {host} (pid {member.process.pid}, exit {member.process.poll()})", *said[-25:]]
        return "\n".join(lines)


class Sink:
    """Reads what the commands print, no faster than a slow terminal: a flood then waits instead of eating a core."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        self._thread = threading.Thread(target=self._drain, name="sink", daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        while os.read(self._read_end, 4096):
            time.sleep(0.02)
        os.close(self._read_end)

    def close(self) -> None:
        os.close(self.write_end)
        self._thread.join(5)


@contextlib.contextmanager
def scene(url: str, folder: Path, **options: object) -> Iterator[Scene]:
    """A scene with its line already whole."""
    with Scene(url, folder, **options) as play:  # type: ignore[arg-type]
        play.fill()
        play.whole()
        yield play
