"""`heirflow pause`, `resume` and `drain`, and what a switchover shares with them: orders, which leaders obey at the next check-in.

An order is written into the record by the same swap that leaders use: it can lose to a renewal, and is then tried again
on what stands there now. It never changes who leads by itself. Of several seats, each has a record of its own: one of them hands
over, and all of them pause.
"""

from __future__ import annotations

import time
from typing import Any

import click

from heirflow.cli.common import (
    WHERE,
    duration_option,
    json_option,
    name_argument,
    opened,
    output,
    settings,
    settled,
    warn,
)
from heirflow.election.record import Exchange
from heirflow.steering.orders import NotInTime, seats_led, set_drained, set_paused
from heirflow.steering.places import chosen_election
from heirflow.stores import Store

TRIES = 10
LOOK_EVERY_S = 0.1


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
    with opened(config) as store:
        election = chosen_election(store, config)
        sentence = set_paused(store, election, on=on)
    return output(sentence, {"election": election, "paused": on}, as_json=as_json)


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
        drained, sentence = set_drained(store, election, member or config["host"], on=not undo, tell=warn)
        if wait:
            _await_drained(store, election, drained, limit_s)
    result = {"election": election, "member": drained, "drained": not undo}
    return output(sentence, result, as_json=as_json)


def _await_drained(store: Store, election: str, member: str, limit_s: float) -> None:
    ends_at = time.monotonic() + limit_s
    while seats_led(store.exchange(election, Exchange()), member):
        if time.monotonic() > ends_at:
            raise NotInTime(f"{member} is drained and still leads: it hands over as soon as another member is ready")
        time.sleep(LOOK_EVERY_S)
