"""What goes wrong in a simulated world: a seeded plan of faults. `effects` has what each does."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, from `at_s` until `until_s` in true time (the same where it is an instant)."""

    number: int
    kind: str
    at_s: float
    until_s: float
    host: int
    luck: float
    """A number in 0..1 for whatever else is to be chosen."""

    def __str__(self) -> str:
        lasting = f" until {self.until_s:.3f}" if self.until_s > self.at_s else ""
        return f"{self.number}: {self.kind} at {self.at_s:.3f}{lasting}, host {'abcdefgh'[self.host]}"


INSTANTS = (
    "member killed", "guard killed", "both killed", "command killed", "command exits", "asked to stop", "asked twice",
    "freeze before acting", "joins", "paused", "resumed", "switchover to anyone", "switchover to one", "switchover to nobody",
    "clock jump", "probe fails", "sessions lost",
)  # fmt: skip
LASTING = (
    "questions cut", "answers cut", "all cut", "slow link", "lossy link", "store down", "store restarted", "store read-only",
    "member frozen", "guard frozen", "host frozen", "sluggish", "not ready", "drained", "news lost", "stubborn commands",
    "paused a while", "command frozen", "crash loop", "orders at changes", "fails over",
)  # fmt: skip
ADDED = ("a start hangs",)
"""Lasting too. They have luck of their own, so that older seeds keep their stories."""
RARE = ("backup restored",)
NAMED = ("news from anybody", "fewer seats", "fewer seats a while")
"""Played only where they are named: they make a world slow, or say nothing about most rules."""
KINDS = INSTANTS + LASTING + ADDED + RARE


def plan(rng: Random, act_s: float, ttl_s: float, hosts: int, only: Collection[str] = ()) -> tuple[Fault, ...]:
    """The faults of one world: some kinds only, so that each kind meets quiet and wild company; or those named."""
    share = rng.choice((0.15, 0.3, 0.6))
    kinds = [kind for kind in INSTANTS + LASTING if rng.random() < share]
    kinds += [kind for kind in RARE if rng.random() < share / 4]
    own = Random(act_s)
    added = [] if only else [kind for kind in ADDED if own.random() < share]
    faults = [*_times(rng, list(only) or kinds, act_s, ttl_s, hosts), *_times(own, added, act_s, ttl_s, hosts)]
    return tuple(
        Fault(number, kind, at, until, host, luck)
        for number, (at, until, kind, host, luck) in enumerate(sorted(faults))
    )


def _times(
    rng: Random, kinds: Collection[str], act_s: float, ttl_s: float, hosts: int
) -> Iterator[tuple[float, float, str, int, float]]:
    for kind in kinds:
        for _ in range(1 + int(rng.random() * rng.choice((1, 3, 5)))):
            at = rng.uniform(0.1 * ttl_s, act_s)
            lasts = (
                rng.choice((0.1, 0.5, 1.0, 1.5, 2.5)) * ttl_s * (0.5 + rng.random()) if kind not in INSTANTS else 0.0
            )
            if kind == "store restarted":
                lasts = 0.2 * ttl_s * rng.random()
            yield at, min(at + lasts, act_s), kind, rng.randrange(hosts), rng.random()
