"""All rules of an election: ``decide(state, event, now, timings) -> Step(state, acts, because)``.

Why never two
-------------
1. A leader trusts itself until ``asked_at + ttl - margin``, where `asked_at` was read on its own clock *before* the swap that
   confirmed it was sent (`_outcome`). Its guard kills the command before that moment.
2. An heir moves no earlier than ``seen + ttl``, where `seen` is when the *answer* with this version came (`_answered`,
   `line.turn_at`), on its own clock, with the ttl that stands in the record. What it saw was written after the leader asked.
   So the leader's end comes first while clock rates differ by less than margin/ttl.
3. A record becomes vacant in one place only (`asking._release`), and that place asks for `Command.NONE`: the command and all
   its descendants are proved gone.
4. Seniority, turns, readiness and orders decide who *tries*. Only the compare-and-swap decides who *wins*, and its version
   is the one on which the decision was based.

This rests on a store that never forgets a confirmed write. Terms only grow: a record with a lower term than one seen before
(a restored backup) gives nobody the right to lead.

How to read this: an event first changes what is known (`_learn`); then `_act` looks at the facts, whatever the event was.
"""

from __future__ import annotations

from dataclasses import replace

from heirflow.election import asking, line
from heirflow.election.record import ANYONE, Event, Reading, What
from heirflow.election.state import (
    NEVER,
    Abandon,
    Act,
    Answered,
    Ask,
    Command,
    CommandEnding,
    CommandGone,
    CommandStarted,
    Exit,
    ExtendLease,
    Failed,
    GuardDown,
    GuardUp,
    KillCommand,
    News,
    Purpose,
    Readiness,
    Send,
    StartCommand,
    State,
    StateEvent,
    Step,
    Stop,
    StopAsked,
    StopCommand,
    Then,
    Tick,
    Unhealthy,
)
from heirflow.election.timings import Timings, back_off_s

EXIT_STORE_UNAVAILABLE = 69
EXIT_LOST = 75
UNTOLD_LIMIT = 20
"""Events kept for a store that does not answer; the oldest go first."""


def decide(state: State, event: StateEvent, now: float, timings: Timings) -> Step:
    """What one member does about one event. Pure: the same arguments give the same step.

    `now` is seconds on a clock that never goes back and counts suspended time.
    """
    if state.done:
        return Step(state)
    learned = _learn(state, event, now, timings)
    acted = _act(learned.state, now, timings)
    return Step(acted.state, learned.acts + acted.acts, learned.because + acted.because)


def wake_at(state: State, now: float, timings: Timings) -> float:
    """When `decide` wants its next `Tick`, if nothing happens before."""
    if state.done:
        return line.FOREVER
    moments = [state.ask.asked_at + asking.patience_s(state, timings) if state.ask else state.ask_at]
    if state.command is not Command.NONE:
        moments.append(state.trusted_until)
    else:
        moments.append(state.restart_at)
    if state.ask is None and state.term is None:
        moments.append(line.turn_at(state, now, timings))
    if state.leave_by is not None:
        moments.append(state.leave_by)
    return min((moment for moment in moments if moment > now), default=now + timings.check_in_s)


# ---- what an event teaches ------------------------------------------------------------------------------------------


def _learn(state: State, event: StateEvent, now: float, timings: Timings) -> Step:
    match event:
        case Tick():
            return Step(state)
        case Answered():
            return _answered(state, event, now, timings)
        case Failed():
            if state.ask is None or state.ask.serial != event.serial:
                return Step(state)
            return _not_answered(state, event.because, event.fatal_code, now, timings)
        case News():
            return Step(replace(state, ask_at=now, news=state.ask is not None))
        case CommandStarted():
            return Step(replace(state, command_since=now))
        case CommandEnding():
            stop = Stop(Then.LOST, event.because)
            return Step(replace(state, command=Command.STOPPING, stop=stop), because=(event.because,))
        case CommandGone():
            return _gone(state, event, now, timings)
        case Unhealthy():
            return _unhealthy(state, event, timings)
        case GuardUp():
            return Step(replace(state, guard_up=True, ask_at=now))
        case GuardDown():
            down = replace(state, guard_up=False)
            if state.command is not Command.NONE:  # started when the guard was dead already, and nobody knew
                return _gone(down, CommandGone(None, event.because), now, timings)
            return Step(down, because=(event.because,))
        case Readiness():
            changed = (event.ready, event.note) != (state.standby_ready, state.note)
            ask_at = now if changed and state.failed_calls == 0 else state.ask_at
            return Step(replace(state, standby_ready=event.ready, note=event.note, ask_at=ask_at))
        case StopAsked():
            return _stop_asked(state, event, now, timings)


