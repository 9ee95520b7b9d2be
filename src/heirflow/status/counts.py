"""What the history counts: starts of a command, changes of leadership by their cause, and how long nobody led.

Causes are told from the kinds of events, never from their sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from heirflow.election.cause import Cause
from heirflow.election.record import Event, What


def starts(events: Iterable[Event], since: float) -> int:
    """How often a command has been started since then. Of a crash loop the history has some, each with its number."""
    found = 0
    counted: dict[tuple[int, int, str], int] = {}
    for each in events:
        whose = each.seat, each.term, each.member
        before = counted.get(whose, 0)
        if each.what is What.RESTARTED:
            counted[whose] = each.times
        if each.at > since and each.what in {What.TOOK_CHARGE, What.RESTARTED}:
            found += each.times - before if each.what is What.RESTARTED and 0 < before < each.times else 1
    return found


def restarts(events: Iterable[Event], since: float) -> int:
    """How often a command was started again by the leader that it had. In a crash loop at least so often."""
    return starts((each for each in events if each.what is What.RESTARTED), since)


def takeovers(events: Sequence[Event], since: float) -> dict[Cause, int]:
    """How often somebody took charge since then, by cause; each cause is there. `events`: the oldest first."""
    found = dict.fromkeys(Cause, 0)
    for place, each in enumerate(events):
        if each.what is What.TOOK_CHARGE and each.at > since:
            found[_cause(events[:place], each)] += 1
    return found


def _cause(before: Sequence[Event], taken: Event) -> Cause:
    if taken.took_s is None:
        return Cause.FIRST
    same = [each for each in before if each.seat == taken.seat and each.term < taken.term]
    leader = next((each for each in reversed(same) if each.what is What.TOOK_CHARGE), None)
    if leader is None:
        return Cause.UNKNOWN
    # Another member may make a seat vacant whose lease is over: that is no word of its leader's.
    own = (each for each in same if each.what is What.RELEASED and each.term >= leader.term)
    return Cause.RELEASED if any(each.member == leader.member for each in own) else Cause.LEASE_ENDED


def last_gap_s(events: Sequence[Event], seat: int) -> float | None:
    """How long nobody led before the leadership of this seat last changed; None where that is not known."""
    newest = next((each for each in reversed(events) if each.what is What.TOOK_CHARGE and each.seat == seat), None)
    return None if newest is None else newest.took_s
