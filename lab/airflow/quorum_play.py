"""Airflow's real CeleryExecutor sends tasks at a pace, and Celery workers with Airflow's settings carry them out.

    python -m celery -A lab.airflow.quorum_play worker …     a worker: each start of a task is a line in $PLAY_STARTS
    python -m lab.airflow.quorum_play COUNT PER_SECOND       the sender: what became of each is a line on standard output

Both run in Airflow's environment; no scheduler and no DAG takes part. The sender does what a scheduler's loop does: it hands
over what is queued, looks at what came back, and keeps what Airflow would try again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from airflow.providers.celery.executors.celery_executor import CeleryExecutor
from airflow.providers.celery.executors.celery_executor_utils import app

TASK_S = 0.1
TURN_S = 0.2
QUEUE = "default"


def carry_out(text: str) -> None:
    """In the place of Airflow's own work: note the start, and take a moment."""
    line = json.dumps({"task": json.loads(text)["task"], "at": time.monotonic(), "pid": os.getpid()}) + "\n"
    descriptor = os.open(os.environ["PLAY_STARTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)
    time.sleep(TASK_S)


if "worker" in sys.argv:
    app.finalize()
    app.tasks["execute_workload"].run = carry_out


@dataclass(frozen=True)
class Workload:
    """As much of one as the executor looks at."""

    task: int
    ti: None = None

    def model_dump_json(self) -> str:
        return json.dumps({"task": self.task})


def send(count: int, per_s: float) -> None:
    executor = CeleryExecutor(parallelism=1000)
    executor.start()
    queued: dict[Any, Workload] = executor.queued_tasks
    began, made, told = time.monotonic(), 0, set()
    while made < count or queued:
        while made < count and time.monotonic() - began > made / per_s:
            queued[made] = Workload(made)
            made += 1
        turn = time.monotonic()
        if queued:
            executor._send_workloads([(key, each, QUEUE, None) for key, each in list(queued.items())])
        now = time.monotonic()
        for key, (state, _) in list(executor.event_buffer.items()):
            if key not in told:
                told.add(key)
                print(
                    json.dumps({"task": key, "state": str(state), "at": now, "turn_s": round(now - turn, 2)}),
                    flush=True,
                )
        time.sleep(max(0.0, TURN_S - (now - turn)))


if __name__ == "__main__":
    send(int(sys.argv[1]), float(sys.argv[2]))