def _answered(state: State, event: Answered, now: float, timings: Timings) -> Step:
    ask, reading = state.ask, event.reading
    if ask is None or ask.serial != event.serial:
        return Step(state)  # a late answer to a question that was given up: the next read tells
    record = reading.record
    same = state.known and record == state.record
    # A gap in our own reading (we were frozen, say) is like a failed read: the leader gets its chance first.
    unbroken = now - state.read_at <= timings.fresh_s
    mine = next((row for row in reading.members if row.id == state.me), None)
    because: tuple[str, ...] = ()
    if mine is not None and not state.joined and state.checked_in_at == NEVER:
        because += (line.welcome(record),)
    if state.failed_calls and state.known:
        because += (f"the store answers again, after {now - state.read_at:.1f} s",)
    silent_s = ask.asked_at - state.checked_in_at
    if ask.exchange.join and state.joined and mine is not None and silent_s > timings.ttl_s:
        because += (f"was silent for {silent_s:.1f} s and joins again at the end of the line",)
    back_to = record.term if record else 0
    if back_to < state.highest_term and back_to != (state.record.term if state.record else 0):
        because += (f"the store went back from term {state.highest_term} to {back_to}: was a backup restored?",)
    lost_swaps = state.lost_swaps + 1 if reading.swapped is False else 0
    again_at_once = state.news or 0 < lost_swaps < 3
    learned = replace(
        state,
        known=True,
        record=record,
        record_since=state.record_since if same else now,
        vacant_before_s=state.vacant_before_s if same else max(0.0, reading.db_now - reading.since),
        watch_since=state.watch_since if same and unbroken and state.watch_since is not None else now,
        read_at=now,
        highest_term=max(state.highest_term, record.term if record else 0),
        members=reading.members,
        heard=line.hear(state.heard, reading.members, now),
        joined=mine is not None,
        drained=mine is not None and mine.drained,
        checked_in_at=ask.asked_at if mine is not None else state.checked_in_at,
        untold=tuple(event for event in state.untold if event not in ask.exchange.notes),
        ask=None,
        news=False,
        ask_at=now if again_at_once else max(ask.asked_at + timings.check_in_s, now),
        failed_calls=0,
        lost_swaps=lost_swaps,
    )
    outcome = _outcome(learned, ask, reading, timings)
    return Step(outcome.state, outcome.acts, because + outcome.because)


def _outcome(state: State, ask: Ask, reading: Reading, timings: Timings) -> Step:
    """What an answer means for the lead that this member holds, or wanted."""
    swap, record = ask.exchange.swap, state.record
    acts: tuple[Act, ...] = ()
    because: tuple[str, ...] = ()
    if reading.swapped and swap is not None:
        if ask.purpose is Purpose.RELEASE:
            because = (f"released term {swap.record.term}: {swap.record.because}",)
            state = replace(state, term=None, trusted_until=NEVER, stop=None, note="")
        else:
            trusted_until = ask.asked_at + swap.record.ttl_s - timings.margin_s
            state = replace(state, term=swap.record.term, trusted_until=trusted_until)
            if swap.takes_over and swap.takes_over == state.note:
                state = replace(state, note="")
            if ask.purpose is Purpose.TAKE:
                because = (f"took charge for term {swap.record.term}: {swap.record.because}",)
            if state.command is not Command.NONE and not state.losing:
                acts = (ExtendLease(*timings.moments(trusted_until)),)
    released = record is not None and record.leader is None and record.term == state.term
    if released and state.command is Command.NONE and (state.stop is not None or state.leaving is not None):
        # Our release, confirmed only now: its own answer never came.
        state = replace(state, term=None, trusted_until=NEVER, stop=None)
    if state.term is not None and not asking.holds(state):
        holder = (record.leader if record else None) or "nobody"
        sentence = f"lost term {state.term}: the record names {holder}, term {record.term if record else 0}"
        stop = None if state.command is Command.NONE else Stop(Then.LOST, sentence)
        state = _loss(replace(_tell(state, What.LOST, sentence), term=None, trusted_until=NEVER, stop=stop), sentence)
        because += (sentence,)
        if state.command is not Command.NONE:
            state, acts = replace(state, command=Command.STOPPING), (KillCommand(),)
    if ask.exchange.leave and state.term is None and not asking.names_me(state):
        return Step(replace(state, done=True), (*acts, Exit(state.exit_code)), because)
    return Step(state, acts, because)


