"""A scheduler of real Airflow that lives and queues nothing: another session holds what it needs, as a frozen one would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from heirflow.demo.stage import Process, Stage
from heirflow.programs.airflow import installation
from heirflow.programs.airflow.progress import Limits, progress_of
from heirflow.stores import open_store
from heirflow.stores.sql.store import SqlStore
from lab.airflow.environment import AirflowEnvironment
from lab.servers.servers import Server
from tests.airflow.rig import JOBS, Rig

DAG = """
try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task

@dag(schedule=None, is_paused_upon_creation=False)
def waits():
    @task
    def nothing():
        pass
    nothing()

waits()
"""
LIMIT_S = 240.0


@pytest.fixture
def rig(airflow: AirflowEnvironment, server: Server, stage: Stage, database_name: str) -> Rig:
    made = Rig(airflow, server, stage, database_name)
    (made.home / "dags" / "one.py").write_text(DAG)
    said(made, "dags", "reserialize")
    return made


def said(rig: Rig, *words: str) -> None:
    done = subprocess.run([rig.airflow.program("airflow"), *words], env=rig.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@contextmanager
def nothing_can_be_queued(rig: Rig) -> Iterator[None]:
    with psycopg.connect(rig.server.url("psycopg", database=rig.database).replace("+psycopg", "")) as holder:
        holder.execute("SELECT 1 FROM slot_pool FOR UPDATE")
        yield


def looks_at_the_tables_that_airflow_made(rig: Rig) -> None:
    """None of the statements names what this Airflow does not have, and its configuration says what they need."""
    path = f"{rig.airflow.folder / 'bin'}{os.pathsep}{rig.env['PATH']}"
    found = installation.on_path({**rig.env, "PATH": path})
    assert found is not None
    assert found.numbers == {"parallelism": 4, "capacity": 1000, "min_file_process_interval": 30}

    def store() -> SqlStore:
        made = open_store(found.url, call_limit_s=20.0)
        assert isinstance(made, SqlStore)
        return made

    for component, kind in JOBS.items():
        check = progress_of(component, (), Limits.of(found.numbers), found.version, store, found.schema)
        for _ in range(2):
            said = check.look(json.dumps({"job_id": 1, "job_type": kind}), 20.0)
        assert said == ("none of 1 DAG was parsed again" if component == "dag-processor" else "")


def events(member: Process) -> list[str]:
    lines = [json.loads(line) for line in member.log.read_text().splitlines() if line.startswith('{"time"')]
    return [line["event"] for line in lines if line["event"].startswith("work_")]


def started(rig: Rig, health: str) -> Process:
    """A leader at work that looks every 2 s."""
    flags = ("--health", health, "--progress-timeout", "10s", "--log-format", "json", "--ttl", "60s")
    member = rig.member("a", "scheduler", *flags)
    rig.wait_for(lambda: rig.line("scheduler").get("a") and rig.facts("a", "scheduler")["runs"], "no leader", member)
    rig.at_work("scheduler", member)
    return member


@pytest.mark.timeout(1200)
def test_a_scheduler_that_queues_nothing_is_told_and_where_it_may_be_replaced(rig: Rig) -> None:
    looks_at_the_tables_that_airflow_made(rig)
    a = started(rig, "progress")
    command = rig.facts("a", "scheduler")["command_pid"]
    with nothing_can_be_queued(rig):
        said(rig, "dags", "trigger", "waits")
        rig.wait_for(lambda: events(a) == ["work_stands_still"], "it was not told", a, limit_s=LIMIT_S)
        facts = rig.facts("a", "scheduler")
        assert "1 task (waits.nothing) waits in `scheduled` though there is room" in facts["because"]
        assert facts["leader"] and facts["ready"]
        notes = "SELECT note FROM heirflow_member WHERE election = 'airflow-scheduler'"
        rig.wait_for(lambda: "has moved nothing for" in rig.ask(notes)[0][0], "others do not see it", a)
    rig.wait_for(lambda: events(a) == ["work_stands_still", "work_goes_on"], "it did not go on", a, limit_s=LIMIT_S)
    assert rig.facts("a", "scheduler")["because"] == ""
    assert rig.facts("a", "scheduler")["command_pid"] == command, "nothing was stopped for it"
    assert len(rig.jobs("scheduler")) == 1
    rig.stage.signal(a, signal.SIGTERM)
    assert rig.stage.wait(a, 120.0) == 0, a.log_end()

    a = started(rig, "progress=act")
    before = len(rig.jobs("scheduler"))
    with nothing_can_be_queued(rig):
        said(rig, "dags", "trigger", "waits")
        rig.wait_for(lambda: len(rig.jobs("scheduler")) > before, "it was not replaced", a, limit_s=LIMIT_S)
    assert any("it has moved nothing for" in told for told in rig.history("scheduler")), rig.history("scheduler")
    assert "where the command stands: " in a.log.read_text()
    rig.stage.signal(a, signal.SIGTERM)
    assert rig.stage.wait(a, 120.0) == 0, a.log_end()
