"""A command is born in its cgroup where the kernel allows it, and is moved there where it does not; the proof is the same."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from heirflow.guard.launch import BIRTH_S
from heirflow.guard.processes import cgroup_folder
from heirflow.guard.why import Why
from tests.process.stage import Stage, wait_until


def enter(cgroup: Path) -> list[str]:
    return ["sh", "-c", f'echo $$ >{cgroup}/cgroup.procs && exec "$@"', "sh"]


def home_of_the_command(stage: Stage, below: Path) -> str:
    return str(Path(cgroup_folder(stage.role("command"))).relative_to(below).as_posix())


def names_below(cgroup: Path) -> list[str]:
    return [path.name for path in cgroup.rglob("*") if path.is_dir()]


@pytest.mark.parametrize("killed", ["command", "guard"])
def test_it_is_born_there_and_no_cgroup_is_left(stage: Stage, cgroup: Path, killed: str) -> None:
    stage.run(*stage.command("daemon"), enter=enter(cgroup), ttl_s=30)
    stage.wait_for_ticks()
    backstop = stage.role("backstop")
    assert home_of_the_command(stage, cgroup) == f"heirflow-{backstop}/command"
    stage.send(signal.SIGKILL, killed)
    stage.wait_for_nobody()
    wait_until(lambda: not names_below(cgroup), "its cgroups to be removed")


def test_the_next_one_is_born_there_too_though_the_last_was_killed_there(stage: Stage, cgroup: Path) -> None:
    stage.run(*stage.command("daemon"), enter=enter(cgroup), ttl_s=30, after_gone="again")
    stage.wait_for_ticks()
    time.sleep(BIRTH_S)
    stage.send(signal.SIGKILL, "command")
    wait_until(lambda: len(stage.events("Started")) == 2, "the second command")
    assert home_of_the_command(stage, cgroup).endswith("/command")
    stage.send(signal.SIGUSR2, "member")
    stage.wait_for_nobody()


def test_where_whoever_is_born_there_is_killed_it_is_moved_there(stage: Stage, cgroup: Path) -> None:
    """Some kernels compare how often the new cgroup was killed with how often the parent's own was."""
    (cgroup / "cgroup.kill").write_text("1")
    stage.run(*stage.command("daemon"), enter=enter(cgroup), ttl_s=30)
    stage.wait_for_ticks()
    assert home_of_the_command(stage, cgroup).startswith(f"heirflow-{stage.role('backstop')}")
    stage.send(signal.SIGUSR2, "member")
    assert stage.wait_for("Gone")["why"] == Why.ORDERED
    stage.wait_for_nobody()


def test_a_guard_that_was_moved_to_such_a_place_learns_of_it(stage: Stage, cgroup: Path) -> None:
    stage.run(*stage.command("daemon"), ttl_s=30, after_gone="again")
    stage.wait_for_ticks()
    (cgroup / "cgroup.kill").write_text("1")
    (cgroup / "cgroup.procs").write_text(str(stage.role("guard")))
    stage.send(signal.SIGKILL, "command")
    wait_until(lambda: len(stage.events("Started")) == 2, "the second command")
    first = stage.ticks()[-1]
    wait_until(lambda: stage.ticks()[-1][1] == stage.role("command") and stage.ticks()[-1] > first, "it runs")
    stage.send(signal.SIGUSR2, "member")
    stage.wait_for_nobody()
