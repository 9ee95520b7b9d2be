"""`heirflow demo`: real Airflow, or a plain program, in a line of three whose leader dies."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from heirflow.config.options import read_duration
from heirflow.errors import HeirflowError


class NotHere(HeirflowError):
    """The demonstration cannot be given on this machine."""


@click.command()
@click.option(
    "--airflow/--no-airflow", default=True, show_default=True, help="Real Airflow, or a plain program: no download."
)
@click.option(
    "--cluster", is_flag=True, help="Whole Airflow: RabbitMQ, Celery workers, and lines for all three components."
)
@click.option(
    "--executor",
    type=click.Choice(["celery", "local"]),
    help="Of the cluster; local is LocalExecutor on a pair of hosts, without a broker.  [default: celery]",
)
@click.option("--keep", is_flag=True, help="Stay up until Ctrl-C, with Airflow's user interface; keep the logs.")
@click.option(
    "--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="Work in this folder, and leave it."
)
@click.option("--pause", metavar="DURATION", help="How long to look on between two acts.  [default: 15s, plain 1.5s]")
@click.option("--kill", "victim", type=click.Choice(["member", "command", "all"]), default="member", show_default=True,
              help="What of the leader dies: its wrapper, its command, or every process at once.")  # fmt: skip
def demo(
    *,
    airflow: bool,
    cluster: bool,
    executor: str | None,
    keep: bool,
    folder: Path | None,
    pause: str | None,
    victim: str,
) -> int:
    """See a line of three: the leader is killed with -9, the heir takes charge, then a switchover; times at the end.

    The first time, Airflow is installed into a virtual environment of its own beside the sources. Everything else is in a
    temporary folder, and nothing is left running or lying about, also after Ctrl-C.

    \b
    heirflow demo                 about two minutes, and as long as the download takes
    heirflow demo --no-airflow    under 15 seconds
    heirflow demo --cluster       three lines, RabbitMQ, Celery: about four minutes
    heirflow demo --keep          look at Airflow's user interface yourself
    """
    if executor is not None and not cluster:
        raise click.UsageError("--executor belongs to --cluster; the plain demonstration uses LocalExecutor")
    if cluster and not airflow:
        raise click.UsageError("--cluster is one of Airflow: leave out --no-airflow")
    if sys.platform != "linux":
        raise NotHere("the demonstration needs Linux: it watches processes in /proc")
    try:
        pause_s = None if pause is None else read_duration(pause)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--pause") from None

    from heirflow.demo.story import Wishes, perform
    from heirflow.terminal import tables

    wishes = Wishes(
        airflow,
        cluster=cluster,
        executor=executor or "celery",
        keep=keep,
        folder=folder,
        pause_s=pause_s,
        victim=victim,
    )
    return perform(wishes, tables.console())
