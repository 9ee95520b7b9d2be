"""Who holds the lead and runs nothing says so, to probes on its host and to everybody in `heirflow status`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heirflow.guard.processes import children, lives
from lab.rig.rig import Member, Rig
from tests.process.stage import wait_until
from tests.process.tracer import Tracer
from tests.schemas import check_output

WITH_A_CHILD = ("sh", "-c", "sleep 601 & sleep 600")


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:  # short: the paths of sockets must be
        yield Path(folder)


@pytest.fixture
def url(home: Path) -> str:
    return f"sqlite:///{home / 'line.db'}"


def heirflow(rig: Rig, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "heirflow", *words],
        env={**os.environ, "HEIRFLOW_DB_URL": rig.url, "HEIRFLOW_RUN_DIR": str(rig.folder / "run")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    check_output(words, done.stdout)
    return done.returncode, done.stdout


def probe(rig: Rig, question: str, member: Member) -> int:
    return heirflow(rig, "probe", question, "--pid", str(member.process.pid))[0]


def because(member: Member) -> str:
    return str((member.ask() or {}).get("because", ""))


def seen(rig: Rig) -> dict[str, Any]:
    (snapshot,) = json.loads(heirflow(rig, "status", "--json")[1])["elections"]
    return dict(snapshot)


@pytest.fixture
def pair(home: Path, url: str) -> Iterator[tuple[Rig, Member, Member]]:
    with Rig(url, home, command=WITH_A_CHILD) as rig:
        first = rig.add("a")
        rig.wait_for_leader()
        second = rig.add("b")
        rig.wait_for_line(2)
        yield rig, first, second


def test_a_command_that_is_killed_and_still_there(pair: tuple[Rig, Member, Member]) -> None:
    rig, first, second = pair
    assert probe(rig, "leader", first) == 0 == probe(rig, "ready", first)
    wait_until(lambda: seen(rig)["runs"] is True, "its row says that it runs")
    command = (first.ask() or {})["command_pid"]
    (stuck,) = (pid for pid in children(command) if b"601" in Path(f"/proc/{pid}/cmdline").read_bytes())
    with Tracer(stuck):
        os.kill(command, signal.SIGKILL)
        wait_until(lambda: f"process {stuck}" in because(first), f"it says what is stuck\n{rig.story()}")
        assert because(first).startswith("the command is not gone")
        assert [probe(rig, question, first) for question in ("live", "leader", "ready", "able")] == [0, 1, 1, 1]
        wait_until(lambda: seen(rig)["runs"] is False, "its row says that it runs nothing")
        told = heirflow(rig, "status")[1]
        assert f"leads, runs nothing, because the command is not gone: process {stuck}" in told
        assert "which runs nothing" in told.splitlines()[0]
        facts = second.ask() or {}
        assert not facts["leader"] and facts["place"] == 1, "nothing is released that is not proved gone"
    rig.wait_for_leader(other_than=first)
    wait_until(lambda: seen(rig)["runs"] is True, "the next one says that it runs")


def test_a_start_that_is_never_answered(home: Path, url: str) -> None:
    with Rig(url, home, command=("sleep", "600")) as rig:
        alone = rig.add("a")
        rig.wait_for_leader()
        facts = alone.ask() or {}
        with Tracer(facts["guard_pid"], forks=True) as tracer:
            os.kill(facts["command_pid"], signal.SIGKILL)
            wait_until(lambda: tracer.held, "a start that stands still before it begins", 20.0)
            wait_until(lambda: because(alone) == "its command is being started", "it says so")
            assert probe(rig, "leader", alone) == 1
            wait_until(lambda: seen(rig)["runs"] is False, "its row says so")
            wait_until(lambda: "did not within 10 s" in rig.story(), f"the limit\n{rig.story()}", 20.0)
            wait_until(lambda: not lives(tracer.held[0]), "it is killed")
        rig.wait_for_leader()
        assert probe(rig, "leader", alone) == 0


def test_a_crash_loop(home: Path, url: str) -> None:
    with Rig(url, home, command=("sh", "-c", "exit 3")) as rig:
        alone = rig.add("a")
        wanted = "times in a row, the last time: the command exited with 3"
        wait_until(lambda: wanted in because(alone), f"it says so\n{rig.story()}", 20.0)
        wait_until(lambda: probe(rig, "leader", alone) == 1, "it leads without work")
        told = wait_until(lambda: wanted in (said := heirflow(rig, "status")[1]) and said, "status says it")
        assert "leads, runs nothing, because the command has ended" in told, told
