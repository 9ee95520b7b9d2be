"""What a member asks of the store next: the purpose of the exchange, the swap that it tries, and whether it can wait."""

from __future__ import annotations

from dataclasses import dataclass, replace

from heirflow.election import line, seats, work
from heirflow.election.endings import failed_starts, is_counted
from heirflow.election.record import ANYONE, CheckIn, Event, Exchange, Record, Swap, What
from heirflow.election.state import Ask, Happened, Purpose, Seat, State, Then
from heirflow.election.timings import Timings

FORGET_AFTER_S = 3600.0
"""The rows of members that were silent for this long are deleted, by the leader."""
FORGOTTEN_TERMS = 1000
"""So many numbers are left out after a fail-over: the store may have forgotten terms, and none may come a second time."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The next exchange that this member would send."""

    purpose: Purpose
    swap: Swap | None = None
    urgent: bool = False
    """Whether it should not wait for the next check-in."""
    within: tuple[Happened, ...] = ()
    """Those of `State.unwritten` that the swap's own event tells."""


def holds(state: State) -> bool:
    """Whether the record, as last read, names this member for the term that it leads."""
    record = state.record
    return record is not None and state.term is not None and record.leader == state.me and record.term == state.term


def wish(state: State, now: float, timings: Timings) -> Wish:
    """What to ask for, from the facts alone."""
    if state.known and holds(state):
        ending = state.stop is not None and not state.losing
        if state.idle and (ending or state.leaving is not None):
            return _release(state)
        # One exchange replaces one record: this one comes right after a renewal, so that one that takes long, or fails, leaves
        # time enough for the next.
        renewed_at = state.trusted_until - timings.trust_s
        if now <= renewed_at + timings.call_limit_s and (seat := seats.to_vacate(state, now, timings)) is not None:
            return _vacate(state, seat, now)
        return _renew(state, timings)
    if state.known and state.idle:
        if seats.names(state, state.seat):
            # A write of ours landed late, or our lease ran out and nobody else moved. Only we may run under this record, and
            # nothing of ours runs: lead again in a new term, or let the next one.
            no_more = state.seat.number > state.seats
            if line.is_ready(state, now) and not no_more:
                return _take(state, now, timings)
            if state.leaving is not None or (not _paused(state) and (no_more or line.heirs(state, now, timings))):
                return _release(state)
        elif state.others and state.failed_calls:
            pass  # it looks first: is it the store, or only the record of this seat?
        elif now >= line.turn_at(state, now, timings) and now - state.read_at <= timings.fresh_s:
            return _take(state, now, timings)
    return Wish(Purpose.LOOK, urgent=state.leaving is not None and state.idle)


def compose(state: State, chosen: Wish, now: float, timings: Timings) -> Ask:
    """The whole exchange around a wish: our check-in, our place in the line, and the swap."""
    releasing = chosen.purpose is Purpose.RELEASE
    free = state.idle and state.term is None and not seats.is_named(state)
    leave = state.leaving is not None and (releasing or free)
    silent = now - state.checked_in_at > timings.ttl_s
    leading = state.term is not None and not releasing
    found = work.work(state, now) if holds(state) and not releasing else None
    check_in = CheckIn(
        id=state.me,
        host=state.host,
        pid=state.pid,
        ready=state.guard_up
        and state.standby_ready
        and state.leaving is None
        and now >= state.restart_at
        and not state.withstands,
        label=state.label,
        note=state.note,
        runs=found.runs if found is not None else None,
        because=found.because if found is not None else work.why_not_ready(state, now),
    )
    noted = tuple(each for each in state.unwritten if each not in chosen.within)
    exchange = Exchange(
        check_in=check_in,
        join=not leave and (not state.joined or releasing or silent),
        swap=chosen.swap,
        leave=leave,
        forget=_forgettable(state, now) if leading else (),
        notes=tuple(replace(each.event, ago_s=now - each.at) for each in noted),
    )
    return Ask(state.serial + 1, now, chosen.purpose, exchange, noted, chosen.within)


def patience_s(state: State, timings: Timings) -> float:
    """How long the exchange that is under way may take.

    Two get twice the time. A member that does not lead and got no answer before: to connect and to find the tables costs a
    dozen round trips, and on a slow network every try would be given up in the middle. And a member that takes over what a
    command has left, at a change of leader or at a start in place: nothing of its own runs then, and to end old sessions and
    adopt tasks takes longer than a check-in.
    """
    swap = state.ask.exchange.swap if state.ask is not None else None
    taking = swap is not None and swap.takes_over is not None
    hurried = (state.term is not None or state.failed_calls == 0) and not taking
    return timings.call_limit_s if hurried else timings.patient_limit_s


def doublings(state: State) -> int:
    """How often the back-off after a failed exchange doubles: with the patience above, two check-ins in all at most."""
    return 8 if state.term is not None else 1


