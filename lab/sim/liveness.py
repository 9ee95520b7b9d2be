"""The second act: the faults are over, and within a known time the line is whole again, and stays so.

Who could lead is known from what the world did to each member. Were the members' own rules asked, a rule that leaves all of
them unready for ever would look like a world in which nobody need lead.
"""

from __future__ import annotations

from heirflow.election import asking, line
from heirflow.election.steps import Readiness
from heirflow.member.answers import OBEY_LIMIT_S
from lab.sim.process import MemberProcess
from lab.sim.world import World

LOOKS = 3
"""How often to look whether somebody must lead: a member that was started just now has time until the next look."""


def second_act(world: World) -> str:
    """End the faults, wait as long as is promised, and look; then look again after a while in which nothing happens.

    Returns why nobody had to lead, which leaves nothing to judge; empty when all was judged.
    """
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
    bound_s = _bound_s(world)
    for _ in range(LOOKS):
        agenda.run_until(agenda.now + bound_s)
        world.judge.lives.sweep()
        excuse = _excuse(world)
        if not excuse:
            _settled(world, bound_s)
            _stays(world)
            _agrees(world)
            break
        bound_s = _soon_s(world)
    return excuse


def _soon_s(world: World) -> float:
    """A ttl + 3 check-ins + turns + 1 s, by the slowest of the clocks."""
    ttl, check_in = world.longest_ttl_s, _longest_check_in_s(world)
    turns = len(world.store.rows) * check_in
    return (ttl + 3 * check_in + turns + 1) / _slowest(world)


def _bound_s(world: World) -> float:
    """The same, and what is still under way: a stop, a back-off, a guard that is started, a start that hangs."""
    stopping = max(timings.stop_timeout_s for timings in world.timings) + 2 * _longest_check_in_s(world)
    under_way = any(member.state.stop or member.state.leaving for member in world.members.values())
    ordered = any(record.switchover_to is not None for record in world.store.records.values())
    back_off = max(
        (member.timings.check_in_s * 2 + 1 for member in world.members.values() if member.state.failures), default=0.0
    )
    hanging = max(
        (
            member.timings.start_limit_s + member.timings.stop_timeout_s + OBEY_LIMIT_S + member.timings.check_in_s
            for member in world.members.values()
            if member.guard is not None and member.guard.hangs
        ),
        default=0.0,
    )
    return _soon_s(world) + (back_off + hanging + (stopping if under_way or ordered else 0.0)) / _slowest(world)


def _slowest(world: World) -> float:
    return min(host.rate for host in world.hosts)


def _longest_check_in_s(world: World) -> float:
    return max(timings.check_in_s for timings in world.timings)


def _able(world: World) -> list[MemberProcess]:
    """Who has been there long enough to lead, and has no excuse: by what the world did to it, not by what its rules believe."""
    born_by_s = world.agenda.now - _soon_s(world)
    return [member for member in world.members.values() if member.born_s <= born_by_s and not _hindered(world, member)]


def _hindered(world: World, member: MemberProcess) -> bool:
    """Whether something that the world did keeps this member from leading: frozen, cut off, not ready, or ordered aside."""
    guard, host, store, row = member.guard, member.host, world.store, world.store.rows.get(member.id)
    frozen = member.frozen or host.frozen or (guard is not None and guard.frozen)
    cut = host.out_cut or host.in_cut or store.down or store.read_only
    ordered = member.stop_asked or (row is not None and row.drained)
    return bool(frozen or cut or ordered or not member.wants_ready)


def _excuse(world: World) -> str:
    """Why nobody need lead; empty when somebody must."""
    judge, store = world.judge, world.store
    standing = {member.id for member in _able(world)} | {command.member.id for command in judge.lives.running}
    for seat, record in store.records.items():
        if record.paused:
            if record.leader not in standing:
                return "paused, and who is named cannot lead"
            if record.term < judge.seen_term.get((record.leader or "", seat), 0):
                return "paused, and who is named was named by a restored backup"
            if record.history not in {None, store.name}:
                return "paused, and who is named was named before a fail-over"
    return "" if standing else "nobody is able to lead"


def _settled(world: World, bound_s: float) -> None:
    """Each seat is led while there are members for it, and the commands run."""
    judge, store = world.judge, world.store
    running = {command.member.id for command in judge.lives.running}
    able = {member.id for member in _able(world)} | running
    led = {number: record for number, record in store.records.items() if record.leader in world.members}
    for number, record in led.items():
        if number > store.seats and not record.paused:
            judge.broken("no more lead than there are seats", f"{record.leader} holds seat {number} of {store.seats}")
    works = sum(record.leader in running for record in led.values())
    if len(led) < min(store.seats, len(able)):
        named = ", ".join(f"record {number} names {record.leader}" for number, record in store.records.items())
        sentence = f"{bound_s:.1f} s after the last fault {f'only {len(led)} lead' if led else 'nobody leads'}"
        judge.broken("always one, soon", f"{sentence} ({named or 'there is no record'})")
    for number, record in led.items():
        leader = world.members[record.leader or ""]
        if not asking.holds(leader.state) or (leader.state.seat.number, leader.state.term) != (number, record.term):
            judge.broken("always one, soon", f"{leader.id} is named for term {record.term} and does not lead")
        # With as many able members as seats, one that is not able may hold a seat that nobody could take from it.
        if leader.id not in running and works < min(store.seats, len(able)):
            judge.broken("always one, soon", f"{leader.id} leads, and its command does not run")


def _stays(world: World) -> None:
    judge, agenda = world.judge, world.agenda
    changes, commands, sent = judge.changes, judge.lives.running, dict(judge.sent)
    quiet_s = 1.2 * world.longest_ttl_s
    agenda.run_until(agenda.now + quiet_s)
    judge.lives.sweep()
    if judge.changes != changes or judge.lives.running != commands:
        judge.broken("the leader stays", "the leadership changed while nothing happened")
    for member in world.members.values():
        most = quiet_s * member.host.rate / member.timings.check_in_s + 2
        count = judge.sent.get(member.id, 0) - sent.get(member.id, 0)
        if count > most:
            judge.broken("nearly free", f"{member.id} sent {count} exchanges in {quiet_s:.1f} quiet seconds")


def _agrees(world: World) -> None:
    """Everybody sees the same leader and the same line, and who can take charge stands in it."""
    judge, leaders = world.judge, {record.leader for record in world.store.records.values()}
    views = {}
    for member in world.members.values():
        if member.state.joined:
            order = line.line(member.state, member.host.local(world.agenda.now), member.timings)
            seen = tuple(
                (each.record.leader, each.record.term) if each.record else None
                for each in member.state.all_seats
                if each.number <= world.store.seats or each.record is not None
            )
            views[member.id] = (seen, tuple(row.id for row in order))
    if len({view[0] for view in views.values()}) > 1:
        judge.broken("one view", f"members name different leaders: {views}")
    if len(set(views.values())) > 1:
        judge.broken("one view", f"members see the line differently: {views}")
    for heir in _able(world):
        if heir.id not in leaders and (heir.id not in views or heir.id not in views[heir.id][1]):
            judge.broken("an heir stands", f"{heir.id} could take charge and does not stand in the line")
