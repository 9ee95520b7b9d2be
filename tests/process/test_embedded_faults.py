"""Python programs with `Election` under the faults of processes: never two, released in order, led again in time."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from heirflow.clock import boottime
from lab.servers import outages
from lab.servers.servers import postgres_server
from tests.contract.drivers import POSTGRES
from tests.process import embedded
from tests.process.embedded import line
from tests.process.stage import wait_until

README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")


def readme() -> str:
    """Its program, which ticks instead of printing."""
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for old, new in {
        'print("I am the one, in term", lead.term)': "tick(lead)",
        'db_url="postgresql://db.example/app"': "db_url=sys.argv[1], host=sys.argv[3], ttl_s=2",
    }.items():
        assert program.count(old) == 1
        program = program.replace(old, new)
    return embedded.TICK + program


PROGRAMS = {"sync": embedded.SYNC, "aio": embedded.AIO, "readme": readme()}
TTL_S = 2
NewDatabase = Callable[[str], str]


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    return PROGRAMS[request.param]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_an_orderly_stop_and_the_heir_leads_at_once(
    number: int, program: str, new_database: NewDatabase, tmp_path: Path
) -> None:
    with line(program.replace("ttl_s=2", "ttl_s=12"), new_database(POSTGRES[0]), tmp_path) as scene:
        first = scene.add("ada")
        scene.wait_for_start_of(first)
        second = scene.add("ben")
        scene.wait_until_joined(2)
        asked_at = boottime()
        first.send_signal(number)
        # From Python 3.11 on, asyncio's own handler of Ctrl-C cancels, and raises KeyboardInterrupt when that is done.
        code = -signal.SIGINT if "asyncio" in program and number == signal.SIGINT and sys.version_info >= (3, 11) else 0
        assert first.wait(10) == code, scene.story()
        start = scene.wait_for_start_of(second)
        assert start.from_s - asked_at < 6, "it did not wait for a lease"
        second.send_signal(number)
        assert second.wait(10) == code
        assert scene.leader() is None, "the last one released it too"
        scene.judge()


def test_killed_with_9_the_heir_leads_after_the_lease(program: str, new_database: NewDatabase, tmp_path: Path) -> None:
    with line(program, new_database(POSTGRES[0]), tmp_path) as scene:
        first = scene.add("ada")
        scene.wait_for_start_of(first)
        second = scene.add("ben")
        scene.wait_until_joined(2)
        first.kill()
        killed_at = boottime()
        assert scene.wait_for_start_of(second).from_s - killed_at < 4 * TTL_S
        scene.judge()


def test_frozen_past_its_lease_and_thawed_it_ends(program: str, new_database: NewDatabase, tmp_path: Path) -> None:
    with line(program, new_database(POSTGRES[0]), tmp_path) as scene:
        first = scene.add("ada")
        scene.wait_for_start_of(first)
        second = scene.add("ben")
        scene.wait_until_joined(2)
        os.kill(first.pid, signal.SIGSTOP)
        scene.wait_for_start_of(second)
        os.kill(first.pid, signal.SIGCONT)
        time.sleep(1)
        scene.judge()
        assert first.poll() in {None, 75}, "it is an heir again, or its callable came too late"
        second.terminate()
        assert second.wait(10) == 0


def test_without_its_database_it_stops_in_time_and_leads_again(program: str, tmp_path: Path) -> None:
    with postgres_server() as server, line(program, server.url(POSTGRES[0]), tmp_path) as scene:
        first = scene.add("ada")
        scene.wait_for_start_of(first)
        with outages.down(server):
            away_at = boottime()
            wait_until(lambda: not writes(scene), scene.story(), 10)
            assert max(start.to_s for start in scene.starts()) - away_at < TTL_S
        back_at = boottime()
        assert scene.wait_for_start_of(first, terms=2).from_s - back_at < 5 * TTL_S
        assert first.poll() is None
        scene.judge()


def writes(scene: embedded.Line) -> bool:
    """Whether anybody has written within the last second."""
    size = scene.ticks.stat().st_size
    time.sleep(1.2)
    return scene.ticks.stat().st_size != size


def test_a_callable_that_is_deaf_to_a_stop_ends_its_process_after_the_stop_timeout(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    """Longer than its lease, which goes on until then."""
    with line(embedded.deaf(2, 3), new_database(POSTGRES[0]), tmp_path) as scene:
        first = scene.add("ada")
        scene.wait_for_start_of(first)
        scene.add("ben")
        scene.wait_until_joined(2)
        asked_at = boottime()
        first.terminate()
        assert first.wait(15) == 75
        assert boottime() - asked_at > 3
        assert "did not return in time after it was asked to stop" in scene.log("ada")
        scene.wait_for_start_of(scene.running["ben"])
        scene.judge()


def test_asked_twice_it_ends_at_once(new_database: NewDatabase, tmp_path: Path) -> None:
    program = embedded.deaf(2, 60)
    with line(program, new_database(POSTGRES[0]), tmp_path) as scene:
        first = scene.add("ada")
        scene.wait_for_start_of(first)
        first.send_signal(signal.SIGINT)
        time.sleep(1.2)  # a second order, not the same one again
        assert first.poll() is None
        first.send_signal(signal.SIGINT)
        assert first.wait(5) == 75


OWN = embedded.SYNC.replace(
    "Election(", "import signal\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(7))\nElection("
)


def test_a_program_that_handles_a_signal_itself_keeps_it(new_database: NewDatabase, tmp_path: Path) -> None:
    with line(OWN, new_database(POSTGRES[0]), tmp_path) as scene:
        first = scene.add("ada")
        scene.wait_for_start_of(first)
        first.terminate()
        assert first.wait(5) == 7
