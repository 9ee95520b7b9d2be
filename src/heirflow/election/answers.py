"""What an answer of the store means: for what this member knows, and for the lead that it holds or wanted.

An answer confirms a swap, shows that it was lost, or shows who leads now. Only here does a member come to lead, and only here
is its trust made longer: always counted from the moment *before* it asked.
"""

from __future__ import annotations

from dataclasses import replace

from heirflow.election import asking, line, news, seats
from heirflow.election.endings import lose, note_event
from heirflow.election.record import Place, Reading, Record, What, believed, counted
from heirflow.election.state import (
    NEVER,
    Ask,
    Leading,
    Purpose,
    Seat,
    State,
    Stop,
    Then,
    with_lead,
    with_stop,
    without_lead,
)
from heirflow.election.steps import EXIT_STORE_UNAVAILABLE, Act, Answered, Exit, ExtendLease, KillCommand, Step
from heirflow.election.timings import Timings
from heirflow.election.told import Named, Said


def answered(state: State, event: Answered, now: float, timings: Timings) -> Step:
    """Learn what the store said, then see what that means for the lead."""
    ask, reading = state.ask, event.reading
    if ask is None or ask.serial != event.serial:
        return Step(state)  # a late answer to a question that was given up: the next read tells
    # A gap in our own reading (we were frozen, say) is like a failed read: the leader gets its chance first.
    unbroken = now - state.read_at <= timings.fresh_s
    seen = {
        number: _seen(_seat(state, number), place, reading, now, unbroken=unbroken)
        for number, place in enumerate(reading.places, 1)
    }
    # Of a seat that is no more, and that nobody leads, the terms are remembered: there may be more seats again.
    for seat in state.all_seats:
        seen.setdefault(seat.number, _seen(seat, Place(None), reading, now, unbroken=unbroken))
    own = seen.pop(state.seat.number)
    if ask.purpose is Purpose.TAKE:
        own = replace(own, failed_takes=0, not_before=NEVER)
    mine = next((row for row in reading.members if row.id == state.me), None)
    lost_swaps = state.lost_swaps + 1 if reading.swapped is False else 0
    # After another seat was made vacant, its own is renewed next.
    again_at_once = 0 < lost_swaps < 3 or (ask.purpose is Purpose.VACATE and reading.swapped)
    written = (*ask.noted, *(ask.within if reading.swapped else ()))
    learned = replace(
        state,
        seat=own,
        others=tuple(seen.values()),
        seats=reading.seats,
        members=reading.members,
        odd=reading.odd,
        heard=line.hear(state.heard, reading.members, now),
        joined=mine is not None,
        drained=mine is not None and mine.drained,
        checked_in_at=ask.asked_at if mine is not None else state.checked_in_at,
        ask=None,
        ask_at=now if again_at_once else max(ask.asked_at + timings.check_in_s, now),
        read_at=now,
        news=False,
        failed_calls=0,
        trouble="",
        lost_swaps=lost_swaps,
        unwritten=tuple(each for each in state.unwritten if each not in written),
    )
    if state.news:
        learned = news.heeded(learned, now)
    outcome = _outcome(learned, ask, reading, now, timings)
    return Step(outcome.state, outcome.acts, _said(state, ask, reading, now, timings) + outcome.said)


def _seat(state: State, number: int) -> Seat:
    """The seat of this number, as it was known; one that is seen for the first time."""
    return next((seat for seat in state.all_seats if seat.number == number), Seat(number=number))


def _seen(seat: Seat, place: Place, reading: Reading, now: float, *, unbroken: bool) -> Seat:
    """The seat, after a look at its record. `unbroken`: whether this look came soon enough after the one before."""
    record = believed(place.record, seat.record)
    first = seat.record_since == NEVER
    same = not first and record == seat.record
    silent_before_s = seat.silent_before_s if same else 0.0
    if first and place.written_at:
        silent_before_s = max(0.0, reading.db_now - place.written_at)
    watched = same and unbroken and seat.watch_since is not None and not _moved(seat, reading)
    return replace(
        seat,
        record=record,
        record_since=seat.record_since if same else now,
        silent_before_s=silent_before_s,
        vacant_before_s=seat.vacant_before_s if same else max(0.0, reading.db_now - place.since),
        watch_since=seat.watch_since if watched else now,
        highest_term=max(seat.highest_term, record.term if record else 0),
        history=reading.history or seat.history,
        doubtful=_doubtful(seat, place.record, reading),
        longest_ttl_s=max(seat.longest_ttl_s, record.ttl_s if record else 0.0),
        stuck=place.stuck,
    )


