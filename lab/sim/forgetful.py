"""Scenes of a fail-over that forgets who took charge last, when luck would seldom find the moment."""

from __future__ import annotations

from heirflow.election.steps import Readiness
from heirflow.election.timings import Timings
from lab.sim.clock import Host
from lab.sim.process import MemberProcess
from lab.sim.register import Backup
from lab.sim.scenes import pass_by, played
from lab.sim.world import Verdict, World


def the_release_is_forgotten(seed: int) -> Verdict:
    """A leader's release is confirmed, and its answer lost; the next takes charge; then all of that is forgotten."""

    def play(world: World) -> None:
        leader, _heir = _a_line_of(world, 2)
        standby = world.store.backup()
        leader.host.in_cut += 1
        _command_ends(leader)
        pass_by(world, leader.timings.check_in_s)
        leader.host.in_cut -= 1
        if _someone_else_leads(world, leader):
            _alone_fails_over(world, leader, standby)

    return played(seed, play)


def the_lease_is_over(seed: int) -> Verdict:
    """A leader that is cut off, with nothing that runs, is succeeded; then that is forgotten, and it is heard again."""

    def play(world: World) -> None:
        leader, heir = _a_line_of(world, 2)
        standby = world.store.backup()
        heir.post(Readiness(False))
        pass_by(world, 2 * heir.timings.check_in_s)
        _cut(leader.host, True)
        end_at, _kill_at = leader.timings.moments(leader.state.trusted_until)
        now = leader.host.local(world.agenda.now)
        world.agenda.run_until(world.agenda.now + (end_at - 0.3 - now) / leader.host.rate)
        leader.post(Readiness(False))  # it is not started again before the lease is over
        pass_by(world, 0.02)
        _command_ends(leader)
        heir.post(Readiness(True))
        pass_by(world, world.longest_ttl_s + 2 * heir.timings.check_in_s)
        leader.post(Readiness(True))
        _cut(leader.host, False)
        if _someone_else_leads(world, leader):
            _alone_fails_over(world, leader, standby)

    return played(seed, play)


def a_longer_lease_is_forgotten(seed: int) -> Verdict:
    """Who is forgotten led with a longer ttl than the one whom the store remembers, and is cut off."""

    def play(world: World) -> None:
        short = world.timings[0]
        margin_s = 2 * short.margin_s
        world.timings = [short, Timings.of(2 * short.ttl_s, margin_s=margin_s)]
        world.longest_ttl_s = 2 * short.ttl_s
        _leader, heir = _a_line_of(world, 2)
        standby = world.store.backup()
        world.order(switchover_to=heir.id)
        pass_by(world, 3 * heir.timings.check_in_s)
        _cut(heir.host, True)
        world.store.fail_over(standby)
        pass_by(world, 3 * world.longest_ttl_s)

    return played(seed, play)


def _a_line_of(world: World, count: int) -> list[MemberProcess]:
    """So many members, of which the first leads."""
    members = []
    for index in range(count):
        member = world.start_member(index)
        assert member is not None
        members.append(member)
        pass_by(world, 2 * world.timings[index].check_in_s)
    return members


def _command_ends(member: MemberProcess) -> None:
    assert member.guard is not None
    assert member.guard.command is not None
    member.guard.command.end(0, "the command ended by itself")


def _someone_else_leads(world: World, leader: MemberProcess) -> bool:
    """Whether the scene came about: with slow clocks and lost news it does not always."""
    record = world.store.record
    return record is not None and record.leader not in {None, leader.id}


def _alone_fails_over(world: World, leader: MemberProcess, standby: Backup) -> None:
    """Only the old leader is heard for a while; the one that is forgotten goes on as long as it may."""
    for host in world.hosts:
        if host is not leader.host:
            _cut(host, True)
    world.store.fail_over(standby)
    pass_by(world, 2 * world.longest_ttl_s)


def _cut(host: Host, on: bool) -> None:
    host.out_cut += 1 if on else -1
    host.in_cut += 1 if on else -1
