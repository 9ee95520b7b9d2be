"""Where one member stands, as facts for probes and people on its own host, and which of its changes somebody should look at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from heirflow import __version__
from heirflow.election import asking, line
from heirflow.election.record import Exchange
from heirflow.election.state import State, Then
from heirflow.election.steps import (
    CommandEnding,
    CommandGone,
    CommandWithstands,
    Doubted,
    GuardDown,
    StateEvent,
    Unhealthy,
)
from heirflow.election.timings import Timings
from heirflow.election.work import Work, why_not_ready, work

BECAUSE_LIMIT = 500
"""Characters: a note is written again with each check-in."""


def describe(
    election: str, state: State, pids: Mapping[str, int | None], now: float, timings: Timings
) -> dict[str, Any]:
    """What the local door answers. `now` is the clock of the rules."""
    leads = asking.holds(state) and now < state.trusted_until
    order = [row.id for row in line.line(state, now, timings)]
    place = order.index(state.me) + (0 if leads else 1) if state.me in order else None
    found = work(state, now) if leads else None
    idle = found is not None and not found.runs
    ready = state.joined and state.failed_calls == 0 and state.leaving is None and not idle
    because = found.because if found is not None else _hindrance(state, now)
    name, sentence = _state_and_sentence(state, place, found, because)
    return {
        "election": election,
        "member": state.me,
        "host": state.host,
        "pid": state.pid,
        "state": name,
        "live": True,
        "ready": ready,
        "able": ready and (leads or place is not None),
        "leader": leads and not idle,
        "runs": found is not None and found.runs,
        "because": because,
        "term": state.term,
        "seat": state.seat.number if leads else None,
        "seats": state.seats,
        "place": place,
        "trusted_for_s": round(state.trusted_until - now, 3) if leads else None,
        "guard_pid": pids.get("guard"),
        "command_pid": pids.get("command"),
        "standby_pid": pids.get("standby"),
        "sentence": sentence,
    }


def settings_of(
    timings: Timings, argv: Sequence[str], partition: str | None = None, seats: int | None = None
) -> dict[str, Any]:
    """What a member's note says of its settings, so that others see how late it may be, and where members differ.

    Arguments may be secret, so that they are only a number there: enough to see that they differ. `partition`: see
    `Partition.told`; None for a command that has none. `seats`: for how many it was started; None: nobody said.
    """
    program = Path(argv[0]).name if argv else ""
    number = hashlib.sha256("\0".join((program, *argv[1:])).encode("utf-8", "surrogateescape")).hexdigest()[:6]
    command = f"{program}#{number}" if argv else ""
    more = {"partition": partition, "seats": seats}
    return {
        "ttl_s": timings.ttl_s,
        "check_in_s": timings.check_in_s,
        "version": __version__,
        "command": command,
        **{key: value for key, value in more.items() if value is not None},
    }


def noted(exchange: Exchange, settings: Mapping[str, Any] | None = None, *, kill_is_sure: bool = True) -> Exchange:
    """The same exchange, where the member's note says for people what the check-in says of its work, and what is not promised.

    `settings`: as `settings_of` has them. `kill_is_sure`: whether the command can be killed, whoever it becomes.
    """
    who = exchange.check_in
    if who is None or (who.runs is None and not who.because and kill_is_sure and not settings):
        return exchange
    ours: dict[str, Any] = {} if who.runs is None else {"runs": who.runs}
    if settings:
        ours["settings"] = settings
    if not kill_is_sure:
        ours["kill_is_sure"] = False
    if who.because:
        ours["because"] = who.because[:BECAUSE_LIMIT]
    note = json.dumps({**_object(who.note), **ours}, ensure_ascii=False)
    return replace(exchange, check_in=replace(who, note=note))


def _object(text: str) -> dict[str, Any]:
    """What a command said of itself, which should be a JSON object."""
    if not text:
        return {}
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return {"note": text}
    return said if isinstance(said, dict) else {"note": text}


def _hindrance(state: State, now: float) -> str:
    """Of a member that does not lead: why it is not ready, or not able; empty where it is both."""
    if state.leaving is not None:
        return state.leaving.because
    if state.failed_calls:
        return "its last call to the database failed"
    return "" if state.drained else why_not_ready(state, now)


def _state_and_sentence(state: State, place: int | None, found: Work | None, because: str) -> tuple[str, str]:
    if found is not None and not found.runs:
        name = "leader" if state.leaving is None else "stopping"
        return name, f"{_leads(state)}, runs nothing, because {found.because}"
    if state.leaving is not None:
        return "stopping", state.leaving.because
    if found is not None:
        return "leader", _leads(state) + (f"; {found.because}" if found.because else "")
    after = f"; {because}" if because else ""
    if place == 1 and state.record is not None:
        return "heir", f"next in line{after}"
    if place is not None:
        return "in line", f"place {place} in the line{after}"
    if state.drained:
        return "not ready", f"drained: it stands aside{after}"
    why = f": {because}" if because else ""
    if state.joined:
        return "not ready", f"joined, and cannot take charge now{why}"
    return "not ready", f"has not joined the line yet{why}"


def _leads(state: State) -> str:
    """What it leads; the seat only where there are several."""
    seat = f"seat {state.seat.number}, " if state.seats > 1 or state.seat.number > 1 else ""
    return f"leads {seat}term {state.term}"


def deserves_warning(before: State, event: StateEvent, after: State) -> bool:
    """Whether what this event changed is worth a warning: nobody ordered it, and something failed or was lost."""
    match event:
        case GuardDown() | Unhealthy() | CommandEnding() | CommandWithstands():
            return True
        case Doubted(over=over):
            return not over
        case CommandGone(status=status):
            if before.stop is None:
                return status != 0 or not after.policy.exit_with_command
            return before.stop.then in {Then.LOST, Then.REPLACE}
    if before.stop is None and after.stop is not None and after.stop.then is Then.REPLACE:  # a start that hangs
        return True
    went_back = after.record != before.record and (after.record.term if after.record else 0) < after.seat.highest_term
    told_more = any(each not in before.unwritten for each in after.unwritten)  # a loss, or a start in place
    odd = any(each not in before.odd for each in after.odd)
    lost = after.losing and not before.losing
    return after.failed_calls > before.failed_calls or lost or told_more or went_back or odd
