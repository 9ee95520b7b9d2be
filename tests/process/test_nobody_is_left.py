"""Kill or freeze any one of the processes, or any two: nothing of the command is left, and the will is never early."""

from __future__ import annotations

import os
import signal

import pytest

from heirflow.clock import boottime
from heirflow.guard.why import Why
from tests.process.stage import Stage, wait_until

KILLED = [
    ("guard",),
    ("backstop",),
    ("command",),
    ("member",),
    ("member", "guard"),
    ("guard", "member"),
    ("member", "backstop"),
    ("backstop", "member"),
    ("guard", "backstop"),
    ("backstop", "guard"),
]
CGROUP = pytest.mark.parametrize("cgroup", [True, False], ids=["cgroup", "walk"])


def writers(behaviour: str) -> int:
    return {"daemon": 4, "stops-itself": 2}.get(behaviour, 1)


@CGROUP
@pytest.mark.parametrize("killed", KILLED, ids="+".join)
def test_killed_with_9(stage: Stage, killed: tuple[str, ...], cgroup: bool) -> None:
    will = stage.make_record()
    stage.run(*stage.command("daemon"), ttl_s=30, renew_s=0.2, will=will, cgroup=cgroup)
    stage.wait_for_ticks(4)
    at = stage.send(signal.SIGKILL, *killed)
    stage.wait_for_nobody()
    last = stage.ticks()[-1][0]
    assert last < at + 1.5
    if "member" not in killed:
        gone = stage.wait_for("Gone")
        assert last < gone["at"]
        names = {
            "command": Why.ENDED,
            "guard": Why.GUARD_GONE,
            "backstop": Why.BACKSTOP_GONE,
        }
        assert gone["why"] in {names[name] for name in killed}
        assert bool(stage.events("Lost")) == (killed != ("command",))
    leader, released_at = stage.record()
    if "member" in killed:
        # With another one killed first, the one that is left may have seen the member alive: then no will is due.
        if killed[0] == "member" or leader is None:
            assert leader is None
            assert released_at is not None
            assert released_at > last
    else:
        assert leader == "me"


@CGROUP
def test_with_guard_and_backstop_dead_the_member_waits_for_nobody(stage: Stage, cgroup: bool) -> None:
    """It gave them a second to clean up; killed within that second, it left what was deaf to TERM behind for good."""
    stage.run(*stage.command("daemon"), ttl_s=30, renew_s=0.2, cgroup=cgroup)
    stage.wait_for_ticks(4)
    at = stage.send(signal.SIGKILL, "guard", "backstop")
    stage.wait_for_nobody()
    assert stage.ticks()[-1][0] < at + 0.5
    assert stage.wait_for("Gone")["why"] in {Why.GUARD_GONE, Why.BACKSTOP_GONE}


def test_the_command_dies_with_its_guard_though_nobody_else_can_act(stage: Stage) -> None:
    """Only the kernel is left to end it. When all three are killed at once, that is all there is."""
    stage.run(*stage.command("ignores-term"), ttl_s=30, renew_s=0.2)
    stage.wait_for_ticks()
    command = stage.role("command")
    stage.send(signal.SIGSTOP, "member", "backstop")
    at = stage.send(signal.SIGKILL, "guard")
    wait_until(lambda: command not in stage.pids(), "the end of the command", 2.0)
    assert stage.ticks()[-1][0] < at + 0.25  # CPU noise included
    stage.send(signal.SIGKILL, "member", "backstop")
    stage.wait_for_nobody()


@CGROUP
def test_a_fork_storm_is_killed(stage: Stage, cgroup: bool) -> None:
    stage.run(*stage.command("fork-storm", 6), ttl_s=30, cgroup=cgroup)
    stage.wait_for_ticks(30)
    at = stage.send(signal.SIGUSR2, "member")
    gone = stage.wait_for("Gone")
    assert gone["at"] < at + 5
    assert stage.ticks()[-1][0] < gone["at"]
    stage.wait_for_nobody()


@pytest.mark.parametrize("killed", [("guard",), ("guard", "backstop"), ("member", "guard")], ids="+".join)
def test_a_fork_storm_without_its_guard(stage: Stage, killed: tuple[str, ...]) -> None:
    stage.run(*stage.command("fork-storm", 4), ttl_s=30, cgroup=False)
    stage.wait_for_ticks(20)
    stage.send(signal.SIGKILL, *killed)
    stage.wait_for_nobody()


