"""The login trigger of PostgreSQL 17 and later: who led before and leads no more is refused at the door.

What it must never do, and why it cannot:

- *Lock somebody out.* It looks at nobody whose session is not named ``heirflow/…``, nor at a superuser; and any error in what it
  looks up lets the login pass. A superuser can also leave all such triggers out: ``PGOPTIONS='-c event_triggers=off'``.
  In a copy of its database it does nothing: who was deposed there may lead where the copy was made.
- *Give rights away.* It runs as the role ``heirflow_fence``, which nobody is a member of, which may not log in, and which may
  read two tables. It must not run as a superuser: whoever owns those tables could put a view with a function of their own in
  their place. Nor may the owner of the tables own the function: they could change it, and it runs at a superuser's login.
  Function and role live in a schema that only a superuser may change, the search path is pinned, every name is qualified.
  A restored dump can leave the functions to the superuser who restored it, so both look first whom they run as. What such
  a view's function leaves behind in a session (settings outlive a function) is taken back with the look itself.

A member is refused when the history says that it led a term and no record names it as leader now. A warm standby's sessions
have another name until its gate opens, and a member that leads again is named by the record again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from heirflow.errors import HeirflowError
from heirflow.stores.base import StoreMisfit
from heirflow.stores.sql.schema import Tables

NAME = "heirflow_fence"
"""Of the event trigger, the schema and the role."""
OLDEST = 170000

_DOOR = """
DECLARE
  given pg_catalog.text := pg_catalog.current_setting('application_name', true);
  refusal pg_catalog.text;
BEGIN
  IF current_user = 'heirflow_fence' AND pg_catalog.starts_with(given, 'heirflow/') THEN
    BEGIN
      refusal := heirflow_fence.refusal(pg_catalog.regexp_replace(pg_catalog.substr(given, 10), '/[0-9]+$', ''));
      RAISE EXCEPTION 'looked';
    EXCEPTION WHEN query_canceled OR assert_failure OR OTHERS THEN
      NULL;
    END;
    IF refusal IS NOT NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'invalid_authorization_specification', MESSAGE = refusal;
    END IF;
  END IF;
END
"""
"""Runs at every login; short, because every new session compiles it. What was found outlives the error that takes back the rest."""

_REFUSAL = """
DECLARE
  said pg_catalog.text;
BEGIN
  IF current_user <> 'heirflow_fence' OR pg_catalog.pg_is_in_recovery()
     OR (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = session_user)
     OR NOT EXISTS (SELECT FROM pg_catalog.pg_database d
                     WHERE d.oid = {database} AND d.datname = pg_catalog.current_database()) THEN
    RETURN NULL;
  END IF;
  IF EXISTS (SELECT FROM {election} e WHERE e.leader = its_id) THEN
    RETURN NULL;
  END IF;
  SELECT pg_catalog.format(
           'heirflow: %s led term %s of %selection %s, which is in term %s now%s: its sessions are refused',
           its_id, v.term, pg_catalog.concat('seat ' || v.seat || ' of '), v.election, e.term,
           pg_catalog.concat(', led by ' || e.leader))
    INTO said
    FROM (SELECT t.id, t.election, t.term, NULLIF(pg_catalog.to_jsonb(t) ->> 'seat', '1') AS seat FROM {event} t
           WHERE t.member = its_id AND t.what = 'took charge') v
    JOIN {election} e ON e.name = pg_catalog.concat(v.election, '#' || v.seat)
   ORDER BY v.id DESC LIMIT 1;
  RETURN said;
END
"""
"""Our tables stand in no statement that a superuser plans, or a copy: planning alone can call the functions of a view.

