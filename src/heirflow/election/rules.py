"""All rules of an election: ``decide(state, event, now, timings) -> Step(state, acts, said)``.

Why never two
-------------
1. A leader trusts itself until ``asked_at + ttl - margin``, where `asked_at` was read on its own clock *before* the swap that
   confirmed it was sent (`answers._outcome`). Its guard kills the command before that moment.
2. An heir moves no earlier than ``seen + ttl``, where `seen` is when the *answer* with this version came (`answers.answered`,
   `line.turn_at`), on its own clock, with the ttl that stands in the record. What it saw was written after the leader asked.
   So the leader's end comes first while clock rates differ by less than margin/ttl.
3. A record becomes vacant in one place only (`asking._release`), and that place asks for `State.idle`: the command and all
   its descendants are proved gone.
4. Seniority, turns, readiness and orders decide who *tries*. Only the compare-and-swap decides who *wins*, and its version
   is the one on which the decision was based.

This rests on a store that never forgets a confirmed write, or calls its history by another name when it may have: a fail-over.
A record of another history is led by somebody unknown, for a whole lease from its first reading on (`answers._doubtful`), and no
swap lands in another history than was read for it. Terms only grow: a record with a lower term than one seen before (a
restored backup) gives nobody the right to lead.

How to read this
----------------
An event first changes what is known (`_learn`; an answer in `answers`, an end in `endings`). Then `_act` looks at the facts,
whatever the event was: what must end, what is ordered, what may start, what to ask of the store next (`asking`).

One failover
------------
b is the heir. a, which leads term 7, renews once more and then loses its power; later b is asked to stop. ttl 10 s, check-in
every 2 s, margin 1 s. (A test plays these lines.)

       at  event           decide does                because
     2.02  Answered        nothing                    a has renewed: b watches this version stand still from now on
     4.01  Tick            Send LOOK                  a check-in is due
     4.02  Answered        nothing                    the version has stood still for 2 s, and the ttl in it is 10 s
    12.02  Answered        Send TAKE                  it has stood still for 10 s of good reads, and b is the first in line
    12.03  Answered        StartCommand               the swap won: term 8, trusted until 12.02 + 10 - 1, `Starting`
    12.05  CommandStarted  nothing                    the guard has started it: `Running`
    14.02  Tick            Send RENEW                 a check-in is due
    14.03  Answered        ExtendLease                the swap won: trusted until 14.02 + 10 - 1
    15.00  StopAsked       StopCommand, Send RENEW    b leaves: `Stopping`, and its lease goes on until the command has ended
    15.01  Answered        ExtendLease                the swap won: trusted until 15.00 + 10 - 1
    15.30  CommandGone     Send RELEASE               all of it is proved gone: `Idle`, and only now the record becomes vacant
    15.31  Answered        Exit                       the swap won: the next in line need not wait for any ttl
"""

from __future__ import annotations

from dataclasses import replace

from heirflow.election import answers, asking, endings, invariants, line, news, seats
from heirflow.election.record import ANYONE, counted
from heirflow.election.state import (
    Doubting,
    Idle,
    Leading,
    Running,
    Starting,
    State,
    Stop,
    Stopping,
    Then,
    with_lead,
    with_stop,
)
from heirflow.election.steps import (
    Abandon,
    Act,
    Answered,
    CommandEnding,
    CommandGone,
    CommandStarted,
    CommandWithstands,
    Doubted,
    Exit,
    Failed,
    GuardDown,
    GuardUp,
    KillCommand,
    News,
    Readiness,
    Send,
    StartCommand,
    StateEvent,
    Step,
    StopAsked,
    StopCommand,
    Tick,
    Unhealthy,
)
from heirflow.election.timings import Timings
from heirflow.election.told import Named, Said


def decide(state: State, event: StateEvent, now: float, timings: Timings) -> Step:
    """What one member does about one event. Pure: the same arguments give the same step.

    `now` is seconds on a clock that never goes back and counts suspended time. Raises `AssertionError` when a rule is broken.
    """
    if state.done:
        return Step(state)
    learned = _learn(state, event, now, timings)
    acted = _act(learned.state, now, timings)
    invariants.check(acted.state)
    return Step(acted.state, learned.acts + acted.acts, learned.said + acted.said)


