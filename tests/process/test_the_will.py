"""The will is carried out when the member is gone and its command proved gone; never before, never otherwise."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from heirflow.clock import CLOCK, boottime
from heirflow.guard import processes
from tests.process.stage import Stage, wait_until

WILL = [sys.executable, "-I", "-S", "-E", str(Path(processes.__file__).parents[1] / "alone" / "will_helper.py")]


def helper(stage: Stage, *lines: bytes, give_up_s: float = 5.0) -> subprocess.Popen[bytes]:
    payload = {
        **stage.make_record(),
        "prover": "its guard",
        "sys_path": sys.path,
        "give_up_at": boottime() + give_up_s,
        "clock": CLOCK,
    }
    process = subprocess.Popen(WILL, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(json.dumps(payload).encode() + b"\n" + b"".join(lines))
    process.stdin.flush()
    return process


def test_without_go_it_does_nothing(stage: Stage) -> None:
    with helper(stage) as process:
        answer, _ = process.communicate(timeout=10)
    assert (answer, process.returncode) == (b"", 0)
    assert stage.record()[0] == "me"


def test_with_half_a_go_it_does_nothing(stage: Stage) -> None:
    with helper(stage, b"go") as process:
        answer, _ = process.communicate(timeout=10)
    assert answer == b""
    assert stage.record()[0] == "me"


def test_with_go_it_releases(stage: Stage) -> None:
    with helper(stage, b"go\n") as process:
        answer, _ = process.communicate(timeout=10)
    assert answer == b"released\n"
    assert stage.record()[0] is None


def test_a_record_that_moved_on_is_left_alone(stage: Stage) -> None:
    with helper(stage) as process:
        connection = sqlite3.connect(stage.database)
        connection.execute("UPDATE record SET leader = 'heir', term = 8")
        connection.commit()
        connection.close()
        answer, _ = process.communicate(b"go\n", timeout=10)
    assert answer == b"nothing to release\n"
    connection = sqlite3.connect(stage.database)
    assert connection.execute("SELECT leader, (SELECT count(*) FROM event) FROM record").fetchone() == ("heir", 0)
    connection.close()


def test_a_database_that_does_not_answer_is_asked_again(stage: Stage) -> None:
    with helper(stage) as process:
        connection = sqlite3.connect(stage.database, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
        at = boottime()
        wait_until(lambda: boottime() > at + 0.6, "longer than its time-out")
        assert process.poll() is None
        connection.execute("ROLLBACK")
        connection.close()
        answer, _ = process.communicate(timeout=10)
    assert answer == b"released\n"
    assert stage.record()[0] is None


def test_it_gives_up_in_time(stage: Stage) -> None:
    with helper(stage, give_up_s=1.0) as process:
        connection = sqlite3.connect(stage.database, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        answer, _ = process.communicate(b"go\n", timeout=10)
        connection.execute("ROLLBACK")
        connection.close()
    assert (answer, process.returncode) == (b"gave up\n", 1)
    assert stage.record()[0] == "me"


def seize(pid: int) -> None:
    """Trace it: killed, it stays a child of its parent until we have waited for it. A death that takes as long as we like."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    assert libc.ptrace(0x4206, pid, None, None) == 0, os.strerror(ctypes.get_errno())  # PTRACE_SEIZE


@pytest.mark.parametrize("killed", [("member",), ("member", "guard")], ids="+".join)
@pytest.mark.parametrize("cgroup", [True, False], ids=["cgroup", "walk"])
def test_it_waits_while_one_process_takes_long_to_die(stage: Stage, cgroup: bool, killed: tuple[str, ...]) -> None:
    stage.run(*stage.command("daemon"), ttl_s=30, will=stage.make_record(), cgroup=cgroup)
    stage.wait_for_ticks(4)
    slow = next(pid for _, pid in stage.ticks() if pid != stage.role("command"))
    seize(slow)
    at = stage.send(signal.SIGKILL, *killed)
    living = {stage.role(name) for name in {"guard", "backstop"} - {*killed}}
    wait_until(lambda: stage.pids() == living, "all else to end")
    stage.wait_until_past(at + 1.0)
    assert stage.record()[0] == "me", "not proved, and released"
    assert os.waitpid(slow, 0x40000000) == (slow, signal.SIGKILL)  # __WALL
    wait_until(lambda: stage.record()[0] is None, "the release")
    stage.wait_for_nobody()


