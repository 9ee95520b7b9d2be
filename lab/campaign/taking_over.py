"""How long a Patroni pair took until it took writes again, which is Patroni's time and not HeirFlow's, and judged for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.campaign.plan import PAIR_TTL_S
from lab.campaign.world import Mark

TAKEOVER_S = PAIR_TTL_S + 8
"""From the loss of the primary until a node takes writes: Patroni's lease runs out, and the other node is promoted.

Measured 19.1 to 24.8 s, in 31 such losses on two cores that other work kept busy. It leaves some room.
"""


@dataclass(frozen=True, slots=True)
class Takeover:
    """One."""

    mark: Mark
    """Of its beginning."""
    lasted_s: float


def takeovers(strikes: Sequence[Mark]) -> list[Takeover]:
    """From the beginning of each fault of the pair to the writes that the pair took while it lasted."""
    found: list[Takeover] = []
    begun: dict[int, Mark] = {}
    for mark in strikes:
        if mark.phase == "begin":
            begun[mark.number] = mark
        elif mark.phase == "struck" and mark.database and not begun.get(mark.number, mark).database:
            found.append(Takeover(begun[mark.number], mark.at_s - begun[mark.number].at_s))
    return found