def wake_at(state: State, now: float, timings: Timings) -> float:
    """When `decide` wants its next `Tick`, if nothing happens before."""
    if state.done:
        return line.FOREVER
    moments = [state.ask.asked_at + asking.patience_s(state, timings) if state.ask else state.ask_at]
    moments.append(state.restart_at if state.idle else state.trusted_until)
    if state.ask is None and state.term is None:
        moments.append(line.turn_at(state, now, timings))
    if isinstance(state.command, Starting):
        moments.append(state.command.since + timings.start_limit_s)
    if state.leaving is not None and state.leaving.give_up_at is not None:
        moments.append(state.leaving.give_up_at)
    return min((moment for moment in moments if moment > now), default=now + timings.check_in_s)


# ---- what an event teaches ------------------------------------------------------------------------------------------


def _learn(state: State, event: StateEvent, now: float, timings: Timings) -> Step:
    match event:
        case Tick():
            return Step(state)
        case Answered():
            return answers.answered(state, event, now, timings)
        case Failed():
            if state.ask is None or state.ask.serial != event.serial:
                return Step(state)
            return answers.not_answered(state, event.because, event.fatal_code, now, timings)
        case News():
            return Step(news.heeded(state, now) if state.ask is None else replace(state, news=True))
        case CommandStarted():
            return Step(_started(state, now))
        case CommandEnding():
            # Even where nothing seemed to run: the guard says that something does, and only "gone" takes that back.
            stop = Stop(Then.LOST, f"{event.because}{state.troubled}")
            ending = Said(Named.COMMAND_ENDING, event.because)
            return Step(replace(state, command=Stopping(stop, state.command_since)), said=(ending,))
        case CommandWithstands():
            # It may also be a standby: then nothing runs here.
            withstands = "" if state.idle else event.because
            return Step(replace(state, withstands=withstands), said=(Said(Named.COMMAND_WITHSTANDS, event.because),))
        case CommandGone():
            return endings.gone(state, event, now, timings)
        case Unhealthy():
            return endings.unhealthy(state, event, timings)
        case Doubted():
            return endings.doubted(state, event)
        case GuardUp():
            return Step(replace(state, guard_up=True, ask_at=now))
        case GuardDown():
            down, lost = replace(state, guard_up=False), Said(Named.GUARD_LOST, event.because)
            if state.idle:
                return Step(down, said=(lost,))
            # `ended` is not there where it was started when the guard was dead already, and nobody knew.
            step = endings.gone(down, event.ended or CommandGone(None, event.because), now, timings)
            hidden = state.stop is not None and state.stop.then is Then.REPLACE  # that one speaks of its own reason
            return replace(step, said=(lost, *step.said)) if hidden else step
        case Readiness():
            changed = (event.ready, event.note) != (state.standby_ready, state.note)
            ask_at = now if changed and state.failed_calls == 0 else state.ask_at
            return Step(replace(state, standby_ready=event.ready, note=event.note, ask_at=ask_at))
        case StopAsked():
            return endings.stop_asked(state, event, now, timings)


def _started(state: State, now: float) -> State:
    """The guard has started the command; meanwhile it may have been told to end it again."""
    match state.command:
        case Starting() | Running():
            return replace(state, command=Running(now))
        case Stopping(stop):
            return replace(state, command=Stopping(stop, now))
        case Idle():
            return state


# ---- what the facts ask for -----------------------------------------------------------------------------------------


def _act(state: State, now: float, timings: Timings) -> Step:
    acts: tuple[Act, ...] = ()
    said: tuple[Said, ...] = ()
    for rule in (_give_up_asking, _end_of_trust, _end_of_start, _obey, _start, _look, _ask, _end):
        if not state.done:
            step = rule(state, now, timings)
            state, acts, said = step.state, acts + step.acts, said + step.said
    return Step(state, acts, said)


def _give_up_asking(state: State, now: float, timings: Timings) -> Step:
    if state.ask is None or now < state.ask.asked_at + asking.patience_s(state, timings):
        return Step(state)
    because = f"no answer within {asking.patience_s(state, timings):g} s"
    step = answers.not_answered(state, because, None, now, timings)
    return replace(step, acts=(Abandon(state.ask.serial), *step.acts))


