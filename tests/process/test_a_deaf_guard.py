"""A guard that answers pings and does not do what it is told: it is ended within a limit, and the lead goes to who does the work.

The guard is the real one, in a copy of the product in which it does not hear some words.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from heirflow.election.timings import START_LIMIT_S
from heirflow.guard.why import Why
from heirflow.member.answers import OBEY_LIMIT_S
from lab.rig.rig import Rig
from tests.planted.planting import exchange
from tests.process.stage import SOURCE, Stage, wait_until
from tests.process.tracer import Tracer

HEARS = '        what = message.pop("what")\n'
BUSY_S = 5.0
"""What a busy machine may add."""


@pytest.fixture
def deaf(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the product whose guards do not hear these words. `once`: only the first guard that finds the file does not."""

    def make(*words: str, once: Path | None = None) -> Path:
        source = tmp_path / "src"
        shutil.copytree(SOURCE, source)
        lead = "" if once is None else f"os.path.exists({str(once)!r}) and "
        exchange(
            source / "heirflow/guard/guard.py",
            HEARS,
            f"{HEARS}        if {lead}what in {words!r}:\n            return\n",
        )
        return source

    return make


@pytest.mark.parametrize("order", ["kill", "stop"])
def test_one_that_does_not_end_its_command_is_killed(stage: Stage, deaf: Callable[..., Path], order: str) -> None:
    stage.run(*stage.command("ignores-term"), source=deaf("kill", "stop"), renew_s=0.2, stop_s=0.5)
    stage.wait_for_ticks()
    asked_at = stage.send(signal.SIGUSR2 if order == "kill" else signal.SIGTERM, "member")
    lost = stage.wait_for("Lost", OBEY_LIMIT_S + BUSY_S)
    assert lost["why"] == Why.GUARD_DEAF
    assert asked_at + OBEY_LIMIT_S - 0.5 < lost["at"]
    stage.wait_for_nobody()


def test_one_that_does_not_start_its_command_loses_it_to_one_that_does(
    tmp_path: Path, deaf: Callable[..., Path]
) -> None:
    is_deaf = tmp_path / "deaf"
    is_deaf.touch()
    source = deaf("start", "kill", once=is_deaf)
    with Rig(f"sqlite:///{tmp_path / 'line.db'}", tmp_path, env={"PYTHONPATH": str(source)}) as rig:
        alone = rig.add("a")
        said = wait_until(lambda: (facts := alone.ask()) and facts["state"] == "leader" and facts, "a leader", 20.0)
        assert (said["sentence"], said["leader"]) == (
            "leads term 1, runs nothing, because its command is being started", False,
        )  # fmt: skip
        wait_until(lambda: "did not within 10 s" in rig.story(), "the limit of a start", START_LIMIT_S + BUSY_S)
        wait_until(lambda: "it is killed" in (alone.ask() or {})["because"], "its door says so")
        assert (alone.ask() or {})["runs"] is False
        is_deaf.unlink()
        wait_until(lambda: "did not do as told" in rig.story(), "the end of its guard", OBEY_LIMIT_S + BUSY_S)
        rig.wait_for_leader()


def test_what_withstands_the_member_itself_is_told(stage: Stage) -> None:
    """Guard and backstop are dead: nobody else is left to say why the lead is held and nothing runs."""
    stage.run(*stage.command("ordinary"), ttl_s=30, renew_s=0.2)
    stage.wait_for_ticks()
    command = stage.role("command")
    with Tracer(command):
        stage.send(signal.SIGKILL, "guard", "backstop")
        assert stage.wait_for("Stuck")["pids"] == [command]
        assert not stage.events("Lost")
    stage.wait_for("Lost")
    stage.wait_for_nobody()
