"""The store that settings name, as people ask it, and the election in it that they mean."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from heirflow.config.resolve import Config, nearest
from heirflow.errors import ConfigError, HeirflowError

if TYPE_CHECKING:
    from heirflow.stores.base import Beside, OnTaken, Store

CALL_LIMIT_S = 5.0
"""A person waits longer than a member may."""
ANSWER_LIMIT_S = 15.0
"""Of a call of somebody's who waits for it, with connecting: beyond all the limits that the server may keep itself."""


class NoSuchElection(HeirflowError):
    """The store does not know the election that is meant."""


def _default_file(config: Config) -> Path:
    return Path(config.db_url.removeprefix("sqlite:///"))


def default_is_used(config: Config) -> bool:
    """Whether the default database is there. Raises `ConfigError` where that cannot be seen."""
    file = _default_file(config)
    try:
        return file.exists()
    except OSError as error:  # the home of somebody else
        raise ConfigError(f"cannot look into {file.parent}: {error.strerror}; give --db-url") from None


def check_place(config: Config) -> None:
    """Raises `ConfigError` where no database was given and the default one was never used, or cannot be seen.

    It does not say how to make that file: whoever made it would from then on look into it, and never again where the record is.
    """
    if config.db_url_is_default and not default_is_used(config):
        raise ConfigError(
            f"no database was given, and the default one, SQLite at {_default_file(config)}, does not exist: name the members' "
            "database with --db-url-file or HEIRFLOW_DB_URL; to use Airflow's, put `airflow` on the PATH, with its environment"
        )


def store_of(
    config: Config,
    *,
    call_limit_s: float,
    application_name: str,
    on_taken: OnTaken | None = None,
    beside: Beside | None = None,
) -> Store:
    """The store that the settings name; not open yet."""
    from heirflow.stores import open_store

    return open_store(
        config.address or config.db_url,
        call_limit_s=call_limit_s,
        connect_args=config.connect_args,
        schema=config.schema,
        application_name=application_name,
        on_taken=on_taken,
        beside=beside,
    )


def store_for_people(config: Config, application_name: str = "cli") -> Store:
    """The same for one command line: it does not wait for ever."""
    store = store_of(config, call_limit_s=CALL_LIMIT_S, application_name=application_name)
    store.limit_answers(ANSWER_LIMIT_S)
    return store


def chosen_election(store: Store, config: Config) -> str:
    """The election that is meant: the one that was named, or the only one there is."""
    known = store.elections()
    name: str | None = config["name"]
    if name is not None:
        if name in known:
            return name
        close = nearest(name, known)
        raise NoSuchElection(
            f"there is no election {name!r}{f'; did you mean {close!r}?' if close else _listed(known, config)}"
        )
    if len(known) == 1:
        return known[0]
    if not known:
        raise NoSuchElection(f"there is {none_yet(place(config))}")
    raise NoSuchElection(f"there are several elections; give the name of one: {', '.join(known)}")


def place(config: Config) -> str:
    """Which store this is, for somebody may have meant another; never the password."""
    shown: str = config.settings["db-url"].shown
    return shown


def none_yet(where: str) -> str:
    """What is said of an empty store. `where`: its `place`, if that is known."""
    return f"no election in this store yet{f' ({where})' if where else ''}; `heirflow run -- COMMAND` creates one"


def _listed(known: tuple[str, ...], config: Config) -> str:
    if known:
        return f"; there are: {', '.join(known)}"
    return f"; this store holds none yet ({place(config)})"


def somebody() -> str:
    """Who gives an order, for the history."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