The column `seat` is null for the first seat, and older tables lack it: so it is asked for by its name, in the whole row.
"""

_DATABASE = sa.text("SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()")
_INSTALLED = sa.text(
    "SELECT t.evtevent = 'login' AND t.evtenabled IN ('O', 'A') AND current_setting('event_triggers') = 'on' AS looks, "
    "p.prosrc AS door, f.prosrc AS refusal, "
    "p.prosecdef AND f.prosecdef AND w.rolname = :name AND p.proowner = f.proowner AS ours "
    "FROM pg_catalog.pg_event_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.evtfoid "
    "JOIN pg_catalog.pg_roles w ON w.oid = p.proowner "
    "LEFT JOIN pg_catalog.pg_proc f ON f.pronamespace = p.pronamespace AND f.proname = 'refusal' "
    "WHERE t.evtname = :name"
)
_LINGERS = sa.text(
    "SELECT d.dathasloginevt AND NOT EXISTS ("
    "SELECT FROM pg_catalog.pg_event_trigger t WHERE t.evtevent = 'login' AND t.evtenabled IN ('O', 'A')) "
    "FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()"
)
_AGAIN = "run `heirflow fence install` again"


class FenceTrouble(HeirflowError):
    """The login trigger cannot be installed or removed; the message says why."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether the login trigger keeps anybody out."""

    state: str
    """``installed``, ``absent``, ``broken`` or ``impossible``."""
    sentence: str


def pinned(url: str, connect_args: Mapping[str, Any]) -> dict[str, Any]:
    """`connect_args` for a superuser's connection, in which a name without a schema means what PostgreSQL itself calls so.

    A database's owner may set another meaning for every session there, and so have a superuser call functions of theirs.
    Options of the connection go before that; those that the superuser gave come last, and win.
    """
    given: str | tuple[str, ...] = connect_args.get("options", "")
    with suppress(sa.exc.ArgumentError, ValueError):  # who opens it says what is wrong with it
        given = given or sa.engine.make_url(url).query.get("options", "")
    given = " ".join(given) if isinstance(given, tuple) else given or os.environ.get("PGOPTIONS", "")
    return {**connect_args, "options": f"-c search_path=pg_catalog -c check_function_bodies=on {given}".strip()}


def condition(conn: sa.engine.Connection, here: Tables) -> Condition:
    """What any role can see about the trigger in this database."""
    version, shown = _version(conn)
    if version < OLDEST:
        return Condition("impossible", f"login triggers need PostgreSQL 17 or later, this is {shown.split()[0]}")
    row = conn.execute(_INSTALLED, {"name": NAME}).first()
    if row is None:
        return Condition("absent", "`heirflow fence install`, once and by a superuser, also refuses their logins")
    try:
        election, told = _tables(here, schema_of(conn, here))
    except StoreMisfit as error:
        return Condition("broken", f"the login trigger {NAME} is there, and {error}")
    if not row.looks:
        return Condition("broken", f"the login trigger {NAME} is there and turned off")
    if another := _another_line(conn, election):
        return Condition("broken", f"the login trigger looks at {another}, and a database has one only")
    refusal = _refusal(conn, election, told)
    if row.refusal != refusal and _anywhere(row.refusal or "") == _anywhere(refusal):
        return Condition("broken", f"the login trigger is that of another database, and does nothing here; {_AGAIN}")
    if not (row.ours and row.door == _DOOR and row.refusal == refusal):
        return Condition("broken", f"the login trigger is outdated or changed; {_AGAIN}")
    for table in (election, told):
        if not conn.execute(
            sa.text("SELECT pg_catalog.has_table_privilege(:role, :table, 'SELECT')"), {"role": NAME, "table": table}
        ).scalar():
            return Condition("broken", f"the login trigger may not read {table}; {_AGAIN}")
    return Condition("installed", "the login trigger is installed")


