"""Several seats: which one a member looks at, and what a leader does about one that is not its own.

An election with K seats has K records, and each is led like the one of an election with a single seat. A member holds one of
them at most, because it looks at one (`State.seat`) and all rules are about that one. It may turn to another one only when it
holds nothing, runs nothing and asks nothing.
"""

from __future__ import annotations

from dataclasses import replace

from heirflow.election import line
from heirflow.election.state import Following, Seat, State
from heirflow.election.timings import Timings


def choose(state: State, now: float, timings: Timings) -> State:
    """Look at the seat that this member would take first: one that names it, or the one at which its turn comes first.

    Who is leaving takes none, and gives back one that names it.
    """
    free = isinstance(state.seat.lead, Following) and state.idle and state.ask is None
    if not free or not state.others or names(state, state.seat):
        return state
    named = [seat.number for seat in state.others if names(state, seat)]
    leaving = state.leaving is not None
    first = [] if leaving else [number for at, number in line.turns(state, now, timings) if at < line.FOREVER]
    return look_at(state, (named or first or [state.seat.number])[0])


def look_at(state: State, number: int) -> State:
    """The same member, looking at this seat."""
    rest = tuple(seat for seat in state.all_seats if seat.number != number)
    [own] = [seat for seat in state.all_seats if seat.number == number]
    return replace(state, seat=own, others=rest)


def names(state: State, seat: Seat) -> bool:
    """Whether the record of this seat names this member, in a term that no restored backup and no fail-over brought back."""
    record = seat.record
    return record is not None and record.leader == state.me and not line.gives_no_right(seat, record)


def is_named(state: State) -> bool:
    """Whether any of them does."""
    return any(names(state, seat) for seat in state.all_seats)


def to_vacate(state: State, now: float, timings: Timings) -> Seat | None:
    """Of a leader: another seat where it is to look after what was left, and make it vacant; None: there is none.

    It may be one that names this member by a write of its own that landed late: what runs here runs for the seat that it holds,
    and nothing for that one. Or one whose lease is over, or that was released and left something, where nobody in line could
    sit down, be it the member that it names. Where a restored backup, or a fail-over, names this member, the lease of whoever
    led what was forgotten is over, too.
    """
    for seat in state.others:
        record = seat.record
        if record is None or record.paused or not (record.leader or record.note):
            continue
        if names(state, seat):
            return seat
        itself = (row for row in state.members if row.id == record.leader != state.me)
        next_itself = any(row.ready and not row.drained and line.is_heard(state, row, now, timings) for row in itself)
        nobody = seat.number > state.seats or not (next_itself or line.heirs(state, now, timings))
        if now >= line.over_at(state, seat, timings) and nobody:
            return seat
    return None
