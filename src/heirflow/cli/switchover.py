"""`heirflow switchover`: the order to one leader to hand over, and the wait until it has."""

from __future__ import annotations

import time
from dataclasses import replace
from shlex import quote
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
)
from heirflow.cli.orders import LOOK_EVERY_S, NotInTime, Order, Refused, find_member, order, record_of
from heirflow.election.record import ANYONE, Exchange, MemberRow, Reading, Record, What
from heirflow.status import Seat, Snapshot, counted, duration, held
from heirflow.stores import Store
from heirflow.text import printable


class LeadsAlready(Exception):
    """The member that is meant leads already, so nothing is to be done."""

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order

    def sentence(self, election: str) -> str:
        """What is so."""
        return f"{election}: {self.order.before.leader} leads already, term {self.order.before.term}."


@click.command()
@name_argument
@click.option(
    "--to", "target", metavar="MEMBER", help="The member that is to lead: its id, the beginning of its id, or its host."
)
@click.option(
    "--from",
    "leaving",
    metavar="SEAT|MEMBER",
    help="Of several seats, the one that is handed over: its number, or the member that leads it, named as with --to.",
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until the other member leads.")
@duration_option("--limit", "limit_s", default="2m", help="How long to wait.")
@json_option
@settings(*WHERE)
def switchover(
    name: str | None,
    *,
    target: str | None,
    leaving: str | None,
    wait: bool,
    limit_s: float,
    as_json: bool,
    **flags: Any,
) -> int:
    """Let another member take charge: the heir, or the one that you name.

    The leader stops its command in order, makes sure that it is gone, and joins the line again at its end. Where an election
    has several seats, --from says which of them is handed over.

    \b
    heirflow switchover
    heirflow switchover airflow-scheduler --to host-b
    heirflow switchover airflow-scheduler --from 2
    """
    config = settled({"name": name, **flags})
    with opened(config) as store:
        election = chosen_election(store, config)
        began = time.monotonic()
        try:
            given, to, several = order_switchover(store, election, target, leaving)
        except LeadsAlready as leads:
            record = leads.order.before
            result: dict[str, Any] = {"election": election, "seat": leads.order.seat, "from": record.leader}
            result |= {"to": record.leader, "waited": wait, "term": record.term, "took_s": 0.0}
            return output(leads.sentence(election), result, as_json=as_json)
        before = given.before
        result = {"election": election, "seat": given.seat, "from": before.leader, "to": to, "waited": wait}
        if not wait:
            return output(ordered(election, given, to), result, as_json=as_json)
        if not as_json:
            click.echo(printable(f"{election}: {before.leader} hands over to {named(to)} …"), err=True)
        after = _await_switchover(store, election, given, to, began + limit_s)
    took_s = time.monotonic() - began
    result |= {"to": after.leader, "term": after.term, "took_s": round(took_s, 3)}
    what = f"seat {given.seat}, term {after.term}" if several else f"term {after.term}"
    sentence = f"{election}: {after.leader} leads {what}, {duration(took_s)} after the order."
    return output(sentence, result, as_json=as_json)


def named(to: str) -> str:
    """Whom an order names."""
    return "the next in line" if to == ANYONE else to


def ordered(election: str, given: Order, to: str) -> str:
    """What is so when the order is written."""
    return f"{election}: switchover from {given.before.leader} to {named(to)} is ordered."


def order_switchover(store: Store, election: str, target: str | None, leaving: str | None) -> tuple[Order, str, bool]:
    """Write the order; returns it, whom it names, and whether there are several seats."""
    chosen, several = ANYONE, False

    def written(reading: Reading) -> Order:
        nonlocal chosen, several
        snapshot = Snapshot.of(election, reading)
        seat, several = _seat_meant(snapshot, reading.members, leaving), snapshot.several
        record = record_of(reading, election, seat.seat)
        chosen = _checked_target(record, snapshot, reading.members, seat, target)
        what = f"switchover from {record.leader} to {named(chosen)}"
        return Order(seat.seat, record, replace(record, switchover_to=chosen), what)

    given = order(store, election, written)
    return given, chosen, several


def _seat_meant(snapshot: Snapshot, members: tuple[MemberRow, ...], leaving: str | None) -> Seat:
    """The seat that is handed over. Raises `Refused`."""
    election, seats = snapshot.election, snapshot.by_seat
    if leaving is None:
        if snapshot.seats > 1:
            who = ", ".join(map(held, seats))
            raise Refused(f"{election} has {counted(snapshot.seats)}, so --from must name one or its leader: {who}")
        return seats[0]
    known = {name for row in members for name in (row.id, row.host)} | {seat.last_leader for seat in seats}
    if leaving.isdecimal() and leaving not in known:
        found = [seat for seat in seats if seat.seat == int(leaving)]
        if not found:
            raise Refused(f"there is no seat {leaving}: {election} has {counted(snapshot.seats)}")
    else:
        own = [seat.last_leader for seat in seats if seat.last_leader == leaving]
        member = own[0] if own else find_member(snapshot, members, leaving).id
        found = sorted((seat for seat in seats if seat.last_leader == member), key=lambda seat: seat.expired)
        if not found:
            raise Refused(f"{member} leads nothing: {', '.join(map(held, seats))}")
    if found[0].over:
        raise Refused(
            f"seat {found[0].seat} is over the number of seats: {found[0].last_leader} stops without an order"
        )
    return found[0]


def _checked_target(
    record: Record, snapshot: Snapshot, members: tuple[MemberRow, ...], seat: Seat, target: str | None
) -> str:
    """Whom the order names. Raises `Refused`, or `LeadsAlready`."""
    election = snapshot.election
    if record.leader is None:
        which = f"seat {seat.seat} is vacant" if snapshot.several else "nobody leads now"
        raise Refused(f"{which}, so nobody can hand over")
    row = None
    if target is not None and record.switchover_to is None:
        row = find_member(snapshot, members, target)
        if row.id == record.leader:
            raise LeadsAlready(Order(seat.seat, record, record, ""))
    if record.paused:
        raise Refused(f"{election} is paused: `heirflow resume {quote(election)}` first")
    if record.switchover_to is not None:
        raise Refused("a switchover is already under way")
    if row is None:
        if snapshot.heir is None:
            raise Refused("no other member is ready to take charge")
        return ANYONE
    for other in snapshot.by_seat:
        if row.id == other.leader:
            raise Refused(f"{row.id} leads seat {other.seat}, and a member holds one seat at most")
        if row.id == other.switchover_to:
            raise Refused(f"a switchover of seat {other.seat} to {row.id} is already under way")
    shown = next(each for each in snapshot.succession if each.member == row.id)
    if shown.rank is None:
        raise Refused(f"{row.id} cannot take charge: it is {shown.place}")
    return row.id


def _await_switchover(store: Store, election: str, given: Order, to: str, ends_at: float) -> Record:
    before, released = given.before, False
    while time.monotonic() < ends_at:
        record = store.exchange(election, Exchange()).record_of(given.seat)
        if record is not None:
            if record.leader not in (None, before.leader):
                if to not in (ANYONE, record.leader):
                    raise NotInTime(f"{record.leader} took charge instead of {to}: {record.because}")
                return record
            if record.leader == before.leader and record.term > before.term:
                raise NotInTime(f"{record.leader} leads again: {record.because}")
            if record.leader == before.leader and record.switchover_to is None:
                raise Refused(
                    why_refused(store, election, given.seat)
                    or f"{record.leader} did not carry out the order: {record.because}"
                )
            released = released or record.leader is None
        time.sleep(LOOK_EVERY_S)
    where = "nobody leads yet" if released else f"{before.leader} has not handed over yet"
    raise NotInTime(f"{where}; the order remains in force, see `heirflow status {quote(election)}`")


def why_refused(store: Store, election: str, seat: int) -> str | None:
    """What the leader said when it did not carry out the order; None: nothing."""
    newest = [event for event in store.events(election, 3 * seat) if event.seat == seat]
    return next((event.because for event in reversed(newest) if event.what is What.REFUSED), None)
