"""`heirflow config`: every setting and where it comes from."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import click

from heirflow.cli.common import json_option, settings, settled, write_json
from heirflow.config.options import OPTIONS
from heirflow.config.readers import written
from heirflow.config.resolve import Source
from heirflow.errors import ConfigError
from heirflow.programs.program import environment
from heirflow.terminal import tables

HEAD = ("setting", "value", "from")
ALL = tuple(option.name for option in OPTIONS)


@click.command()
@json_option
@settings(*ALL)
def config(*, as_json: bool, **flags: Any) -> int:
    """Show every setting and where it comes from. Passwords are masked.

    With several seats, also what Airflow's schedulers will be told by their environment.
    Numbers that do not fit together are shown too, with the reason and exit code 78.

    \b
    heirflow config
    HEIRFLOW_TTL=5s heirflow config --json
    """
    found = settled(flags)
    derived: dict[str, float] = {}
    trouble: ConfigError | None = None
    try:
        timings = found.timings()
        derived = {"check-in": timings.check_in_s, "margin": timings.margin_s}
    except ConfigError as error:  # now it matters most where the numbers come from
        trouble = error
    values = {
        name: (derived[name], f"{setting.origin}, from ttl")
        if setting.value is None and name in derived
        else (setting.shown, str(setting.origin))
        for name, setting in found.settings.items()
    }
    given = environment(found, os.environ)
    if as_json:
        write_json(
            {
                "file": str(found.file) if found.file else None,
                "settings": {name: {"value": value, "origin": origin} for name, (value, origin) in values.items()},
                "environment": given,
                "trouble": str(trouble) if trouble else None,
            }
        )
    else:
        shown = values | {name: (value, f"HeirFlow, for {found.seats} seats") for name, value in given.items()}
        by_default = [setting.origin.source is Source.DEFAULT for setting in found.settings.values()]
        _show(shown, by_default + [False] * len(given))
    if trouble is not None:
        raise trouble
    return 0


def _show(values: Mapping[str, tuple[object, str]], by_default: Sequence[bool]) -> None:
    rows = [[name, _in_words(value), origin] for name, (value, origin) in values.items()]
    if tables.on_terminal():
        tables.show(tables.rich_table(HEAD, rows, ["dim" if dim else "" for dim in by_default]))
    else:
        click.echo(tables.plain_table(HEAD, rows))


def _in_words(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, signal.Signals):
        return value.name.removeprefix("SIG")
    return written(value) if isinstance(value, float) else str(value)