def _not_answered(state: State, because: str, fatal_code: int | None, now: float, timings: Timings) -> Step:
    """A failed or overdue exchange: wait again from the start, and try again with back-off, at least every check-in."""
    told = (f"cannot use the store: {because}",) if state.failed_calls == 0 else ()
    delay = min(timings.check_in_s, timings.check_in_s / 4 * 2 ** min(state.failed_calls, asking.doublings(state)))
    state = replace(
        state, ask=None, news=False, watch_since=None, failed_calls=state.failed_calls + 1, ask_at=now + delay
    )
    late = now - state.born_at >= state.policy.start_timeout_s
    if not state.known and (fatal_code is not None or late or state.leaving is not None):
        code = EXIT_STORE_UNAVAILABLE if fatal_code is None else fatal_code
        return Step(replace(state, done=True), (Exit(state.exit_code if state.leaving is not None else code),), told)
    return Step(state, because=told)


def _gone(state: State, event: CommandGone, now: float, timings: Timings) -> Step:
    stop, ran_s = state.stop, now - state.command_since
    lost = state.losing or now >= state.trusted_until
    state = replace(state, command=Command.NONE, command_since=NEVER)
    if lost:
        sentence = stop.because if stop is not None else event.because
        if state.term is not None:
            state = _tell(state, What.LOST, sentence)
        state = replace(
            state, term=None, trusted_until=NEVER, stop=None, ask_at=min(state.ask_at, now + timings.check_in_s / 4)
        )
        return Step(_loss(state, sentence), because=(event.because,))
    replaced = stop is not None and stop.then is Then.REPLACE
    if stop is not None and not replaced:
        return Step(state, because=(event.because,))
    if replaced:
        assert stop is not None
        state, event = replace(state, stop=None), CommandGone(event.status, stop.because)
    if event.status is not None:
        failures = state.failures + 1 if ran_s < state.policy.healthy_after_s else 0
        state = replace(state, failures=failures, restart_at=now + back_off_s(failures, state.policy.restart_limit_s))
        if state.policy.exit_with_command and not replaced:
            code = event.status if event.status >= 0 else 128 - event.status
            leave = Stop(Then.LEAVE, event.because)
            return Step(replace(state, leaving=event.because, exit_code=code, stop=leave), because=(event.because,))
    if not _can_hand_over(state, now, timings):
        wait_s = max(0.0, state.restart_at - now)
        sentence = f"{event.because}; no heir is ready: it is started again here in {wait_s:g} s"
        # What is known of the line is up to a check-in old: look at once, an heir may have come since.
        look = replace(state, ask_at=now if state.failed_calls == 0 else state.ask_at)
        return Step(_tell(look, What.RESTARTED, sentence), because=(sentence,))
    return Step(replace(state, stop=Stop(Then.HAND_OVER, event.because)), because=(event.because,))


def _unhealthy(state: State, event: Unhealthy, timings: Timings) -> Step:
    """Stop it in order; what follows is decided when it is gone, by who is in the line then."""
    if state.command is not Command.RUNNING or state.stop is not None:
        return Step(state)
    state = replace(state, command=Command.STOPPING, stop=Stop(Then.REPLACE, event.because))
    grace_s = timings.loss_grace_s if event.still else timings.stop_timeout_s
    return Step(state, (StopCommand(grace_s),), (f"{event.because}: stopping the command",))


def _stop_asked(state: State, event: StopAsked, now: float, timings: Timings) -> Step:
    state = replace(state, ask_at=now if state.failed_calls == 0 else state.ask_at)
    if state.leaving is not None:
        acts = (KillCommand(),) if state.command is not Command.NONE else ()
        return Step(state, acts, (f"{event.because} again: the command is killed",) if acts else ())
    state = replace(state, leaving=event.because)
    if state.command is Command.RUNNING:
        state = replace(state, command=Command.STOPPING, stop=Stop(Then.LEAVE, event.because))
        return Step(state, (StopCommand(timings.stop_timeout_s),), (f"{event.because}: stopping the command",))
    if not state.losing:
        state = replace(state, stop=Stop(Then.LEAVE, event.because) if state.term is not None else None)
    return Step(state, because=(f"{event.because}: leaving the line",))


# ---- what the facts ask for -----------------------------------------------------------------------------------------


def _act(state: State, now: float, timings: Timings) -> Step:
    acts: tuple[Act, ...] = ()
    because: tuple[str, ...] = ()
    for rule in (_give_up_asking, _end_of_trust, _obey, _start, _ask, _end):
        if not state.done:
            step = rule(state, now, timings)
            state, acts, because = step.state, acts + step.acts, because + step.because
    return Step(state, acts, because)


