"""The line of succession: who is in it, in which order, and when its turn comes.

Seniority orders who *tries*. Only the swap decides who *wins*, so a line that two members see differently costs time, never
safety.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from heirflow.election.record import ANYONE, MemberRow, Record
from heirflow.election.state import Heard, Seat, State
from heirflow.election.timings import Timings, fresh_s

FOREVER = float("inf")


def hear(heard: dict[str, Heard], members: tuple[MemberRow, ...], now: float) -> dict[str, Heard]:
    """Note which check-ins are new. A row's age by the store's clock counts only when the row is first seen.

    After that only our own clock does: a stamp in the future (a clock that jumped) must not keep a dead member alive.
    """
    result = {}
    for row in members:
        before = heard.get(row.id)
        if before is None:
            result[row.id] = Heard(row.stamp, now - max(0.0, row.silent_s))
        elif before.stamp != row.stamp:
            result[row.id] = Heard(row.stamp, now)
        else:
            result[row.id] = before
    return result


def silence_s(state: State, member: str, now: float) -> float:
    """How long nothing new was heard from this member."""
    heard = state.heard.get(member)
    return FOREVER if heard is None else now - heard.since


def is_heard(state: State, row: MemberRow, now: float, timings: Timings) -> bool:
    """Whether this member's last check-in is not too old, by its own interval or by ours, whichever is longer.

    By its own: a leader with a short lease must not take a healthy heir with a long one for silent. By ours: we cannot have
    heard of it since we last looked.
    """
    silent_s = silence_s(state, row.id, now)
    return silent_s <= timings.fresh_s or silent_s <= fresh_s(row.check_in_s or 0.0)


def line(state: State, now: float, timings: Timings) -> tuple[MemberRow, ...]:
    """The members who could take charge, in the order in which they should try; without those whom a record names.

    A member that was named by a switchover goes first. One that finds itself named by a restored backup, or by a store that may
    have forgotten, stands in line like everybody: that record gives it no right to lead, and it may be the only one there.
    """
    records = [(seat, seat.record) for seat in state.all_seats if seat.record is not None]
    holders = {
        record.leader for seat, record in records if not (record.leader == state.me and gives_no_right(seat, record))
    }
    able = [
        row
        for row in (replace(row, ready=is_ready(state, now)) if row.id == state.me else row for row in state.members)
        if row.ready
        and not row.drained
        and row.id not in holders
        and (row.id == state.me or is_heard(state, row, now, timings))
    ]
    chosen = named(state)
    return tuple(sorted(able, key=lambda row: (row.id not in chosen, row.seniority)))


def named(state: State) -> set[str | None]:
    """Whom orders to switch over name, at any seat."""
    return {seat.record.switchover_to for seat in state.all_seats if seat.record is not None}


def heirs(state: State, now: float, timings: Timings) -> tuple[MemberRow, ...]:
    """The line without this member itself."""
    return tuple(row for row in line(state, now, timings) if row.id != state.me)


def welcome(record: Record | None) -> str:
    """What a member says when it stands in the line for the first time."""
    if record is None or record.leader is None:
        return "joined the line; nobody leads"
    return f"joined the line; {record.leader} leads term {record.term}"


def is_ready(state: State, now: float) -> bool:
    """Whether this member could start its command now."""
    return (
        state.guard_up
        and state.standby_ready
        and not state.drained
        and state.leaving is None
        and state.stop is None
        and now >= state.restart_at
    )


def is_target(state: State, target: str, now: float, timings: Timings) -> bool:
    """Whether a switchover to this target (a member id or `ANYONE`) can be obeyed."""
    others = heirs(state, now, timings)
    return bool(others) if target == ANYONE else any(row.id == target for row in others)


def is_foreign(record: Record | None, history: str | None) -> bool:
    """Whether a record was written under another history than this one. Where either has no name, that cannot be told."""
    return record is not None and None not in (record.history, history) and record.history != history


def gives_no_right(seat: Seat, record: Record) -> bool:
    """Whether a record that names somebody gives it no right to lead: its term is a lower one, or it may be out of date."""
    return record.term < seat.highest_term or seat.doubtful


def free_at(state: State, seat: Seat, timings: Timings) -> float:
    """The moment from which this member may try to take this seat, as far as is known now; never where nobody may."""
    if seat.number > state.seats or seat.stuck:
        return FOREVER
    return max(over_at(state, seat, timings), seat.not_before)


def over_at(state: State, seat: Seat, timings: Timings) -> float:
    """The moment from which nobody can lead this seat any more, as far as is known now; never where that cannot be known.

    A vacant record may be taken at once. A leader's record may be taken when it has stood still for *its* ttl while every
    read succeeded; so may a record that was there and is gone, or that is vacant with a term from before one already seen
    (a table emptied, a backup restored), or that was written before a fail-over (`Seat.doubtful`): whoever led what was
    forgotten may not know yet, and its ttl may be any that was seen.
    """
    record = seat.record
    if not state.known or (record is not None and record.paused):
        return FOREVER
    forgotten = seat.doubtful or (record.term if record else 0) < seat.highest_term
    if (record is None or record.leader is None) and not forgotten:
        return seat.record_since
    if seat.watch_since is None:
        return FOREVER
    ttl_s = record.ttl_s if record else timings.ttl_s
    ttl_s = max(ttl_s, seat.longest_ttl_s, timings.ttl_s) if forgotten else ttl_s
    return seat.watch_since + ttl_s


def turns(state: State, now: float, timings: Timings) -> tuple[tuple[float, int], ...]:
    """From when this member may try to take which seat, the best first. Empty where it may not.

    Each more senior ready member gets its turn first, at the seat that is free first. Where several are free, the first in line
    tries the first of them and the second the second, without waiting for one another.
    """
    order, chosen = line(state, now, timings), named(state)
    before = list(itertools.takewhile(lambda row: row.id != state.me, order))
    if len(before) == len(order):
        return ()
    turns_s = [_turn_s(row, timings, named=row.id in chosen) for row in before]
    free = sorted((free_at(state, seat, timings), seat.number) for seat in state.all_seats)
    return tuple(
        sorted((at + sum(turns_s[place:]), number) for place, (at, number) in enumerate(free[: len(before) + 1]))
    )


def _turn_s(row: MemberRow, timings: Timings, *, named: bool) -> float:
    """How long this more senior member is given. Who was named by an order, and looks more rarely than we do, must not miss it."""
    return max(timings.turn_s, (row.check_in_s or 0.0) if named else 0.0)


def turn_at(state: State, now: float, timings: Timings) -> float:
    """The moment from which this member may try to take the seat that it looks at, as far as it knows now."""
    return min((at for at, number in turns(state, now, timings) if number == state.seat.number), default=FOREVER)
