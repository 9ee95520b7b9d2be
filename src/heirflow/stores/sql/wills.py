"""The will of a member, as a helper process with nothing but the bare driver can carry it out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from heirflow.election.record import Event, record_name
from heirflow.stores.base import Will
from heirflow.stores.sql.bound import is_rare, told_of
from heirflow.stores.sql.connecting import hosts_apart
from heirflow.stores.sql.flavour import Flavour
from heirflow.stores.sql.link import Link
from heirflow.stores.sql.statements import Statements, plain


def will_of(
    link: Link, flavour: Flavour, sql: Statements, election: str, event: Event, news: Sequence[tuple[str, Any]]
) -> Will | None:
    """What releases the term of which this event tells; None where that cannot be written down."""
    release = {
        "p_name": record_name(election, event.seat),
        "p_leader": event.member,
        "p_term": event.term,
        "p_because": event.because,
    }
    steps: list[tuple[Any, dict[str, Any]]] = [
        (sql.release, release),
        (sql.rare_note if is_rare(event) else sql.note, told_of(election, event, str)),
        (sql.delete, {"p_election": election, "p_id": event.member}),
    ]
    link.look_up()
    dialect = link.engine.dialect
    args, kwargs = dialect.create_connect_args(link.url)
    kwargs.pop("context", None)  # SQLAlchemy's type adapters for psycopg; the bare driver has its own
    kwargs |= link.options.get("connect_args", {})
    kwargs |= flavour.will_options(dialect)
    will = Will(
        module=link.dbapi.__name__.partition(".")[0],
        connect_args=list(args),
        connect_kwargs=kwargs,
        hosts=hosts_apart(flavour.places(kwargs)),
        statements=[plain(dialect, statement, values) for statement, values in steps],
        because=event.because,
        news=list(news),
    )
    try:
        json.dumps([will.connect_args, will.connect_kwargs, will.statements, will.news])
    except (TypeError, ValueError):
        return None  # something that lives only in this process, like a TLS context
    return will
