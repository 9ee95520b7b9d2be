"""What a store has read, as the rules and people see it: rows of one form, whichever store they come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from heirflow.election.record import (
    MOST_SEATS,
    Event,
    MemberRow,
    Place,
    Reading,
    Record,
    Swap,
    Told,
    What,
    record_names,
    what_of,
)
from heirflow.stores.values import Values, shown, text, text_or_none

RECORD = ("version", "term", "leader", "ttl_s", "because", "paused", "note", "switchover_to", "written_at", "since")
RECORD_LATER = ("history", "seats")
MEMBER = (
    "id", "seniority", "host", "pid", "ready", "drained", "label", "note", "joined_at", "checked_in_at",
)  # fmt: skip
NOBODY_YET = "nobody has taken this seat yet"


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows, and what the exchange did."""

    rows: Sequence[Any]
    """One for each member, or one without; each has the first record (``e_…``), a member (``m_…``), ``db_now`` and ``history``."""
    swapped: bool | None
    told: tuple[Told, ...] = ()
    """What else is worth telling."""
    hidden: tuple[str, ...] = ()
    """Why rows may be hidden."""
    further: Sequence[Any] = ()
    """One for each record of another seat."""
    where: str = "heirflow_election"
    """Where a person corrects a record."""

    def reading(self, election: str, told: tuple[Told, ...], seats: int) -> tuple[Reading, str | None]:
        """For members and people; and why no member can write the record, if none can. `seats`: how many there were before."""
        values, first = Values(self.where), self.rows[0]
        seats = count(first, values, seats)
        reading = Reading(
            record_of(first, values),
            tuple(member_of(row, values) for row in self.rows if row.m_id is not None),
            self.swapped,
            written_at=values.seconds(first.e_written_at or 0, "the record", "when it was written"),
            since=values.seconds(first.e_since or 0, "the record", "when its leader changed"),
            db_now=float(first.db_now),
            told=self.told + told,
            history=text_or_none(first.history) or None,
            seats=seats,
            others=places(self.further, election, seats, values),
        )
        return replace(reading, odd=(*self.hidden, *values.odd)), values.stuck


def record_of(row: Any, values: Values) -> Record | None:
    """The record in a row that a store has read."""
    if row.e_version is None:
        return None
    return Record(
        version=values.counter(row.e_version, "version"),
        term=values.counter(row.e_term, "term"),
        leader=text_or_none(row.e_leader),
        ttl_s=values.ttl(row.e_ttl_s),
        because=text(row.e_because),
        paused=bool(row.e_paused),
        note=text(row.e_note),
        switchover_to=text_or_none(row.e_switchover_to),
        history=text_or_none(row.e_history) or None,
    )


def member_of(row: Any, values: Values) -> MemberRow:
    """The member in a row that a store has read."""
    name = text(row.m_id)
    stamp = values.seconds(row.m_checked_in_at, name, "when it last checked in")
    return MemberRow(
        id=name,
        seniority=int(row.m_seniority),
        host=text(row.m_host),
        pid=values.whole(row.m_pid, name, "the process number"),
        ready=bool(row.m_ready),
        drained=bool(row.m_drained),
        label=text(row.m_label),
        note=text(row.m_note),
        stamp=stamp,
        silent_s=float(row.db_now) - stamp,
        joined_at=values.seconds(row.m_joined_at, name, "when it joined"),
    )


def event_of(row: Any) -> Event:
    """The event in a row that a store has read."""
    values, whose = Values(), "an event"
    return Event(
        what_of(text(row.what)),
        values.whole(row.term, whose, "the term"),
        text(row.member),
        text(row.because),
        None if row.took_s is None else values.seconds(row.took_s, whose, "how long it took", None),
        values.seconds(row.at, whose, "when it was"),
        ago_s=0.0 if row.ago_s is None else values.seconds(row.ago_s, whose, "how late it was written"),
        times=1 if row.times is None else max(1, values.whole(row.times, whose, "how often it happened")),
        seat=1 if row.seat is None else max(1, values.whole(row.seat, whose, "which seat")),
        odd="; ".join(values.odd),
    )


def count(row: Any, values: Values, known: int) -> int:
    """How many seats there are, by the first seat's record in a row that a store has read.

    `known`: how many there were before. It stays where what stands there cannot be: nobody stops, or starts, for that.
    """
    if row.e_seats is None:
        return 1
    with suppress(TypeError, ValueError, OverflowError):
        if 1 <= (seats := int(row.e_seats)) <= MOST_SEATS:
            return seats
    values.odd.append(
        f"the record says {shown(row.e_seats)} seats; there can be 1 to {MOST_SEATS}: correct it with `heirflow seats`"
    )
    return known


def places(rows: Sequence[Any], election: str, seats: int, values: Values) -> tuple[Place, ...]:
    """Of seats 2, 3, …: as many as there are, and those beyond that are still led, or where something was left.

    `rows`: of their records, each with its `name`.
    """
    by_name = {row.name: row for row in rows}
    found = [by_name.get(name) for name in record_names(election)[1:]]
    needed = (seat for seat, row in enumerate(found, 2) if row is not None and (row.e_leader is not None or row.e_note))
    last = max(needed, default=1)
    return tuple(_place(row, seat, values) for seat, row in enumerate(found[: max(seats, last) - 1], 2))


def _place(row: Any, seat: int, values: Values) -> Place:
    if row is None:
        return Place(None)
    own = Values(values.where)  # a record that nobody can write keeps nobody from the other seats
    record = record_of(row, own)
    whose = f"the record of seat {seat}"
    since, written_at = (
        own.seconds(row.e_since or 0, whose, "when its leader changed"),
        own.seconds(row.e_written_at or 0, whose, "when it was written"),
    )
    values.odd += [f"seat {seat}: {each}" for each in own.odd]
    stuck = own.stuck is not None
    return Place(None if stuck else record, since, written_at, stuck)


def fenced(swap: Swap, told: Iterable[Told]) -> Event:
    """What happened beside a swap that has no event of its own."""
    sentences = "; ".join(each.sentence for each in told)
    return Event(What.FENCED, swap.record.term, swap.record.leader or "", sentences, seat=swap.seat)
