"""A world is played in two acts: a wild one, in which the judge looks at every instant, and one in which the line must heal."""

from __future__ import annotations

from collections.abc import Callable

from lab.sim import effects, liveness
from lab.sim.clock import StandsStill
from lab.sim.faults import Fault
from lab.sim.judge import Red
from lab.sim.promises import Promise
from lab.sim.world import Verdict, World


def run(world: World) -> Verdict:
    """Play both acts. A broken promise is part of the verdict, any other error of the rules too."""
    promise: Promise | None = None
    sentence = unjudged = ""
    try:
        _first_act(world)
        unjudged = liveness.second_act(world)
    except Red as red:
        promise, sentence = red.promise, red.sentence
    except AssertionError as error:
        promise, sentence = "time passes" if isinstance(error, StandsStill) else "no broken rule", str(error)
        world.say("judge", f"{promise}: {error}")
    judge = world.judge
    void = judge.void_until_s >= 0
    overlaps, lasted_s = judge.lives.thaw_overlaps, world.agenda.now
    return Verdict(world.seed, promise, sentence, overlaps, judge.changes, void, lasted_s, unjudged)


def _first_act(world: World) -> None:
    """The safety act."""
    for index in range(world.standing):
        world.agenda.at(world.starts[index], None, world.start_member, index)
    for fault in world.faults:
        world.agenda.at(fault.at_s, None, _begin, world, fault)
    world.agenda.run_until(world.act_s)
    world.judge.lives.sweep()


def _begin(world: World, fault: Fault) -> None:
    world.say("fault", str(fault))
    end = effects.begin(world, fault)
    if end is not None:
        world.agenda.at(fault.until_s, None, _end, world, fault, end)


def _end(world: World, fault: Fault, end: Callable[[], None]) -> None:
    world.say("fault", f"{fault.number}: {fault.kind} is over")
    end()
