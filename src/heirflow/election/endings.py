"""How a lead and a command end: the command is gone, does not do its work, or is to be stopped; the lead is lost."""

from __future__ import annotations

from dataclasses import replace

from heirflow.election import line
from heirflow.election.record import Event, What
from heirflow.election.state import Happened, Idle, Leaving, Running, State, Stop, Then, with_stop, without_lead
from heirflow.election.steps import (
    EXIT_LOST,
    CommandGone,
    Doubted,
    KillCommand,
    Step,
    StopAsked,
    StopCommand,
    Unhealthy,
)
from heirflow.election.timings import Timings, back_off_s
from heirflow.election.told import Named, Said

UNWRITTEN_LIMIT = 20
"""Events kept for a store that does not answer; the oldest go first."""


def gone(state: State, event: CommandGone, now: float, timings: Timings) -> Step:
    """The command is proved gone. What it was stopped for says what follows; if it ended by itself, the line does."""
    stop, ran_s = state.stop, now - state.command_since
    ended = Said(Named.COMMAND_ENDED, event.because)
    state = replace(state, withstands="", doubt="", ended=event.because)
    if state.losing or now >= state.trusted_until:
        sentence = stop.because if stop is not None else f"{event.because}{state.troubled}"
        if state.term is not None:
            state = note_event(state, What.LOST, sentence, now)
        state = without_lead(replace(state, command=Idle()))
        state = replace(state, ask_at=min(state.ask_at, now + timings.check_in_s / 4))
        return Step(lose(state, sentence), said=(ended,))
    replaced = stop is not None and stop.then is Then.REPLACE
    if stop is not None and not replaced:
        return Step(replace(state, command=Idle(after=stop)), said=(ended,))
    because = stop.because if stop is not None else event.because
    ended = Said(Named.COMMAND_ENDED, because)
    too_soon = ran_s < state.policy.healthy_after_s
    state = replace(state, command=Idle(), failures=state.failures if too_soon else 0)
    if event.status is not None:
        failures = state.failures + too_soon
        state = replace(state, failures=failures, restart_at=now + back_off_s(failures, state.policy.restart_limit_s))
        if state.policy.exit_with_command and not replaced:
            code = event.status if event.status >= 0 else 128 - event.status
            state = replace(state, leaving=Leaving(because, code), command=Idle(after=Stop(Then.LEAVE, because)))
            return Step(state, said=(ended,))
    if can_hand_over(state, now, timings):
        return Step(
            replace(state, command=Idle(after=Stop(Then.HAND_OVER, because, failed_starts(state)))), said=(ended,)
        )
    wait_s = max(0.0, state.restart_at - now)
    sentence = f"{because}; no heir is ready: it is started again here in {wait_s:g} s"
    # What is known of the line is up to a check-in old: look at once, an heir may have come since.
    state = replace(state, ask_at=now if state.failed_calls == 0 else state.ask_at)
    if is_counted(state):
        state = note_event(state, What.RESTARTED, sentence, now, times=failed_starts(state))
    return Step(state, said=(Said(Named.COMMAND_RESTARTS, sentence),))


def unhealthy(state: State, event: Unhealthy, timings: Timings) -> Step:
    """Stop it in order; what follows is decided when it is gone, by who is in the line then."""
    if not state.working or state.withstands:  # what ends is asked nothing any more
        return Step(state)
    state = with_stop(state, Stop(Then.REPLACE, event.because))
    grace_s = timings.loss_grace_s if event.still else timings.stop_timeout_s
    return Step(
        state, (StopCommand(grace_s),), (Said(Named.COMMAND_UNHEALTHY, f"{event.because}: stopping the command"),)
    )


def doubted(state: State, event: Doubted) -> Step:
    """Tell it, here and with the next check-in to everybody, and stop nothing."""
    if not isinstance(state.command, Running):
        return Step(state)
    state = replace(state, doubt="" if event.over else event.because)
    named = Named.WORK_GOES_ON if event.over else Named.WORK_STANDS_STILL
    return Step(state, said=(Said(named, event.because),))


def stop_asked(state: State, event: StopAsked, now: float, timings: Timings) -> Step:
    """Leave the line; a command that runs is stopped in order first, and killed when this is asked again."""
    state = replace(state, ask_at=now if state.failed_calls == 0 else state.ask_at)
    if state.leaving is not None:
        acts = () if state.idle else (KillCommand(),)
        again = Said(Named.STOP_ASKED_AGAIN, f"{event.because} again: the command is killed")
        return Step(state, acts, (again,) if acts else ())
    state = replace(state, leaving=Leaving(event.because))
    leave = Stop(Then.LEAVE, event.because)
    if state.working:
        stopping = (StopCommand(timings.stop_timeout_s),)
        asked = Said(Named.STOP_ASKED, f"{event.because}: stopping the command")
        return Step(with_stop(state, leave), stopping, (asked,))
    if state.term is not None and not state.losing:
        state = with_stop(state, leave)
    return Step(state, said=(Said(Named.STOP_ASKED, f"{event.because}: leaving the line"),))


def can_hand_over(state: State, now: float, timings: Timings) -> bool:
    """Whether somebody else could lead now."""
    return not (state.record and state.record.paused) and bool(line.heirs(state, now, timings))


def lose(state: State, because: str) -> State:
    """The lead is lost: leave with 75 where that is the policy."""
    if not state.policy.exit_on_loss or state.leaving is not None:
        return state
    return replace(state, leaving=Leaving(because, EXIT_LOST))


def failed_starts(state: State) -> int:
    """The place of the latest end of the command in a row of ends too soon after their start; 1 where it is in none."""
    return max(1, state.failures)


def is_counted(state: State) -> bool:
    """Whether the history is to tell of it: of a crash loop it tells the 1st, 2nd, 4th, 8th … time, each with its number."""
    times = failed_starts(state)
    return times & (times - 1) == 0


def note_event(state: State, what: What, because: str, now: float, *, times: int = 1) -> State:
    """Keep an event until the next exchange writes it down."""
    event = Event(what, state.term or state.seat.highest_term, state.me, because, seat=state.seat.number, times=times)
    return replace(state, unwritten=(*state.unwritten, Happened(event, now))[-UNWRITTEN_LIMIT:])