def _give_up_asking(state: State, now: float, timings: Timings) -> Step:
    if state.ask is None or now < state.ask.asked_at + asking.patience_s(state, timings):
        return Step(state)
    step = _not_answered(state, f"no answer within {asking.patience_s(state, timings):g} s", None, now, timings)
    return replace(step, acts=(Abandon(state.ask.serial), *step.acts))


def _end_of_trust(state: State, now: float, timings: Timings) -> Step:
    """Nothing of ours may run from here on. The guard has its own clock and has killed already, unless it is frozen."""
    if state.command is Command.NONE or now < state.trusted_until or state.trusted_until == NEVER:
        return Step(state)
    sentence = f"could not renew term {state.term} within {timings.trust_s:g} s: the command is killed"
    stop = Stop(Then.LOST, sentence)
    state = replace(state, trusted_until=NEVER, command=Command.STOPPING, stop=stop)
    return Step(state, (KillCommand(),), (sentence,))


def _obey(state: State, now: float, timings: Timings) -> Step:
    """Orders in the record, and the duty to let a ready heir lead where we cannot."""
    record = state.record
    if record is None or not asking.holds(state) or state.leaving is not None:
        return Step(state)
    if record.paused and state.stop is not None and state.command is Command.NONE and not state.losing:
        # Paused while the command ended for somebody else, who may not take charge now. No release of ours is under way: one
        # that was given up was for a version before the pause.
        because = f"{state.stop.because}, but the election is paused: the command is started again here"
        return Step(replace(state, stop=None), because=(because,))
    if state.stop is not None or record.paused:
        return Step(state)
    target = record.switchover_to
    if target is not None and line.is_target(state, target, now, timings):
        to = line.heirs(state, now, timings)[0].id if target == ANYONE else target
        stop = Stop(Then.SWITCH_OVER, f"switchover to {to} was ordered")
    elif state.drained and line.heirs(state, now, timings):
        stop = Stop(Then.HAND_OVER, f"{state.me} is drained")
    elif state.command is Command.NONE and not line.is_ready(state, now) and _can_hand_over(state, now, timings):
        stop = Stop(Then.HAND_OVER, f"{state.me} cannot start its command now, and an heir can")
    else:
        return Step(state)
    state = replace(state, stop=stop)
    if state.command is not Command.RUNNING:
        return Step(state, because=(stop.because,))
    return Step(replace(state, command=Command.STOPPING), (StopCommand(timings.stop_timeout_s),), (stop.because,))


def _start(state: State, now: float, timings: Timings) -> Step:
    idle = state.command is Command.NONE and state.stop is None and state.leaving is None
    if not idle or state.term is None or not asking.holds(state):
        return Step(state)
    term_at, kill_at = timings.moments(state.trusted_until)
    can = state.guard_up and state.standby_ready and now >= state.restart_at
    if not can or now >= term_at:
        return Step(state)
    started = replace(state, command=Command.RUNNING, command_since=now)
    return Step(started, (StartCommand(state.term, term_at, kill_at),))


def _ask(state: State, now: float, timings: Timings) -> Step:
    if state.ask is not None:
        return Step(state)
    wish = asking.wish(state, now, timings)
    urgent = wish.urgent and state.failed_calls == 0 and state.lost_swaps < 3
    if now < state.ask_at and not urgent:
        return Step(state)
    ask = asking.compose(state, wish, now, timings)
    return Step(replace(state, ask=ask, serial=ask.serial), (Send(ask),))


def _end(state: State, now: float, timings: Timings) -> Step:
    """Leaving does not wait for a store that does not answer: the lease then runs out by itself."""
    if state.leaving is None or state.command is not Command.NONE:
        return Step(state)
    if state.leave_by is None:
        return Step(replace(state, leave_by=now + timings.ttl_s / 2))
    if now < state.leave_by:
        return Step(state)
    return Step(
        replace(state, done=True), (Exit(state.exit_code),), ("left without telling the store, which does not answer",)
    )


# ---- small things ---------------------------------------------------------------------------------------------------


def _can_hand_over(state: State, now: float, timings: Timings) -> bool:
    return not (state.record and state.record.paused) and bool(line.heirs(state, now, timings))


def _loss(state: State, because: str) -> State:
    """The lead is lost: leave with 75 where that is the policy."""
    if not state.policy.exit_on_loss or state.leaving is not None:
        return state
    return replace(state, leaving=because, exit_code=EXIT_LOST)


def _tell(state: State, what: What, because: str) -> State:
    event = Event(what, state.term or state.highest_term, state.me, because)
    return replace(state, untold=(*state.untold, event)[-UNTOLD_LIMIT:])
