"""Where the record lives: one module for each kind of store. No decisions here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from heirflow.errors import ConfigError
from heirflow.stores.base import (
    Address,
    Beside,
    Finding,
    Glance,
    KeyedWill,
    OnTaken,
    Register,
    Store,
    StoreMisfit,
    StoreRefuses,
    StoreUnavailable,
    Will,
)
from heirflow.stores.keyed import place

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = [
    "Address",
    "Beside",
    "Finding",
    "Glance",
    "KeyedWill",
    "OnTaken",
    "Register",
    "Store",
    "StoreMisfit",
    "StoreRefuses",
    "StoreUnavailable",
    "Will",
    "is_coordinator",
    "kind_of",
    "open_store",
]

DRIVERS = {
    "sqlite": {"pysqlite": "sqlite3"},
    "postgresql": {"psycopg": "psycopg", "psycopg2": "psycopg2"},
    "mysql": {"pymysql": "pymysql", "mysqldb": "MySQLdb"},
}
"""Kinds of database, and the drivers for each, the best first: SQLAlchemy's name for it and the module."""
ALIASES = {"postgres": "postgresql", "mariadb": "mysql"}
INSTALL = {
    "postgresql": "one beside HeirFlow: `pip install 'psycopg[binary]>=3.1'` (with SQLAlchemy 1.4: psycopg2-binary)",
    "mysql": "one beside HeirFlow: `pip install 'PyMySQL>=1.2'`",
    "sqlite": "a Python that has sqlite3",
}
"""What to install where a driver is missing. It works in a checkout and beside any HeirFlow, as the name of an extra does not."""


def open_store(
    url: str | Address,
    *,
    call_limit_s: float,
    connect_args: Mapping[str, Any] | None = None,
    schema: str | None = None,
    application_name: str = "member",
    on_taken: OnTaken | None = None,
    beside: Beside | None = None,
) -> Store:
    """Choose the store for a database URL as SQLAlchemy writes them, or one of a coordinator (`keyed.place`).

    It does not connect: `Store.open` does.

    `url`: an `Address` is asked again before each new connection and when one could not be had; the place must stay the same.
    `call_limit_s`: longest time an exchange may take; the driver's and the server's own limits are put below it.
    `connect_args`: for the driver, beside what the URL says. `schema`: where the tables are, if not where the connection looks.
    `application_name`: PostgreSQL shows the session as ``heirflow-<this>``. A command's sessions are named ``heirflow/<member>``.
    `on_taken`: done in the same transaction when a swap has taken charge; see `OnTaken`.
    `beside`: for a coordinator, the database in which the command works.

    An absent driver is replaced by another one for the same database. Raises `ConfigError`, or `StoreMisfit` when there is none.
    """
    if not call_limit_s > 0:
        raise ConfigError(f"the limit of a store call must be more than 0 s, not {call_limit_s:g} s")
    if is_coordinator(url if isinstance(url, str) else url.known):
        from heirflow.stores.keyed.opening import open_keyed

        return open_keyed(url, call_limit_s=call_limit_s, beside=beside)

    import sqlalchemy as sa

    address = None if isinstance(url, str) else url
    parsed = _parsed(url if isinstance(url, str) else url.now())
    kind = parsed.get_backend_name()
    chosen = _with_driver(parsed, kind)
    arguments = dict(connect_args or {})
    if schema is not None and not _is_word(schema):
        raise ConfigError(f"not the name of a schema: {schema!r}")

    from heirflow.stores.sql.link import Source
    from heirflow.stores.sql.store import SqlStore

    source = None if address is None or kind == "sqlite" else Source(address, _parsed)

    if kind == "sqlite":
        from heirflow.stores.sql.sqlite import Sqlite

        if schema is not None:
            raise ConfigError("SQLite has no schemas; name another file instead")
        flavour = Sqlite(chosen, call_limit_s=call_limit_s, connect_args=arguments)
        return SqlStore(chosen, flavour, call_limit_s=call_limit_s, on_taken=on_taken)
    try:
        if kind == "postgresql":
            from heirflow.stores.sql.postgres import Postgres

            postgres = Postgres(
                chosen, call_limit_s=call_limit_s, connect_args=arguments, application_name=application_name
            )
            return SqlStore(
                chosen, postgres, call_limit_s=call_limit_s, schema=schema, on_taken=on_taken, source=source
            )
        from heirflow.stores.sql.mysql import Mysql

        mysql = Mysql(chosen, call_limit_s=call_limit_s, connect_args=arguments)
        return SqlStore(chosen, mysql, call_limit_s=call_limit_s, schema=schema, on_taken=on_taken, source=source)
    except (ImportError, sa.exc.ArgumentError) as error:
        raise StoreMisfit(f"the driver for {kind} cannot be used: {error}; install {INSTALL[kind]}") from error


def is_coordinator(url: str) -> bool:
    """Whether a URL names no database, but a coordinator."""
    return place.kind_of(url) is not None


def kind_of(url: str) -> str:
    """The kind of database or coordinator that a URL names, one of `DRIVERS` or `place.PORTS` if HeirFlow knows it."""
    if (coordinator := place.kind_of(url)) is not None:
        return coordinator
    kind = url.partition(":")[0].partition("+")[0]
    return ALIASES.get(kind, kind)


def _parsed(url: str) -> sa.engine.URL:
    import sqlalchemy as sa

    name, colon, rest = url.partition(":")
    _, plus, driver = name.partition("+")
    kind = kind_of(url)
    if kind not in DRIVERS:
        shown = kind if colon and kind.isidentifier() else "this"
        raise ConfigError(
            f"{shown!r} is no kind of database that HeirFlow knows; it knows {', '.join((*DRIVERS, *place.PORTS))}"
        )
    try:
        parsed = sa.engine.make_url(f"{kind}{plus}{driver}:{rest}")
    except (sa.exc.ArgumentError, ValueError):
        # Neither the URL nor what is said about it is shown: a password may stand in it.
        raise ConfigError(
            f"the {kind} URL cannot be understood; are special characters in it percent-encoded (%40 for @)?"
        ) from None
    in_parameters = bool(parsed.password) and "@" in rest.partition("?")[2]
    if kind != "sqlite" and (in_parameters or "@" in f"{parsed.host}{parsed.database}"):
        # What follows an @ would be taken for the host: it would be looked up, and shown.
        raise ConfigError(f"the {kind} URL has an @ too many; in a password, write %40 for it")
    return parsed


def _with_driver(url: sa.engine.URL, kind: str) -> sa.engine.URL:
    """The URL with a driver that is there, the one that it names if possible."""
    from importlib.util import find_spec

    import sqlalchemy as sa

    drivers = DRIVERS[kind]
    named = url.drivername.partition("+")[2]
    for name in sorted(drivers, key=lambda driver: driver != named):
        if find_spec(drivers[name]) is None:
            continue
        chosen = url.set(drivername=f"{kind}+{name}")
        try:
            chosen.get_dialect()
        except sa.exc.NoSuchModuleError:
            continue  # SQLAlchemy 1.4 knows psycopg2 only
        return chosen
    raise StoreMisfit(f"no driver for {kind} is installed here; install {INSTALL[kind]}")


def _is_word(name: str) -> bool:
    return bool(name) and "\0" not in name and len(name) <= 63
