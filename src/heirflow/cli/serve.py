"""`heirflow serve`: the page that shows every election, live."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from heirflow.cli.common import WHERE, duration_option, everywhere, name_argument, settings, settled
from heirflow.config.readers import read_listening
from heirflow.errors import ConfigError
from heirflow.steering.places import check_place

PLACE = "127.0.0.1:8470"
LEAST_EVERY_S = 0.2
HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)
INSTALL = "pip install 'starlette>=0.40' 'uvicorn>=0.30' 'Jinja2>=3.1' prometheus-client"


def _place(ctx: click.Context, option: click.Parameter, text: str) -> str:
    try:
        return read_listening(text)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, option) from None


def _names(ctx: click.Context, option: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not HOST.fullmatch(name):
            raise click.BadParameter(f"not the name of a host, without a port: {name!r}", ctx, option)
    return names


@click.command()
@name_argument
@click.option(
    "--http", "place", metavar="HOST:PORT", default=PLACE, show_default=True, callback=_place, help="Where to listen."
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="Let whoever has the token in this file give orders. Without it the page is for reading only.",
)
@click.option(
    "--allow-host",
    "names",
    metavar="NAME",
    multiple=True,
    callback=_names,
    help="Answer requests for this name too, such as a proxy's; may be given again. Addresses and this machine's names always are.",
)
@duration_option("--every", "every_s", default="1s", help="How often the store is read while somebody looks.")
@settings(*WHERE)
def serve(
    name: str | None, *, place: str, token_file: Path | None, names: tuple[str, ...], every_s: float, **flags: Any
) -> int:
    """Serve a page with every election, live: who leads, who is heir, who led when, and what happened.

    Without NAME: all elections in the store. All viewers together share one reading a second, and where nobody looks, nothing is
    read. Whoever may reach it may read it, so it listens on this host only unless --http says more. For programs it has
    /healthz, /metrics and /api. It needs Starlette, uvicorn and Jinja2.

    \b
    heirflow serve
    heirflow serve --http 0.0.0.0:8470 --db-url-file /etc/heirflow/reader-url
    heirflow serve --token-file /etc/heirflow/page-token
    """
    if every_s < LEAST_EVERY_S:
        raise click.UsageError(f"--every must be at least {LEAST_EVERY_S:g}s, for the store's sake")
    try:
        from heirflow.web.server import serve as serve_page
    except ImportError as error:
        raise ConfigError(f"heirflow serve needs {error.name}; install it beside HeirFlow: `{INSTALL}`") from None
    config = settled({"name": name, **flags})
    configs = everywhere(config)
    for each in configs:
        check_place(each)
    serve_page(
        configs,
        place,
        token_file,
        every_s,
        lambda address: click.echo(f"heirflow: the page is at {address}", err=True),
        names=names,
    )
    return 0