def _take(state: State, now: float, timings: Timings) -> Wish:
    record, seat = state.record, state.seat
    if record is None:
        because, empty_s = "it is the first of its line", None
    elif record.leader is None:
        because, empty_s = record.because or "nobody led", now - seat.record_since + seat.vacant_before_s
    elif record.leader == state.me:
        because, empty_s = f"{state.me} leads again: nobody else had taken charge", now - seat.record_since
    else:
        # Whatever kept this member from reading meanwhile: that matters for its turn (`line.turn_at`), not for what is told.
        empty_s = now - seat.record_since + seat.silent_before_s
        because = f"{record.leader} was silent for {empty_s:.1f} s"
    term = _last_term(seat) + 1
    taken = Record(
        version=(record.version if record else 0) + 1,
        term=term,
        leader=state.me,
        ttl_s=timings.ttl_s,
        because=because,
        paused=_paused(state),
        history=seat.history,
    )
    event = Event(What.TOOK_CHARGE, term, state.me, because, took_s=empty_s)
    left = record.note if record else ""
    seats_made = (state.policy.seats or 1) if record is None and seat.number == 1 else 1
    swap = replace(_over(state, taken, event), takes_over=left, news=True, seats=seats_made)
    return Wish(Purpose.TAKE, swap, urgent=True)


def _renew(state: State, timings: Timings) -> Wish:
    record, here = state.record, state.seat.history
    assert record is not None
    said = state.note or record.note
    renewed = replace(record, version=record.version + 1, ttl_s=timings.ttl_s, note=said, history=here)
    if said and state.idle:
        # It is started again here: it then takes over what it left behind itself.
        starts = tuple(each for each in state.unwritten if each.event.what is What.RESTARTED)
        within = starts[-1:]  # one start, one event
        event = None
        if within or is_counted(state):
            said_before = (each.event.because for each in within)
            because = "; ".join((*said_before, "what the previous command left is taken over"))
            event = Event(What.RESTARTED, record.term, state.me, because, times=failed_starts(state))
        swap = replace(_over(state, replace(renewed, note=""), event), takes_over=said)
        return Wish(Purpose.RENEW, swap, within=within)
    if record.switchover_to is None or state.stop is not None:
        return Wish(Purpose.RENEW, _over(state, renewed))
    # An order that could be obeyed has become a `stop` by now (`rules._obey`); this one cannot.
    refusal = "the election is paused" if record.paused else "no such member is ready in the line"
    to = "the next in line" if record.switchover_to == ANYONE else record.switchover_to
    because = f"switchover to {to} refused: {refusal}"
    event = Event(What.REFUSED, record.term, state.me, because)
    refused = replace(_over(state, replace(renewed, switchover_to=None), event), news=True)
    return Wish(Purpose.RENEW, refused, urgent=True)


def _vacate(state: State, seat: Seat, now: float) -> Wish:
    """Make a seat vacant that is not its own, under which nothing can run, and take over what was left there.

    Its lease is over, it was released, or it names this member: what runs here runs for the seat that this member holds.
    """
    record = seat.record
    assert record is not None and seat.number != state.seat.number
    silent_s = None if seat.watch_since is None else now - seat.watch_since
    if record.leader is None:
        because = record.because
    elif record.leader == state.me:
        because, silent_s = f"{state.me} leads another seat", None
    else:
        because = f"{record.leader} was silent for {silent_s or 0.0:.1f} s, and nobody is ready to take its place"
    vacant = replace(
        record,
        version=record.version + 1,
        term=_last_term(seat),
        leader=None,
        because=because,
        note="",
        history=seat.history,
    )
    released = Event(What.RELEASED, record.term, state.me, because, took_s=silent_s, seat=seat.number)
    swap = Swap(
        record.version, vacant, released if record.leader is not None else None, news=True, takes_over=record.note,
        under=seat.history, seat=seat.number, expected_term=record.term,
    )  # fmt: skip
    return Wish(Purpose.VACATE, swap, urgent=True)


def _last_term(seat: Seat) -> int:
    """The highest term that may have been led there, whatever the store has forgotten: whoever comes next begins after it."""
    return max(seat.highest_term, seat.record.term if seat.record else 0) + (FORGOTTEN_TERMS if seat.doubtful else 0)


def _release(state: State) -> Wish:
    """The only place where a member makes its own record vacant: nothing of ours runs."""
    if state.leaving is not None:
        because = f"{state.me} left the line: {state.leaving.because}"
    else:
        because = state.stop.because if state.stop is not None else f"{state.me} is not ready"
    record = state.record
    assert record is not None and record.leader == state.me
    assert state.idle, "release only when the command is proved gone"
    switching = state.stop is not None and state.stop.then is Then.SWITCH_OVER
    released = replace(
        record,
        version=record.version + 1,
        leader=None,
        because=because,
        note=state.note or record.note,
        switchover_to=record.switchover_to if switching else None,
        history=state.seat.history,
    )
    times = state.stop.times if state.stop is not None and state.leaving is None else 1
    event = Event(What.RELEASED, record.term, state.me, because, times=times)
    return Wish(Purpose.RELEASE, replace(_over(state, released, event), news=True), urgent=True)


def _over(state: State, after: Record, event: Event | None = None) -> Swap:
    """Replace exactly the record that was read: its version and term, in the history that it was read in."""
    before, here, seat = state.record, state.seat.history, state.seat.number
    event = None if event is None else replace(event, seat=seat)
    if before is None:
        return Swap(None, after, event, under=here, seat=seat)
    return Swap(before.version, after, event, under=here, seat=seat, expected_term=before.term)


def _paused(state: State) -> bool:
    return state.record is not None and state.record.paused


def _forgettable(state: State, now: float) -> tuple[str, ...]:
    return tuple(row.id for row in state.members if line.silence_s(state, row.id, now) > FORGET_AFTER_S)
