"""What a role may do with HeirFlow's tables, for `heirflow doctor`. Nothing here decides anything.

Rights on rows are found out by asking for them with statements that change no row: so each database answers by its own rules,
wherever a right comes from (a role, a group, a column). docs/security.md says what members, operators and readers need.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from heirflow.errors import first_line
from heirflow.stores.base import Finding, StoreMisfit
from heirflow.stores.sql.flavour import Flavour
from heirflow.stores.sql.schema import LATER, VERSION, Tables, check, version_of

GRANTS = "docs/security.md has the GRANTs"


class _Refused(Exception):
    """This role may not do that; the message is the server's."""


def rights(conn: sa.engine.Connection, flavour: Flavour, here: Tables, *, writable: bool) -> list[Finding]:
    """Whether the tables are there, and what this role may do with them. Leaves its transaction to the caller.

    `writable`: whether the server takes writes at all; where it takes none, it says nothing about the role.
    """
    try:
        with _trial(conn, flavour):
            version = version_of(conn, here)
            if version is not None:
                _carry_out(conn, *(_idle(table, "SELECT") for table in (here.election, here.member, here.event)))
    except StoreMisfit as error:
        return [Finding("tables", "problem", str(error))]
    except _Refused as error:
        return [Finding("rights", "problem", f"this role may not read HeirFlow's tables ({error}); {GRANTS}")]
    may_create = flavour.may_create(conn, here)
    if version is None:
        return [_absent(may_create)]
    try:
        check(version, create=False)
    except StoreMisfit as error:
        return [Finding("tables", "problem", str(error))]
    found = []
    if version.version > VERSION:
        newer = f"the tables are of version {version.version}, which this HeirFlow ({VERSION}) can use; upgrade it soon"
        found.append(Finding("tables", "note", newer))
    if (hidden := flavour.hides(conn, here)) is not None:
        found.append(Finding("rights", "warning", hidden))
    return [*found, _on_rows(conn, flavour, here, may_create)] if flavour.roles and writable else found


def ask(conn: sa.engine.Connection, statement: str) -> Any | None:
    """The first row; None when there is none, or the server does not know the question, or does not let this role ask it."""
    try:
        with conn.begin_nested():
            return conn.exec_driver_sql(statement).first()
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise
        return None


