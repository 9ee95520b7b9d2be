"""A command that becomes another user's (sudo, set-uid programs): the member of an ordinary user must be able to kill it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from heirflow.guard.why import KillBy
from tests.process.stage import NOBODY, Stage, boottime, wait_until

SOURCE = Path(__file__).with_name("nasty") / "becomes_root.c"
# An ordinary user without the right to kill; it may read all files, because the interpreter may lie in root's own folder.
READS = "+dac_read_search,+dac_override"
ORDINARY = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", f"--inh-caps={READS}", f"--ambient-caps={READS}"]


@pytest.fixture(scope="module")
def becomes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid() != 0:
        pytest.skip("only root can make a set-uid program")  # in CI a skip is a failure
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    program = tmp_path_factory.mktemp("setuid") / "becomes_root"
    subprocess.run(["cc", "-o", str(program), str(SOURCE)], check=True)
    program.chmod(0o4755)
    return program


def run(stage: Stage, program: Path, *, enter: list[str] = ORDINARY, **options: object) -> Path:
    """The driver as an ordinary user; returns the file in which the program says who it is."""
    os.chown(stage.folder, NOBODY, NOBODY)
    user = stage.folder / "user"
    argv = [str(program), str(stage.ticks_file), str(user), stage.marker]
    stage.run(*argv, enter=enter, ttl_s=1.0, **options)
    wait_until(lambda: user.exists() and user.read_text(), "the program's user")
    return user


def wait_for_silence(stage: Stage) -> None:
    stage.wait_for_nobody(5.0)
    time.sleep(0.2)
    assert stage.ticks()[-1][0] < boottime() - 0.15


def test_without_new_privileges_it_stays_what_it_was_and_dies_in_time(stage: Stage, becomes_root: Path) -> None:
    user = run(stage, becomes_root, cgroup=False)
    assert user.read_text() == str(NOBODY)
    assert stage.wait_for("Ready")["kill_by"] == KillBy.NO_NEW_PRIVILEGES
    kill_at = stage.wait_for("start")["kill_at"]
    wait_for_silence(stage)
    assert stage.ticks()[-1][0] < kill_at + 0.2


def test_in_a_cgroup_of_our_own_it_may_become_root_and_dies_in_time(
    stage: Stage, becomes_root: Path, cgroup: Path
) -> None:
    into = ["sh", "-c", f'echo $$ >{cgroup}/cgroup.procs && exec "$@"', "sh", *ORDINARY]
    user = run(stage, becomes_root, enter=into)
    assert user.read_text() == "0"
    assert stage.wait_for("Ready")["kill_by"] == KillBy.CGROUP
    kill_at = stage.wait_for("start")["kill_at"]
    wait_for_silence(stage)
    assert stage.ticks()[-1][0] < kill_at + 0.2


def test_what_cannot_be_killed_is_told_and_never_taken_for_gone(stage: Stage, becomes_root: Path) -> None:
    user = run(stage, becomes_root, cgroup=False, gain_privileges=True)
    assert user.read_text() == "0"
    assert stage.wait_for("Ready")["kill_by"] == KillBy.NOTHING
    stuck = stage.wait_for("Stuck")
    pid = stage.ticks()[-1][1]
    assert stuck["refused"] == [pid]
    assert not stage.events("Gone")
    os.kill(pid, signal.SIGKILL)
    stage.wait_for("Gone")
    wait_for_silence(stage)


def test_who_may_kill_anybody_lets_it_become_root(stage: Stage, becomes_root: Path) -> None:
    user = run(stage, becomes_root, enter=[], cgroup=False)
    assert user.read_text() == "0"
    assert stage.wait_for("Ready")["kill_by"] == KillBy.RIGHT
    wait_for_silence(stage)
