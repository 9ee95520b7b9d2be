"""A `Snapshot` and the newest part of the history as numbers for Prometheus: names, labels and values, in no format yet.

Names and units follow Prometheus' conventions. Labels are bounded: election, seat, host and cause, and never a member's id, which
changes at each start. What is not known is left out, and never 0.

What the history counts is told for the past hour, and not as a counter that only grows. The leader deletes old history, so such a
counter would go down, and Prometheus would take that for a restart and count everything again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from heirflow.election.record import Event
from heirflow.status import Snapshot
from heirflow.status.counts import last_gap_s, restarts, takeovers

PAST_S = 3600.0
EVENTS = 500
"""How many of the newest events are looked at. Where they do not reach back an hour, nothing is said of it."""

MEANINGS = {
    "heirflow_build_info": "The version of HeirFlow that wrote this.",
    "heirflow_store_up": "Whether the store answered (1) or not (0).",
    "heirflow_leader_up": "Whether somebody leads this seat, with a lease that has not ended.",
    "heirflow_leader_info": "On which host the leader of this seat is.",
    "heirflow_leader_runs": "Whether the command of the leader of this seat runs.",
    "heirflow_term": "The number of the leadership of this seat; it grows with each change.",
    "heirflow_lease_seconds": "How long the lease of this seat is.",
    "heirflow_lease_remaining_seconds": "How long the lease of this seat still lasts without a renewal.",
    "heirflow_last_gap_seconds": "How long nobody led this seat before its leader last changed.",
    "heirflow_seats": "How many members may lead at once.",
    "heirflow_heirs": "How many members are ready to take charge.",
    "heirflow_members": "How many members are heard.",
    "heirflow_paused": "Whether a person has ordered that nobody changes place.",
    "heirflow_check_in_age_seconds": "How old the newest check-in of a member on this host is.",
    "heirflow_takeovers_past_hour": "How often somebody took charge within the past hour.",
    "heirflow_restarts_past_hour": "How often a leader started its command again within the past hour, at least.",
}
"""What each figure means."""


class Figure(NamedTuple):
    """One number, and what it is about."""

    name: str
    labels: dict[str, str]
    value: float


def figures_of(line: Snapshot, events: Sequence[Event]) -> Iterator[Figure]:
    """One election. `events`: the newest `EVENTS` of its history, the oldest first."""
    election = {"election": line.election}
    hosts = {row.member: row.host for row in line.succession}
    for seat in line.by_seat:
        labels = {**election, "seat": str(seat.seat)}
        yield Figure("heirflow_term", labels, seat.term)
        if line.done_at is None and not seat.over:  # a line of `heirflow once` is led only while it is due
            yield Figure("heirflow_leader_up", labels, seat.leader is not None)
        if seat.leader is not None and (host := hosts.get(seat.leader)):
            yield Figure("heirflow_leader_info", {**labels, "host": host}, 1)
        if seat.leader is not None and seat.runs is not None:
            yield Figure("heirflow_leader_runs", labels, seat.runs)
        if seat.last_leader is not None:
            yield Figure("heirflow_lease_seconds", labels, seat.ttl_s)
        if seat.last_leader is not None and seat.renewed_s is not None:
            yield Figure("heirflow_lease_remaining_seconds", labels, max(0.0, seat.ttl_s - seat.renewed_s))
        if (gap_s := last_gap_s(events, seat.seat)) is not None:
            yield Figure("heirflow_last_gap_seconds", labels, gap_s)
    yield Figure("heirflow_seats", election, line.seats)
    yield Figure("heirflow_heirs", election, sum(row.rank is not None and row.rank > 1 for row in line.succession))
    yield Figure("heirflow_members", election, sum(not row.silent for row in line.succession))
    yield Figure("heirflow_paused", election, line.paused)
    ages: dict[str, float] = {}
    for row in line.succession:
        if row.last_check_in_s is not None:
            ages[row.host] = min(row.last_check_in_s, ages.get(row.host, row.last_check_in_s))
    for host, age_s in ages.items():
        yield Figure("heirflow_check_in_age_seconds", {**election, "host": host}, age_s)
    since = line.at - PAST_S
    if len(events) < EVENTS or events[0].at < since:
        for cause, times in takeovers(events, since).items():
            yield Figure("heirflow_takeovers_past_hour", {**election, "cause": cause.value}, times)
        yield Figure("heirflow_restarts_past_hour", election, restarts(events, since))
