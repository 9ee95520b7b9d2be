"""The second act: the faults are over, and within a known time the line is whole again, and stays so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heirflow.election import line, talk
from heirflow.election.state import Readiness

if TYPE_CHECKING:
    from heirflow.testing.process import MemberProcess
    from heirflow.testing.world import World


def second_act(world: World) -> None:
    """End the faults, wait as long as is promised, and look; then look again after a while in which nothing happens."""
    world.calm = True
    world.say("world", "the faults are over")
    rng, agenda = world.rng, world.agenda
    for host in world.hosts:
        host.out_cut = host.in_cut = host.slow = host.lossy = 0
    world.store.down = world.store.read_only = 0
    for member in [*world.members.values()]:
        member.post(Readiness(rng.random() < 0.9))
        if rng.random() < 0.8:
            world.drain(member.id, False)
    if rng.random() < 0.85:
        world.order(paused=False)
    if not any(not member.stop_asked for member in world.members.values()):
        world.start_member(0)
    bound = _bound(world)
    agenda.run_until(agenda.now + bound)
    world.judge.living.sweep()
    if not _settled(world, bound):
        return
    _stays(world)
    _agrees(world)


def _bound(world: World) -> float:
    """A ttl + 2 check-ins + turns + 1 s, and what is still under way: a stop, a back-off, a guard that is started."""
    slowest = min(host.rate for host in world.hosts)
    ttl, check_in = world.longest_ttl_s, max(timings.check_in_s for timings in world.timings)
    turns = len(world.store.rows) * check_in
    stopping = max(timings.stop_timeout_s for timings in world.timings) + 2 * check_in
    record = world.store.record
    under_way = any(member.state.stop or member.state.leaving for member in world.members.values())
    ordered = record is not None and record.switchover_to is not None
    back_off = max(
        (member.timings.check_in_s * 2 + 1 for member in world.members.values() if member.state.failures), default=0.0
    )
    bound = ttl + 2 * check_in + turns + 1 + check_in + back_off + (stopping if under_way or ordered else 0.0)
    return bound / slowest


def _able(world: World) -> list[MemberProcess]:
    return [
        member
        for member in world.members.values()
        if line.is_ready(member.state, member.host.local(world.agenda.now)) and member.state.joined
    ]


def _settled(world: World, bound: float) -> bool:
    """Whether somebody leads; False when nobody needs to (paused, or nobody is able)."""
    record = world.store.record
    able = _able(world)
    if record is not None and record.paused:
        return False
    if not able and not any(member.state.command.value != "none" for member in world.members.values()):
        return False
    leader = world.members.get(record.leader or "") if record is not None else None
    if record is None or leader is None:
        named = f"record names {record.leader}" if record else "there is no record"
        world.judge.broken("always one, soon", f"{bound:.1f} s after the last fault nobody leads ({named})")
    assert record is not None
    assert leader is not None
    if not talk.holds(leader.state) or leader.state.term != record.term:
        world.judge.broken("always one, soon", f"{leader.id} is named for term {record.term} and does not lead")
    if not any(command.member is leader for command in world.judge.living.running):
        world.judge.broken("always one, soon", f"{leader.id} leads, and its command does not run")
    return True


def _stays(world: World) -> None:
    judge, agenda = world.judge, world.agenda
    changes, commands, sent = judge.changes, judge.living.running, dict(judge.sent)
    quiet_s = 1.2 * world.longest_ttl_s
    agenda.run_until(agenda.now + quiet_s)
    judge.living.sweep()
    if judge.changes != changes or judge.living.running != commands:
        judge.broken("the leader stays", "the leadership changed while nothing happened")
    for member in world.members.values():
        most = quiet_s * member.host.rate / member.timings.check_in_s + 2
        count = judge.sent.get(member.id, 0) - sent.get(member.id, 0)
        if count > most:
            judge.broken("nearly free", f"{member.id} sent {count} exchanges in {quiet_s:.1f} quiet seconds")


def _agrees(world: World) -> None:
    """Everybody sees the same leader and the same line, and an heir stands when somebody can."""
    judge, record = world.judge, world.store.record
    assert record is not None
    views = {}
    for member in world.members.values():
        if member.state.joined:
            order = line.line(member.state, member.host.local(world.agenda.now), member.timings)
            seen = member.state.record
            views[member.id] = (seen.leader if seen else None, seen.term if seen else 0, tuple(row.id for row in order))
    # Who checks in twice as often as others finds them stale half of the time: that costs time only, and is not judged.
    alike = len({member.timings.check_in_s for member in world.members.values()}) == 1
    if len(set(views.values())) > 1 and alike:
        judge.broken("one view", f"members see the line differently: {views}")
    heirs = [member.id for member in _able(world) if member.id != record.leader]
    if heirs and not any(order for _, _, order in views.values()):
        judge.broken("an heir stands", f"{heirs} could take charge and nobody sees them")
