"""What happens next, in one sentence."""

from __future__ import annotations

from collections.abc import Iterable

from heirflow.election.record import ANYONE, Record
from heirflow.status.rows import Row
from heirflow.status.words import duration


def promised(record: Record, heir: Row | None, silent_s: float | None, leading: Row | None, *, followed: bool) -> str:
    """`silent_s`: for how long a leader whose lease has ended was not heard; None: its lease has not ended."""
    after = _next(record, heir, silent_s, followed=followed)
    if leading is None or not leading.because:
        return after
    if leading.runs is False:
        if heir and not record.paused:
            after = f"heir {heir.member} takes charge when {record.leader} ends"
        return f"{record.leader} leads, runs nothing, because {leading.because}; {after}"
    return f"{after}; {record.leader}: {leading.because}"


def not_promised(rows: Iterable[Row]) -> str:
    """What is not promised of those in the line, to be put behind a sentence; mostly nothing."""
    unsure = [row.member for row in rows if row.rank is not None and not row.kill_is_sure]
    if not unsure:
        return ""
    return f"; never two is not promised: {', '.join(unsure)} may be unable to kill the command (--allow-sudo)"


def _next(record: Record, following: Row | None, silent_s: float | None, *, followed: bool) -> str:
    """What happens when the leader ends."""
    heir = following.member if following else None
    looks_every_s = following.settings.get("check_in_s", record.ttl_s / 5) if following else 0.0
    within_s = record.ttl_s + looks_every_s  # the lease, and the check-in in which an heir first sees the record
    if not followed:
        return f"nobody has led yet; {heir} takes charge next" if heir else "nobody has led yet and nobody is ready"
    if record.leader is None or silent_s is not None:
        ended = "nobody leads" if silent_s is None else f"{record.leader} has been silent for {duration(silent_s)}"
        if record.paused:
            return f"{ended}; paused: nobody takes charge until `heirflow resume`"
        if heir is None:
            return f"{ended} and nobody is ready to{' lead' if silent_s is None else ' take charge'}"
        return f"{ended}; {heir} takes charge {'at once' if silent_s is None else 'now'}"
    if record.paused:
        return "paused: nobody changes place until `heirflow resume`"
    if record.switchover_to is not None:
        to = "the next in line" if record.switchover_to == ANYONE else record.switchover_to
        return f"switchover to {to} under way"
    if heir is None:
        return f"no heir is ready: when {record.leader} ends, nobody takes charge"
    return f"heir {heir} takes charge within {within_s:g} s; at once on a clean end"
