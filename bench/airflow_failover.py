"""Real Airflow 3.3.2, its scheduler's command killed with -9 again and again while tasks are queued and running.

    python bench/airflow_failover.py [--runs 10] [--cold] [--no-adopt] [--json]

Embedded PostgreSQL, API server, DAG processor and three wrapped schedulers with LocalExecutor on this machine, Airflow's own
30 s and 300 s for dead schedulers. Each figure counts from the signal: to the `start_date` of the heir's job row, to the next
`start_date` of a task, and until no task is queued or running in the name of the dead job. First version: LocalExecutor only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from heirflow.demo.airflow_play import AirflowPlay
from heirflow.demo.screen import Screen
from heirflow.demo.stage import Stage
from heirflow.local import ask

HOSTS = ("ada", "ben", "cleo")
LEFT = """SELECT count(*) FROM task_instance WHERE queued_by_job_id = :job AND state IN ('queued', 'running', 'restarting')"""
LIMIT_S = 400.0


class Bench:
    def __init__(self, play: AirflowPlay, flags: list[str]) -> None:
        self.play = play
        # Airflow's own numbers, which the demonstration shortens.
        for name, value in (("SCHEDULER_HEALTH_CHECK_THRESHOLD", "30"), ("ORPHANED_TASKS_CHECK_INTERVAL", "300")):
            play._env[f"AIRFLOW__SCHEDULER__{name}"] = value
        for flag in flags:
            play._env[f"HEIRFLOW_{flag.upper().replace('-', '_')}"] = "true"
        for host in HOSTS:
            play.start_member(host)

    def line(self) -> tuple[str | None, int]:
        """(the leader, how many are ready)."""
        rows = self.play._ask("SELECT to_regclass('heirflow_election')::text")
        if rows[0][0] is None:
            return None, 0
        leader = self.play._ask("SELECT leader FROM heirflow_election WHERE name = 'airflow-scheduler'")
        ready = self.play._ask("SELECT count(*) FROM heirflow_member WHERE election = 'airflow-scheduler' AND ready")
        return (leader[0][0] if leader else None), int(ready[0][0])

    def job(self) -> int | None:
        told = self.play._ask("SELECT note FROM heirflow_election WHERE name = 'airflow-scheduler'")
        return int(json.loads(told[0][0])["job_id"]) if told and told[0][0] else None

    def settled(self, cold: bool) -> tuple[str, int]:
        """Wait for a leader at work, warm heirs, and tasks in its name; returns it and its job."""
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() < limit:
            leader, ready = self.line()
            if leader is None:
                time.sleep(0.2)
                continue
            newest = self.play._ask(
                "SELECT id FROM job WHERE job_type = 'SchedulerJob' AND state = 'running' ORDER BY id DESC"
            )
            job = self.job() if not cold else (int(newest[0][0]) if newest else None)
            if ready >= len(HOSTS) - 1 and job and self.play._ask(LEFT, job=job)[0][0]:
                return leader, job
            time.sleep(0.05)
        raise SystemExit("the line did not become ready, or no task was queued")

    def once(self, cold: bool) -> dict[str, float]:
        leader, job = self.settled(cold)
        door = Path(self.play._env["HEIRFLOW_RUN_DIR"])
        number = self.play._ask("SELECT pid FROM heirflow_member WHERE id = :id", id=leader)[0][0]
        command = int(ask(door, "airflow-scheduler", 5.0, pid=int(number))["command_pid"])
        at = time.time()
        os.kill(command, signal.SIGKILL)
        found: dict[str, float] = {}
        while len(found) < 3 and time.time() - at < LIMIT_S:
            if "job row" not in found and (loop := self.play.in_loop_at(at)) is not None:
                found["job row"] = loop - at
            if "next task" not in found and (starts := self.play.starts(at + 0.05)):
                found["next task"] = starts[0].at - at
            if "adopted" not in found and not self.play._ask(LEFT, job=job)[0][0]:
                found["adopted"] = time.time() - at
            time.sleep(0.02)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--no-adopt", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    flags = [name for name in ("cold", "no-adopt") if getattr(options, name.replace("-", "_"))]
    runs: list[dict[str, float]] = []
    with ExitStack() as undo:
        stage = undo.enter_context(Stage())
        screen = undo.enter_context(Screen(Console(file=sys.stderr)))
        bench = Bench(AirflowPlay(stage, screen, undo), flags)
        for number in range(options.runs):
            runs.append(bench.once(options.cold))
            told = ", ".join(f"{name} {value:.2f} s" for name, value in runs[-1].items())
            print(f"{number + 1:>3}: {told}", file=sys.stderr, flush=True)
    figures = {name: sorted(run[name] for run in runs if name in run) for name in ("job row", "next task", "adopted")}
    if options.json:
        print(json.dumps({"flags": flags, "load": os.getloadavg(), "seconds": figures}))
        return
    print(
        f"{options.runs} kills, {' '.join(flags) or 'warm, with adoption'}; load of the machine {os.getloadavg()[0]:.1f}"
    )
    for name, values in figures.items():
        if values:
            print(
                f"  kill to {name:<10} median {statistics.median(values):6.2f} s   min {values[0]:.2f}   max {values[-1]:.2f}"
            )


if __name__ == "__main__":
    main()
