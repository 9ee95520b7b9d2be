"""`heirflow status`: the line of succession."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Group, RenderableType

from heirflow.cli import complain, give_up_output
from heirflow.cli.common import WHERE, everywhere, json_option, name_argument, opened, settings, settled, write_json
from heirflow.config.resolve import Config
from heirflow.election.record import Exchange
from heirflow.errors import HeirflowError
from heirflow.status import Snapshot
from heirflow.status.check import EVENTS, Level, json_of, judged, line_of, unknown, worst
from heirflow.steering.places import check_place, chosen_election, none_yet, place, store_for_people
from heirflow.stores import Finding, Store
from heirflow.terminal import tables
from heirflow.terminal.line import drawn, plain
from heirflow.text import masked, printable

REDRAW_EVERY_S = 1.0
FENCE_EVERY_S = 10.0


@click.command()
@name_argument
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C.")
@click.option(
    "--check", is_flag=True, help="One line for a monitor; exit code 0 well, 1 warning, 2 critical, 3 not known."
)
@json_option
@settings(*WHERE)
def status(name: str | None, *, watch: bool, check: bool, as_json: bool, **flags: Any) -> int:
    """Show who leads, who is heir, and how fast the heir would take charge.

    Without NAME: all elections in the store. With --check, the worst of them decides: 0 somebody leads and an heir is
    ready, 1 no heir, paused or flapping, 2 nobody leads or the leader runs nothing, 3 the store does not answer. Of several
    seats, each must be led: 2 where any is not, or runs nothing.

    \b
    heirflow status
    heirflow status airflow-scheduler --watch
    heirflow status --check
    heirflow status --json | jq '.elections[0].leader'
    """
    if check:
        if watch:
            raise click.UsageError("--check looks once; give it without --watch")
        return _check({"name": name, **flags}, as_json=as_json)
    config = settled({"name": name, **flags})
    if watch:
        return _watch(config, as_json=as_json)
    looks = []
    for each in everywhere(config):
        with opened(each) as store:
            looks.append((place(each), Look(take(store, each), store.fence())))
    if as_json:
        write_json(together(looks))
    elif tables.on_terminal():
        tables.show(*(part for where, look in looks for part in (*_title(where, looks), look.picture(where))))
    else:
        click.echo("\n".join("\n".join((*_title(where, looks), look.text(where))) for where, look in looks))
    return 0


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the store came to."""

    snapshots: list[Snapshot]
    fence: Finding | None
    """Whether members that led before are kept out; None: the store was away."""
    trouble: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The same for one look and for each of many."""
        kept_out = None if self.fence is None else {**self.fence.facts, "sentence": self.fence.sentence}
        return {
            "elections": [snapshot.to_json() for snapshot in self.snapshots],
            "fence": kept_out,
            "trouble": self.trouble,
        }

    def text(self, where: str) -> str:
        """For a pipe or a file. `where`: the store that was asked."""
        if self.trouble is not None:
            return printable(self.trouble)
        kept_out = [_short(self.fence)] if self.fence is not None else []
        return "\n".join((plain(self.snapshots) or _empty(where), *kept_out))

    def picture(self, where: str) -> RenderableType:
        """With colours, for a terminal."""
        kept_out = [tables.styled(_short(self.fence), "dim")] if self.fence is not None else []
        line = drawn(self.snapshots) if self.snapshots else tables.styled(_empty(where), "dim")
        return Group(line, *kept_out)


def _short(fence: Finding) -> str:
    """Whether members that led before are kept out, in one short line."""
    return f"fence: {fence.facts['state'].value}; `heirflow fence status` says more"


def _empty(where: str) -> str:
    """What is said of a store without elections."""
    return printable(f"There is {none_yet(where)}.")


def take(store: Store, config: Config) -> list[Snapshot]:
    """The election that was named, or all."""
    names = [chosen_election(store, config)] if config["name"] else list(store.elections())
    return [Snapshot.of(name, store.exchange(name, Exchange())) for name in names]


def together(looks: Sequence[tuple[str, Look]]) -> dict[str, Any]:
    """Looks at several places as one, in the form of one look; each election says where it is, and how it is fenced."""
    first = looks[0][1].to_json()
    first["elections"] = [
        {**election, "database": where, "fence": look.fence.facts["state"] if look.fence else None}
        for where, look in looks
        for election in look.to_json()["elections"]
    ]
    return first


def _title(where: str, looks: Sequence[tuple[str, Look]]) -> tuple[str, ...]:
    """What stands above each of several places."""
    return (f"in {printable(where)}:",) if len(looks) > 1 else ()


def _check(flags: dict[str, Any], *, as_json: bool) -> int:
    """Whatever keeps us from looking is told like a finding: a monitor reads one line on standard output, and the code."""
    try:
        config = settled(flags)
        verdicts = []
        for each in everywhere(config):
            with opened(each) as store:
                verdicts += [
                    judged(look, store.events(look.election, EVENTS * look.seats)) for look in take(store, each)
                ]
        verdicts = verdicts or [unknown(f"there is {none_yet(place(config))}")]
    except HeirflowError as error:
        verdicts = [unknown(str(error))]
    try:
        if as_json:
            write_json(json_of(verdicts))
        else:
            click.echo(line_of(verdicts))
    except OSError as error:  # whoever asked knows nothing
        give_up_output()
        complain(f"cannot write the answer to standard output: {error.strerror}", Level.UNKNOWN)
        return int(Level.UNKNOWN)
    return int(worst(verdicts))


def _watch(config: Config, *, as_json: bool) -> int:
    """Show it until Ctrl-C, over one connection. A store that does not answer is told, and asked again."""
    store = store_for_people(config)
    try:
        if as_json or not tables.on_terminal():
            return _write_on(store, config, as_json=as_json)
        return _draw_on(store, config)
    finally:
        store.close()


def _write_on(store: Store, config: Config, *, as_json: bool) -> int:
    for look in _looks(store, config):
        if as_json:
            write_json(look.to_json())
        else:
            click.echo(look.text(place(config)))
        sys.stdout.flush()
    return 0


def _draw_on(store: Store, config: Config) -> int:
    from rich.live import Live

    last = Look([], None)
    with Live(console=tables.console(), auto_refresh=False, transient=False) as live:
        for look in _looks(store, config):
            if look.trouble is None:
                last = look
            picture: RenderableType = last.picture(place(config))
            if look.trouble is not None:
                picture = Group(
                    picture, tables.styled(f"{look.trouble}; what is shown above is out of date", "bold red")
                )
            live.update(picture, refresh=True)
    return 0


def _looks(store: Store, config: Config) -> Iterator[Look]:
    """One look a second, for ever. At the fence less often: that takes some questions more, and seldom changes."""
    fence: Finding | None = None
    due = 0.0
    while True:
        try:
            check_place(config)
            store.open(create=False)
            snapshots = take(store, config)
            if fence is None or time.monotonic() >= due:
                fence, due = store.fence(), time.monotonic() + FENCE_EVERY_S
            look = Look(snapshots, fence)
        except HeirflowError as error:
            fence = None  # the store that comes back may be another server
            look = Look([], None, masked(str(error)))
        yield look
        time.sleep(REDRAW_EVERY_S)
