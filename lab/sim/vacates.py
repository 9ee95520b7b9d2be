"""When a leader may make another seat vacant: where nobody sits down there. Judged by what it has read itself."""

from __future__ import annotations

from typing import NoReturn, Protocol

from heirflow.election.state import Ask, State
from lab.sim.promises import Promise
from lab.sim.seen import SeenMember


class Breaker(Protocol):
    """As much of the judge as is needed here."""

    def broken(self, promise: Promise, sentence: str) -> NoReturn:
        """Say that a promise is broken, and end the world."""


def judge(judges: Breaker, member: SeenMember, state: State, ask: Ask, now: float) -> None:
    """A leader asks to make a seat vacant that is not its own."""
    swap = ask.exchange.swap
    assert swap is not None
    [before] = [seat.record for seat in state.all_seats if seat.number == swap.seat]
    if before is None or before.leader is None or before.leader == member.id:
        return
    holders = {seat.record.leader for seat in state.all_seats if seat.record is not None and seat.number != swap.seat}
    fresh_s = member.timings.fresh_s
    for row in state.members:
        stands = row.ready and not row.drained and row.id not in holders
        if stands and swap.seat <= state.seats and row.id != member.id and now - state.heard[row.id].since <= fresh_s:
            sentence = f"{member.id} vacates seat {swap.seat} of {before.leader}, and {row.id} stands in line"
            judges.broken("a seat with an heir is not vacated", sentence)
