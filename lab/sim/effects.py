"""What each fault does to a simulated world, and what ends it."""

from __future__ import annotations

from collections.abc import Callable

from heirflow.election.record import ANYONE
from heirflow.election.steps import Readiness
from lab.sim.faults import Fault
from lab.sim.process import MemberProcess
from lab.sim.world import World


def begin(world: World, fault: Fault) -> Callable[[], None] | None:
    """Let a fault happen. Returns what ends it, or None."""
    host = world.hosts[fault.host]
    member = world.member_at(fault.host)
    match fault.kind:
        case "questions cut":
            return _while(host, "out_cut")
        case "answers cut":
            return _while(host, "in_cut")
        case "all cut":
            return _both(_while(host, "out_cut"), _while(host, "in_cut"))
        case "slow link":
            return _while(host, "slow")
        case "lossy link":
            return _while(host, "lossy")
        case "a start hangs":
            return _while(host, "hanging_starts")
        case "store down" | "store restarted":
            return _while(world.store, "down")
        case "store read-only":
            return _while(world.store, "read_only")
        case "clock jump":
            world.store.clock_ahead_s += (fault.luck - 0.5) * 7200
        case "backup restored":
            return _backup(world)
        case "fails over":
            standby = world.store.backup()  # all that the standby ever hears
            return lambda: world.store.fail_over(standby)
        case "fewer seats" | "fewer seats a while":
            return _fewer_seats(world, fault)
        case "host frozen":
            return world.freeze_host(fault.host)
        case "joins":
            world.start_member(fault.host)
        case "news lost":
            world.network.news_lost += 1.0
            return lambda: _less_news_lost(world)
        case "news from anybody":
            return _news_from_anybody(world)
        case "stubborn commands":
            return _while(world, "stubborn")
        case "crash loop":
            return _while(world, "crash_loop")
        case "orders at changes":
            return _while(world, "orders_at_changes")
        case "sessions lost":
            world.network.lose_sessions()
        case _ if not _orders(world, fault):
            return _to_member(world, fault, member) if member is not None else None
    return None


def _orders(world: World, fault: Fault) -> bool:
    """Whether this fault is an operator's order; if so it is given."""
    names = [*world.members]
    match fault.kind:
        case "paused":
            world.order(paused=True)
        case "resumed":
            world.order(paused=False)
        case "paused a while":
            world.order(paused=True)
            world.agenda.at(fault.until_s, None, lambda: world.order(paused=False))
        case "switchover to anyone":
            world.order(switchover_to=ANYONE)
        case "switchover to one" if names:
            world.order(switchover_to=names[int(fault.luck * len(names))])
        case "switchover to nobody":
            world.order(switchover_to="nobody-knows")
        case _:
            return fault.kind == "switchover to one"
    return True


def _to_member(world: World, fault: Fault, member: MemberProcess) -> Callable[[], None] | None:
    guard = member.guard
    match fault.kind:
        case "member killed":
            world.kill_member(member)
        case "guard killed" if guard is not None:
            world.kill_guard(guard)
        case "both killed":
            world.kill_both(member)
        case "command killed" if guard is not None and guard.command is not None:
            guard.command.kill("somebody killed the command")
        case "command exits" if guard is not None and guard.command is not None and not guard.command.suspended:
            guard.command.end(int(fault.luck * 3), "the command ended by itself")
        case "command frozen" if guard is not None and guard.command is not None:
            guard.command.stand_still()
            if fault.luck < 0.5:  # half of them have a probe
                delay = fault.luck * 4 * member.timings.ttl_s
                world.agenda.after(delay, member, member.look_whether_it_works, guard.command)
            return guard.command.go_on
        case "probe fails":
            member.unwell("its probe fails")
        case "asked to stop":
            member.ask_to_stop("SIGTERM came")
        case "asked twice":
            member.ask_to_stop("SIGTERM came")
            world.agenda.after(fault.luck * member.timings.check_in_s, member, member.ask_to_stop, "SIGTERM came")
        case "freeze before acting":
            member.hold_next_acts()
        case "member frozen":
            return member.freeze()
        case "guard frozen":
            return world.freeze_guard(member)
        case "sluggish":
            return world.make_sluggish(member)
        case "not ready":
            member.post(Readiness(False, "not ready"))
            return lambda: member.post(Readiness(True, "ready"))
        case "drained":
            world.drain(member.id, True)
            return lambda: world.drain(member.id, False)
        case _:
            pass
    return None


def _fewer_seats(world: World, fault: Fault) -> Callable[[], None] | None:
    """A person lowers the number of seats, for ever or for a while."""
    before = world.store.seats
    if before == 1:
        return None
    world.judge.switchovers += 1  # their holders end in order
    world.store.seats = before - 1

    def back() -> None:
        world.judge.switchovers += 1
        world.store.seats = max(world.store.seats, before)

    return back if fault.kind == "fewer seats a while" else None


def _while(thing: object, name: str) -> Callable[[], None]:
    setattr(thing, name, getattr(thing, name) + 1)
    return lambda: setattr(thing, name, getattr(thing, name) - 1)


def _both(one: Callable[[], None], other: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        one()
        other()

    return both


def _news_from_anybody(world: World) -> Callable[[], None]:
    """Somebody who may connect sends notifications without end."""
    going = [True]

    def tell() -> None:
        if going:
            world.network.news()
            world.agenda.after(0.03, None, tell)

    tell()
    return going.clear


def _less_news_lost(world: World) -> None:
    world.network.news_lost -= 1.0


def _backup(world: World) -> Callable[[], None]:
    backup = world.store.backup()

    def restore() -> None:
        world.store.restore(backup)
        world.judge.restored(world.longest_ttl_s * 2.5)

    return restore
