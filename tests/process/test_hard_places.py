"""Where a guard has it hard: no process to be had, much memory to free, a /proc of another namespace, a whole tree to stop."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from heirflow.guard.why import Why
from tests.process.stage import Stage, boottime, wait_until
from tests.process.test_another_user import NOBODY, ORDINARY


def test_a_fork_that_fails_is_told_and_the_guard_goes_on(stage: Stage) -> None:
    if os.geteuid() != 0:
        pytest.skip("root has no limit of processes, and only root can become an ordinary user")
    os.chown(stage.folder, NOBODY, NOBODY)
    stage.run(*stage.command("ordinary"), enter=ORDINARY, ttl_s=20, renew_s=0.2, after_gone="again",
              starve_guard=True)  # fmt: skip
    stage.wait_for("starved")
    os.kill(stage.role("command"), signal.SIGKILL)
    wait_until(lambda: len(stage.events("Gone")) == 2, f"the second end; events: {stage.events()}")
    gone = stage.wait_for("Gone")
    assert (gone["why"], gone["status"]) == (Why.NOT_RUNNABLE, 126)
    assert "unavailable" in gone["detail"]
    assert not stage.events("Lost")
    stage.wait_for_nobody()


@pytest.mark.slow
def test_a_guard_that_kills_much_memory_is_not_taken_for_frozen(stage: Stage) -> None:
    hold = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); held = bytearray(2 << 30)"
    hold += f"; open({str(stage.ticks_file)!r}, 'w').close(); time.sleep(60)"
    stage.run(sys.executable, "-S", "-c", hold, stage.marker, ttl_s=15.0, guard_limit_s=10)
    stage.wait_for("Started")
    wait_until(stage.ticks_file.exists, "its memory", 14.0)
    gone = stage.wait_for("Gone", 20.0)
    assert gone["why"] == Why.LEASE_OVER
    assert not stage.events("Lost")
    stage.wait_for_nobody()


def test_a_member_with_a_frozen_guard_does_not_spin(stage: Stage) -> None:
    stage.run(*stage.command("ordinary"), ttl_s=20, renew_s=0.2, guard_limit_s=2.0)
    stage.wait_for_ticks()
    member = stage.role("member")

    def cpu_s() -> float:
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = cpu_s()
    stage.send(signal.SIGSTOP, "guard")
    time.sleep(1.5)
    assert cpu_s() - before < 0.5
    assert stage.wait_for("Gone")["why"] == Why.GUARD_FROZEN
    stage.wait_for_nobody()


@pytest.mark.parametrize("behaviour", ["daemon", "daemon-and-exit"])
def test_what_a_foreign_proc_does_not_show_is_killed_all_the_same(stage: Stage, behaviour: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs a namespace of its own")
    enter = ["unshare", "--pid", "--fork", "sh", "-c", '"$@"; exit $?', "sh"]
    stage.run(*stage.command(behaviour), enter=enter, ttl_s=2.0, cgroup=False)
    stage.wait_for_ticks(2 if behaviour == "daemon" else 1)
    started = stage.wait_for("start")
    gone = stage.wait_for("Gone")
    assert gone["at"] < started["kill_at"] + 0.5
    last = stage.ticks()[-1][0]
    assert last < gone["at"]
    stage.wait_for_nobody()


def test_what_was_left_behind_is_counted(stage: Stage) -> None:
    stage.run("sh", "-c", f"{' '.join(stage.command('ignores-term'))} & sleep 0.5", ttl_s=20)
    stage.wait_for_ticks()
    gone = stage.wait_for("Gone")
    assert (gone["why"], gone["status"], gone["left"]) == (Why.ENDED, 0, 1)
    stage.wait_for_nobody()


# Waited for and not handled: one that came just before a sleep would be handled only after it.
FINISHES = """\
import os, signal, time
asked = {signal.SIGTERM, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, asked)
os.write(1, b"ready\\n")
number = signal.sigwait(asked)
time.sleep(0.4)
os.write(1, b"finished %d\\n" % number)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_an_orderly_stop_is_for_the_whole_tree(stage: Stage, number: int) -> None:
    """A shell dies of its TERM at once; the program that it runs is asked too, and has the rest of the time."""
    said = stage.folder / "said"
    program = stage.folder / "finishes.py"
    program.write_text(FINISHES)
    with said.open("wb") as out:
        stage.run("sh", "-c", f"{sys.executable} -S {program} {stage.marker}; true", stdout=out, ttl_s=20, renew_s=0.2,
                  stop_s=5.0, stop_signal=int(number))  # fmt: skip
    wait_until(lambda: "ready" in said.read_text(), "the program")
    asked = boottime()
    stage.send(signal.SIGTERM, "member")
    gone = stage.wait_for("Gone")
    assert f"finished {int(number)}" in said.read_text()
    assert gone["why"] == Why.STOPPED
    assert gone["at"] - asked < 3.0
    stage.wait_for_nobody()


def test_what_does_not_end_with_its_shell_is_killed_when_the_time_is_over(stage: Stage) -> None:
    stage.run("sh", "-c", f"{' '.join(stage.command('ignores-term'))}; true", ttl_s=20, renew_s=0.2, stop_s=1.0)
    stage.wait_for_ticks()
    stage.send(signal.SIGTERM, "member")
    assert stage.wait_for("Gone")["why"] == Why.STOP_TIMEOUT
    stage.wait_for_nobody()
