"""The plays with real Airflow: a wrapped scheduler on each of three "hosts", or a whole cluster with three lines.

A play is one line: one component of Airflow, and what can be seen of its work in Airflow's own tables.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from heirflow.demo.screen import Screen
from heirflow.demo.stage import Process, Stage
from heirflow.demo.story import Cast
from heirflow.demo.watch import Play, Start
from heirflow.stores import Store
from lab.airflow.environment import CHECKOUT
from lab.airflow.site import COORDINATORS, EXAMPLES, Site

THREE = ("ada", "ben", "cleo")
WORKERS = ("dora", "emil")
FOR_THE_CLUSTER = CHECKOUT / "examples" / "cluster"


@dataclass(frozen=True, slots=True)
class Work:
    """What is seen of a component's work."""

    job: str
    """Its `job_type` in Airflow's `job` table."""
    noun: str
    verb: str
    query: str
    """Rows (seconds since 1970, host, what) of everything later than `:after`, in order."""


WORKS = {
    "scheduler": Work(
        "SchedulerJob", "tasks", "started",
        "SELECT extract(epoch FROM start_date), hostname, dag_id || '.' || task_id FROM task_instance "
        "WHERE start_date > to_timestamp(:after) ORDER BY start_date",
    ),
    "dag-processor": Work(
        "DagProcessorJob", "DAG files", "read",
        "SELECT extract(epoch FROM last_parsed_time), "
        "(SELECT hostname FROM job WHERE job_type = 'DagProcessorJob' ORDER BY id DESC LIMIT 1), dag_id "
        "FROM dag WHERE last_parsed_time > to_timestamp(:after) ORDER BY last_parsed_time",
    ),
    "triggerer": Work(
        "TriggererJob", "deferred tasks", "finished",
        "SELECT extract(epoch FROM end_date), "
        "(SELECT hostname FROM job WHERE job_type = 'TriggererJob' ORDER BY id DESC LIMIT 1), dag_id || '.' || task_id "
        "FROM task_instance WHERE dag_id = 'deferring' AND state = 'success' AND end_date > to_timestamp(:after) "
        "ORDER BY end_date",
    ),
}  # fmt: skip


class AirflowPlay:
    """One component in line. See `watch.Play`."""

    warm_up_s = 180.0

    def __init__(
        self, site: Site, component: str = "scheduler", hosts: Sequence[str] = THREE, *, alone: bool = True
    ) -> None:
        """`alone`: nothing else is in line on these hosts, so that a host's name says enough."""
        self.site, self.command, self.hosts = site, component, tuple(hosts)
        self.election = f"airflow-{component}"
        self._work = WORKS[component]
        self.noun, self.verb = self._work.noun, self._work.verb
        self.pause_s = 15.0 if component == "scheduler" else 5.0
        self._alone = alone

    def open_store(self) -> Store:
        return self.site.open_store()

    def called(self, host: str) -> str:
        return host if self._alone else f"{host}'s {self.command}"

    def start_member(self, host: str) -> Process:
        return self.site.start_member(host, self.command, name=host if self._alone else None)

    def starts(self, after: float) -> Sequence[Start]:
        rows = self.site.ask(self._work.query, after=after + 1e-6)
        return [Start(float(at), host or "?", what) for at, host, what in rows]

    def in_loop_at(self, after: float) -> float | None:
        found: Any = self.site.ask(
            "SELECT extract(epoch FROM min(start_date)) FROM job "
            "WHERE job_type = :job AND start_date > to_timestamp(:after)",
            job=self._work.job,
            after=after,
        )[0][0]
        return None if found is None else float(found)

    def order(self, *words: str) -> str:
        return self.site.order(*words)

    def start_page(self, place: str) -> Process:
        return self.site.start_page(place)

    def farewell(self) -> str:
        return self.site.farewell()

    def stop_rest(self) -> None:
        self.site.stop_rest()


def schedulers(store: str) -> Cast:
    """The plain demonstration: three schedulers in line, and what is not in line runs once. `store`: see `Site`."""
    subject = f"three members in line for Airflow's scheduler{_kept_in(store)}; the leader will die"
    return Cast(subject, lambda stage, screen, undo: line_of_schedulers(stage, screen, undo, store))


def clusters(executor: str, store: str) -> Cast:
    """The reference cluster. `executor`: ``celery`` or ``local``. `store`: see `Site`."""
    what = (
        "a cluster of Airflow with RabbitMQ, Celery"
        if executor == "celery"
        else "a pair of hosts with Airflow, LocalExecutor"
    )
    subject = f"{what} and three lines{_kept_in(store)}; each line's leader will die"
    return Cast(subject, lambda stage, screen, undo: cluster(stage, screen, undo, executor, store))


def _kept_in(store: str) -> str:
    return f", kept in {COORDINATORS[store]}" if store in COORDINATORS else ""


def line_of_schedulers(stage: Stage, screen: Screen, undo: ExitStack, store: str = "postgres") -> list[Play]:
    """See `schedulers`."""
    site = Site(stage, screen, undo, store=store)
    site.start_api()
    site.start_dag_processor()
    return [AirflowPlay(site)]


def cluster(stage: Stage, screen: Screen, undo: ExitStack, executor: str, store: str = "postgres") -> list[Play]:
    """See `clusters`: three lines, and with Celery two workers and a broker; with LocalExecutor a pair of hosts."""
    # A triggerer's work has a DAG of its own: where there is none, its tasks would wait for ever.
    dags = stage.folder / "dags"
    dags.mkdir(exist_ok=True)
    for file in (*EXAMPLES.glob("*.py"), *FOR_THE_CLUSTER.glob("*.py")):
        shutil.copy(file, dags)
    site = Site(
        stage, screen, undo, executor=executor, dags=dags, store=store,
        settings={"DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5"},  # so that its work can be seen
    )  # fmt: skip
    site.start_api()
    if executor == "celery":
        site.start_workers(WORKERS)
    return [
        AirflowPlay(site, "scheduler", THREE if executor == "celery" else THREE[:2], alone=False),
        AirflowPlay(site, "dag-processor", THREE[:2], alone=False),
        AirflowPlay(site, "triggerer", THREE[:2], alone=False),
    ]
