"""Where one member stands, as facts for probes and people on its own host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heirflow.election import line, talk
from heirflow.election.state import State
from heirflow.election.timings import Timings


def facts_about(
    election: str, state: State, pids: Mapping[str, int | None], now: float, timings: Timings
) -> dict[str, Any]:
    """What the local door answers. `now` is the clock of the rules."""
    leads = talk.holds(state) and now < state.trusted_until
    order = [row.id for row in line.line(state, now, timings)]
    place = order.index(state.me) + (0 if leads else 1) if state.me in order else None
    ready = state.joined and state.failed_calls == 0 and state.leaving is None
    name, sentence = _standing(state, place, leads=leads)
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


def _standing(state: State, place: int | None, *, leads: bool) -> tuple[str, str]:
    if state.leaving is not None:
        return "stopping", state.leaving
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
