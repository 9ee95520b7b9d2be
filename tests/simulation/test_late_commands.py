"""A command that was thawed with its host after its lease still lives until its guard has killed it: it is judged until then."""

from __future__ import annotations

import pytest

from lab.sim.judge import Red
from lab.sim.process import MemberProcess
from lab.sim.supervision import CommandProcess
from lab.sim.surroundings import Manners
from lab.sim.world import World


def thawed_late(world: World, *, after_ttls: float = 1.05, hosts: int = 1) -> CommandProcess:
    """The leader's command, at the instant of its host's thaw: nothing else has happened since."""
    ttl_s = world.longest_ttl_s
    for host in range(hosts):
        world.start_member(host)
        world.agenda.run_until(world.agenda.now + ttl_s)
    (command,) = world.judge.lives.running
    command.manners = Manners(kill_takes_s=command.member.timings.kill_lead_s / 2)
    thaw = world.freeze_host(world.hosts.index(command.host))
    assert thaw is not None
    world.agenda.run_until(world.agenda.now + after_ttls * ttl_s)
    thaw()
    assert command.alive
    assert command.late
    return command


def successor(world: World) -> MemberProcess:
    """The member whose command runs now."""
    (command,) = world.judge.lives.running
    return command.member


def test_nobody_releases_while_it_lives() -> None:
    world = World(3, quiet=True)
    command = thawed_late(world)
    with pytest.raises(Red, match="release only when gone"):
        world.store.will(command.member.id, command.term)


def test_its_member_does_not_exit_while_it_lives() -> None:
    world = World(3, quiet=True)
    command = thawed_late(world)
    with pytest.raises(Red, match="never an orphan"):
        world.judge.exited(command.member)


@pytest.mark.parametrize("void", [False, True])
def test_its_member_begins_no_other_one(void: bool) -> None:
    world = World(3, quiet=True)
    command = thawed_late(world)
    if void:
        world.judge.restored(world.longest_ttl_s)
    world.judge.lease_end[command.member.id] += world.longest_ttl_s  # as if it had taken charge anew
    with pytest.raises(Red, match="never two"):
        world.judge.command_started(CommandProcess(command.guard, command.term + 1, Manners()))


def test_a_successor_may_meet_it_and_is_counted() -> None:
    world = World(3, quiet=True)
    command = thawed_late(world, after_ttls=2.0, hosts=2)
    assert successor(world) is not command.member
    assert world.judge.lives.thaw_overlaps == 1
    world.agenda.run_until(world.agenda.now + world.longest_ttl_s)
    world.judge.lives.sweep()
    assert not command.alive


def test_it_may_meet_nobody_while_its_lease_lasts() -> None:
    world = World(3, quiet=True)
    command = thawed_late(world, after_ttls=2.0, hosts=2)
    world.judge.lease_end[command.member.id] += 9 * world.longest_ttl_s  # as if a renewal of it had been confirmed
    with pytest.raises(Red, match="never two"):
        world.judge.lives.sweep()


def test_it_is_killed_at_once() -> None:
    world = World(3, quiet=True)
    command = thawed_late(world)
    command.alive = False  # its kill, which is under way, never comes
    world.agenda.run_until(world.agenda.now + 2 * command.member.timings.kill_lead_s)
    with pytest.raises(Red, match="thawed late, it is killed at once"):
        world.judge.lives.sweep()