def _moved(before: Seat, reading: Reading) -> bool:
    """Whether another history answers than the one that did last."""
    return None not in (reading.history, before.history) and reading.history != before.history


def _doubtful(before: Seat, record: Record | None, reading: Reading) -> bool:
    """Whether writes that came after this record may have been forgotten.

    It is so from a fail-over on, until somebody has written the record who went by these rules: a leader that went on, or one
    that waited. An operator's order, or a will, is no such write: neither changes the history that stands in the record.
    """
    last, here = before.record, reading.history or before.history
    if _moved(before, reading) or line.is_foreign(record, here):
        return True
    settled = record is not None and (last is None or line.is_foreign(last, here) or record.term != last.term)
    return before.doubtful and not settled


def _goes_on(state: State, now: float) -> bool:
    """Whether a leader may go on with a record that is doubtful.

    Nobody else can have taken charge in what was forgotten: its trust, from the history before, has never ended, so no heir had
    waited a whole lease; and it has asked for no release, as something of its own runs, or is about to. What runs on the old
    server's word is then confirmed by the next renewal, which writes the record into this history.
    """
    lead = state.seat.lead
    within = isinstance(lead, Leading) and now < lead.trusted_until
    released = state.idle and (state.stop is not None or state.leaving is not None)
    return within and not released


def _said(before: State, ask: Ask, reading: Reading, now: float, timings: Timings) -> tuple[Said, ...]:
    """What an answer tells people, beside the lead."""
    record = reading.record
    mine = any(row.id == before.me for row in reading.members)
    said = tuple(Said(Named.STORE_ODD, each) for each in reading.odd if each not in before.odd)
    if mine and not before.joined and before.checked_in_at == NEVER:
        said += (Said(Named.JOINED, line.welcome(record)),)
    if before.failed_calls and before.known:
        said += (Said(Named.STORE_ANSWERS, f"the store answers again, after {now - before.read_at:.1f} s"),)
    silent_s = ask.asked_at - before.checked_in_at
    if ask.exchange.join and before.joined and mine and silent_s > timings.ttl_s:
        sentence = f"was silent for {silent_s:.1f} s and joins again at the end of the line"
        said += (Said(Named.JOINED_AGAIN, sentence),)
    wanted, heard_of_it = before.policy.seats, before.known and before.seats == reading.seats
    if wanted is not None and wanted != reading.seats and record is not None and not heard_of_it:
        sentence = (
            f"was started for {counted(wanted)}, and the election has {reading.seats}; `heirflow seats` changes that"
        )
        said += (Said(Named.SEATS_DIFFER, sentence),)
    for number, place in enumerate(reading.places, 1):
        said += _said_of(_seat(before, number), place.record, reading, timings)
    return said


def _said_of(seat: Seat, record: Record | None, reading: Reading, timings: Timings) -> tuple[Said, ...]:
    """What is odd about the record of one seat."""
    said: tuple[Said, ...] = ()
    back_to = record.term if record else 0
    if back_to < seat.highest_term and back_to != (seat.record.term if seat.record else 0):
        guess = "" if reading.odd else ": was a backup restored?"
        sentence = f"the store went back from term {seat.highest_term} to {back_to}{guess}"
        said += (Said(Named.STORE_WENT_BACK, sentence),)
    if _doubtful(seat, record, reading) and (not seat.doubtful or _moved(seat, reading)):
        ttl_s = max(seat.longest_ttl_s, record.ttl_s if record else 0.0, timings.ttl_s)
        old = seat.history if _moved(seat, reading) else record.history if record else None
        sentence = f"the database has another history now ({reading.history}, and not {old})"
        sentence += f": it may have forgotten confirmed writes, so nobody takes charge before {ttl_s:g} s have passed"
        said += (Said(Named.STORE_FAILED_OVER, sentence),)
    return said


