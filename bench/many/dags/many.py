"""Many short tasks that write down, outside Airflow, when each attempt began and ended.

Beside them, where they are wanted: one long task that is always there, and runs of one slow task each.

A line is one write to a file that is opened for appending, so that whatever is killed when, no two lines are mixed. The
numbers come from the environment, which every process of the installation shares.
"""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import dag, get_current_context, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.operators.python import get_current_context

LEDGER = os.environ["MANY_LEDGER"]
TASKS = int(os.environ.get("MANY_TASKS", "6"))
SLEEP_S = float(os.environ.get("MANY_SLEEP_S", "1"))
EVERY_S = float(os.environ.get("MANY_EVERY_S", "5"))
RUNS = int(os.environ.get("MANY_RUNS", "16"))
LONG_S = float(os.environ.get("MANY_LONG_S", "0"))
SLOW_S = float(os.environ.get("MANY_SLOW_S", "0"))
SLOW_EVERY_S = float(os.environ.get("MANY_SLOW_EVERY_S", "20"))
START = datetime.fromisoformat(os.environ.get("MANY_START", "2026-01-01T00:00:00+00:00"))


def write(what: str) -> None:
    instance = get_current_context()["ti"]
    line = {
        "what": what, "dag": instance.dag_id, "task": instance.task_id, "run": instance.run_id,
        "attempt": instance.try_number, "at": time.time(), "pid": os.getpid(), "host": os.environ.get("DEMO_HOST", ""),
    }  # fmt: skip
    file = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(file, json.dumps(line).encode() + b"\n")
    os.close(file)


def scheduled(every_s: float):
    retried = {"retries": 5, "retry_delay": timedelta(seconds=1)}
    return dag(
        schedule=timedelta(seconds=every_s), start_date=START, catchup=True, max_active_runs=RUNS, default_args=retried
    )


@task
def work(seconds: float) -> None:
    write("began")
    time.sleep(seconds)
    write("ended")


@scheduled(EVERY_S)
def many():
    for number in range(TASKS):
        work.override(task_id=f"task_{number:02}")(SLEEP_S)


many()

if SLOW_S:

    @scheduled(SLOW_EVERY_S)
    def slow():
        work(SLOW_S)

    slow()

if LONG_S:

    @dag(
        schedule="@once",
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        catchup=False,
        default_args={"retries": 99},
    )
    def long():
        @task(retry_delay=timedelta(seconds=1))
        def wait() -> None:
            write("began")
            time.sleep(LONG_S)

        wait()

    long()
