"""Lose one part after another of a highly available Airflow while DAG runs go: what does each loss cost, and is anything lost?

    make havoc ARGS='--losses 30 --seed 7'
    python bench/havoc.py --parts patroni,seats --only 'primary killed' --losses 3

Root and Debian only: each host is a network namespace. Exit code 1: something was lost, ran twice, or took longer than its limit.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from heirflow.demo.stage import Trouble
from heirflow.demo.story import listen
from heirflow.terminal import tables
from lab.airflow.chaos import Load, load_now
from lab.cluster import havoc, picture
from lab.cluster.cluster import LINES, PARTS
from lab.cluster.losses import KINDS, Kind, plan

# The slow tasks last longer than a lost primary is away, and all begin when the cluster stands.
LOAD = Load(tasks=2, sleep_s=0.2, every_s=2.0, slow_s=40.0, begun_ago_s=-60.0)


def main() -> int:
    given = _arguments()
    parts = tuple(given.parts.split(","))
    if unknown := [part for part in parts if part not in PARTS]:
        _say(f"No part is called {unknown[0]!r}; there are {', '.join(PARTS)}.")
        return 2
    losses = plan(given.seed, given.losses, parts, only=given.only)
    if not losses:
        known = ", ".join(kind.name for kind in KINDS)
        _say(f"No kind of loss that these parts allow begins with {given.only!r}; there are {known}.")
        return 2
    if given.list:
        for number, kinds in enumerate(losses, 1):
            print(f"{number:>3}  {' and '.join(kind.name for kind in kinds)}")
        return 0
    listen()
    try:
        return _run(given, parts, losses)
    except Trouble as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        _say("Interrupted: nothing is left running.")
        return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", type=int, default=30, metavar="N", help="how many  [default: 30]")
    parser.add_argument("--seed", type=int, default=7, help="of the plan  [default: 7]")
    parser.add_argument("--parts", default=",".join(PARTS), help="what is there more than once  [default: all]")
    parser.add_argument("--only", metavar="KINDS", help="beginnings of kinds, by commas")
    parser.add_argument("--lines", choices=LINES, default=LINES[0], help="where the lines are kept  [default: etcd]")
    parser.add_argument(
        "--ttl", metavar="DURATION", help="the lease of all members  [default: 10s, in the database 35s]"
    )
    parser.add_argument("--dir", type=Path, metavar="FOLDER", help="work there, and leave it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw it there, an SVG")
    parser.add_argument("--list", action="store_true", help="show the plan, and lose nothing")
    return parser.parse_args()


def _run(given: argparse.Namespace, parts: tuple[str, ...], losses: list[tuple[Kind, ...]]) -> int:
    began = time.time()
    lease = {"HEIRFLOW_TTL": given.ttl} if given.ttl else {}
    with havoc.scene(LOAD, parts, lines=given.lines, folder=given.dir, environment=lease) as (cluster, stage, files):
        _say(f"the cluster stands after {time.time() - began:.0f} s; {len(losses)} losses, seed {given.seed}")
        with havoc.Prober(cluster) as prober:
            havoc.await_starts(files)
            found = havoc.campaign(cluster, files, losses, seed=given.seed, prober=prober, tell=_say)
        _say("letting all runs come to their end")
        short, slow = havoc.verdict(cluster, stage, files, LOAD, limit_s=600.0, tell=_say)
        if given.picture:
            given.picture.write_text(picture.draw(found, files, cluster.notes))
        if given.json:
            given.json.write_text(
                json.dumps(
                    {
                        "seed": given.seed, "parts": parts, "load": load_now(), "losses": [asdict(loss) for loss in found],
                        "short": asdict(short), "slow": asdict(slow), "notes": cluster.notes,
                    },
                    indent=1,
                )
            )  # fmt: skip
    tables.console().print(_table(found))
    for what, verdict in (("short", short), ("slow", slow)):
        print(
            f"{what} tasks: {verdict.runs} runs, {verdict.tasks} tasks, {verdict.attempts} attempts, "
            f"{verdict.cut_short} cut short, {verdict.done_again} whose work was done again, {len(verdict.broken)} broken promises"
        )
    broken = [f"{loss.name}: {sentence}" for loss in found for sentence in loss.broken] + short.broken + slow.broken
    for sentence in broken[:40]:
        print(f"  {sentence}")
    print("nothing was lost, nothing ran twice, every limit was kept" if not broken else f"{len(broken)} lines are red")
    return 1 if broken else 0


def _table(found: list[havoc.Loss]) -> Table:
    table = Table(title="What each loss cost, in seconds: median, worst")
    for head in (
        "lost",
        "times",
        "limit",
        "tasks again",
        "no task start",
        "at its return",
        "no answer of the UI",
        "whole after",
    ):
        table.add_column(head, justify="left" if head == "lost" else "right")
    for row in havoc.figures(found):
        cells = [
            f"{both[0]:.1f}, {both[1]:.1f}" if both else "–"
            for both in (row.again_s, row.pause_s, row.return_s, row.ui_s, row.whole_s)
        ]
        table.add_row(row.name, str(row.count), f"{row.limit_s:.0f}", *cells)
    return table


def _say(sentence: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
