"""Scenes of a quiet world: no faults but those told here, so that one can say who must lead next."""

from __future__ import annotations

from collections.abc import Callable

from heirflow.election.timings import Timings
from lab.sim.judge import Red
from lab.sim.process import MemberProcess
from lab.sim.promises import Promise
from lab.sim.world import Verdict, World


def quiet(seed: int) -> Verdict:
    """The oldest takes charge; its heir follows; a named member is given the lead; who was silent is the last of the line."""
    return played(seed, lambda world: _play(world) if len(world.hosts) >= 3 else None)


def order_outlives_its_leader(seed: int) -> Verdict:
    """A leader is killed before it obeys a switchover: its will keeps the order, and the named member takes charge."""

    def play(world: World) -> None:
        members = [member for index in range(len(world.hosts)) if (member := world.start_member(index)) is not None]
        pass_by(world, 2 * world.longest_ttl_s)
        record = world.store.record
        assert record is not None
        leader = world.members[record.leader or ""]
        named = [member for member in members if member is not leader][-1]
        world.network.news_lost = 1.0  # so that nobody hears of the order before the leader is dead
        world.restart_share = 0.0
        world.order(switchover_to=named.id)
        world.kill_member(leader)
        world.network.news_lost = 0.0
        pass_by(world, 3 * max(timings.check_in_s for timings in world.timings))
        _leads(world, named, "an order outlives its leader")

    return played(seed, play)


def a_quick_leader_has_a_slow_heir(seed: int) -> Verdict:
    """A leader with a short ttl is told to hand over to an heir with a long one, who is healthy and checks in rarely."""

    def play(world: World) -> None:
        quick = world.timings[0]
        slow = Timings.of(8 * quick.ttl_s, stop_timeout_s=quick.stop_timeout_s)
        world.timings = [quick, *(slow for _ in world.timings[1:])]
        world.longest_ttl_s = slow.ttl_s
        _leader, heir = (world.start_member(index) for index in (0, 1))
        assert heir is not None
        pass_by(world, 3 * slow.check_in_s * world.rng.uniform(1, 2))  # so that its last check-in is of any age
        world.order(switchover_to=heir.id)
        pass_by(world, 2 * slow.check_in_s + 2 * quick.stop_timeout_s)
        _leads(world, heir, "a switchover reaches the named member")

    return played(seed, play)


def played(seed: int, play: Callable[[World], None]) -> Verdict:
    """What comes of a scene in a quiet world."""
    world = World(seed, quiet=True)
    promise: Promise | None = None
    sentence = ""
    try:
        play(world)
    except Red as red:
        promise, sentence = red.promise, red.sentence
    judge = world.judge
    return Verdict(seed, promise, sentence, judge.lives.thaw_overlaps, judge.changes, False, world.agenda.now)


def _play(world: World) -> None:
    ttl, check_in = world.longest_ttl_s, max(timings.check_in_s for timings in world.timings)
    members = []
    for index in range(len(world.hosts)):
        member = world.start_member(index)
        assert member is not None
        members.append(member)
        pass_by(world, 2 * check_in)
    _leads(world, members[0], "the oldest ready takes charge")

    world.order(switchover_to=members[-1].id)
    pass_by(world, 3 * check_in)
    _leads(world, members[-1], "a switchover reaches the named member")

    # The old leader has joined again at the end; the second is the oldest now. Its leader dies without a word.
    world.restart_share = 0.0
    world.kill_both(members[-1])
    pass_by(world, 1.2 * ttl + 3 * check_in)
    _leads(world, members[1], "the oldest ready takes charge")

    # The first is silent for longer than a ttl, while a newcomer joins: it has lost its place to it.
    thaw = members[0].freeze()
    late = world.start_member(len(world.hosts) - 1)
    assert late is not None
    assert thaw is not None
    pass_by(world, 1.3 * ttl)
    thaw()
    pass_by(world, 3 * check_in)
    members[1].ask_to_stop("SIGTERM came")
    pass_by(world, 3 * check_in)
    others = members[2:-1]
    _leads(world, others[0] if others else late, "silence loses seniority")


def pass_by(world: World, seconds: float) -> None:
    """Let so many seconds pass, by the slowest of the clocks."""
    slowest = min(host.rate for host in world.hosts)
    world.agenda.run_until(world.agenda.now + seconds / slowest)
    world.judge.lives.sweep()


def _leads(world: World, member: MemberProcess, promise: Promise) -> None:
    record = world.store.record
    leader = record.leader if record is not None else None
    running = [command.member.id for command in world.judge.lives.running]
    if leader != member.id or running != [member.id]:
        world.judge.broken(promise, f"{member.id} should lead; {leader} does, and the command of {running} runs")
