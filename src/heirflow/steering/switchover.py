"""The order to one leader to hand over, and why it was not carried out."""

from __future__ import annotations

from dataclasses import replace
from shlex import quote

from heirflow.election.record import ANYONE, MemberRow, Reading, Record, What
from heirflow.status import Seat, Snapshot, counted, held
from heirflow.steering.orders import NotInTime, Order, Refused, find_member, order, record_of
from heirflow.stores import Store


class LeadsAlready(Exception):
    """The member that is meant leads already, so nothing is to be done."""

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order

    def sentence(self, election: str) -> str:
        """What is so."""
        return f"{election}: {self.order.before.leader} leads already, term {self.order.before.term}."


def named(to: str) -> str:
    """Whom an order names."""
    return "the next in line" if to == ANYONE else to


def ordered(election: str, given: Order, to: str) -> str:
    """What is so when the order is written."""
    return f"{election}: switchover from {given.before.leader} to {named(to)} is ordered."


def order_switchover(
    store: Store, election: str, target: str | None, leaving: str | None, *, by: str = ""
) -> tuple[Order, str, bool]:
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

    given = order(store, election, written, by=by)
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


def handed_over(store: Store, election: str, given: Order, to: str, record: Record) -> bool:
    """Whether another member leads by this order now. Raises `NotInTime` or `Refused` where that will not come."""
    before = given.before
    if record.leader not in (None, before.leader):
        if to not in (ANYONE, record.leader):
            raise NotInTime(f"{record.leader} took charge instead of {to}: {record.because}")
        return True
    if record.leader == before.leader and record.term > before.term:
        raise NotInTime(f"{record.leader} leads again: {record.because}")
    if record.leader == before.leader and record.switchover_to is None:
        raise Refused(
            why_refused(store, election, given.seat) or f"{record.leader} did not carry out the order: {record.because}"
        )
    return False


def not_yet(election: str, given: Order, *, released: bool) -> str:
    """What is so when nobody wants to wait any longer."""
    where = "nobody leads yet" if released else f"{given.before.leader} has not handed over yet"
    return f"{where}; the order remains in force, see `heirflow status {quote(election)}`"


def why_refused(store: Store, election: str, seat: int) -> str | None:
    """What the leader said when it did not carry out the order; None: nothing."""
    newest = [event for event in store.events(election, 3 * seat) if event.seat == seat]
    return next((event.because for event in reversed(newest) if event.what is What.REFUSED), None)
