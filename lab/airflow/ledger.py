"""What tasks wrote down outside Airflow, against what Airflow believes: were any lost, did any run to their end twice?

The file is no ticker's: it has a line of JSON for every beginning and every end (bench/many/dags/many.py). It is judged together
with Airflow's own rows. Each run of the time that is judged must be there, without a gap in its schedule, and every task of it must
be a success.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from lab.rig.spans import overlaps

Ask = Callable[..., Sequence[Any]]
"""`Site.ask`."""


@dataclass(slots=True)
class Attempt:
    """One process that worked at a task. Seconds since 1970."""

    dag: str
    run: str
    task: str
    number: int
    host: str
    began: float
    ended: float | None = None

    @property
    def from_s(self) -> float:
        return self.began

    @property
    def to_s(self) -> float:
        return self.began if self.ended is None else self.ended


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. `broken` is empty when every promise was kept."""

    runs: int
    tasks: int
    attempts: int
    """That wrote down their beginning."""
    cut_short: int
    """Attempts that never wrote down their end: killed with their scheduler, or with their host."""
    done_again: int
    """Tasks whose work ended in two attempts: the first was killed before Airflow had noted its end."""
    broken: list[str] = field(default_factory=list)


def attempts(path: Path) -> list[Attempt]:
    """Everything that began, in order. A half-written last line is left out."""
    open_ones: dict[tuple[str, str, str, int, int], Attempt] = {}
    found = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        key = (told["dag"], told["run"], told["task"], told["attempt"], told["pid"])
        if told["what"] == "began":
            open_ones[key] = Attempt(told["dag"], told["run"], told["task"], told["attempt"], told["host"], told["at"])
            found.append(open_ones[key])
        elif key in open_ones:
            open_ones[key].ended = told["at"]
    return found


def first_after(path: Path, at: float, dag: str = "many") -> float | None:
    """When the next attempt of that DAG began."""
    return min((each.began for each in attempts(path) if each.dag == dag and each.began > at), default=None)


def unfinished(ask: Ask, dag: str, until: datetime) -> int:
    """How many runs of that time Airflow has not brought to an end yet."""
    rows = ask(
        "SELECT count(*) FROM dag_run WHERE dag_id = :dag AND logical_date <= :until AND state NOT IN ('success', 'failed')",
        dag=dag,
        until=until,
    )
    return int(rows[0][0])


def judge(ask: Ask, path: Path, *, dag: str, until: datetime, every_s: float, tasks_per_run: int) -> Verdict:
    """Compare both for all runs up to `until`."""
    runs = ask(
        "SELECT run_id, logical_date, state FROM dag_run WHERE dag_id = :dag AND logical_date <= :until ORDER BY logical_date",
        dag=dag,
        until=until,
    )
    instances = ask(
        "SELECT ti.run_id, ti.task_id, ti.state FROM task_instance ti JOIN dag_run dr USING (dag_id, run_id) "
        "WHERE ti.dag_id = :dag AND dr.logical_date <= :until",
        dag=dag,
        until=until,
    )
    broken = []
    for (_, earlier, _), (_, later, _) in pairwise(runs):
        if abs((later - earlier).total_seconds() - every_s) > 0.001:
            broken.append(f"a run is lost between {earlier:%H:%M:%S} and {later:%H:%M:%S}")
    broken += [f"run {run} is {state}" for run, _, state in runs if state != "success"]
    broken += [f"task {task} of {run} is {state}" for run, task, state in instances if state != "success"]
    if len(instances) != len(runs) * tasks_per_run:
        broken.append(f"{len(instances)} tasks in {len(runs)} runs, instead of {tasks_per_run} in each")

    known = {run for run, _, _ in runs}
    ours = [each for each in attempts(path) if each.dag == dag and each.run in known]
    by_task: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for each in ours:
        by_task[each.run, each.task].append(each)
    done_again = 0
    for run, task, _ in instances:
        ended = [each for each in by_task.get((run, task), ()) if each.ended is not None]
        if not ended:
            broken.append(f"task {task} of {run} is a success for Airflow, and never wrote down its end")
        numbers = [each.number for each in ended]
        twice = sorted({number for number in numbers if numbers.count(number) > 1})
        broken += [
            f"attempt {number} of {task} of {run} ran to its end {numbers.count(number)} times" for number in twice
        ]
        done_again += len(set(numbers)) > 1
        broken += [
            f"attempts {both.earlier.number} and {both.later.number} of {task} of {run} ran at the same time"
            for both in overlaps(ended)
        ]
    cut_short = sum(each.ended is None for each in ours)
    return Verdict(len(runs), len(instances), len(ours), cut_short, done_again, broken)
