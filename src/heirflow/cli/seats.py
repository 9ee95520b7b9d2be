"""`heirflow seats`: how many members of an election may lead at once."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from shlex import quote
from typing import Any

import click

from heirflow.cli.common import WHERE, elections_known, json_option, opened, output, settings, settled, warn
from heirflow.election.record import MOST_SEATS, Exchange, Reading, said_in
from heirflow.status import Seat, Snapshot, counted, held, one_seat_only
from heirflow.steering.orders import Order, Refused, note_order, order, record_of
from heirflow.steering.places import chosen_election, somebody
from heirflow.stores import Store


@click.command()
@click.argument("name", shell_complete=elections_known)
@click.argument("number", required=False, metavar="[NUMBER]", type=click.IntRange(1, MOST_SEATS))
@json_option
@settings(*WHERE)
def seats(name: str, number: int | None, *, as_json: bool, **flags: Any) -> int:
    """Show how many members of an election may lead at once and who does, or change how many: NUMBER, 1 to 16.

    Where there are more seats now, heirs take the new ones. Where there are fewer, who holds one too many stops its command in
    order and joins the line again at its end. More than one need HeirFlow 0.3 or newer on every member.

    \b
    heirflow seats airflow-scheduler
    heirflow seats airflow-scheduler 2
    """
    config = settled({"name": name, **flags})
    with opened(config) as store:
        election = chosen_election(store, config)
        reading = store.exchange(election, Exchange())
        before = after = Snapshot.of(election, reading)
        if number is None:
            sentence = f"{election} has {counted(before.seats)}: {', '.join(map(held, before.by_seat))}"
        elif number == before.seats:
            sentence = f"{election} has {counted(number)} already"
        elif number > 1 and reading.record is not None and "once" in said_in(reading.record.note):
            raise Refused(
                f"{election} is a line of `heirflow once`: one host runs the command per due time, so it has 1 seat"
            )
        else:
            after = _changed(store, before, number)
            sentence = "; ".join((f"{election} has {counted(number)} now", *_next(before, after)))
    result = {
        "election": election,
        "seats": after.seats,
        "before": before.seats,
        "by_seat": [asdict(seat) for seat in after.by_seat],
        "sentence": sentence,
    }
    return output(f"{sentence}.", result, as_json=as_json)


def _changed(store: Store, before: Snapshot, number: int) -> Snapshot:
    """Change it; returns what stands there then. Raises `Refused`."""
    election = before.election
    if number > before.seats:
        if before.paused:
            raise Refused(f"{election} is paused: `heirflow resume {quote(election)}` first")
        if old := one_seat_only(before.succession):
            raise Refused(
                f"{old}, and several seats need 0.3 or newer on every member: an older one that leads ends the sessions of the "
                "other seats' leaders"
            )
    if not store.set_seats(election, number):
        raise Refused(f"{election} has had no leader yet: start its first member with `--seats {number}`")
    because = f"{counted(number)} instead of {before.seats}, ordered by {somebody()}"
    note_order(store, election, before.term, because, tell=warn)
    after = Snapshot.of(election, store.exchange(election, Exchange()))
    left = [seat.seat for seat in _opened(before, after) if seat.paused or seat.switchover_to is not None]
    for each in left:
        order(store, election, partial(_without_orders, election, each))
    return Snapshot.of(election, store.exchange(election, Exchange())) if left else after


def _opened(before: Snapshot, after: Snapshot) -> list[Seat]:
    """The seats that there were not before."""
    return [seat for seat in after.by_seat if seat.seat > before.seats and not seat.over]


def _without_orders(election: str, seat: int, reading: Reading) -> Order:
    """A seat that was closed keeps its record, with what was ordered of it then."""
    record = record_of(reading, election, seat)
    return Order(seat, record, replace(record, paused=False, switchover_to=None), "")


def _next(before: Snapshot, after: Snapshot) -> list[str]:
    """What happens next, a sentence for each seat."""
    heirs = [row.member for row in after.succession if row.rank is not None and row.rank > 1]
    opened_now = _opened(before, after)
    free_before = [
        seat for seat in after.by_seat if seat.leader is None and seat.seat <= before.seats and not seat.over
    ]
    said = []
    for place, seat in enumerate((seat for seat in opened_now if seat.leader is None), len(free_before)):
        heir = heirs[place] if place < len(heirs) else None
        what = f": {heir} takes it at its next check-in" if heir else ", and nobody is ready to take it"
        said.append(f"seat {seat.seat} opens{what}")
    said += [f"seat {seat.seat} opens, and {seat.leader} leads it" for seat in opened_now if seat.leader]
    for seat in after.by_seat:
        if seat.over and seat.leader:
            when = " after `heirflow resume`" if seat.paused else f", and seat {seat.seat} is no more"
            said.append(f"{seat.leader} stops in order{when}")
        elif seat.over:
            said.append(held(seat))
    return said
