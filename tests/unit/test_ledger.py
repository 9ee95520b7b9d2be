"""The judge of the Airflow chaos must find what it is there for: its rows are of runs that went well, with one thing wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from lab.airflow.ledger import Verdict, attempts, first_after, judge

BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
RUNS = [(f"run{number}", BEGIN + timedelta(seconds=5 * number), "success") for number in range(4)]
TASKS = [(run, task, "success") for run, _, _ in RUNS for task in ("a", "b")]


def told(what: str, run: str, task: str, at: float, *, attempt: int = 1, pid: int = 7) -> dict[str, Any]:
    return {
        "what": what, "dag": "many", "task": task, "run": run, "attempt": attempt, "at": at, "pid": pid, "host": "dora",
    }  # fmt: skip


def lines() -> list[dict[str, Any]]:
    found = []
    for number, (run, task, _) in enumerate(TASKS):
        found += [told("began", run, task, number, pid=number), told("ended", run, task, number + 0.5, pid=number)]
    return found


def judged(
    folder: Path, told: list[dict[str, Any]], runs: Sequence[Any] = RUNS, tasks: Sequence[Any] = TASKS
) -> Verdict:
    file = folder / "tasks.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in told) + '{"what": "beg')

    def ask(statement: str, **_: Any) -> Sequence[Any]:
        return runs if "logical_date, state" in statement else tasks

    return judge(ask, file, dag="many", until=BEGIN, every_s=5.0, tasks_per_run=2)


def test_all_went_well(tmp_path: Path) -> None:
    assert judged(tmp_path, lines()) == Verdict(4, 8, 8, 0, 0, [])
    assert first_after(tmp_path / "tasks.jsonl", 2.5) == 3
    assert len(attempts(tmp_path / "tasks.jsonl")) == 8


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    runs = [RUNS[0], RUNS[1], RUNS[3]]
    found = judged(tmp_path, lines(), runs, [row for row in TASKS if row[0] != "run2"])
    assert found.broken == ["a run is lost between 00:00:05 and 00:00:15"]


def test_a_run_and_a_task_that_failed(tmp_path: Path) -> None:
    runs = [*RUNS[:3], ("run3", RUNS[3][1], "failed")]
    tasks = [*TASKS[:7], ("run3", "b", "failed")]
    assert judged(tmp_path, lines(), runs, tasks).broken == ["run run3 is failed", "task b of run3 is failed"]


def test_a_task_that_is_not_there(tmp_path: Path) -> None:
    assert judged(tmp_path, lines(), RUNS, TASKS[:7]).broken == ["7 tasks in 4 runs, instead of 2 in each"]


def test_an_attempt_that_ended_twice(tmp_path: Path) -> None:
    again = [told("began", "run0", "a", 60, pid=99), told("ended", "run0", "a", 61, pid=99)]
    assert judged(tmp_path, lines() + again).broken == ["attempt 1 of a of run0 ran to its end 2 times"]


def test_a_later_attempt_is_told_and_not_held_against_anybody(tmp_path: Path) -> None:
    again = [told("began", "run0", "a", 60, pid=99, attempt=2), told("ended", "run0", "a", 61, pid=99, attempt=2)]
    found = judged(tmp_path, lines() + again)
    assert (found.broken, found.done_again, found.attempts) == ([], 1, 9)


@pytest.mark.parametrize("attempt", [2, 3])
def test_attempts_at_the_same_time(tmp_path: Path, attempt: int) -> None:
    again = [
        told("began", "run0", "a", 0.2, pid=99, attempt=attempt),
        told("ended", "run0", "a", 1, pid=99, attempt=attempt),
    ]
    assert judged(tmp_path, lines() + again).broken == [f"attempts 1 and {attempt} of a of run0 ran at the same time"]


def test_an_attempt_that_was_cut_short_and_one_that_airflow_only_believes_in(tmp_path: Path) -> None:
    short = [line for line in lines() if line["pid"] != 3 or line["what"] == "began"]
    found = judged(tmp_path, short)
    assert found.cut_short == 1
    assert found.broken == ["task b of run1 is a success for Airflow, and never wrote down its end"]
