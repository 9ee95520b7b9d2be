"""`heirflow switchover`: the order to one leader to hand over, and the wait until it has."""

from __future__ import annotations

import time
from typing import Any

import click

from heirflow.cli.common import WHERE, duration_option, json_option, name_argument, opened, output, settings, settled
from heirflow.cli.orders import LOOK_EVERY_S
from heirflow.election.record import Exchange, Record
from heirflow.status import duration
from heirflow.steering.orders import NotInTime, Order
from heirflow.steering.places import chosen_election
from heirflow.steering.switchover import LeadsAlready, handed_over, named, not_yet, order_switchover, ordered
from heirflow.stores import Store
from heirflow.text import printable


@click.command()
@name_argument
@click.option(
    "--to", "target", metavar="MEMBER", help="The member that is to lead: its id, the beginning of its id, or its host."
)
@click.option(
    "--from",
    "leaving",
    metavar="SEAT|MEMBER",
    help="Of several seats, the one that is handed over: its number, or the member that leads it, named as with --to.",
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until the other member leads.")
@duration_option("--limit", "limit_s", default="2m", help="How long to wait.")
@json_option
@settings(*WHERE)
def switchover(
    name: str | None,
    *,
    target: str | None,
    leaving: str | None,
    wait: bool,
    limit_s: float,
    as_json: bool,
    **flags: Any,
) -> int:
    """Let another member take charge: the heir, or the one that you name.

    The leader stops its command in order, makes sure that it is gone, and joins the line again at its end. Where an election
    has several seats, --from says which of them is handed over.

    \b
    heirflow switchover
    heirflow switchover airflow-scheduler --to host-b
    heirflow switchover airflow-scheduler --from 2
    """
    config = settled({"name": name, **flags})
    with opened(config) as store:
        election = chosen_election(store, config)
        began = time.monotonic()
        try:
            given, to, several = order_switchover(store, election, target, leaving)
        except LeadsAlready as leads:
            record = leads.order.before
            result: dict[str, Any] = {"election": election, "seat": leads.order.seat, "from": record.leader}
            result |= {"to": record.leader, "waited": wait, "term": record.term, "took_s": 0.0}
            return output(leads.sentence(election), result, as_json=as_json)
        before = given.before
        result = {"election": election, "seat": given.seat, "from": before.leader, "to": to, "waited": wait}
        if not wait:
            return output(ordered(election, given, to), result, as_json=as_json)
        if not as_json:
            click.echo(printable(f"{election}: {before.leader} hands over to {named(to)} …"), err=True)
        after = _await_switchover(store, election, given, to, began + limit_s)
    took_s = time.monotonic() - began
    result |= {"to": after.leader, "term": after.term, "took_s": round(took_s, 3)}
    what = f"seat {given.seat}, term {after.term}" if several else f"term {after.term}"
    sentence = f"{election}: {after.leader} leads {what}, {duration(took_s)} after the order."
    return output(sentence, result, as_json=as_json)


def _await_switchover(store: Store, election: str, given: Order, to: str, ends_at: float) -> Record:
    released = False
    while time.monotonic() < ends_at:
        record = store.exchange(election, Exchange()).record_of(given.seat)
        if record is not None:
            if handed_over(store, election, given, to, record):
                return record
            released = released or record.leader is None
        time.sleep(LOOK_EVERY_S)
    raise NotInTime(not_yet(election, given, released=released))
