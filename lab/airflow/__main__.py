"""The demonstration with real Airflow, in a checkout: ``python -m lab.airflow``, or `make demo` and `make cluster`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from heirflow.cli import MANNERS, answer
from heirflow.cli.common import duration_option
from heirflow.cli.demo import performance, played, wished
from heirflow.demo.plain_play import plain_cast
from heirflow.demo.screen import Screen
from heirflow.demo.stage import Stage
from lab.airflow.play import clusters, schedulers
from lab.airflow.site import COORDINATORS
from lab.servers.servers import postgres_server


@click.command(context_settings=MANNERS)
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
@click.option(
    "--store",
    type=click.Choice(["postgres", *COORDINATORS]),
    help="Where the lines are: Airflow's PostgreSQL, or three servers of etcd or ZooKeeper.  [default: postgres; --ha: etcd]",
)
@click.option(
    "--ha",
    is_flag=True,
    help="Of the cluster: three hosts, of which any part may be lost. Stays until Ctrl-C. Needs root.",
)
@click.option(
    "--parts",
    metavar="NAMES",
    help="With --ha, what is there more than once, by commas: patroni, rabbitmq, api, workers, seats.  [default: all]",
)
@duration_option("--for", "stay_s", help="With --ha: stay so long, and not until Ctrl-C.")
@performance
def demo(
    *,
    airflow: bool,
    cluster: bool,
    executor: str | None,
    store: str | None,
    ha: bool,
    parts: str | None,
    stay_s: float | None,
    **options: Any,
) -> int:
    """See a line of three: the leader is killed with -9, the heir takes charge, then a switchover; times at the end.

    The first time, Airflow is installed into a virtual environment of its own beside the sources. Everything else is in a
    temporary folder, and nothing is left running or lying about, also after Ctrl-C.

    \b
    make demo                        about two minutes, and as long as the download takes
    make demo ARGS=--no-airflow      a plain program instead: under 15 seconds
    make demo ARGS=--keep            look at Airflow's user interface yourself
    make cluster                     three lines, RabbitMQ, Celery: about four minutes
    make cluster ARGS='--store etcd' the same with the lines in an etcd of three servers
    make cluster ARGS=--ha           nothing single: Patroni, three RabbitMQ, HAProxy, two of each, seats with an heir
    """
    if executor is not None and not cluster:
        raise click.UsageError("--executor belongs to --cluster; without it the demonstration uses LocalExecutor")
    if cluster and not airflow:
        raise click.UsageError("--cluster is one of Airflow: leave out --no-airflow")
    if store is not None and not airflow:
        raise click.UsageError("--store is for Airflow: leave out --no-airflow")
    if ha or parts is not None or stay_s is not None:
        return _highly_available(cluster, ha, executor, store, parts, stay_s, options["folder"])
    wishes, kept_in = wished(**options), store or "postgres"
    if not airflow:
        return played(wishes, plain_cast(_postgres))
    return played(wishes, clusters(executor or "celery", kept_in) if cluster else schedulers(kept_in))


def _highly_available(
    cluster: bool,
    ha: bool,
    executor: str | None,
    store: str | None,
    parts: str | None,
    stay_s: float | None,
    folder: Path | None,
) -> int:
    if not ha:
        raise click.UsageError("--parts and --for belong to --ha")
    if not cluster:
        raise click.UsageError("--ha belongs to --cluster: make cluster ARGS=--ha")
    if executor is not None:
        raise click.UsageError("--executor is not for --ha: name its parts by --parts")
    if store == "zookeeper":
        raise click.UsageError(
            "--ha keeps the lines in the etcd that Patroni needs, or in the database (--store postgres)"
        )

    from heirflow.terminal import tables
    from lab.cluster.cluster import LINES, PARTS
    from lab.cluster.show import show

    chosen = PARTS if parts is None else tuple(part.strip() for part in parts.split(","))
    if unknown := [part for part in chosen if part not in PARTS]:
        raise click.UsageError(f"no part is called {unknown[0]!r}; there are {', '.join(PARTS)}")
    return show(tables.console(), chosen, LINES[store == "postgres"], folder=folder, stay_s=stay_s)


def _postgres(_stage: Stage, screen: Screen, undo: ExitStack) -> str:
    """The laboratory's, which runs for root too."""
    with screen.working("starting an embedded PostgreSQL"):
        return undo.enter_context(postgres_server()).url("psycopg")


if __name__ == "__main__":
    sys.exit(answer(demo, sys.argv[1:], "python -m lab.airflow"))
