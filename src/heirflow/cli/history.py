"""`heirflow history`: what happened, and why."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import click

from heirflow.cli.common import WHERE, json_option, name_argument, opened, settings, settled, warn, write_json
from heirflow.config.readers import read_duration
from heirflow.election.record import Event, Exchange
from heirflow.status.history import Row, added, facts_of, has_seats, in_order, oddities, rows_of
from heirflow.steering.places import chosen_election
from heirflow.stores import Store, StoreUnavailable
from heirflow.terminal import tables
from heirflow.terminal.history import cells_of, table_of, with_seat
from heirflow.text import masked, printable

LOOK_EVERY_S = 1.0
MOST = 10_000
NEWEST = 200
"""So many are looked at for what is new."""
Moment = Callable[[float], float]
"""Seconds since 1970, from the time that it is now."""


def _moment(ctx: click.Context, option: click.Parameter, text: str | None) -> Moment | None:
    if text is None:
        return None
    try:
        ago_s = read_duration(text)
        return lambda now: now - ago_s
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        wanted = "must be a duration like 2h or 7d, or a time like 2026-11-29T03:00"
        raise click.BadParameter(wanted, ctx, option) from None
    return lambda _now: at


@click.command()
@name_argument
@click.option(
    "--limit",
    type=click.IntRange(1, MOST),
    default=None,
    help="How many of the newest.  [default: 20, and all with --since]",
)
@click.option(
    "--since", metavar="WHEN", callback=_moment, help="Only what happened since then: 2h, 7d, or 2026-11-29T03:00."
)
@click.option("--follow", is_flag=True, help="Go on and show what happens, until Ctrl-C; with --json a line each.")
@json_option
@settings(*WHERE)
def history(
    name: str | None, *, limit: int | None, since: Moment | None, follow: bool, as_json: bool, **flags: Any
) -> int:
    """Show every change of leadership, with its cause and how long nobody led. The newest is last.

    Each is shown at the time at which it happened. What a member could tell the database only later says so.
    A command that ends again and again is one row, which counts. Where an election has several seats, each row says which one
    it is about.

    \b
    heirflow history
    heirflow history airflow-scheduler --since 2h --json
    heirflow history --follow
    """
    config = settled({"name": name, **flags})
    most = limit or (20 if since is None else MOST)
    with opened(config) as store:
        election = chosen_election(store, config)
        known = store.events(election, most)
        since_s = 0.0 if since is None else since(store.exchange(election, Exchange()).db_now)
        events = in_order([event for event in known if not event.at or event.at >= since_s])
        if (odd := oddities(events)) is not None:
            warn(odd)
        rows = rows_of(events)
        if follow:
            _follow(store, election, known, rows, as_json=as_json)
    if as_json:
        write_json({"election": election, "events": [facts_of(row) for row in rows]})
    elif not rows:
        click.echo(f"Nothing has happened in {printable(election)} {'yet' if since is None else 'since then'}.")
    elif tables.on_terminal():
        tables.show(tables.rich_table(*table_of(rows)))
    else:
        click.echo(tables.plain_table(*table_of(rows), limit=tables.WHOLE))
    return 0


def _follow(store: Store, election: str, known: Sequence[Event], rows: Sequence[Row], *, as_json: bool) -> None:
    """Write these and then each new one, in lines, until Ctrl-C. A store that does not answer is told once, and asked again."""
    trouble, seats = "", False
    while True:
        seats = seats or has_seats(rows)
        for row in rows:
            if as_json:
                write_json({"election": election, **facts_of(row)}, line=True)
            else:
                click.echo(_line_of(row, seats=seats))
        sys.stdout.flush()
        time.sleep(LOOK_EVERY_S)
        before, rows = known, ()
        try:
            known = store.events(election, NEWEST)
            trouble = ""
        except StoreUnavailable as error:
            if not trouble:
                warn(f"{masked(str(error))}; it is asked again")
            trouble = str(error)
        else:
            rows = [Row(event) for event in in_order(added(before, known))]


def _line_of(row: Row, *, seats: bool) -> str:
    """There is no head above it. `seats`: whether it must say which one it is about."""
    cells = with_seat(cells_of(row), f"seat {row.event.seat}") if seats else cells_of(row)
    return "  ".join(printable(cell) for cell in cells if cell)