def _end_of_trust(state: State, now: float, timings: Timings) -> Step:
    """Nothing of ours may run from here on. The guard has its own clock and has killed already, unless it is frozen."""
    lead = state.seat.lead
    if state.idle or not isinstance(lead, Leading) or now < lead.trusted_until:
        return Step(state)
    sentence = f"could not renew {state.in_words(lead.term)} within {timings.trust_s:g} s: the command is killed{state.troubled}"
    state = with_stop(with_lead(state, Doubting(lead.term)), Stop(Then.LOST, sentence))
    return Step(state, (KillCommand(),), (Said(Named.NOT_RENEWED, sentence),))


def _end_of_start(state: State, now: float, timings: Timings) -> Step:
    """A start that nobody answers has a limit: what hangs before it begins is no work, and keeps an heir from it."""
    limit_s = timings.start_limit_s
    if not isinstance(state.command, Starting) or now < state.command.since + limit_s:
        return Step(state)
    sentence = f"the command was told to start and did not within {limit_s:g} s: it is killed"
    said = (Said(Named.COMMAND_NOT_STARTED, sentence),)
    return Step(with_stop(state, Stop(Then.REPLACE, sentence)), (KillCommand(),), said)


def _obey(state: State, now: float, timings: Timings) -> Step:
    """Orders in the record, and the duty to let a ready heir lead where we cannot."""
    record = state.record
    if record is None or not asking.holds(state) or state.leaving is not None:
        return Step(state)
    if record.paused and state.idle and state.stop is not None:
        # Paused while the command ended for somebody else, who may not take charge now. No release of ours is under way: one
        # that was given up was for a version before the pause.
        because = f"{state.stop.because}, but the election is paused: the command is started again here"
        return Step(replace(state, command=Idle()), said=(Said(Named.COMMAND_RESTARTS, because),))
    if state.stop is not None or record.paused:
        return Step(state)
    target = record.switchover_to
    if target is not None and line.is_target(state, target, now, timings):
        to = line.heirs(state, now, timings)[0].id if target == ANYONE else target
        stop = Stop(Then.SWITCH_OVER, f"switchover to {to} was ordered")
    elif state.seat.number > state.seats:
        stop = Stop(Then.HAND_OVER, f"the election has {counted(state.seats)} now")
    elif state.drained and line.heirs(state, now, timings):
        stop = Stop(Then.HAND_OVER, f"{state.me} is drained")
    elif state.idle and not line.is_ready(state, now) and endings.can_hand_over(state, now, timings):
        stop = Stop(Then.HAND_OVER, f"{state.me} cannot start its command now, and an heir can")
    else:
        return Step(state)
    acts = (StopCommand(timings.stop_timeout_s),) if state.working else ()
    event = Named.SWITCHES_OVER if stop.then is Then.SWITCH_OVER else Named.HANDS_OVER
    return Step(with_stop(state, stop), acts, (Said(event, stop.because),))


def _start(state: State, now: float, timings: Timings) -> Step:
    lead = state.seat.lead
    free = state.idle and state.stop is None and state.leaving is None
    if not free or not isinstance(lead, Leading) or not asking.holds(state):
        return Step(state)
    term_at, kill_at = timings.moments(lead.trusted_until)
    can = state.guard_up and state.standby_ready and now >= state.restart_at
    if not can or now >= term_at:
        return Step(state)
    return Step(replace(state, command=Starting(now)), (StartCommand(lead.term, term_at, kill_at),))


def _look(state: State, now: float, timings: Timings) -> Step:
    return Step(seats.choose(state, now, timings))


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
    leaving = state.leaving
    if leaving is None or not state.idle:
        return Step(state)
    if leaving.give_up_at is None:
        return Step(replace(state, leaving=replace(leaving, give_up_at=now + timings.ttl_s / 2)))
    if now < leaving.give_up_at:
        return Step(state)
    sentence = "left without telling the store, which does not answer"
    return Step(replace(state, done=True), (Exit(leaving.exit_code),), (Said(Named.LEFT_UNTOLD, sentence),))
