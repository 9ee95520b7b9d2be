"""`heirflow forget`: take an election that nobody needs any more out of the store.

A record is never deleted while somebody may believe it: whoever finds none takes charge at once. So nobody may be heard, by the
store's clock, and then the record and the line must stand still for a whole lease on our own. What is deleted is what stood there.
"""

from __future__ import annotations

import time
from typing import Any

import click

from heirflow.cli.common import WHERE, elections_known, json_option, opened, output, settings, settled
from heirflow.election.record import Exchange, Reading
from heirflow.status import Snapshot
from heirflow.steering.orders import Refused
from heirflow.steering.places import chosen_election
from heirflow.stores import Store
from heirflow.text import printable

LOOK_EVERY_S = 0.2


@click.command()
@click.argument("name", shell_complete=elections_known)
@json_option
@settings(*WHERE)
def forget(name: str, *, as_json: bool, **flags: Any) -> int:
    """Take an election out of the store, with its line and its history. Refused while a member of it is heard.

    Where somebody led it last, or stood in its line, it first watches for a lease that nobody is heard again. The terms of a new
    election of this name begin at 1 again, and the fence does not know its earlier leaders any more.
    It needs the right to delete from HeirFlow's tables, which their owner has.

    \b
    heirflow forget old-poller
    """
    config = settled({"name": name, **flags})
    with opened(config) as store:
        election = chosen_election(store, config)
        seen = store.exchange(election, Exchange())
        heard = [row.member for row in Snapshot.of(election, seen).succession if not row.silent]
        if heard:
            raise Refused(f"{', '.join(heard)} of {election} checked in just now; stop its members first")
        if seen.members or any(place.record is not None and place.record.leader for place in seen.places):
            _watch(store, election, seen, quiet=as_json)
        if not store.forget(election, seen):
            raise Refused(f"{election} has changed just now; nothing is deleted")
    return output(f"{election} is forgotten.", {"election": election, "forgotten": True}, as_json=as_json)


def _watch(store: Store, election: str, seen: Reading, *, quiet: bool) -> None:
    """For a lease, of several seats the longest. Raises `Refused` where anything changes."""
    ttl_s = max(seat.ttl_s for seat in Snapshot.of(election, seen).by_seat)
    if not quiet:
        click.echo(printable(f"{election}: watching for {ttl_s:g} s that nobody is heard …"), err=True)
    ends_at = time.monotonic() + ttl_s
    while (left_s := ends_at - time.monotonic()) > 0:
        time.sleep(min(LOOK_EVERY_S, left_s))
        now = store.exchange(election, Exchange())
        if _said(now) != _said(seen):
            raise Refused(f"somebody of {election} is heard again; stop its members first")


def _said(reading: Reading) -> object:
    records = [place.record for place in reading.places]
    versions = [None if record is None else (record.term, record.version) for record in records]
    return versions, sorted((row.id, row.stamp) for row in reading.members)
