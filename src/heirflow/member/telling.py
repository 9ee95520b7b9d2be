"""What a member's loop tells its journal: which name, which sentence, at which level, and what stands beside."""

from __future__ import annotations

from typing import Any

from heirflow.election.record import Reading
from heirflow.election.state import State
from heirflow.election.steps import CommandGone, Doubted, GuardDown, StateEvent, Step, Unhealthy
from heirflow.election.told import Named, Said
from heirflow.guard.why import KillBy
from heirflow.member.guard_events import KILLS
from heirflow.member.health import Blind, Unwell
from heirflow.member.journal import Log
from heirflow.member.progress import Doubt
from heirflow.member.report import deserves_warning


def tell_step(journal: Log, before: State, event: StateEvent, step: Step) -> None:
    """What followed from one event."""
    tell = journal.warn if deserves_warning(before, event, step.state) else journal.log
    for said in step.said:
        tell(said.sentence, event=said.event, **_beside(said, before, event, step.state))


def _beside(said: Said, before: State, event: StateEvent, after: State) -> dict[str, Any]:
    """The term that is meant, be it one that has just ended, and how a command ended."""
    facts: dict[str, Any] = {"term": after.term if after.term is not None else before.term}
    gone = event.ended if isinstance(event, GuardDown) else event
    if said.event in {Named.COMMAND_ENDED, Named.COMMAND_RESTARTS} and isinstance(gone, CommandGone):
        facts["status"] = gone.status
    return facts


def tell_of_store(journal: Log, reading: Reading | None) -> None:
    """What the store did beside a swap of ours: one that took charge, or that goes on."""
    if reading is None:
        return
    term = reading.record.term if reading.record is not None else None
    for told in reading.told:
        if told.failed:
            journal.warn(told.sentence, event=Named.TAKE_OVER_FAILED, term=term)
        else:
            journal.log(told.sentence, event=Named.TOOK_OVER, term=term)


def tell_of_health(journal: Log, found: Unwell | Blind | Doubt) -> tuple[StateEvent, ...]:
    """Where a command stands that is given up; that nobody can look at its health, or can again.

    Returns what the rules must know.
    """
    match found:
        case Unwell():
            for line in found.stands:
                journal.warn(f"where the command stands: {line}", event=Named.COMMAND_STANDS)
            return (Unhealthy(found.because, found.still),)
        case Doubt():
            return (Doubted(found.because, found.over),)
        case Blind(over=True):
            journal.log(found.because, event=Named.HEALTH_SEEN)
        case Blind():
            journal.warn(found.because, event=Named.HEALTH_BLIND)
    return ()


def tell_of_kills(journal: Log, kill_by: KillBy) -> None:
    """What the command may not do so that it can be killed, or what is not promised because it may."""
    if (said := KILLS.get(kill_by)) is not None:
        (journal.warn if kill_by is KillBy.NOTHING else journal.log)(said.sentence, event=said.event)
