"""`heirflow demo`: a plain program in a line of three whose leader dies. With real Airflow: lab.airflow, in a checkout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heirflow.cli.common import Function, duration_option
from heirflow.errors import HeirflowError

if TYPE_CHECKING:
    from heirflow.demo.story import Cast, Wishes


class NotHere(HeirflowError):
    """The demonstration cannot be given on this machine."""


def performance(function: Function) -> Function:
    """Give a command the options that every demonstration has. `wished` reads their values."""
    for option in reversed(
        (
            click.option("--keep", is_flag=True, help="Stay up until Ctrl-C, and keep the logs."),
            click.option(
                "--dir",
                "folder",
                type=click.Path(file_okay=False, path_type=Path),
                help="Work in this folder, and leave it.",
            ),
            duration_option(
                "--pause", "pause_s", help="How long to look on between two acts.  [default: 1.5s, with Airflow 15s]"
            ),
            click.option(
                "--kill",
                "victim",
                type=click.Choice(["member", "command", "all"]),
                default="member",
                show_default=True,
                help="What of the leader dies: its wrapper, its command, or every process at once.",
            ),
        )
    ):
        function = option(function)
    return function


def wished(*, keep: bool, folder: Path | None, pause_s: float | None, victim: str) -> Wishes:
    """What the person asked for by the options of `performance`. Raises `NotHere`."""
    if sys.platform != "linux":
        raise NotHere("the demonstration needs Linux: it watches processes in /proc")

    from heirflow.demo.story import Wishes

    return Wishes(keep=keep, folder=folder, pause_s=pause_s, victim=victim)


def played(wishes: Wishes, cast: Cast) -> int:
    """Perform on standard output. Returns the exit code."""
    from heirflow.demo.story import perform
    from heirflow.terminal import tables

    return perform(wishes, tables.console(), cast)


@click.command()
@click.option("--airflow/--no-airflow", default=False, help="With real Airflow: only in a checkout, by `make demo`.")
@click.option("--cluster", is_flag=True, help="With the whole of Airflow: only in a checkout, by `make cluster`.")
@performance
def demo(*, airflow: bool, cluster: bool, **options: Any) -> int:
    """See a line of three: the leader is killed with -9, the heir takes charge, then a switchover; times at the end.

    The command is a plain program. Everything is in a temporary folder, and nothing is left running or lying about, also after
    Ctrl-C.

    \b
    heirflow demo                 under 15 seconds
    heirflow demo --kill all      the leader's host is lost: the heir must wait until the lease is over
    heirflow demo --keep          stay up, to look at it with `heirflow status`
    """
    if airflow or cluster:
        target = "make cluster" if cluster else "make demo"
        raise NotHere(
            f"the demonstration with Airflow needs a checkout of HeirFlow: run `{target}` there; "
            "`heirflow demo` without this option shows a plain program"
        )
    wishes = wished(**options)

    from heirflow.demo.plain_play import plain_cast

    return played(wishes, plain_cast())
