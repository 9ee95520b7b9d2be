"""`heirflow preload`: which modules a warm standby of a program should import ahead."""

from __future__ import annotations

import os
from typing import Any

import click

from heirflow.cli.common import duration_option, json_option, write_json
from heirflow.errors import HeirflowError
from heirflow.text import printable


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- PROGRAM [ARGUMENT]…")
@duration_option("--watch", "watch_s", default="10s", help="How long to let it run; then it gets TERM.")
@json_option
def preload(*, command: tuple[str, ...], watch_s: float, as_json: bool, **_: Any) -> int:
    """Find the modules that are worth a `--preload`, by watching one start of PROGRAM.

    It starts PROGRAM itself, outside of any line, and ends it after a while. Do this where a second copy does no harm.

    \b
    heirflow preload -- celery -A app beat -S django
    heirflow preload --watch 30s -- python -m dagster._daemon run
    """
    from heirflow.programs.preload import comes_to_its_gate, preloaded, watched
    from heirflow.programs.runnable import check_runnable

    check_runnable(command, os.getcwd(), os.environ)
    preloaded(command, "")
    found = watched(command, watch_s)
    if found and not comes_to_its_gate(command, ",".join(name for name, _ in found)):
        found = [each for each in found if comes_to_its_gate(command, each[0])]
    names = ",".join(name for name, _ in found)
    if as_json:
        write_json({"preload": names, "modules": [{"module": name, "took_s": took_s} for name, took_s in found]})
    elif found:
        for name, took_s in found:
            click.echo(printable(f"{1000 * took_s:6.0f} ms  {name}"))
        click.echo(printable(f"--preload {names}"))
    if not found:
        raise HeirflowError(
            "it imported nothing slow that a standby can import, so there is nothing to preload; is --watch long enough?"
        )
    return 0
