"""What the statements of an exchange bind, by the names of their parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from heirflow.election.record import CheckIn, Event, Record, Swap, What, record_name, record_names
from heirflow.stores.base import StoreMisfit

if TYPE_CHECKING:
    from heirflow.stores.sql.flavour import Flavour

Bound = dict[str, Any]
Text = Callable[[str], str]
"""Free text as this database takes it."""


def check_letters(flavour: Flavour, election: str, who: CheckIn | None) -> None:
    """Refuse a name that would become another one in this database. Raises `StoreMisfit`."""
    for what, name in (("the election", election), ("the member", "" if who is None else who.id)):
        if not name.isascii() and flavour.storable(name) != name:
            lacks = f"has letters that this database ({flavour.encoding}) cannot hold"
            raise StoreMisfit(f"the name of {what} {lacks}: {name!r}")


def said_by(election: str, who: CheckIn, text: Text) -> Bound:
    """What a check-in writes."""
    return {
        "p_election": election,
        "p_id": who.id,
        "host": text(who.host),
        "pid": who.pid,
        "ready": who.ready,
        "label": text(who.label),
        "note": text(who.note),
    }


def wanted_by(election: str, swap: Swap, text: Text) -> Bound:
    """What a swap writes, and what it asks of the record where there must be one."""
    wanted = swap.record
    bound = {
        "p_name": record_name(election, swap.seat),
        "p_version": wanted.version,
        "p_term": wanted.term,
        "p_leader": wanted.leader,
        "p_ttl_s": wanted.ttl_s,
        "p_because": text(wanted.because),
        "p_paused": wanted.paused,
        "p_note": text(wanted.note),
        "p_switchover_to": wanted.switchover_to,
        "p_history": wanted.history,
        "p_under": swap.under,
    }
    if swap.expected is None:
        return bound
    return {**bound, "p_expected": swap.expected, "p_expected_term": swap.expected_term}


def told_of(election: str, event: Event, text: Text) -> Bound:
    """What an event writes."""
    bound = {
        "p_election": election,
        "p_term": event.term,
        "p_member": event.member,
        "p_what": event.word,
        "p_because": text(event.because),
        "p_took_s": event.took_s,
    }
    rare = {"p_ago_s": event.ago_s, "p_times": event.times, "p_seat": event.seat}
    return {**bound, **rare} if is_rare(event) else bound


def is_rare(event: Event) -> bool:
    """Whether it tells more than nearly all events do: it was written late, stands for several, or is of a further seat."""
    return event.ago_s > 0 or event.times > 1 or event.seat > 1


def noted_of(event: Event, text: Text) -> Bound:
    """The same beside a swap, which binds some of these names itself."""
    return {"n_" + name.removeprefix("p_"): value for name, value in told_of("", event, text).items()}


NOBODY: Bound = {
    **said_by("", CheckIn("", "", 0, ready=False), str),
    **wanted_by("", Swap(0, Record(1, 1, None, 1.0)), str),
    **noted_of(Event(What.RELEASED, 0, "", ""), str),
    "p_names": record_names(""),
}
"""For a statement that is to change nothing: no election and no member has an empty name."""
