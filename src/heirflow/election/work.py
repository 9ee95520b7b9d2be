"""Whether a lead is worked: what runs, and why nothing does; and why a member that does not lead could not.

To hold the record is not to do the work. A command may be in a crash loop, may withstand its end, or may never have started.
Who holds the lead then says so: on its own host, and in each check-in for everybody.
"""

from __future__ import annotations

from dataclasses import dataclass

from heirflow.election.state import Idle, Running, Starting, State, Stopping, Then


@dataclass(frozen=True, slots=True)
class Work:
    """What a leader runs."""

    runs: bool
    because: str = ""
    """Why nothing runs, or what a person should know of what does; empty when all is well."""


def work(state: State, now: float) -> Work:
    """Of a member that leads."""
    if state.withstands:
        return Work(False, state.withstands)
    match state.command:
        case Starting():
            return Work(False, "its command is being started")
        case Running(since):
            ailing = state.failures > 0 and now - since < state.policy.healthy_after_s
            return Work(True, f"the command has {_failed(state)}" if ailing else state.doubt)
        case Stopping(stop):
            return Work(False, stop.because) if stop.then is Then.REPLACE else Work(True)
        case Idle(after):
            return Work(False, after.because if after is not None else _hindrance(state, now))


def why_not_ready(state: State, now: float) -> str:
    """Of a member that leads nothing: why it could not start its command now; empty when it could, or leaves."""
    ready = state.guard_up and state.standby_ready and now >= state.restart_at
    return "" if ready or state.leaving is not None else _hindrance(state, now)


def _hindrance(state: State, now: float) -> str:
    """What keeps a command from being started, where nothing runs."""
    if not state.guard_up:
        return "its guard is being started again"
    if now < state.restart_at:
        return f"the command has {_failed(state)}; it starts again in {state.restart_at - now:.0f} s"
    if not state.standby_ready:
        return "its standby is not at its gate"
    return "its command has not been started yet"


def _failed(state: State) -> str:
    times = "1 time" if state.failures == 1 else f"{state.failures} times"
    return f"ended {times} in a row, the last time: {state.ended}"