def hidden_by_postgres(conn: sa.engine.Connection, here: Tables) -> str | None:
    """See `Flavour.hides`: PostgreSQL's row-level security shows a role only the rows that a policy names."""
    quote = conn.dialect.identifier_preparer.format_table
    hiding = [
        table.name
        for table in (here.election, here.member, here.event)
        if conn.execute(sa.select(sa.func.row_security_active(sa.literal(quote(table))))).scalar()
    ]
    if not hiding:
        return None
    switch = "; ".join(f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY" for name in hiding)
    return (
        f"row-level security is switched on for {' and '.join(hiding)}, so this role may not see every row there; "
        f"switch it off ({switch}) or give the role a policy for all rows"
    )


def may_create_postgres(conn: sa.engine.Connection, here: Tables) -> bool | None:
    """See `Flavour.may_create`. Without a schema that this role may use, the answer is NULL, which is a no."""
    schema = "current_schema()" if here.metadata.schema is None else "'" + here.metadata.schema.replace("'", "''") + "'"
    row = ask(conn, f"SELECT has_schema_privilege({schema}, 'CREATE')")
    return None if row is None else bool(row[0])


def may_create_mysql(conn: sa.engine.Connection) -> bool | None:
    """See `Flavour.may_create`. What comes with a role of the server's is not listed, so that a role leaves it open."""
    listed = ask(
        conn,
        "SELECT 1 FROM information_schema.user_privileges WHERE privilege_type = 'CREATE' UNION ALL "
        "SELECT 1 FROM information_schema.schema_privileges WHERE privilege_type = 'CREATE' AND DATABASE() LIKE table_schema",
    )
    if listed is not None:
        return True
    role = ask(conn, "SELECT CURRENT_ROLE()")
    return False if role is None or role[0] in {None, "NONE"} else None


def _absent(may_create: bool | None) -> Finding:
    if may_create:
        return Finding("tables", "note", "HeirFlow's tables are not there yet; the first member makes them")
    if may_create is None:
        unseen = "HeirFlow's tables are not there, and whether this role may make them could not be seen"
        return Finding("tables", "warning", f"{unseen}; try `heirflow init`")
    wanting = "HeirFlow's tables are not there and this role may not make them; run `heirflow init` as a role that may"
    return Finding("tables", "problem", wanting)


def _on_rows(conn: sa.engine.Connection, flavour: Flavour, here: Tables, may_create: bool | None) -> Finding:
    """Whether this role is one for a member. For another one that is a warning only: readers and operators ask too."""
    if lacks := _lacks(conn, flavour, here):
        drain = here.member.update().where(sa.false()).values(drained=here.member.c.drained)
        orders = _may(conn, flavour, _idle(here.election, "UPDATE"), drain, _idle(here.event, "INSERT"))
        good = "reading and orders, not for a member" if orders else "reading, not for orders or a member"
        named = "; ".join(f"{', '.join(verbs)} on {table}" for table, verbs in lacks.items())
        sentence = f"this role is good for {good}: it lacks {named} (docs/security.md)"
        return Finding("rights", "warning", sentence, {"lacks": lacks})
    prunes = _may(conn, flavour, _idle(here.event, "DELETE"))
    may = "this role may do all that a member does" + ("" if prunes else ", but not delete old history")
    if may_create is False:
        more = "and may not make tables: upgrades need `heirflow init` as another"
        return Finding("rights", "note", f"{may}, {more}", {"lacks": lacks})
    return Finding("rights", "ok", f"{may}, and may make tables" if may_create else may, {"lacks": lacks})


def _lacks(conn: sa.engine.Connection, flavour: Flavour, here: Tables) -> dict[str, list[str]]:
    """Table -> what a member must be allowed there, and this role is not."""
    wanted = {
        (table.name, verb): _idle(table, verb)
        for table, verbs in (
            (here.election, ("INSERT", "UPDATE")),
            (here.member, ("INSERT", "UPDATE", "DELETE")),
            (here.event, ("INSERT",)),
        )
        for verb in verbs
    }
    lacks: dict[str, list[str]] = {}
    if not _may(conn, flavour, *wanted.values()):
        for (table, verb), statement in wanted.items():
            if not _may(conn, flavour, statement):
                lacks.setdefault(table, []).append(verb)
    return lacks


def _idle(table: sa.Table, verb: str) -> Any:
    """A statement that needs this right and changes no row. It names no column that an older table lacks."""
    columns = [column for column in table.columns if column.identity is None and column.name not in LATER]
    nothing = sa.select(*columns).where(sa.false())
    if verb == "INSERT":
        return table.insert().from_select([column.name for column in columns], nothing)
    if verb == "UPDATE":
        return table.update().where(sa.false()).values({column.name: column for column in columns})
    return table.delete().where(sa.false()) if verb == "DELETE" else nothing


def _may(conn: sa.engine.Connection, flavour: Flavour, *statements: Any) -> bool:
    try:
        with _trial(conn, flavour):
            _carry_out(conn, *statements)
    except _Refused:
        return False
    return True


def _carry_out(conn: sa.engine.Connection, *statements: Any) -> None:
    for statement in statements:
        conn.execute(statement).close()


@contextmanager
def _trial(conn: sa.engine.Connection, flavour: Flavour) -> Iterator[None]:
    """What may be refused, without an end to the transaction. Raises `_Refused`."""
    try:
        with conn.begin_nested():
            yield
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated or not flavour.refuses(error.orig or error):
            raise
        raise _Refused(first_line(error)) from None
