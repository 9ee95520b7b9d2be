"""Python programs in a line: started as real processes, killed and frozen, and judged by what their callables wrote."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from lab.rig import spans, written
from tests.process.stage import SOURCE, wait_until
from tests.promises import broken

TICK = """
import logging, os, sys, time
logging.basicConfig(level="INFO")
boottime = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
ticks = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
def tick(lead):
    os.write(ticks, f"{time.clock_gettime_ns(boottime)} {os.getpid()} {lead.term} {lead.member}\\n".encode())
"""

SYNC = (
    TICK
    + """
from heirflow import Election
def work(lead):
    while not lead.stopping.wait(0.01):
        tick(lead)
Election("embedded", db_url=sys.argv[1], host=sys.argv[3], ttl_s=2).run(work)
"""
)

AIO = (
    TICK
    + """
import asyncio
from heirflow import aio
async def work(lead):
    while lead.trusted_for_s():
        tick(lead)
        await asyncio.sleep(0.01)
asyncio.run(aio.Election("embedded", db_url=sys.argv[1], host=sys.argv[3], ttl_s=2).run(work))
"""
)


def deaf(ttl_s: float, stop_timeout_s: float, overrun: str = "exit") -> str:
    """A program whose callable never looks whether it is to stop."""
    return (
        TICK
        + f"""
from heirflow import Election
def work(lead):
    while True:
        tick(lead)
        time.sleep(0.01)
limits = dict(ttl_s={ttl_s}, stop_timeout_s={stop_timeout_s}, overrun={overrun!r})
Election("embedded", db_url=sys.argv[1], host=sys.argv[3], **limits).run(work)
"""
    )


class Line:
    """Programs of one election. `program` gets the URL, the file of ticks, and a host's name."""

    def __init__(self, program: str, url: str, folder: Path) -> None:
        self.program, self.url, self.ticks = program, url, folder / "ticks"
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def add(self, host: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{host}.log").open("ab") as log:
            self.running[host] = subprocess.Popen(
                [sys.executable, "-u", "-c", self.program, self.url, str(self.ticks), host],
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        return self.running[host]

    def log(self, host: str) -> str:
        return (self.folder / f"{host}.log").read_text("utf-8")

    def starts(self) -> list[written.Start]:
        return written.starts_in(self.ticks)

    def wait_for_start_of(self, process: subprocess.Popen[bytes], terms: int = 1) -> written.Start:
        """The newest leadership of this process, which has led so many terms."""

        def found() -> list[written.Start]:
            own = sorted((start for start in self.starts() if start.pid == process.pid), key=lambda start: start.term)
            return own if len(own) >= terms else []

        return wait_until(found, f"{process.pid} leads for the {terms}. time; {self.story()}", 30)[-1]

    def wait_until_joined(self, number: int) -> None:
        engine = sa.create_engine(self.url, future=True)
        wait_until(lambda: query(engine, "SELECT count(*) FROM heirflow_member") == number, self.story(), 20)
        engine.dispose()

    def leader(self) -> str | None:
        """Who leads by the record."""
        engine = sa.create_engine(self.url, future=True)
        try:
            return query(engine, "SELECT leader FROM heirflow_election")
        finally:
            engine.dispose()

    def story(self) -> str:
        return "\n".join(f"{host}: {self.log(host)[-1500:]}" for host in self.running)

    def judge(self) -> None:
        """Never two: no two leaderships wrote at the same time."""
        starts = self.starts()
        assert starts
        assert not spans.overlaps(starts), broken(f"{spans.overlaps(starts)}; {self.story()}")


def query(engine: sa.engine.Engine, text: str):
    with contextlib.suppress(sa.exc.DBAPIError), engine.connect() as conn:
        return conn.execute(sa.text(text)).scalar()
    return None


@contextlib.contextmanager
def line(program: str, url: str, folder: Path) -> Iterator[Line]:
    scene = Line(program, url, folder)
    try:
        yield scene
    finally:
        for process in scene.running.values():
            for number in (signal.SIGKILL, signal.SIGCONT):
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
            process.wait()
