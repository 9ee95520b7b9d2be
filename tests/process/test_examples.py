"""The programs in examples/python run as they stand, and hand over in order."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.servers.servers import free_port
from tests.contract.drivers import POSTGRES
from tests.process.embedded import Line
from tests.process.stage import SOURCE, wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "python"


class Program:
    def __init__(self, name: str, number: int, url: str, folder: Path) -> None:
        self.port = free_port()
        self.log = folder / f"{number}.log"
        start = {
            "polling_bot": [str(EXAMPLES / "polling_bot.py")],
            "fastapi_jobs": ["-m", "uvicorn", "fastapi_jobs:app", "--port", str(self.port)],
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *start[name]],
                env={
                    **os.environ,
                    "PYTHONPATH": f"{SOURCE}:{EXAMPLES}",
                    "HEIRFLOW_DB_URL": url,
                    "HEIRFLOW_TTL": "2s",
                    "HEIRFLOW_HOST": f"host-{number}",
                },
                cwd=folder,
                stdout=log,
                stderr=log,
            )

    def text(self) -> str:
        return self.log.read_text("utf-8")

    def works(self, term: int) -> bool:
        return re.search(rf"^term {term}: .* process {self.process.pid}$", self.text(), re.MULTILINE) is not None


@contextlib.contextmanager
def started(name: str, number: int, url: str, folder: Path) -> Iterator[Program]:
    program = Program(name, number, url, folder)
    try:
        yield program
    finally:
        program.process.kill()
        program.process.wait()


@pytest.mark.parametrize("name", ["polling_bot", "fastapi_jobs"])
def test_one_of_two_works_and_the_other_follows_a_stop_and_a_kill(
    name: str, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_database(POSTGRES[0])
    line = Line("", url, tmp_path)
    with started(name, 1, url, tmp_path) as first:
        wait_until(lambda: first.works(1), first.text(), 30)
        with started(name, 2, url, tmp_path) as second, started(name, 3, url, tmp_path) as third:
            line.wait_until_joined(3)
            assert not second.works(1)
            assert not third.works(1)
            if name == "fastapi_jobs":
                terms = {asked(program) for program in (first, second, third)}
                assert terms == {'{"term":1}', '{"term":null}'}
            first.process.send_signal(signal.SIGTERM)
            first.process.wait(15)
            assert first.process.returncode in ({0} if name == "polling_bot" else {0, -signal.SIGTERM}), first.text()
            wait_until(lambda: second.works(2) or third.works(2), second.text() + third.text(), 10)
            next_one, last = (second, third) if second.works(2) else (third, second)
            next_one.process.kill()
            wait_until(lambda: last.works(3), last.text(), 15)
            last.process.send_signal(signal.SIGTERM)
            last.process.wait(15)
            assert line.leader() is None, "released"


def asked(program: Program) -> str:
    def answer() -> str:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{program.port}/", timeout=5) as reply,
        ):
            return reply.read().decode()
        return ""

    return wait_until(answer, program.text(), 20)