def install(conn: sa.engine.Connection, here: Tables) -> None:
    """Make role, schema, function and trigger, or make them anew. Raises `FenceTrouble`; leaves the commit to the caller."""
    state = condition(conn, here)
    if state.state == "impossible":
        raise FenceTrouble(f"{state.sentence}; there a leader ends sessions and cannot refuse logins")
    if not conn.execute(sa.text("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")).scalar():
        raise FenceTrouble("only a superuser may make a login trigger; give --db-url-file with the URL of one, once")
    _refuse_foreign(conn)
    schema = schema_of(conn, here)
    if "$" in schema:  # it will stand in a quoted function body
        raise FenceTrouble(f"the schema {schema!r} has a dollar sign in its name, which the login trigger cannot have")
    election, event = _tables(here, schema)
    if another := _another_line(conn, election):
        raise FenceTrouble(
            f"the login trigger of this database looks at {another}, and there is one only; `heirflow fence remove` "
            f"first, if it shall look at {election}"
        )
    refusal = _refusal(conn, election, event)

    def run(statement: str) -> None:
        conn.exec_driver_sql(statement.replace("%", "%%"))

    run(_LOCAL)
    run("SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)")
    if not _exists(conn, "role"):
        run(f"CREATE ROLE {NAME} NOLOGIN NOINHERIT")
    if not _exists(conn, "schema"):
        run(f"CREATE SCHEMA {NAME}")
    run(f"GRANT USAGE ON SCHEMA {_quoted(schema)} TO {NAME}")
    run(f"GRANT SELECT ON {election}, {event} TO {NAME}")
    run(f"DROP EVENT TRIGGER IF EXISTS {NAME}")
    run(f"GRANT USAGE ON SCHEMA {NAME} TO {NAME}")
    pinned = "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
    for function, returns, body in (
        (
            "refusal(its_id pg_catalog.text)",
            "pg_catalog.text",
            f"SET lock_timeout = '500ms' AS $heirflow${refusal}$heirflow$",
        ),
        ("login()", "event_trigger", f"AS $heirflow${_DOOR}$heirflow$"),
    ):
        run(f"DROP FUNCTION IF EXISTS {NAME}.{function}")
        run(f"CREATE FUNCTION {NAME}.{function} RETURNS {returns} {pinned} {body}")
        run(f"ALTER FUNCTION {NAME}.{function} OWNER TO {NAME}")
        run(f"REVOKE ALL ON FUNCTION {NAME}.{function} FROM PUBLIC")
    run(f"CREATE EVENT TRIGGER {NAME} ON login EXECUTE FUNCTION {NAME}.login()")
    run(f"ALTER EVENT TRIGGER {NAME} ENABLE ALWAYS")


def remove(conn: sa.engine.Connection) -> bool:
    """Undo `install`; False when there was nothing. The role stays while another database has a trigger of its own."""
    there = _exists(conn, "trigger") or _exists(conn, "schema")
    if not conn.execute(sa.text("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")).scalar():
        raise FenceTrouble("only a superuser may remove a login trigger; give --db-url-file with the URL of one")
    _refuse_foreign(conn)
    run = conn.exec_driver_sql
    run(_LOCAL)
    run(f"DROP EVENT TRIGGER IF EXISTS {NAME}")
    run(f"DROP SCHEMA IF EXISTS {NAME} CASCADE")
    if _exists(conn, "role"):
        run(f"DROP OWNED BY {NAME}")
        savepoint = conn.begin_nested()
        try:
            run(f"DROP ROLE {NAME}")
        except sa.exc.DBAPIError:
            savepoint.rollback()
        else:
            savepoint.commit()
    return there


def lingers(conn: sa.engine.Connection) -> bool:
    """Whether this database still looks for login triggers though it has none.

    The next login to the primary ends that. Until then every login to a hot standby tries to, may not, and fails.
    """
    return _version(conn)[0] >= OLDEST and bool(conn.execute(_LINGERS).scalar())


