"""`heirflow pause`, `resume` and `drain`, and what a switchover shares with them: orders, which leaders obey at the next check-in.

An order is written into the record by the same swap that leaders use: it can lose to a renewal, and is then tried again
on what stands there now. It never changes who leads by itself. Of several seats, each has a record of its own: one of them hands
over, and all of them pause.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import click

from heirflow.cli.common import (
    WHERE,
    chosen_election,
    duration_option,
    json_option,
    name_argument,
    opened,
    output,
    settings,
    settled,
    somebody,
    warn,
)
from heirflow.election.record import Event, Exchange, MemberRow, Reading, Record, Swap, What
from heirflow.errors import HeirflowError
from heirflow.status import Snapshot
from heirflow.stores import Store, StoreUnavailable
from heirflow.text import masked

TRIES = 10
LOOK_EVERY_S = 0.1


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


@click.command()
@name_argument
@json_option
@settings(*WHERE)
def pause(name: str | None, *, as_json: bool, **flags: Any) -> int:
    """Stop all changes of leadership until `resume`, for work on the hosts or the database.

    The leader goes on leading. When it is gone, nobody takes charge.

    \b
    heirflow pause
    heirflow pause airflow-scheduler
    """
    return _set_paused(name, flags, on=True, as_json=as_json)


@click.command()
@name_argument
@json_option
@settings(*WHERE)
def resume(name: str | None, *, as_json: bool, **flags: Any) -> int:
    """End a `pause`.

    \b
    heirflow resume
    heirflow resume airflow-scheduler
    """
    return _set_paused(name, flags, on=False, as_json=as_json)


def _set_paused(name: str | None, flags: dict[str, Any], *, on: bool, as_json: bool) -> int:
    config = settled({"name": name, **flags})
    with opened(config) as store:
        election = chosen_election(store, config)
        sentence = set_paused(store, election, on=on)
    return output(sentence, {"election": election, "paused": on}, as_json=as_json)


def set_paused(store: Store, election: str, *, on: bool) -> str:
    """Order it of each seat where it is not so yet; returns what is so now, as a sentence. Raises `Refused`, or like `order`."""
    state = "paused" if on else "not paused"
    places = store.exchange(election, Exchange()).places
    standing = {number: place.record for number, place in enumerate(places, 1) if place.record is not None}
    others = [number for number, record in standing.items() if record.paused != on]
    if not others and (standing or not on):
        return f"{election} is {state} already."
    what = "pause" if on else "resume"
    for number in others or [1]:
        order(store, election, partial(_paused, election, number, on=on, what=what))
        what = ""  # one order of a person, whatever the number of seats
    return f"{election} is {state}."


def _paused(election: str, seat: int, reading: Reading, *, on: bool, what: str) -> Order:
    record = record_of(reading, election, seat)
    return Order(seat, record, replace(record, paused=on), what)


@click.command()
@click.argument("member", required=False, metavar="[MEMBER]")
@click.option("--undo", is_flag=True, help="Let it lead again.")
@click.option("--wait", is_flag=True, help="Wait until it does not lead any more.")
@duration_option("--limit", "limit_s", default="2m", help="How long to wait.")
@json_option
@settings("name", *WHERE)
def drain(member: str | None, *, undo: bool, wait: bool, limit_s: float, as_json: bool, **flags: Any) -> int:
    """Keep one member from leading: it hands over if it leads, and does not take charge until `--undo`.

    Without MEMBER: the one on this host.

    \b
    heirflow drain host-a            before work on host-a
    heirflow drain host-a --wait     and only when it leads no more
    heirflow drain host-a --undo     afterwards
    """
    if wait and undo:
        raise click.UsageError("--wait and --undo contradict each other; give one of them")
    config = settled(flags)
    with opened(config) as store:
        election = chosen_election(store, config)
        drained, sentence = set_drained(store, election, member or config["host"], on=not undo)
        if wait:
            _await_drained(store, election, drained, limit_s)
    result = {"election": election, "member": drained, "drained": not undo}
    return output(sentence, result, as_json=as_json)


def set_drained(
    store: Store, election: str, target: str, *, on: bool, tell: Callable[[str], None] = warn
) -> tuple[str, str]:
    """Order one member to stand aside, or take that back; returns its id, and what is so now as a sentence. Raises `Refused`.

    `tell`: whom to tell where the history could not be written.
    """
    reading = store.exchange(election, Exchange())
    row = find_member(Snapshot.of(election, reading), reading.members, target)
    if not store.drain(election, row.id, on):
        raise Refused(f"{row.id} has left the line")
    if row.drained != on:
        because = f"{row.id} is {'drained' if on else 'drained no more'}, ordered by {somebody()}"
        seat = next((number for number in _seats_of(reading, row.id)), 1)
        record = reading.record_of(seat)
        note_order(store, election, 0 if record is None else record.term, because, seat=seat, tell=tell)
    return row.id, f"{election}: {row.id} {'is drained' if on else 'is not drained any more'}."


def note_order(
    store: Store, election: str, term: int, because: str, *, seat: int = 1, tell: Callable[[str], None] = warn
) -> None:
    """Write into the history what was ordered beside a record. The order stands: where that fails, there is a warning."""
    try:
        store.exchange(election, Exchange(notes=(Event(What.ORDERED, term, somebody(), because, seat=seat),)))
    except StoreUnavailable as error:
        tell(f"the history does not tell of it: {masked(str(error))}")


def _await_drained(store: Store, election: str, member: str, limit_s: float) -> None:
    ends_at = time.monotonic() + limit_s
    while _seats_of(store.exchange(election, Exchange()), member):
        if time.monotonic() > ends_at:
            raise NotInTime(f"{member} is drained and still leads: it hands over as soon as another member is ready")
        time.sleep(LOOK_EVERY_S)


def _seats_of(reading: Reading, member: str) -> list[int]:
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


def order(store: Store, election: str, change: Callable[[Reading], Order]) -> Order:
    """Write the order that `change` makes of what stands there; returns it.

    `change` raises `Refused` when it makes no sense. Losing the swap to a renewal is usual, so it is tried again.
    """
    for _ in range(TRIES):
        reading = store.exchange(election, Exchange())
        given = change(reading)
        record = given.before
        because = f"{given.what}, ordered by {somebody()}"
        event = Event(What.ORDERED, record.term, somebody(), because, seat=given.seat) if given.what else None
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
