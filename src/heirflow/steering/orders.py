"""Orders, which leaders obey at the next check-in: pause, resume, drain, and what a switchover shares with them.

An order is written into the record by the same swap that leaders use: it can lose to a renewal, and is then tried again
on what stands there now. It never changes who leads by itself. Of several seats, each has a record of its own: one of them hands
over, and all of them pause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from heirflow.election.record import Event, Exchange, MemberRow, Reading, Record, Swap, What
from heirflow.errors import HeirflowError
from heirflow.status import Snapshot
from heirflow.steering.places import somebody
from heirflow.stores import Store, StoreUnavailable
from heirflow.text import masked

TRIES = 10


class Refused(HeirflowError):
    """The order makes no sense now; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the record of one seat is to become."""

    seat: int
    before: Record
    after: Record
    """Its version is not looked at."""
    what: str
    """What is ordered, for the history; empty: another order tells of it."""


class NotInTime(HeirflowError):
    """The order was written, and was not carried out in time."""


def find_member(snapshot: Snapshot, members: tuple[MemberRow, ...], target: str) -> MemberRow:
    """The member that is meant: by id, by host, or by the beginning of its id. Raises `Refused`.

    The row of one that died stays for a while, and the next one on that host has the same host: who is silent is meant
    only where nobody else can be. Not so a leader: it may be frozen, and lead when it wakes.
    """
    silent = {shown.member for shown in snapshot.succession if shown.silent and shown.rank is None}
    gone = silent - {seat.last_leader for seat in snapshot.by_seat}
    for found in (
        [row for row in members if row.id == target],
        [row for row in members if row.host == target],
        [row for row in members if row.id.startswith(target)],
    ):
        matches = [row for row in found if row.id not in gone] or found
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise Refused(f"{target!r} may mean {' or '.join(row.id for row in matches)}; give the whole id")
    known = ", ".join(row.id for row in members) or "none"
    raise Refused(f"there is no member {target!r}; members: {known}")


def set_paused(store: Store, election: str, *, on: bool, by: str = "") -> str:
    """Order it of each seat where it is not so yet; returns what is so now, as a sentence. Raises `Refused`, or like `order`.

    `by`, here and below: who orders it, for the history; empty: who runs this process.
    """
    state = "paused" if on else "not paused"
    places = store.exchange(election, Exchange()).places
    standing = {number: place.record for number, place in enumerate(places, 1) if place.record is not None}
    others = [number for number, record in standing.items() if record.paused != on]
    if not others and (standing or not on):
        return f"{election} is {state} already."
    what = "pause" if on else "resume"
    for number in others or [1]:
        order(store, election, partial(_paused, election, number, on=on, what=what), by=by)
        what = ""  # one order of a person, whatever the number of seats
    return f"{election} is {state}."


def _paused(election: str, seat: int, reading: Reading, *, on: bool, what: str) -> Order:
    record = record_of(reading, election, seat)
    return Order(seat, record, replace(record, paused=on), what)


def set_drained(
    store: Store, election: str, target: str, *, on: bool, tell: Callable[[str], None], by: str = ""
) -> tuple[str, str]:
    """Order one member to stand aside, or take that back; returns its id, and what is so now as a sentence. Raises `Refused`.

    `tell`: whom to tell where the history could not be written.
    """
    reading = store.exchange(election, Exchange())
    row = find_member(Snapshot.of(election, reading), reading.members, target)
    if not store.drain(election, row.id, on):
        raise Refused(f"{row.id} has left the line")
    if row.drained != on:
        because = f"{row.id} is {'drained' if on else 'drained no more'}, ordered by {by or somebody()}"
        seat = next((number for number in seats_led(reading, row.id)), 1)
        record = reading.record_of(seat)
        note_order(store, election, 0 if record is None else record.term, because, seat=seat, tell=tell, by=by)
    return row.id, f"{election}: {row.id} {'is drained' if on else 'is not drained any more'}."


def note_order(
    store: Store, election: str, term: int, because: str, *, seat: int = 1, tell: Callable[[str], None], by: str = ""
) -> None:
    """Write into the history what was ordered beside a record. The order stands: where that fails, there is a warning."""
    try:
        store.exchange(election, Exchange(notes=(Event(What.ORDERED, term, by or somebody(), because, seat=seat),)))
    except StoreUnavailable as error:
        tell(f"the history does not tell of it: {masked(str(error))}")


def seats_led(reading: Reading, member: str) -> list[int]:
    """The numbers of the seats whose record names this member."""
    numbered = enumerate(reading.places, 1)
    return [number for number, place in numbered if place.record is not None and place.record.leader == member]


def record_of(reading: Reading, election: str, seat: int) -> Record:
    """The record of this seat, on which an order can be written. Raises `Refused`."""
    record = reading.record_of(seat)
    if record is None:
        which = f"seat {seat} of {election}" if seat > 1 else election
        raise Refused(f"{which} has had no leader yet, so nobody can carry out the order")
    return record


def order(store: Store, election: str, change: Callable[[Reading], Order], *, by: str = "") -> Order:
    """Write the order that `change` makes of what stands there; returns it.

    `change` raises `Refused` when it makes no sense. Losing the swap to a renewal is usual, so it is tried again.
    """
    for _ in range(TRIES):
        reading = store.exchange(election, Exchange())
        given = change(reading)
        record = given.before
        because = f"{given.what}, ordered by {by or somebody()}"
        event = Event(What.ORDERED, record.term, by or somebody(), because, seat=given.seat) if given.what else None
        swap = Swap(
            record.version,
            replace(given.after, version=record.version + 1),
            event,
            news=True,
            under=reading.history,
            seat=given.seat,
            expected_term=record.term,
        )
        if store.exchange(election, Exchange(swap=swap)).swapped:
            return given
    raise NotInTime(f"the record changed {TRIES} times while the order was written; try again")