def test_gone_is_not_told_and_the_stuck_one_is_named(stage: Stage) -> None:
    stage.run(*stage.command("daemon"), ttl_s=30)
    stage.wait_for_ticks(4)
    slow = next(pid for _, pid in stage.ticks() if pid != stage.role("command"))
    seize(slow)
    stage.send(signal.SIGUSR2, "member")
    assert stage.wait_for("Stuck")["pids"] == [slow]
    assert not stage.events("Gone")
    assert os.waitpid(slow, 0x40000000) == (slow, signal.SIGKILL)
    assert stage.wait_for("Gone")["took_s"] > 1.5
    assert len(stage.events("Stuck")) == 1
    stage.wait_for_nobody()


def test_a_member_whose_guard_is_lost_says_gone_when_nobody_is_left(stage: Stage) -> None:
    """With guard and backstop dead the proof is the member's own, and its release rests on it."""
    stage.run(*stage.command("daemon"), ttl_s=30, cgroup=False)
    stage.wait_for_ticks(4)
    slow = next(pid for _, pid in stage.ticks() if pid != stage.role("command"))
    seize(slow)
    at = stage.send(signal.SIGKILL, "guard", "backstop")
    wait_until(lambda: stage.pids() <= {stage.role("member")}, "all else to end")
    stage.wait_until_past(at + 1.5)  # also past the second in which it leaves the cleaning to others
    assert not stage.events("Gone"), "not proved, and told"
    assert os.waitpid(slow, 0x40000000) == (slow, signal.SIGKILL)  # __WALL
    assert stage.wait_for("Gone")["at"] > at + 1.5
    stage.wait_for("Lost")
    stage.wait_for_nobody()


def test_it_waits_for_the_last_process_of_the_command(stage: Stage) -> None:
    """The member dies while its command cannot be killed yet: the guard is stopped before it can strike."""
    will = stage.make_record()
    stage.run(*stage.command("daemon"), ttl_s=30, will=will, cgroup=False)
    stage.wait_for_ticks(4)
    stage.send(signal.SIGSTOP, "guard")
    at = stage.send(signal.SIGKILL, "member")
    wait_until(lambda: boottime() > at + 1.0, "time for a wrong will")
    assert stage.record()[0] == "me"
    stage.send(signal.SIGCONT, "guard")
    wait_until(lambda: stage.record()[0] is None, "the release")
    stage.wait_for_nobody()
    released_at = stage.record()[1]
    assert released_at is not None
    assert released_at > stage.ticks()[-1][0] > at + 0.9


def test_the_backstop_of_a_guard_killed_before_its_proof_has_its_own_and_carries_out_the_will(stage: Stage) -> None:
    will = stage.make_record()
    stage.run(*stage.command("daemon"), ttl_s=30, will=will, cgroup=False)
    stage.wait_for_ticks(4)
    stage.send(signal.SIGSTOP, "guard")
    at = stage.send(signal.SIGKILL, "member", "guard")
    stage.wait_for_nobody()
    leader, released_at = stage.record()
    assert leader is None
    assert released_at is not None
    assert stage.ticks()[-1][0] < released_at < at + 3.0
    assert stage.because() == "me was killed, and its backstop proved it"


def test_the_backstop_leaves_the_record_to_a_member_that_lives(stage: Stage) -> None:
    stage.run(*stage.command("daemon"), ttl_s=30, renew_s=0.2, will=stage.make_record())
    stage.wait_for_ticks(4)
    stage.send(signal.SIGKILL, "guard")
    stage.wait_for("Lost")
    stage.wait_for_nobody()
    assert stage.record()[0] == "me"


def test_a_member_without_a_will_leaves_none(stage: Stage) -> None:
    stage.make_record()
    stage.run(*stage.command("ordinary"), ttl_s=30)
    stage.wait_for_ticks()
    stage.send(signal.SIGKILL, "member")
    stage.wait_for_nobody()
    assert stage.record()[0] == "me"


def test_an_orderly_end_leaves_the_record_to_the_member(stage: Stage) -> None:
    stage.run(*stage.command("ordinary"), ttl_s=30, will=stage.make_record())
    stage.wait_for_ticks()
    stage.send(signal.SIGTERM, "member")
    stage.wait_for("closed")
    stage.wait_for_nobody()
    assert stage.record()[0] == "me"


def test_from_the_members_death_to_the_release(stage: Stage) -> None:
    stage.run(*stage.command("ignores-term"), ttl_s=30, will=stage.make_record())
    stage.wait_for_ticks()
    at = stage.send(signal.SIGKILL, "member")
    wait_until(lambda: stage.record()[0] is None, "the release")
    released_at = stage.record()[1]
    assert released_at is not None
    print(f"member killed -> released on SQLite: {(released_at - at) * 1000:.0f} ms")
    assert released_at - at < 1.0
    stage.wait_for_nobody()
    assert stage.because() == "me was killed, and its guard proved it"
