"""The line of succession: who is in it, in which order, and when its turn comes.

Seniority orders who *tries*. Only the swap decides who *wins*, so a line that two members see differently costs time, never
safety.
"""

from __future__ import annotations

from dataclasses import replace

from heirflow.election.record import ANYONE, MemberRow, Record
from heirflow.election.state import Heard, State
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
    """The members who could take charge, in the order in which they should try; without the one the record names.

    A member that was named by a switchover goes first. One that finds itself named by a restored backup, or by a store that may
    have forgotten, stands in line like everybody: that record gives it no right to lead, and it may be the only one there.
    """
    record = state.record
    holder = record.leader if record else None
    if record is not None and holder == state.me and gives_no_right(state, record):
        holder = None
    able = [
        row
        for row in (replace(row, ready=is_ready(state, now)) if row.id == state.me else row for row in state.members)
        if row.ready
        and not row.drained
        and row.id != holder
        and (row.id == state.me or is_heard(state, row, now, timings))
    ]
    chosen = record.switchover_to if record else None
    return tuple(sorted(able, key=lambda row: (row.id != chosen, row.seniority)))


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


def gives_no_right(state: State, record: Record) -> bool:
    """Whether a record that names somebody gives it no right to lead: its term is a lower one, or it may be out of date."""
    return record.term < state.seat.highest_term or state.seat.doubtful


def turn_at(state: State, now: float, timings: Timings) -> float:
    """The moment from which this member may try to take charge, as far as it knows now; never when it may not.

    A vacant record may be taken at once. A leader's record may be taken when it has stood still for *its* ttl while every
    read succeeded; so may a record that was there and is gone, or that is vacant with a term from before one already seen
    (a table emptied, a backup restored), or that was written before a fail-over (`Seat.doubtful`): whoever led what was
    forgotten may not know yet, and its ttl may be any that was seen. Each more senior ready member gets its turn first.
    """
    seat, record = state.seat, state.record
    if not state.known or (record is not None and record.paused):
        return FOREVER
    forgotten = seat.doubtful or (record.term if record else 0) < seat.highest_term
    if (record is None or record.leader is None) and not forgotten:
        vacant_since = seat.record_since
    elif seat.watch_since is None:
        return FOREVER
    else:
        ttl_s = record.ttl_s if record else timings.ttl_s
        ttl_s = max(ttl_s, seat.longest_ttl_s, timings.ttl_s) if forgotten else ttl_s
        vacant_since = seat.watch_since + ttl_s
    turns_s = 0.0
    for row in line(state, now, timings):
        if row.id == state.me:
            return vacant_since + turns_s
        turns_s += _turn_s(row, record, timings)
    return FOREVER


def _turn_s(row: MemberRow, record: Record | None, timings: Timings) -> float:
    """How long this more senior member is given. Who was named by an order, and looks more rarely than we do, must not miss it."""
    named = record is not None and record.switchover_to == row.id
    return max(timings.turn_s, (row.check_in_s or 0.0) if named else 0.0)
