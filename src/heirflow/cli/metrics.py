"""`heirflow metrics`: every election as numbers for Prometheus, on standard output or in a file for node_exporter."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from heirflow import __version__
from heirflow.cli.common import WHERE, everywhere, name_argument, opened, settings, settled, warn
from heirflow.cli.status import take
from heirflow.config.resolve import Config
from heirflow.errors import ConfigError, HeirflowError
from heirflow.status.exposition import exposition
from heirflow.status.figures import EVENTS, Figure, figures_of
from heirflow.steering.places import place
from heirflow.stores import StoreMisfit, StoreUnavailable

INSTALL = "prometheus-client>=0.20"
"""The client, as it is installed beside HeirFlow."""
SUFFIX = ".prom"
"""node_exporter's textfile collector reads no other files."""


def _file(ctx: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix != SUFFIX:
        raise click.BadParameter(f"must end in {SUFFIX}: node_exporter reads no other file", ctx, option)
    return path


@click.command()
@name_argument
@click.option(
    "--textfile",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_file,
    metavar="PATH",
    help="Write them into this file, in one step, for the textfile collector of Prometheus' node_exporter.",
)
@settings(*WHERE)
def metrics(name: str | None, *, textfile: Path | None, **flags: Any) -> int:
    """Write metrics in the text format of Prometheus.

    Without NAME: of all elections in the store. It needs one package beside HeirFlow: pip install 'prometheus-client>=0.20'. What
    is not known is left out. Where the store does not answer, heirflow_store_up is 0, nothing else is told, and the exit code is
    69.

    \b
    heirflow metrics
    heirflow metrics airflow-scheduler
    heirflow metrics --textfile /var/lib/node_exporter/heirflow.prom
    """
    check_client()
    config = settled({"name": name, **flags})
    found = [Figure("heirflow_build_info", {"version": __version__}, 1)]
    trouble: HeirflowError | None = None
    for each in everywhere(config):
        trouble = _look(each, found) or trouble
    text = exposition(found)
    if textfile is None:
        click.echo(text, nl=False)
    else:
        write_whole(textfile, text)
    if trouble is not None:
        raise trouble
    return 0


def _look(config: Config, found: list[Figure]) -> HeirflowError | None:
    """Add what one store says; returns what kept it from saying all that was asked."""
    where = {"store": place(config)}
    trouble: HeirflowError | None = None
    seen: list[Figure] = []
    up = True
    try:
        with opened(config) as store:
            for line in take(store, config):
                seen += figures_of(line, store.events(line.election, EVENTS))
    except ConfigError:  # nothing was asked
        raise
    except HeirflowError as error:
        trouble, seen, up = error, [], not isinstance(error, StoreUnavailable | StoreMisfit)
    known = {each.labels.get("election") for each in found}
    for election in sorted({each.labels["election"] for each in seen} & known):
        warn(f"there is an election {election} in two stores: the metrics tell of the first one only")
    found += [each for each in seen if each.labels["election"] not in known]
    found.append(Figure("heirflow_store_up", where, up))
    return trouble


def check_client() -> None:
    """Raises `ConfigError` where prometheus-client is not installed."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise ConfigError(
            "heirflow metrics needs prometheus-client, which is not installed; install it beside HeirFlow: "
            f"`pip install '{INSTALL}'`"
        ) from None


def write_whole(path: Path, text: str) -> None:
    """Put the text in the place of the file in one step, readable for everybody: a reader sees the old one or the new one."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.chmod(0o644)
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise HeirflowError(f"cannot write {path}: {error.strerror}") from None
