"""`heirflow history`: what happened, and why."""

from __future__ import annotations

from typing import Any

import click

from heirflow.cli.common import (
    WHERE,
    chosen_election,
    json_option,
    name_argument,
    opened,
    settings,
    settled,
    warn,
    write_json,
)
from heirflow.terminal import tables
from heirflow.terminal.history import HEAD, oddities, rows_of
from heirflow.text import printable


@click.command()
@name_argument
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="How many of the newest.",
)
@json_option
@settings(*WHERE)
def history(name: str | None, *, limit: int, as_json: bool, **flags: Any) -> int:
    """Show every change of leadership, with its cause and how long nobody led. The newest is last.

    \b
    heirflow history
    heirflow history airflow-scheduler --limit 100 --json
    """
    config = settled({"name": name, **flags})
    with opened(config) as store:
        election = chosen_election(store, config)
        events = store.events(election, limit)
    if (odd := oddities(events)) is not None:
        warn(odd)
    if as_json:
        write_json(
            {
                "election": election,
                "events": [
                    {
                        "at": event.at or None,
                        "term": event.term,
                        "what": event.word,
                        "member": event.member,
                        "took_s": event.took_s,
                        "because": event.because,
                    }
                    for event in events
                ],
            }
        )
        return 0
    rows = rows_of(events)
    if not rows:
        click.echo(f"Nothing has happened in {printable(election)} yet.")
    elif tables.on_terminal():
        tables.show(tables.rich_table(HEAD, rows))
    else:
        click.echo(tables.plain_table(HEAD, rows))
    return 0
