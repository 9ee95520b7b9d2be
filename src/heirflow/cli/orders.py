"""`heirflow switchover`, `pause`, `resume` and `drain`: orders, which the leader obeys at its next check-in.

An order is written into the record by the same swap that leaders use: it can lose to a renewal, and is then tried again
on what stands there now. It never changes who leads by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from shlex import quote
from typing import Any

import click

from heirflow.cli.common import (
    WHERE,
    chosen_election,
    duration_option,
    json_option,
    name_argument,
    opened,
    output,
    settings,
    settled,
    somebody,
    warn,
)
from heirflow.election.record import ANYONE, Event, Exchange, MemberRow, Reading, Record, Swap, What
from heirflow.errors import HeirflowError
from heirflow.status import Snapshot, duration
from heirflow.stores import Store, StoreUnavailable
from heirflow.text import masked, printable

TRIES = 10
LOOK_EVERY_S = 0.1


class Refused(HeirflowError):
    """The order makes no sense now; the sentence says why."""


class LeadsAlready(Exception):
    """The member that is meant leads already, so nothing is to be done."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record


class NotInTime(HeirflowError):
    """The order was written, and was not carried out in time."""


@click.command()
@name_argument
@click.option(
    "--to", "target", metavar="MEMBER", help="The member that is to lead: its id, the beginning of its id, or its host."
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until the other member leads.")
@duration_option("--limit", "limit_s", default="2m", help="How long to wait.")
@json_option
@settings(*WHERE)
def switchover(name: str | None, *, target: str | None, wait: bool, limit_s: float, as_json: bool, **flags: Any) -> int:
    """Let another member take charge: the heir, or the one that you name.

    The leader stops its command in order, makes sure that it is gone, and joins the line again at its end.

    \b
    heirflow switchover
    heirflow switchover airflow-scheduler --to host-b
    """
    config = settled({"name": name, **flags})
    with opened(config) as store:
        election = chosen_election(store, config)
        began = time.monotonic()
        try:
            before, to = _order_switchover(store, election, target)
        except LeadsAlready as leads:
            record = leads.record
            result: dict[str, Any] = {"election": election, "from": record.leader, "to": record.leader, "waited": wait}
            result |= {"term": record.term, "took_s": 0.0}
            return output(f"{election}: {record.leader} leads already, term {record.term}.", result, as_json=as_json)
        result = {"election": election, "from": before.leader, "to": to, "waited": wait}
        whom = "the next in line" if to == ANYONE else to
        if not wait:
            return output(f"{election}: switchover from {before.leader} to {whom} is ordered.", result, as_json=as_json)
        if not as_json:
            click.echo(printable(f"{election}: {before.leader} hands over to {whom} …"), err=True)
        after = _await_switchover(store, election, before, to, began + limit_s)
    took_s = time.monotonic() - began
    result |= {"to": after.leader, "term": after.term, "took_s": round(took_s, 3)}
    sentence = f"{election}: {after.leader} leads term {after.term}, {duration(took_s)} after the order."
    return output(sentence, result, as_json=as_json)


def _order_switchover(store: Store, election: str, target: str | None) -> tuple[Record, str]:
    """Write the order; returns the record on which it rests and whom it names."""
    chosen = ANYONE

    def ordered(record: Record, reading: Reading) -> tuple[Record, str]:
        nonlocal chosen
        chosen = _checked_target(record, reading, election, target)
        whom = "the next in line" if chosen == ANYONE else chosen
        return replace(record, switchover_to=chosen), f"switchover from {record.leader} to {whom}"

    before = order(store, election, ordered)
    return before, chosen


def _checked_target(record: Record, reading: Reading, election: str, target: str | None) -> str:
    """Whom the order names. Raises `Refused`, or `LeadsAlready`."""
    if record.leader is None:
        raise Refused("nobody leads now, so nobody can hand over")
    snapshot = Snapshot.of(election, reading)
    row = None
    if target is not None and record.switchover_to is None:
        row = find_member(snapshot, reading.members, target)
        if row.id == record.leader:
            raise LeadsAlready(record)
    if record.paused:
        raise Refused(f"{election} is paused: `heirflow resume {quote(election)}` first")
    if record.switchover_to is not None:
        raise Refused("a switchover is already under way")
    if row is None:
        if snapshot.heir is None:
            raise Refused("no other member is ready to take charge")
        return ANYONE
    shown = next(each for each in snapshot.succession if each.member == row.id)
    if shown.rank is None:
        raise Refused(f"{row.id} cannot take charge: it is {shown.place}")
    return row.id


def find_member(snapshot: Snapshot, members: tuple[MemberRow, ...], target: str) -> MemberRow:
    """The member that is meant: by id, by host, or by the beginning of its id. Raises `Refused`.

    The row of one that died stays for a while, and the next one on that host has the same host: who is silent is meant
    only where nobody else can be. Not so a leader: it may be frozen, and lead when it wakes.
    """
    silent = {shown.member for shown in snapshot.succession if shown.silent and shown.rank is None}
    gone = silent - {snapshot.last_leader}
    for found in (
        [row for row in members if row.id == target],
        [row for row in members if row.host == target],
        [row for row in members if row.id.startswith(target)],
    ):
        matches = [row for row in found if row.id not in gone] or found
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise Refused(f"{target!r} may mean {' or '.join(row.id for row in matches)}; give the whole id")
    known = ", ".join(row.id for row in members) or "none"
    raise Refused(f"there is no member {target!r}; members: {known}")


def _await_switchover(store: Store, election: str, before: Record, to: str, ends_at: float) -> Record:
    released = False
    while time.monotonic() < ends_at:
        record = store.exchange(election, Exchange()).record
        if record is not None:
            if record.leader not in (None, before.leader):
                if to not in (ANYONE, record.leader):
                    raise NotInTime(f"{record.leader} took charge instead of {to}: {record.because}")
                return record
            if record.leader == before.leader and record.term > before.term:
                raise NotInTime(f"{record.leader} leads again: {record.because}")
            if record.leader == before.leader and record.switchover_to is None:
                raise Refused(
                    _why_refused(store, election) or f"{record.leader} did not carry out the order: {record.because}"
                )
            released = released or record.leader is None
        time.sleep(LOOK_EVERY_S)
    where = "nobody leads yet" if released else f"{before.leader} has not handed over yet"
    raise NotInTime(f"{where}; the order remains in force, see `heirflow status {quote(election)}`")


def _why_refused(store: Store, election: str) -> str | None:
    newest = store.events(election, 3)
    return next((event.because for event in reversed(newest) if event.what is What.REFUSED), None)


@click.command()
@name_argument
@json_option
@settings(*WHERE)
def pause(name: str | None, *, as_json: bool, **flags: Any) -> int:
    """Stop all changes of leadership until `resume`, for work on the hosts or the database.

    The leader goes on leading. When it is gone, nobody takes charge.

    \b
    heirflow pause
    heirflow pause airflow-scheduler
    """
    return _set_paused(name, flags, on=True, as_json=as_json)


@click.command()
@name_argument
@json_option
@settings(*WHERE)
def resume(name: str | None, *, as_json: bool, **flags: Any) -> int:
    """End a `pause`.

    \b
    heirflow resume
    heirflow resume airflow-scheduler
    """
    return _set_paused(name, flags, on=False, as_json=as_json)


def _set_paused(name: str | None, flags: dict[str, Any], *, on: bool, as_json: bool) -> int:
    config = settled({"name": name, **flags})
    state = "paused" if on else "not paused"
    with opened(config) as store:
        election = chosen_election(store, config)
        found = store.exchange(election, Exchange()).record
        result = {"election": election, "paused": on}
        if (found.paused if found else False) == on:
            return output(f"{election} is {state} already.", result, as_json=as_json)
        order(store, election, lambda record, _: (replace(record, paused=on), "pause" if on else "resume"))
    return output(f"{election} is {state}.", result, as_json=as_json)


@click.command()
@click.argument("member", required=False, metavar="[MEMBER]")
@click.option("--undo", is_flag=True, help="Let it lead again.")
@click.option("--wait", is_flag=True, help="Wait until it does not lead any more.")
@duration_option("--limit", "limit_s", default="2m", help="How long to wait.")
@json_option
@settings("name", *WHERE)
def drain(member: str | None, *, undo: bool, wait: bool, limit_s: float, as_json: bool, **flags: Any) -> int:
    """Keep one member from leading: it hands over if it leads, and does not take charge until `--undo`.

    Without MEMBER: the one on this host.

    \b
    heirflow drain host-a            before work on host-a
    heirflow drain host-a --wait     and only when it leads no more
    heirflow drain host-a --undo     afterwards
    """
    if wait and undo:
        raise click.UsageError("--wait and --undo contradict each other; give one of them")
    config = settled(flags)
    with opened(config) as store:
        election = chosen_election(store, config)
        reading = store.exchange(election, Exchange())
        row = find_member(Snapshot.of(election, reading), reading.members, member or config["host"])
        if not store.drain(election, row.id, not undo):
            raise Refused(f"{row.id} has left the line")
        if row.drained == undo:
            because = f"{row.id} is {'drained no more' if undo else 'drained'}, ordered by {somebody()}"
            term = 0 if reading.record is None else reading.record.term
            try:
                store.exchange(election, Exchange(notes=(Event(What.ORDERED, term, somebody(), because),)))
            except StoreUnavailable as error:  # the order stands
                warn(f"the history does not tell of it: {masked(str(error))}")
        if wait:
            _await_drained(store, election, row.id, limit_s)
    result = {"election": election, "member": row.id, "drained": not undo}
    return output(
        f"{election}: {row.id} {'is not drained any more' if undo else 'is drained'}.", result, as_json=as_json
    )


def _await_drained(store: Store, election: str, member: str, limit_s: float) -> None:
    ends_at = time.monotonic() + limit_s
    while (record := store.exchange(election, Exchange()).record) is not None and record.leader == member:
        if time.monotonic() > ends_at:
            raise NotInTime(f"{member} is drained and still leads: it hands over as soon as another member is ready")
        time.sleep(LOOK_EVERY_S)


def order(store: Store, election: str, change: Callable[[Record, Reading], tuple[Record, str]]) -> Record:
    """Replace the record by what `change` makes of it; returns what stood there before.

    `change` also says what is ordered, and raises `Refused` when it makes no sense. Losing the swap to a renewal is
    usual, so it is tried again.
    """
    for _ in range(TRIES):
        reading = store.exchange(election, Exchange())
        record = reading.record
        if record is None:
            raise Refused(f"{election} has had no leader yet, so nobody can carry out the order")
        changed, what = change(record, reading)
        because = f"{what}, ordered by {somebody()}"
        event = Event(What.ORDERED, record.term, somebody(), because)
        swap = Swap(
            record.version,
            replace(changed, version=record.version + 1),
            event,
            news=True,
            under=reading.history,
            expected_term=record.term,
        )
        if store.exchange(election, Exchange(swap=swap)).swapped:
            return record
    raise NotInTime(f"the record changed {TRIES} times while the order was written; try again")