def _outcome(state: State, ask: Ask, reading: Reading, now: float, timings: Timings) -> Step:
    """What an answer means for the lead that this member holds, or wanted."""
    swap = ask.exchange.swap
    elsewhere = swap is not None and None not in (swap.under, reading.history) and swap.under != reading.history
    acts: tuple[Act, ...] = ()
    said: tuple[Said, ...] = ()
    if reading.swapped and swap is not None and not elsewhere:
        if ask.purpose is Purpose.VACATE:
            said = (Said(Named.VACATED, f"seat {swap.seat} is vacant: {swap.record.because}"),)
        elif ask.purpose is Purpose.RELEASE:
            said = (Said(Named.RELEASED, f"released {state.in_words(swap.record.term)}: {swap.record.because}"),)
            state = without_lead(replace(state, note=""))
        else:
            trusted_until = ask.asked_at + swap.record.ttl_s - timings.margin_s
            state = with_lead(state, Leading(swap.record.term, trusted_until))
            if swap.takes_over and swap.takes_over == state.note:
                state = replace(state, note="")
            if ask.purpose is Purpose.TAKE:
                sentence = f"took charge for {state.in_words(swap.record.term)}: {swap.record.because}"
                said = (Said(Named.TOOK_CHARGE, sentence),)
            if not state.idle and not state.losing:
                acts = (ExtendLease(*timings.moments(trusted_until)),)
    doubtful = state.seat.doubtful and not _goes_on(state, now)
    if state.term is not None and (doubtful or not asking.holds(state)):
        state, acts, told = _over(state, now)
        said += (told,)
    free = state.term is None and not seats.is_named(state)
    if ask.exchange.leave and state.leaving is not None and free:
        return Step(replace(state, done=True), (*acts, Exit(state.leaving.exit_code)), said)
    return Step(state, acts, said)


def _over(state: State, now: float) -> tuple[State, tuple[Act, ...], Said]:
    """The record does not name this member any more, or is in doubt: it was released, as is seen only now, or the lead is lost."""
    term, record, stop = state.term, state.record, state.stop
    holder, now_term = (record.leader, record.term) if record else (None, 0)
    instead = f"the record names {holder or 'nobody'}, term {now_term}"
    if asking.holds(state):
        instead = "the database may have forgotten who took charge after it"
    if state.idle and (stop is not None or state.leaving is not None):
        # Nothing of ours ran, and all that was left to do was the release. Its own answer never came: it was carried out, and
        # perhaps somebody has taken charge since; or the lease has ended it. Whichever it was, nothing was lost.
        why = stop.because if stop is not None else state.leaving.because if state.leaving is not None else ""
        if holder is None and now_term == term:
            told = Said(Named.RELEASED, f"released {state.in_words(term)}: {why}")
        else:
            told = Said(
                Named.TERM_OVER, f"{state.in_words(term)} is over: {instead}; its release was never confirmed here"
            )
        return replace(without_lead(state), note=""), (), told
    sentence = f"lost {state.in_words(term)}: {instead}"
    state = lose(without_lead(note_event(state, What.LOST, sentence, now)), sentence)
    told = Said(Named.LOST, sentence)
    if state.idle:
        return state, (), told
    return with_stop(state, Stop(Then.LOST, sentence)), (KillCommand(),), told


def not_answered(state: State, because: str, fatal_code: int | None, now: float, timings: Timings) -> Step:
    """A failed or overdue exchange: wait again from the start, and try again with back-off, at least every check-in."""
    told = (Said(Named.STORE_FAILS, f"cannot use the store: {because}"),) if state.failed_calls == 0 else ()
    delay = min(timings.check_in_s, timings.check_in_s / 4 * 2 ** min(state.failed_calls, asking.doublings(state)))
    state = replace(
        state,
        seat=replace(_not_taken(state, now, timings), watch_since=None),
        others=tuple(replace(seat, watch_since=None) for seat in state.others),
        ask=None,
        ask_at=now + delay,
        news=False,
        failed_calls=state.failed_calls + 1,
        trouble=because,
    )
    late = now - state.born_at >= state.policy.start_timeout_s
    if not state.known and (fatal_code is not None or late or state.leaving is not None):
        if state.leaving is not None:
            code = state.leaving.exit_code
        else:
            code = EXIT_STORE_UNAVAILABLE if fatal_code is None else fatal_code
        if state.leaving is None:
            told = (Said(Named.GAVE_UP, f"gives up: {because}"),)
        return Step(replace(state, done=True), (Exit(code),), told)
    return Step(state, said=told)


def _not_taken(state: State, now: float, timings: Timings) -> Seat:
    """Its seat after an exchange has failed.

    Where it has failed to take one of several twice in a row, though the store answers, the others come first for as long as a
    silent leader of one of them must be watched. A single seat is always tried again.
    """
    seat = state.seat
    if state.ask is None or state.ask.purpose is not Purpose.TAKE or not state.others:
        return seat
    failed = seat.failed_takes + 1
    ttl_s = max(timings.ttl_s, *(each.longest_ttl_s for each in state.all_seats))
    not_before = now + ttl_s + 2 * timings.check_in_s if failed > 1 else seat.not_before
    return replace(seat, failed_takes=failed, not_before=not_before)
