"""`heirflow fence`: keep members that led before out of PostgreSQL, for good."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from heirflow.cli.common import WHERE, json_option, opened, output, settings, settled, write_json
from heirflow.config.resolve import Config
from heirflow.steering.places import place, store_for_people
from heirflow.stores import Finding, is_coordinator, kind_of
from heirflow.stores.base import KeptOut
from heirflow.text import masked, printable

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from heirflow.stores.sql.schema import Tables

T = TypeVar("T")
LINGER_S = 5.0
"""How long `remove` goes on logging in."""


@click.group()
def fence() -> None:
    """Keep members that led before out of the database (PostgreSQL 17 and later).

    A leader always ends the sessions of earlier leaders. The login trigger also refuses them when they come back, for example
    from a machine that was frozen for longer than its lease. A superuser installs it once for each database.

    \b
    HEIRFLOW_DB_URL_FILE=superuser-url heirflow fence install
    heirflow fence status
    """


@fence.command()
@json_option
@settings(*WHERE)
def install(*, as_json: bool, **flags: Any) -> int:
    """Install the login trigger. It needs a superuser, once. It is safe to run again.

    \b
    HEIRFLOW_DB_URL_FILE=superuser-url heirflow fence install
    """
    from heirflow.stores.sql.fence_login import install as make

    config = settled(flags)
    _by_superuser(config, make)
    shown = place(config)
    sentence = f"members that led before are refused at login by {shown}"
    return output(sentence, {"database": shown, "installed": True, "sentence": sentence}, as_json=as_json)


@fence.command()
@json_option
@settings(*WHERE)
def remove(*, as_json: bool, **flags: Any) -> int:
    """Remove the login trigger. Leaders still end the sessions of earlier leaders.

    \b
    HEIRFLOW_DB_URL_FILE=superuser-url heirflow fence remove
    """
    from heirflow.stores.sql.fence_login import remove as undo

    config = settled(flags)
    there = _by_superuser(config, lambda conn, _: undo(conn))
    lingers = _lingers(config)
    shown = place(config)
    sentence = f"the login trigger is gone from {shown}" if there else f"there was no login trigger in {shown}"
    if lingers:
        sentence += "; its hot standbys refuse every login until somebody has logged in to it on the primary"
    return output(sentence, {"database": shown, "removed": there, "sentence": sentence}, as_json=as_json)


@fence.command()
@json_option
@settings("name", *WHERE)
def status(*, as_json: bool, **flags: Any) -> int:
    """Say whether members that led before are kept out. Exit code 1 when nothing but their lease keeps them out.

    \b
    heirflow fence status
    heirflow fence status --json | jq -r .state
    """
    finding = _finding(settled(flags))
    if as_json:
        write_json({**finding.facts, "sentence": finding.sentence})
    else:
        click.echo(printable(masked(finding.sentence), 1000))
    return int(finding.facts["state"] is KeptOut.LEASE_ONLY)


def _finding(config: Config) -> Finding:
    with opened(config) as store:
        return store.fence()


def _lingers(config: Config) -> bool:
    """Log in until the primary has seen that it has no login trigger; whether it would not in all this time."""
    from heirflow.stores.sql.fence_login import lingers, pinned

    args = pinned(config.db_url, config.connect_args)
    looking = replace(config, connect_args={**args, "options": f"{args['options']} -c event_triggers=on"})
    until = time.monotonic() + LINGER_S
    while _by_superuser(looking, lambda conn, _: lingers(conn)):
        if time.monotonic() > until:
            return True
        time.sleep(0.1)  # another login was under way, and the server asks only once for what it needs
    return False


def _by_superuser(config: Config, act: Callable[[Connection, Tables], T]) -> T:
    """Do something in one transaction. Raises `FenceTrouble` where there is no such trigger."""
    from heirflow.stores.sql.fence_login import FenceTrouble, pinned
    from heirflow.stores.sql.store import SqlStore

    if is_coordinator(config.db_url):
        raise FenceTrouble(
            f"the record is in {kind_of(config.db_url)}, and a login trigger asks its own database who leads: it works only where "
            "the record is in the database that it guards; HEIRFLOW_TERM tells a command its term everywhere"
        )
    is_postgres = kind_of(config.db_url) == "postgresql"
    if is_postgres:
        config = replace(config, connect_args=pinned(config.db_url, config.connect_args))
    store = store_for_people(config)
    assert isinstance(store, SqlStore)
    try:
        if not is_postgres:
            raise FenceTrouble(f"only PostgreSQL 17 and later has login triggers; this is {store.where}")
        return store.administer(act)
    finally:
        store.close()
