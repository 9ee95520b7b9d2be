"""`heirflow drill`: lose the leader on purpose, in order, and report."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

import click

from heirflow.cli.common import (
    WHERE,
    duration_option,
    json_option,
    name_argument,
    opened,
    settings,
    settled,
    write_json,
)
from heirflow.election.record import Exchange
from heirflow.errors import HeirflowError
from heirflow.status import Snapshot, duration, held, listed
from heirflow.steering.drill import Interrupted, Round, check_healthy, seats_to_drill
from heirflow.steering.drill import drill as one_round
from heirflow.steering.orders import Refused
from heirflow.steering.places import chosen_election, somebody
from heirflow.terminal import tables
from heirflow.text import printable

HEAD = ("seat", "from", "to", "term", "released after", "nobody led for", "whole after")


class NotWell(HeirflowError):
    """The drill did not go as it should, or not to its end."""


@click.command()
@name_argument
@click.option("--seat", type=click.IntRange(1), help="Of several seats, only this one.  [default: each in turn]")
@click.option(
    "--times", type=click.IntRange(1, 100), default=1, show_default=True, help="How many times, one after the other."
)
@duration_option("--limit", "limit_s", help="How long nobody may lead; longer than that ends with exit code 1.")
@duration_option("--wait", "wait_s", default="5m", help="How long to wait, each time, until the line is whole again.")
@click.option("--yes", is_flag=True, help="Do not ask before it begins. Needed where there is no terminal.")
@click.option(
    "--record",
    "file",
    metavar="FILE",
    type=click.File("a", "utf-8", lazy=False),
    help="Append the report to this file, as one line of JSON.",
)
@json_option
@settings(*WHERE)
def drill(
    name: str | None,
    *,
    seat: int | None,
    times: int,
    limit_s: float | None,
    wait_s: float,
    yes: bool,
    file: TextIO | None,
    as_json: bool,
    **flags: Any,
) -> int:
    """Lose the leader on purpose, in order, and report: a drill for production, each month.

    The leader stops its command in order, makes sure that it is gone, and the heir takes charge, as in a switchover. Each step is
    told when it happens, and at the end how long nobody led. Of several seats, each hands over in turn.

    A drill begins only where the line is healthy and an heir is ready, and asks before it does anything. It ends when an heir is
    ready again.

    It is no crash: when a host is lost, the lease must run out first. `heirflow status` says how long that takes.

    Exit codes: 0 it went well; 1 refused, not finished in time, or nobody led for longer than --limit; 130 Ctrl-C, and what is
    ordered goes on.

    \b
    heirflow drill
    heirflow drill airflow-scheduler --limit 15s
    heirflow drill airflow-scheduler --yes --limit 15s --record /var/log/drills.jsonl
    """
    config = settled({"name": name, **flags})
    with opened(config) as store:
        election = chosen_election(store, config)
        line = Snapshot.of(election, store.exchange(election, Exchange()))
        check_healthy(line)
        turns = seats_to_drill(line, seat)
        _ask(line, turns, times, yes=yes)
        report = _Report(election, line.at, limit_s)
        try:
            for number in turns * times:
                report.add(one_round(store, election, number, wait_s=wait_s, tell=_tell))
        except Interrupted as end:
            report.rounds.append(end.round)
            report.trouble = end.round.trouble
            click.echo(f"\n{printable(f'{election}: {report.trouble}')}", err=True)
            raise KeyboardInterrupt from None
        except HeirflowError as error:
            report.trouble = str(error)
            raise
        finally:
            report.keep(file)
            report.show(as_json=as_json)
    return 0


def _ask(line: Snapshot, turns: Sequence[int], times: int, *, yes: bool) -> None:
    """Say what is going to happen, and ask. Raises `Refused`."""
    leaders = [seat for seat in line.by_seat if seat.seat in turns]
    led = listed([held(seat) for seat in leaders]) if line.several else f"led by {leaders[0].leader}"
    hands_over = "hands over" if len(turns) == 1 else "hand over, one after the other"
    often = "" if times == 1 else f", {times} times"
    who = listed([str(seat.leader) for seat in leaders])
    click.echo(printable(f"{line.election}: {led}; the heir is {line.heir}."), err=True)
    click.echo(printable(f"{who} {hands_over} in order{often}, and the command stops and starts each time."), err=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal on which to ask; --yes does it without a question")
    if not click.confirm("Begin?", err=True):
        raise Refused("nothing was ordered")


def _tell(after_s: float, what: str) -> None:
    click.echo(f"{after_s:7.1f} s  {printable(what)}", err=True)


@dataclass(slots=True)
class _Report:
    election: str
    at: float
    """When it began, by the store's clock."""
    limit_s: float | None
    rounds: list[Round] = field(default_factory=list)
    trouble: str | None = None

    def add(self, done: Round) -> None:
        """Raises `NotWell` where that round ends the drill."""
        self.rounds.append(done)
        if done.trouble is not None:
            raise NotWell(done.trouble)
        if self.limit_s is not None and done.gap_s is not None and done.gap_s > self.limit_s:
            raise NotWell(f"nobody led for {duration(done.gap_s)}, longer than {duration(self.limit_s)}")

    def to_json(self) -> dict[str, Any]:
        """Plain values only."""
        return {
            "election": self.election,
            "at": self.at,
            "by": somebody(),
            "well": self.trouble is None,
            "trouble": self.trouble,
            "limit_s": self.limit_s,
            "longest_gap_s": max(
                (gap for each in self.rounds if (gap := _rounded(each.gap_s)) is not None), default=None
            ),
            "rounds": [
                {
                    "seat": each.seat,
                    "from": each.before,
                    "to": each.after,
                    "term": each.term,
                    "released_s": _rounded(each.released_s),
                    "took_charge_s": _rounded(each.took_charge_s),
                    "runs_s": _rounded(each.runs_s),
                    "whole_s": _rounded(each.whole_s),
                    "gap_s": _rounded(each.gap_s),
                    "trouble": each.trouble,
                }
                for each in self.rounds
            ],
        }

    def keep(self, file: TextIO | None) -> None:
        """Append it to the file."""
        if file is not None:
            file.write(json.dumps(self.to_json()) + "\n")
            file.flush()

    def show(self, *, as_json: bool) -> None:
        """On standard output."""
        if as_json:
            write_json(self.to_json())
        elif self.rounds:
            rows = [_cells(each) for each in self.rounds]
            if tables.on_terminal():
                tables.show(tables.rich_table(HEAD, rows))
            else:
                click.echo(tables.plain_table(HEAD, rows))


def _cells(done: Round) -> list[str]:
    def after(seconds: float | None) -> str:
        return "" if seconds is None else duration(seconds)

    term = "" if done.term is None else str(done.term)
    return [
        str(done.seat), done.before, done.after or "nobody", term,
        after(done.released_s), after(done.gap_s), after(done.whole_s),
    ]  # fmt: skip


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
