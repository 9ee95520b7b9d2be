"""Make a red world's story short: leave out faults and members as long as the same promise is broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lab.sim import acts
from lab.sim.world import Verdict, World

MakeWorld = Callable[[Sequence[int] | None, int | None], World]
"""Makes the same world with only these faults and this many hosts; None: all."""
TRIES_AT_MOST = 300


def shrink(make: MakeWorld, promise: str) -> tuple[World, Verdict]:
    """The world with the fewest faults and hosts found that breaks the same promise, already played, and its verdict."""
    world = make(None, None)
    verdict = acts.run(world)
    keep: tuple[int, ...] = tuple(fault.number for fault in world.faults)
    kinds = {fault.number: fault.kind for fault in world.faults}
    hosts, tries = len(world.hosts), 0

    def still_red(fewer: Sequence[int], count: int) -> bool:
        nonlocal world, verdict, tries
        tries += 1
        tried = make(fewer, count)
        found = acts.run(tried)
        if found.promise == promise:
            world, verdict = tried, found
            return True
        return False

    while hosts > 1 and still_red(keep, hosts - 1):
        hosts -= 1
    for kind in sorted(set(kinds.values())):
        fewer = tuple(number for number in keep if kinds[number] != kind)
        if len(fewer) < len(keep) and still_red(fewer, hosts):
            keep = fewer
    before = None
    while before != keep and tries < TRIES_AT_MOST:  # what one fault hid, the next round may leave out
        before = keep
        for number in before[::-1]:
            fewer = tuple(other for other in keep if other != number)
            if tries < TRIES_AT_MOST and still_red(fewer, hosts):
                keep = fewer
    return world, verdict
