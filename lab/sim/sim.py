"""Play simulated worlds: ``python -m lab.sim.sim --worlds 1000 --seed 0``.

A red world says which promise is broken, its last sentences, and the command that plays it again. Its story is made short
first (``--no-shrink``: told as it is).
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from lab.sim import acts
from lab.sim.shrink import shrink
from lab.sim.world import Verdict, World

TELL_EVERY_S = 20.0
"""How often a long run says how far it is."""
CHUNK = 25
"""Worlds that one process plays before it reports."""
UNJUDGED_AT_MOST = 0.05
"""The share of worlds that may end with nobody who had to lead (paused, drained, not ready); more make a run fail."""
ENOUGH_WORLDS = 500
"""Fewer than this are too few to speak of a share."""


@dataclass(slots=True)
class Tally:
    """What many worlds came to."""

    worlds: int = 0
    changes: int = 0
    thaw_overlaps: int = 0
    void: int = 0
    unjudged: int = 0
    simulated_s: float = 0.0
    red: list[Verdict] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        self.worlds += 1
        self.changes += verdict.changes
        self.thaw_overlaps += verdict.thaw_overlaps
        self.void += verdict.void
        self.unjudged += bool(verdict.unjudged)
        self.simulated_s += verdict.simulated_s
        if verdict.promise is not None:
            self.red.append(verdict)

    @property
    def idle(self) -> bool:
        """Whether so many worlds ended with nobody who had to lead that the rest prove little."""
        return self.worlds >= ENOUGH_WORLDS and self.unjudged > UNJUDGED_AT_MOST * self.worlds

    def __str__(self) -> str:
        return (
            f"{self.worlds} worlds, {len(self.red)} red; {self.simulated_s / 3600:.1f} h simulated, "
            f"{self.changes} changes of leadership; in {self.void} worlds a backup was restored; "
            f"{self.thaw_overlaps} thawed hosts met their successor (fencing's business); "
            f"{self.unjudged} ended with nobody who had to lead"
        )


def play(seed: int, drift: float = 1.0, seats: int = 1) -> Verdict:
    """One world."""
    return acts.run(World(seed, drift=drift, seats=seats))


def play_many(seeds: Sequence[int], *, processes: int = 2, drift: float = 1.0, seats: int = 1) -> Iterator[Verdict]:
    """Many worlds, in the order of their seeds, on several processors."""
    one = partial(play, drift=drift, seats=seats)
    if processes < 2 or len(seeds) <= CHUNK:
        yield from map(one, seeds)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, signal.signal, (signal.SIGINT, signal.SIG_IGN))  # Ctrl-C is ours
    try:
        yield from pool.map(one, seeds, chunksize=CHUNK)
    finally:
        pool.shutdown(cancel_futures=True)


def replay_command(
    seed: int, *, drift: float = 1.0, keep: Sequence[int] | None = None, hosts: int | None = None, seats: int = 1
) -> str:
    """What to type to see exactly this world again."""
    words = ["python -m lab.sim.sim --worlds 1", f"--seed {seed}"]
    if drift != 1.0:
        words.append(f"--drift {drift:g}")
    if seats != 1:
        words.append(f"--seats {seats}")
    if hosts is not None:
        words.append(f"--hosts {hosts}")
    if keep is not None:
        words.append(f"--keep {','.join(map(str, keep)) or 'none'}")
    return " ".join(words)


def explain(
    seed: int,
    *,
    drift: float = 1.0,
    keep: Sequence[int] | None = None,
    hosts: int | None = None,
    seats: int = 1,
    shorten: bool = True,
    last: int = 60,
) -> str:
    """The story of a red world, for a person: the promise, the last sentences, how to play it again."""

    def make(fewer: Sequence[int] | None, count: int | None) -> World:
        kept, standing = keep if fewer is None else fewer, hosts if count is None else count
        return World(seed, drift=drift, keep=kept, hosts=standing, seats=seats)

    world = make(None, None)
    verdict = acts.run(world)
    lines = []
    if verdict.promise is None:
        lines.append(f"seed {seed} is clean")
    else:
        lines.append(f"seed {seed} is red: {verdict.promise}: {verdict.sentence}")
    again = replay_command(seed, drift=drift, keep=keep, hosts=hosts, seats=seats)
    if verdict.promise is not None and shorten:
        everything = len(world.faults)
        world, verdict = shrink(make, verdict.promise)
        kept = tuple(fault.number for fault in world.faults)
        lines.append(f"its short story, with {len(kept)} of {everything} faults: {verdict.promise}: {verdict.sentence}")
        lines.append(f"  {replay_command(seed, drift=drift, keep=kept, hosts=world.standing, seats=seats)}")
    clocks = ", ".join(f"{host.name} {host.rate:.4f}" for host in world.hosts[: world.standing])
    timings = world.timings[0]
    lines.append(
        f"ttl {timings.ttl_s:g} s, check-in {timings.check_in_s:g} s, margin {timings.margin_s:g} s; clock rates: {clocks}"
    )
    lines.append(world.story(last))
    lines.append(f"play it again:  make sim WORLDS=1 SEED={seed}    or    {again}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print what came out, and return 1 when a world was red or too many judged nothing; 130 when it was interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.sim.sim", description="Play seeded worlds over the real rules."
    )
    parser.add_argument("--worlds", type=int, default=1000, help="how many, from --seed on (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--processes", type=int, default=2, help="how many play at a time (default 2)")
    parser.add_argument(
        "--drift", type=float, default=1.0, help="clocks' share of margin/ttl; above 1 the argument does not hold"
    )
    parser.add_argument("--seats", type=int, default=1, help="how many members may lead at once (default 1)")
    parser.add_argument("--keep", help="play only the faults with these numbers, as 3,7 or none")
    parser.add_argument("--hosts", type=int, help="let only so many hosts run a member")
    parser.add_argument("--last", type=int, default=60, help="how many sentences to print (default 60)")
    parser.add_argument("--no-shrink", action="store_true", help="print a red world's story as it is")
    asked = parser.parse_args(arguments)
    keep = None
    if asked.keep is not None:
        keep = [] if asked.keep == "none" else [int(number) for number in asked.keep.split(",")]
    shorten = not asked.no_shrink and asked.keep is None
    if asked.worlds == 1:
        print(
            explain(
                asked.seed,
                drift=asked.drift,
                keep=keep,
                hosts=asked.hosts,
                seats=asked.seats,
                shorten=shorten,
                last=asked.last,
            )
        )
        world = World(asked.seed, drift=asked.drift, keep=keep, hosts=asked.hosts, seats=asked.seats)
        return int(acts.run(world).promise is not None)
    tally, began = Tally(), time.monotonic()
    told = began
    interrupted = False
    try:
        for verdict in play_many(
            range(asked.seed, asked.seed + asked.worlds),
            processes=asked.processes,
            drift=asked.drift,
            seats=asked.seats,
        ):
            tally.add(verdict)
            if time.monotonic() - told >= TELL_EVERY_S:
                told = time.monotonic()
                print(
                    f"… {tally.worlds:,} of {asked.worlds:,} worlds, {len(tally.red)} red", file=sys.stderr, flush=True
                )
            if verdict.promise is not None and len(tally.red) <= 3:
                print(
                    explain(verdict.seed, drift=asked.drift, seats=asked.seats, shorten=shorten, last=asked.last),
                    end="\n\n",
                    flush=True,
                )
    except KeyboardInterrupt:
        interrupted = True
    took_s = time.monotonic() - began
    if len(tally.red) > 3:
        print("red too: seeds " + ", ".join(str(verdict.seed) for verdict in tally.red[3:40]))
    print(f"{tally}; {tally.worlds / took_s:.0f} worlds/s")
    if tally.idle:
        print(
            f"in more than {UNJUDGED_AT_MOST:.0%} of the worlds nobody had to lead in the end: that proves too little"
        )
    return 130 if interrupted else int(bool(tally.red) or tally.idle)


if __name__ == "__main__":
    sys.exit(main())