def schema_of(conn: sa.engine.Connection, here: Tables) -> str:
    """Where HeirFlow's tables are. Raises `StoreMisfit` when that is nowhere, or not clear."""
    if here.metadata.schema is not None:
        return here.metadata.schema
    found = conn.execute(_SCHEMAS).all()
    names = sorted(name for name, visible in found if visible) or sorted(name for name, _ in found)
    if len(names) == 1:
        return str(names[0])
    if not names:
        raise StoreMisfit("HeirFlow's tables are not in this database; run `heirflow init` first")
    raise StoreMisfit(
        f"HeirFlow's tables are in several schemas ({', '.join(names)}); name one with options=-csearch_path=…"
    )


def _tables(here: Tables, schema: str) -> tuple[str, str]:
    return f"{_quoted(schema)}.{here.election.name}", f"{_quoted(schema)}.{here.event.name}"


def _refusal(conn: sa.engine.Connection, election: str, event: str) -> str:
    return _REFUSAL.format(election=election, event=event, database=conn.execute(_DATABASE).scalar_one())


def _anywhere(refusal: str) -> str:
    """The same for every database."""
    return re.sub(r"d\.oid = \d+", "d.oid =", refusal)


def _another_line(conn: sa.engine.Connection, election: str) -> str | None:
    """The tables of another schema, still there, that the trigger of this database looks at."""
    looks_at = conn.execute(_LOOKS_AT, {"name": NAME}).scalar() or ""
    table = election.rpartition(".")[2]
    others = {f"{_quoted(schema)}.{table}" for schema, _ in conn.execute(_SCHEMAS).all()} - {election}
    return next((other for other in sorted(others) if f" {other} e " in looks_at), None)


def _version(conn: sa.engine.Connection) -> tuple[int, str]:
    """As a number, and as it is shown."""
    number, shown = conn.execute(_VERSION).one()
    return number, shown


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _exists(conn: sa.engine.Connection, what: str) -> bool:
    """Whether there is a role, a schema or an event trigger of our name."""
    return conn.execute(_THERE[what], {"name": NAME}).first() is not None


_LOCAL = "SET LOCAL synchronous_commit = 'local'"
"""Making or dropping the trigger locks every login out until its commit, which must not wait for a standby that is lost."""
_VERSION = sa.text("SELECT CAST(current_setting('server_version_num') AS integer), current_setting('server_version')")
_SCHEMAS = sa.text(
    "SELECT n.nspname, pg_catalog.pg_table_is_visible(c.oid) FROM pg_catalog.pg_class c "
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relname = 'heirflow_election' AND c.relkind IN ('r', 'p')"
)
_LOOKS_AT = sa.text(
    "SELECT p.prosrc FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace "
    "WHERE n.nspname = :name AND p.proname = 'refusal'"
)
_THERE = {
    "role": sa.text("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = :name"),
    "schema": sa.text("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = :name"),
    "trigger": sa.text("SELECT 1 FROM pg_catalog.pg_event_trigger WHERE evtname = :name"),
}


def _refuse_foreign(conn: sa.engine.Connection) -> None:
    """Somebody may have made our role or schema beforehand, to own what a superuser's login will run."""
    wrong = conn.execute(
        sa.text(
            "SELECT 1 FROM pg_catalog.pg_roles r WHERE r.rolname = :name AND (r.rolsuper OR r.rolcanlogin OR r.rolcreaterole "
            "OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls "
            "OR EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.member "
            "           WHERE m.roleid = r.oid AND NOT g.rolsuper) "
            "OR EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid))"
        ),
        {"name": NAME},
    ).first()
    if wrong:
        raise FenceTrouble(
            f"there is a role {NAME} that HeirFlow did not make: it has members or rights; drop it first"
        )
    owner = conn.execute(
        sa.text(
            "SELECT r.rolname FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner "
            "WHERE n.nspname = :name AND NOT r.rolsuper"
        ),
        {"name": NAME},
    ).scalar()
    if owner is not None:
        raise FenceTrouble(
            f"there is a schema {NAME} of role {owner}, who could change what is in it; as a superuser, in this database: "
            f"DROP SCHEMA {NAME} CASCADE"
        )
