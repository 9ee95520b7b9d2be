"""What several commands share: their options, their store, their election, and how they write."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from heirflow import descriptors
from heirflow.config.options import BY_NAME
from heirflow.config.readers import read_duration
from heirflow.config.resolve import Config, resolve
from heirflow.errors import ConfigError, HeirflowError
from heirflow.steering.places import check_place, default_is_used, store_for_people, store_of
from heirflow.text import brief, printable

if TYPE_CHECKING:
    from heirflow.stores.base import Store

Function = TypeVar("Function", bound=Callable[..., Any])

WHERE = ("config", "db-url", "db-url-file")
"""Options of every command that speaks to the store."""
COMPLETION_LIMIT_S = 2.0
"""Somebody has pressed a key and waits."""


def settings(*names: str, environment: bool = True) -> Callable[[Function], Function]:
    """Give a command these options of the table. Their values come as texts; `resolve` reads them.

    `environment`: the command also reads them from there, and its help says so.
    """

    def decorate(function: Function) -> Function:
        for name in reversed(names):
            option = BY_NAME[name]
            flags = [option.flag, *([option.short] if option.short else [])]
            shown = option.shown_default.replace("`", "")
            more = f"  [{option.environment}; default: {shown}]" if environment else f"  [default: {shown}]"
            if option.is_switch:
                function = click.option(*flags, option.key, is_flag=True, default=None, help=option.help)(function)
            else:
                complete = elections_known if name == "name" else None
                function = click.option(
                    *flags,
                    option.key,
                    metavar=option.metavar,
                    default=None,
                    help=option.help + more,
                    shell_complete=complete,
                )(function)
        return function

    return decorate


def duration_option(flag: str, key: str, *, help: str, default: str | None = None) -> Callable[[Function], Function]:  # noqa: A002
    """An option of one command that is a time, written as in the table of settings; its value is in seconds."""

    def in_seconds(ctx: click.Context, option: click.Parameter, text: str | None) -> float | None:
        try:
            return None if text is None else read_duration(text)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, option) from None

    return click.option(
        flag, key, metavar="DURATION", default=default, show_default=default is not None, callback=in_seconds, help=help
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


def elections_known(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The names of elections that begin so, for a shell that completes a word: quick, silent, and none where that cannot be had."""
    given = {name: ctx.params.get(name.replace("-", "_")) for name in WHERE}
    with suppress(HeirflowError):
        config = resolve(given)
        check_place(config)
        store = store_of(config, call_limit_s=1.0, application_name="cli")
        try:
            store.limit_answers(COMPLETION_LIMIT_S)
            store.open(create=False)
            return [name for name in store.elections() if name.startswith(incomplete)]
        finally:
            store.close()
    return []


name_argument = click.argument("name", required=False, metavar="[NAME]", shell_complete=elections_known)


def settled(
    flags: dict[str, Any], *, fallback_name: str | None = None, elsewhere: bool = True, warned: bool = True
) -> Config:
    """Resolve the settings and warn once of what a person should see, unless the caller does (not `warned`).

    `elsewhere`: where no database was given, the record may be in that of a program on this host, as Airflow's elections are.
    """
    config = resolve({key.replace("_", "-"): value for key, value in flags.items()}, fallback_name=fallback_name)
    for warning in config.warnings if warned else ():
        warn(warning)
    return _located(config) if elsewhere and config.db_url_is_default else config


def _located(config: Config) -> Config:
    """In a known program's database: for its own elections, where no member ever used the default database, or where only it
    holds an election of that name.
    """
    from heirflow.programs.program import is_known, located

    name: str | None = config["name"]
    if name is None:
        return config if default_is_used(config) else located(config, os.environ)
    if is_known(name):
        return located(config, os.environ)
    # `heirflow run --name` gives an election of Airflow's any name.
    if _holds(config, name):
        return config
    try:
        there = located(config, os.environ)
    except ConfigError:  # an Airflow that cannot be asked keeps nobody from what stands in the default database
        return config
    return there if there is not config and _holds(there, name) else config


def everywhere(config: Config) -> list[Config]:
    """Where elections may be, for who named neither a database nor an election: also in that of a program on this host.

    The default file may be an old one, and must not hide the others. A program that cannot be asked is told, and left out.
    """
    from heirflow.programs.program import located

    if config["name"] is not None or not config.db_url_is_default:
        return [config]
    try:
        there = located(config, os.environ)
    except ConfigError as error:
        warn(str(error))
        return [config]
    if there is config:
        return [config]
    with suppress(HeirflowError), opened(there) as store:
        if store.elections():
            return [config, there]
    return [config]


def _holds(config: Config, name: str) -> bool:
    """Whether this election stands there. A store that does not answer may hold it, and its error is the one to tell."""
    from heirflow.stores import StoreUnavailable

    try:
        with opened(config) as store:
            return name in store.elections()
    except StoreUnavailable:
        return True
    except HeirflowError:
        return False


@contextmanager
def opened(config: Config, *, create: bool = False) -> Iterator[Store]:
    """The store, open. Raises `StoreUnavailable`, `StoreMisfit`, or like `check_place`."""
    if not create:
        check_place(config)
    store = store_for_people(config)
    try:
        store.open(create=create)
        yield store
    finally:
        store.close()


def write_json(value: object, *, line: bool = False) -> None:
    """One JSON document on standard output, in one `line` if need be. A number that JSON does not have is null there."""
    indent = 2 if sys.stdout.isatty() and not line else None
    try:
        text = json.dumps(value, indent=indent, default=str, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=indent, default=str)
    click.echo(text)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def output(sentence: str, result: dict[str, Any], *, as_json: bool) -> int:
    """What was done: a sentence for people, or the same as JSON. Returns the exit code, 0."""
    if as_json:
        write_json(result)
    else:
        click.echo(printable(sentence))
    return 0


def warn(sentence: str) -> None:
    """One sentence on standard error."""
    with suppress(OSError, ValueError):
        if descriptors.takes(sys.stderr.fileno()):
            click.echo(f"heirflow: warning: {printable(brief(sentence))}", err=True)
