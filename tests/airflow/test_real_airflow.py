"""`heirflow run -- airflow COMPONENT` with real Airflow, as pinned in locks/, on a real PostgreSQL.

In each line one member is installed beside Airflow and the other one apart, in an environment of its own: with Airflow 2.11
they even have different SQLAlchemy (1.4 and 2.x). No flag names the election or the database.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heirflow.demo.stage import Process, Stage, clean_environment
from lab.airflow.environment import AirflowEnvironment
from lab.servers.servers import Server, free_port

JOBS = {"scheduler": "SchedulerJob", "dag-processor": "DagProcessorJob", "triggerer": "TriggererJob"}
LIMIT_S = 240.0
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "dags" / "ticking.py"


class Installation:
    """One Airflow with its own database, and the members that stand in line for its components."""

    def __init__(self, airflow: AirflowEnvironment, server: Server, stage: Stage, name: str) -> None:
        self.airflow, self.server, self.stage, self.database = airflow, server, stage, name
        server.sql(f"CREATE DATABASE {name} OWNER heirflow", database="postgres")
        home = stage.folder / "airflow"
        (home / "dags").mkdir(parents=True)
        # Without any DAG file Airflow 2.11.2's own dag-processor ends at once, with or without HeirFlow.
        shutil.copy(EXAMPLE, home / "dags")
        settings = {
            "DATABASE__SQL_ALCHEMY_CONN_CMD": f"printf %s {server.url('psycopg2', database=name)}",
            "CORE__DAGS_FOLDER": str(home / "dags"),
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "SCHEDULER__STANDALONE_DAG_PROCESSOR": "True",
            "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        }
        self.env = clean_environment(
            AIRFLOW_HOME=str(home),
            HEIRFLOW_RUN_DIR=str(stage.folder / "run"),
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        )
        done = subprocess.run(
            [airflow.program("airflow"), "db", "migrate"], env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def member_beside(self, component: str) -> Process:
        """As somebody does it who has activated Airflow's environment."""
        path = f"{self.airflow.folder / 'bin'}{os.pathsep}{self.env['PATH']}"
        argv = ["heirflow", "run", "--host", "beside", "--", "airflow", component]
        return self.stage.start(f"{component}-beside", argv, {**self.env, "PATH": path})

    def member_apart(self, component: str) -> Process:
        wrapper = [sys.executable, "-m", "heirflow", "run", "--host", "apart"]
        argv = [*wrapper, "--", self.airflow.python, "-m", "airflow", component]
        return self.stage.start(f"{component}-apart", argv, self.env)

    def heirflow(self, *words: str) -> Any:
        """What a person is told who only has Airflow on the PATH."""
        path = f"{self.airflow.folder / 'bin'}{os.pathsep}{self.env['PATH']}"
        ask, env = [self.airflow.program("heirflow"), *words, "--json"], {**self.env, "PATH": path}
        done = subprocess.run(ask, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def rows(self, component: str) -> list[str]:
        """The states of this component's rows in Airflow's job table, the oldest first."""
        told = self.server.sql(
            f"SELECT state FROM job WHERE job_type = '{JOBS[component]}' ORDER BY id", database=self.database
        )
        return told.split()

    def line(self, component: str) -> list[str]:
        """Who leads or could take charge now, by name of host."""
        known = self.server.sql("SELECT to_regclass('heirflow_member') IS NOT NULL", database=self.database) == "t"
        if not known:
            return []
        ask = f"SELECT host FROM heirflow_member WHERE election = 'airflow-{component}' AND ready ORDER BY seniority"
        return self.server.sql(ask, database=self.database).split()

    def wait_for(self, done: Callable[[], object], what: str, *members: Process) -> None:
        limit = time.monotonic() + LIMIT_S
        while not done():
            ends = "\n".join(f"--- {member.name}\n{member.log_end(30)}" for member in members)
            assert time.monotonic() < limit, f"{what}\n{ends}"
            time.sleep(0.1)


@pytest.fixture
def installation(airflow: AirflowEnvironment, server: Server, stage: Stage, database_name: str) -> Installation:
    return Installation(airflow, server, stage, database_name)


@pytest.mark.timeout(900)
def test_each_component_has_an_heir_that_starts_after_an_orderly_stop(installation: Installation) -> None:
    # All three of the newer Airflow at once; of the older one the scheduler (`test_warm_heirs` has its others).
    components = list(JOBS) if installation.airflow.version.startswith("3.") else ["scheduler"]
    first = {component: installation.member_beside(component) for component in components}
    for component, member in first.items():
        installation.wait_for(
            lambda c=component: installation.rows(c)[:1] == ["running"], f"{component}: not at work", member
        )
    heirs = {component: installation.member_apart(component) for component in components}
    for component, heir in heirs.items():
        installation.wait_for(
            lambda c=component: installation.line(c) == ["beside", "apart"], f"{component}: no heir", heir
        )
        assert len(installation.rows(component)) == 1, f"{component}: two at work"

    shown = installation.heirflow("status", "airflow-scheduler")["elections"][0]
    assert shown["term"] == 1
    assert shown["heir"].startswith("apart-")
    where = installation.heirflow("config", "--name", "airflow-scheduler")["settings"]["db-url"]
    assert where["origin"] == "Airflow's own configuration"
    assert installation.server.password not in where["value"]

    for component, member in first.items():
        installation.stage.signal(member, signal.SIGTERM)
        assert installation.stage.wait(member, LIMIT_S) == 0, f"{component}: {member.log_end()}"
    for component, heir in heirs.items():
        installation.wait_for(
            lambda c=component: len(installation.rows(c)) == 2, f"{component}: the heir did not start", heir
        )
        before, after = installation.rows(component)
        assert (before, after) == ("success", "running"), f"{component}: {before}, {after}"
        events = installation.heirflow("history", f"airflow-{component}")["events"]
        told = [(event["term"], event["what"]) for event in events if event["what"] in {"took charge", "released"}]
        assert told == [(1, "took charge"), (1, "released"), (2, "took charge")]
    for component, heir in heirs.items():
        installation.stage.signal(heir, signal.SIGTERM)
        assert installation.stage.wait(heir, LIMIT_S) == 0, f"{component}: {heir.log_end()}"
