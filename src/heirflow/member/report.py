"""Where one member stands, as facts for probes and people on its own host, and which of its changes somebody should look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heirflow.election import asking, line
from heirflow.election.state import State, Then
from heirflow.election.steps import CommandEnding, CommandGone, GuardDown, StateEvent, Unhealthy
from heirflow.election.timings import Timings


def describe(
    election: str, state: State, pids: Mapping[str, int | None], now: float, timings: Timings
) -> dict[str, Any]:
    """What the local door answers. `now` is the clock of the rules."""
    leads = asking.holds(state) and now < state.trusted_until
    order = [row.id for row in line.line(state, now, timings)]
    place = order.index(state.me) + (0 if leads else 1) if state.me in order else None
    ready = state.joined and state.failed_calls == 0 and state.leaving is None
    name, sentence = _state_and_sentence(state, place, leads=leads)
    return {
        "election": election,
        "member": state.me,
        "host": state.host,
        "pid": state.pid,
        "state": name,
        "live": True,
        "ready": ready,
        "able": ready and (leads or place is not None),
        "leader": leads,
        "term": state.term,
        "place": place,
        "trusted_for_s": round(state.trusted_until - now, 3) if leads else None,
        "guard_pid": pids.get("guard"),
        "command_pid": pids.get("command"),
        "standby_pid": pids.get("standby"),
        "sentence": sentence,
    }


def _state_and_sentence(state: State, place: int | None, *, leads: bool) -> tuple[str, str]:
    if state.leaving is not None:
        return "stopping", state.leaving.because
    if leads:
        return "leader", f"leads term {state.term}"
    if place == 1 and state.record is not None:
        return "heir", "next in line"
    if place is not None:
        return "in line", f"place {place} in the line"
    if state.drained:
        return "not ready", "drained: it stands aside"
    if state.joined:
        return "not ready", "joined, and cannot take charge now"
    return "not ready", "has not joined the line yet"


def deserves_warning(before: State, event: StateEvent, after: State) -> bool:
    """Whether what this event changed is worth a warning: nobody ordered it, and something failed or was lost."""
    match event:
        case GuardDown() | Unhealthy() | CommandEnding():
            return True
        case CommandGone(status=status):
            if before.stop is None:
                return status != 0 or not after.policy.exit_with_command
            return before.stop.then in {Then.LOST, Then.REPLACE}
    went_back = after.record != before.record and (after.record.term if after.record else 0) < after.seat.highest_term
    told_more = any(each not in before.unwritten for each in after.unwritten)  # a loss, or a start in place
    odd = any(each not in before.odd for each in after.odd)
    lost = after.losing and not before.losing
    return after.failed_calls > before.failed_calls or lost or told_more or went_back or odd