@CGROUP
@pytest.mark.parametrize("behaviour", ["ignores-term", "daemon", "stops-itself"])
def test_a_frozen_member(stage: Stage, behaviour: str, cgroup: bool) -> None:
    will = stage.make_record()
    stage.run(*stage.command(behaviour), ttl_s=1.5, renew_s=0.2, will=will, cgroup=cgroup)
    stage.wait_for_ticks(writers(behaviour))
    wait_until(lambda: stage.events("lease"), "a lease")
    stage.send(signal.SIGSTOP, "member")
    kill_at = stage.wait_for("lease")["kill_at"]
    alone = {stage.role(name) for name in ("member", "guard", "backstop")}
    # On a machine so busy that the guard is 0.1 s late, its backstop takes it for frozen and ends it as well.
    wait_until(lambda: stage.pids() <= alone, "the end of the command")
    assert boottime() < kill_at + 0.5
    assert stage.ticks()[-1][0] < kill_at + 0.25, "kill_at is 0.25 s before the end of trust"
    assert stage.record()[0] == "me", "a frozen member may thaw: no will"
    stage.send(signal.SIGCONT, "member")
    stage.wait_for("Gone")
    stage.wait_for_nobody()


def test_a_frozen_member_that_is_killed_leaves_its_will(stage: Stage) -> None:
    will = stage.make_record()
    stage.run(*stage.command("ignores-term"), ttl_s=30, will=will)
    stage.wait_for_ticks()
    stage.send(signal.SIGSTOP, "member", "backstop")
    stage.send(signal.SIGKILL, "member")
    stage.wait_for_nobody()
    assert stage.record()[0] is None


def test_a_frozen_guard(stage: Stage) -> None:
    stage.run(*stage.command("daemon"), ttl_s=2, renew_s=0.2, guard_limit_s=0.8)
    stage.wait_for_ticks(4)
    at = stage.send(signal.SIGSTOP, "guard")
    gone = stage.wait_for("Gone")
    assert gone["why"] == Why.GUARD_FROZEN
    assert at + 0.5 < gone["at"] < at + 2.5
    assert stage.ticks()[-1][0] < gone["at"]
    stage.wait_for("Lost")
    stage.wait_for_nobody()


def test_a_frozen_guard_while_the_lease_runs_out(stage: Stage) -> None:
    stage.run(*stage.command("daemon"), ttl_s=1.5, guard_limit_s=4)
    stage.wait_for_ticks(4)
    kill_at = stage.wait_for("start")["kill_at"]
    stage.send(signal.SIGSTOP, "guard")
    wait_until(lambda: len(stage.pids()) <= 3, "the end of the command")
    stage.wait_until_past(kill_at + 0.5)
    assert stage.ticks()[-1][0] < kill_at + 0.3
    stage.wait_for_nobody(15)


def test_a_frozen_guard_whose_member_is_killed(stage: Stage) -> None:
    """Nobody but the backstop is left to keep the deadline; an heir takes charge when the lease is over."""
    stage.run(*stage.command("daemon"), ttl_s=2, renew_s=0.2, guard_limit_s=10)
    stage.wait_for_ticks(4)
    stage.wait_for("lease")
    stage.send(signal.SIGSTOP, "guard")
    stage.send(signal.SIGKILL, "member")
    kill_at = stage.wait_for("lease")["kill_at"]
    stage.wait_for_nobody(10)
    assert stage.ticks()[-1][0] < kill_at + 0.25  # CPU noise included


@pytest.mark.parametrize("first", ["command first", "guard first"])
def test_everything_frozen_past_the_lease_and_thawed(stage: Stage, first: str) -> None:
    stage.run(*stage.command("daemon"), ttl_s=1.2, renew_s=0.2)
    stage.wait_for_ticks(4)
    wait_until(lambda: stage.events("lease"), "a lease")
    everybody = stage.pids()
    above = [stage.role(name) for name in ("backstop", "member")]
    guard = stage.role("guard")
    below = sorted(everybody - {guard, *above})
    for pid in [*above, guard, *below]:
        os.kill(pid, signal.SIGSTOP)
    kill_at = stage.events("lease")[-1]["kill_at"]
    stage.wait_until_past(kill_at + 0.3)
    thawed_at = boottime()
    for pid in [*below, guard, *above] if first == "command first" else [guard, *below, *above]:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            assert pid in below
    stage.wait_for_nobody()
    late_s = max([at - thawed_at for at, _ in stage.ticks() if at > kill_at], default=0.0)
    print(f"thaw -> last write of the command: {late_s * 1000:.1f} ms")
    assert late_s < 0.2


def test_a_frozen_member_and_guard_answer_before_they_are_judged(stage: Stage) -> None:
    """A machine that stood still for longer than the guard's limit, and less than the lease, goes on as if nothing was."""
    stage.run(*stage.command("ordinary"), ttl_s=20, renew_s=0.2, guard_limit_s=1.0)
    stage.wait_for_ticks()
    at = stage.send(signal.SIGSTOP, "guard")
    stage.wait_until_past(at + 0.4)  # so that a ping is waiting for its answer
    at = stage.send(signal.SIGSTOP, "member")
    stage.wait_until_past(at + 2.0)
    at = stage.send(signal.SIGCONT, "member")
    stage.wait_until_past(at + 0.1)
    stage.send(signal.SIGCONT, "guard")
    stage.wait_until_past(boottime() + 1.0)
    assert not stage.events("Gone")
    stage.send(signal.SIGTERM, "member")
    assert stage.wait_for("Gone")["status"] == -signal.SIGTERM
    stage.wait_for_nobody()
