"""Mixed failovers of real Airflow while runs go, and the judgement over them: nothing lost, nothing twice, never two.

    with scene(executor="celery") as (site, stage, files): …

A scene is an installation whose tasks and schedulers write down, outside Airflow, what they do.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from rich.console import Console

from heirflow.demo.screen import Screen
from heirflow.demo.stage import Stage
from lab.airflow import ledger
from lab.airflow.environment import CHECKOUT
from lab.airflow.line import Blow, Installation, Line, NotSettled
from lab.airflow.site import Site
from lab.rig import ticker
from lab.rig.spans import overlaps
from lab.rig.written import Start, starts_in

MANY = CHECKOUT / "bench" / "many"
WORKERS = ("dora", "emil")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Files:
    """What is written outside Airflow."""

    tasks: Path
    schedulers: Path


@dataclass(frozen=True, slots=True)
class Load:
    """How much work there is. Seconds where nothing else is said."""

    tasks: int = 6
    sleep_s: float = 0.5
    every_s: float = 5.0
    runs: int = 16
    """Active at once."""
    long_s: float = 0.0
    """Of one task that is always running; 0: there is none."""
    slow_s: float = 0.0
    """Of the one task of each run of another DAG; 0: there is none."""
    slow_every_s: float = 20.0
    begun_ago_s: float = 0.0
    """How far back the schedule begins: a long way makes sure that there is always more to do than can be done.

    Less than 0: it begins later."""


def lay_out(folder: Path, load: Load) -> tuple[Files, dict[str, str]]:
    """Lay DAGs (``dags``) and plugins of a scene into a folder; returns what they write, and the environment that they need."""
    files, plugins = Files(folder / "tasks.jsonl", folder / "schedulers.txt"), folder / "plugins"
    shutil.copytree(MANY / "dags", folder / "dags")
    shutil.copytree(MANY / "plugins", plugins)
    shutil.copy(ticker.__file__, plugins)  # whose lines the plugin writes
    start = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(seconds=load.begun_ago_s)
    return files, {
        "MANY_LEDGER": str(files.tasks), "MANY_TICKS": str(files.schedulers), "MANY_TASKS": str(load.tasks),
        "MANY_SLEEP_S": str(load.sleep_s), "MANY_EVERY_S": str(load.every_s), "MANY_RUNS": str(load.runs),
        "MANY_LONG_S": str(load.long_s), "MANY_SLOW_S": str(load.slow_s), "MANY_SLOW_EVERY_S": str(load.slow_every_s),
        "MANY_START": start.isoformat(), "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
    }  # fmt: skip


@contextmanager
def scene(
    executor: str,
    load: Load,
    *,
    folder: Path | None = None,
    dag_processor: bool = True,
    version: str = "3.3",
    store: str = "postgres",
    **settings: str,
) -> Iterator[tuple[Site, Stage, Files]]:
    """Database, broker, API server, workers and dag-processor, all at work; no scheduler yet. Progress goes to stderr."""
    with ExitStack() as undo:
        stage = undo.enter_context(Stage(folder))
        screen = undo.enter_context(Screen(Console(file=sys.stderr)))
        files, environment = lay_out(stage.folder, load)
        site = Site(
            stage, screen, undo, executor=executor, dags=stage.folder / "dags", environment=environment, version=version,
            store=store, settings=settings,
        )  # fmt: skip
        site.start_api()
        if executor == "celery":
            site.start_workers(WORKERS)
        if dag_processor:
            site.start_dag_processor()
        yield site, stage, files


def campaign(line: Line, kinds: Sequence[str], *, seed: int, heirs: int | None = None, tell: Tell) -> list[Blow]:
    """Strike once for each of `kinds`, at random moments, each time when the line is settled again.

    A line that does not settle ends the campaign; the last blow may have no figure then.
    """
    chance = random.Random(seed)
    blows: list[Blow] = []
    for number, kind in enumerate(kinds, 1):
        try:
            line.settled(heirs=heirs)
            time.sleep(chance.uniform(0.0, 2.0))
            blow = line.strike(kind, heirs=heirs)
            blows.append(blow)
            line.succeeded(blow)
        except NotSettled as error:
            tell(str(error))
            break
        tell(f"{number:>3}/{len(kinds)} {kind} on {blow.host}: succeeded after {blow.seconds['job row']:.2f} s")
    return blows


def mixed(kinds: Sequence[str], count: int, seed: int) -> list[str]:
    """So many blows, every kind as often as the others, in an order that the seed decides."""
    every = [kinds[number % len(kinds)] for number in range(count)]
    random.Random(seed).shuffle(every)
    return every


def verdict(site: Installation, line: Line, files: Files, load: Load, *, limit_s: float, tell: Tell) -> ledger.Verdict:
    """Let all runs that began until now come to their end, and judge them, and when the schedulers ran."""
    until = datetime.now(timezone.utc)
    limit, told_at = time.monotonic() + limit_s, time.monotonic()
    while (left := _left(site, until)) and time.monotonic() < limit:
        if time.monotonic() - told_at > 10:
            told_at = time.monotonic()
            tell(f"    {left}")
        time.sleep(0.5)
    found = ledger.judge(site.ask, files.tasks, dag="many", until=until, every_s=load.every_s, tasks_per_run=load.tasks)
    if not found.runs:
        found.broken.append("there was no run at all")
    ran = starts_in(files.schedulers)
    if len(ran) < 2:
        found.broken.append("the schedulers wrote nothing down, so nothing can be said of them")
    # A dead one's row that still says so keeps its tasks from being adopted for five minutes.
    rows = site.ask("SELECT id FROM job WHERE job_type = 'SchedulerJob' AND state = 'running'")
    alive = line.jobs()
    found.broken.extend(
        f"job {number} says that it runs, and its scheduler does not" for (number,) in rows if number not in alive
    )
    by_seat: dict[int, list[Start]] = defaultdict(list)
    for start in ran:
        by_seat[line.seat_of(start)].append(start)
    for both in itertools.chain.from_iterable(overlaps(starts) for starts in by_seat.values()):
        found.broken.append(
            f"two schedulers for {both.lasted_s:.3f} s: {both.earlier.member} in term {both.earlier.term} "
            f"and {both.later.member} in term {both.later.term}"
        )
    if found.broken:
        for sentence in line.history():
            tell(f"    {sentence}")
    return found


def _left(site: Installation, until: datetime) -> str:
    past = site.ask("SELECT 1 FROM dag_run WHERE dag_id = 'many' AND logical_date > :until LIMIT 1", until=until)
    if not past:
        newest = site.ask("SELECT max(logical_date) FROM dag_run WHERE dag_id = 'many'")[0][0]
        return f"waiting until the schedule has come to the end (now at {newest:%H:%M:%S})" if newest else "no run yet"
    waiting = ledger.unfinished(site.ask, "many", until)
    return f"waiting for {waiting} runs to end" if waiting else ""


def load_now() -> float:
    """How busy the machine is: a figure without it says little."""
    return os.getloadavg()[0]
