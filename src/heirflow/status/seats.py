"""Seats as people see them: who holds each, since when, and what is the matter with it."""

from __future__ import annotations

from dataclasses import dataclass

from heirflow.election.record import Place, Reading, Record
from heirflow.election.timings import Timings
from heirflow.status.words import age, rounded


@dataclass(frozen=True, slots=True)
class Seat:
    """One seat. Of an election with one seat, this is what its snapshot says too."""

    seat: int
    """Its number: 1, 2, …"""
    term: int
    leader: str | None
    """Who leads it now; None where nobody does, also where a lease has ended and nobody took the seat since."""
    last_leader: str | None
    """Whom its record names, whether the lease has ended or not."""
    expired: bool
    """Whether its record names a leader whose lease has ended."""
    vacant: bool
    """Whether its record names nobody."""
    over: bool
    """Whether the election has fewer seats now: who holds it stops in order, and nobody takes it."""
    since: float | None
    """When its leader last changed, seconds since 1970 by the store's clock."""
    since_s: float | None
    """The same as an age."""
    because: str
    """Why its leader last changed."""
    runs: bool | None
    """Whether its leader's command runs; None: it does not say, or nobody leads."""
    ttl_s: float
    renewed_s: float | None
    """Age of the record; a leader's never grows beyond ttl."""
    paused: bool
    switchover_to: str | None

    @property
    def free_for_s(self) -> float:
        """For how long somebody might have taken it, where nobody leads it; about, and only to tell which was free first."""
        ended_s = (self.renewed_s or 0.0) - self.ttl_s if self.expired else self.since_s
        return float("inf") if ended_s is None else ended_s


def seats_of(reading: Reading) -> tuple[Seat, ...]:
    """As many as there are, and those beyond that are still held. `runs` is not told yet."""
    missing = max(0, reading.seats - len(reading.places))
    numbered = enumerate((*reading.places, *(Place(None),) * missing), 1)
    return tuple(
        _seat(number, place, reading)
        for number, place in numbered
        if number <= reading.seats or (place.record is not None and place.record.leader is not None)
    )


def _seat(number: int, place: Place, reading: Reading) -> Seat:
    record = place.record or Record(version=0, term=0, leader=None, ttl_s=Timings().ttl_s)
    stood_s = max(0.0, reading.db_now - place.written_at) if place.record and place.written_at else None
    expired = record.leader is not None and stood_s is not None and stood_s > record.ttl_s
    return Seat(
        seat=number,
        term=record.term,
        leader=None if expired else record.leader,
        last_leader=record.leader,
        expired=expired,
        vacant=record.leader is None,
        over=number > reading.seats,
        since=place.since or None,
        since_s=age(reading.db_now, place.since or None),
        because=record.because,
        runs=None,
        ttl_s=record.ttl_s,
        renewed_s=rounded(stood_s),
        paused=record.paused,
        switchover_to=record.switchover_to,
    )
