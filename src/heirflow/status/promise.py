"""What happens next, in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from heirflow.election.record import ANYONE
from heirflow.status.rows import Row
from heirflow.status.seats import Seat
from heirflow.status.words import duration


def promised(seat: Seat, heir: Row | None, leading: Row | None, *, followed: bool) -> str:
    """Of an election with one seat. `followed`: whether there is a record already."""
    after = _next(seat, heir, seat.renewed_s if seat.expired else None, followed=followed)
    if leading is None or not leading.because:
        return after
    if leading.runs is False:
        if heir and not seat.paused:
            after = f"heir {heir.member} takes charge when {seat.last_leader} ends"
        return f"{seat.last_leader} leads, runs nothing, because {leading.because}; {after}"
    return f"{after}; {seat.last_leader}: {leading.because}"


def not_promised(rows: Iterable[Row]) -> str:
    """What is not promised of those in the line, to be put behind a sentence; mostly nothing."""
    unsure = [row.member for row in rows if row.rank is not None and not row.kill_is_sure]
    if not unsure:
        return ""
    return f"; never two is not promised: {', '.join(unsure)} may be unable to kill the command (--allow-sudo)"


def _next(seat: Seat, following: Row | None, silent_s: float | None, *, followed: bool) -> str:
    """What happens when the leader ends."""
    heir = following.member if following else None
    within_s = _within_s([seat], following)
    if not followed:
        return f"nobody has led yet; {heir} takes charge next" if heir else "nobody has led yet and nobody is ready"
    if seat.last_leader is None or silent_s is not None:
        ended = "nobody leads" if silent_s is None else f"{seat.last_leader} has been silent for {duration(silent_s)}"
        if seat.paused:
            return f"{ended}; paused: nobody takes charge until `heirflow resume`"
        if heir is None:
            return f"{ended} and nobody is ready to{' lead' if silent_s is None else ' take charge'}"
        return f"{ended}; {heir} takes charge {'at once' if silent_s is None else 'now'}"
    if seat.paused:
        return "paused: nobody changes place until `heirflow resume`"
    if seat.switchover_to is not None:
        return f"switchover to {_whom(seat)} under way"
    if heir is None:
        return f"no heir is ready: when {seat.last_leader} ends, nobody takes charge"
    return f"heir {heir} takes charge within {within_s:g} s; at once on a clean end"


def _whom(seat: Seat) -> str:
    """Whom the order to switch over names."""
    return "the next in line" if seat.switchover_to in {ANYONE, None} else str(seat.switchover_to)


def _within_s(led: Sequence[Seat], heir: Row | None) -> float:
    """The longest lease, and the check-in in which an heir first sees the record."""
    ttl_s = max(seat.ttl_s for seat in led)
    return ttl_s + (heir.settings.get("check_in_s", ttl_s / 5) if heir else 0.0)


def promised_of_several(seats: Sequence[Seat], rows: Iterable[Row]) -> str:
    """Of an election with several seats: first what is wrong, then what happens at the next end of a leader."""
    rows = list(rows)
    heirs = [row for row in rows if row.rank is not None and row.rank > 1]
    within = [seat for seat in seats if not seat.over]
    led, paused = [seat for seat in within if seat.leader], any(seat.paused for seat in within)
    free = sorted((seat for seat in within if not seat.leader), key=lambda seat: (-seat.free_for_s, seat.seat))
    parts = [_idle(row) for row in rows if row.rank == 1 and row.runs is False]
    for seat in free:
        heir = heirs.pop(0) if heirs and not seat.paused else None
        parts.append(_free(seat, heir))
    parts += [
        f"switchover of seat {seat.seat} from {seat.leader} to {_whom(seat)} under way"
        for seat in led
        if seat.switchover_to is not None and not seat.paused
    ]
    if paused:
        parts.append("paused: nobody changes place until `heirflow resume`")
    elif heirs:
        which = f"{heirs[0].member} takes the next seat" if free else f"heir {heirs[0].member} takes the first seat"
        parts.append(f"{which} that falls free within {_within_s(led or within, heirs[0]):g} s; at once on a clean end")
    elif not free:
        parts.append("no heir is ready: when a leader ends, nobody takes its seat")
    parts += [f"{row.member}: {row.because}" for row in rows if row.rank == 1 and row.runs is not False and row.because]
    parts += [f"seat {seat.seat} is over the number of seats: {_ends(seat)}" for seat in seats if seat.over]
    return "; ".join(parts)


def _idle(row: Row) -> str:
    return f"{row.member} leads seat {row.seat}, runs nothing{f', because {row.because}' if row.because else ''}"


def _free(seat: Seat, heir: Row | None) -> str:
    """A seat that nobody leads."""
    if seat.expired:
        what = f"seat {seat.seat}: {seat.last_leader} has been silent for {duration(seat.renewed_s)}"
    else:
        what = f"seat {seat.seat} is vacant"
    if seat.paused:
        return what
    return f"{what}, and {f'{heir.member} takes it {_when(seat)}' if heir else 'nobody is ready to take it'}"


def _when(seat: Seat) -> str:
    return "now" if seat.expired else "at once"


def _ends(seat: Seat) -> str:
    if seat.expired:
        return f"{seat.last_leader} has been silent for {duration(seat.renewed_s)}, and nobody takes it"
    return f"{seat.leader} stops{' after `heirflow resume`' if seat.paused else ''}"


def held(seat: Seat) -> str:
    """Who holds one of several seats."""
    if seat.expired:
        return f"the lease of {seat.last_leader} on seat {seat.seat} has ended"
    who = f"seat {seat.seat} is {f'led by {seat.leader}' if seat.leader else 'vacant'}"
    return f"{who} and over the number of seats" if seat.over else who


def troubles(seats: Sequence[Seat], rows: Iterable[Row]) -> list[str]:
    """What is the matter with each of several seats, in short sentences; empty: nothing."""
    leading = {row.seat: row for row in rows if row.rank == 1}
    partly = 0 < sum(seat.paused for seat in seats) < len(seats)
    found = []
    for seat in seats:
        row = leading.get(seat.seat)
        whose = f"{seat.last_leader} on seat {seat.seat}"
        if seat.expired:
            found.append(f"the lease of {whose} has ended")
        elif seat.vacant:
            found.append(f"seat {seat.seat} is vacant")
        if seat.runs is False:
            found.append(f"{whose} runs nothing")
        if row is not None and row.unheard:
            found.append(f"{whose} {row.unheard}")
        if seat.over and seat.leader:
            found.append(f"{whose} is over the number of seats and stops")
        if seat.paused and partly:
            found.append(f"seat {seat.seat} is paused")
    return found
