"""Real Airflow with its own database, and wrapped components beside each other, each as on a host of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from heirflow.demo.stage import Process, Stage, clean_environment
from heirflow.member.door import ask
from lab.airflow.environment import AirflowEnvironment
from lab.servers.servers import Server, free_port

JOBS = {"scheduler": "SchedulerJob", "dag-processor": "DagProcessorJob", "triggerer": "TriggererJob"}
LIMIT_S = 90.0
Answer = TypeVar("Answer")


class Rig:
    """Everything runs until the stage is left."""

    def __init__(self, airflow: AirflowEnvironment, server: Server, stage: Stage, name: str, **settings: str) -> None:
        self.airflow, self.server, self.stage, self.database = airflow, server, stage, name
        server.sql(f"CREATE DATABASE {name} OWNER heirflow", database="postgres")
        self.home = stage.folder / "airflow"
        self.doors = Path(tempfile.mkdtemp(prefix="hf-"))  # the path of a socket must be short
        weakref.finalize(self, shutil.rmtree, self.doors, ignore_errors=True)
        (self.home / "dags").mkdir(parents=True)
        (self.home / "dags" / "one.py").write_text("import airflow  # a file to parse\n")
        own = {
            "DATABASE__SQL_ALCHEMY_CONN": server.url("psycopg2", database=name),
            "CORE__DAGS_FOLDER": str(self.home / "dags"),
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__FERNET_KEY": urlsafe_b64encode(os.urandom(32)).decode(),
            "CORE__PARALLELISM": "4",
            "CORE__LOAD_EXAMPLES": "False",
            "SCHEDULER__STANDALONE_DAG_PROCESSOR": "True",
            "SCHEDULER__ENABLE_HEALTH_CHECK": "True",
            **settings,
        }
        self.env = clean_environment(
            AIRFLOW_HOME=str(self.home),
            HEIRFLOW_RUN_DIR=str(self.doors),
            **{f"AIRFLOW__{name}": value for name, value in own.items()},
        )
        done = subprocess.run(
            [airflow.program("airflow"), "db", "migrate"], env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def member(
        self, host: str, component: str, *flags: str, program: Sequence[str] = ("heirflow",), **env: str
    ) -> Process:
        """A wrapped component on a host of its own: its ports are its own."""
        ports = {
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(free_port()),
        }
        path = f"{self.airflow.folder / 'bin'}{os.pathsep}{self.env['PATH']}"
        argv = [*program, "run", "--host", host, *flags, "--", "airflow", component]
        env = {**self.env, **ports, "PATH": path, "HEIRFLOW_RUN_DIR": str(self.doors / host), **env}
        return self.stage.start(f"{component}-{host}", argv, env)

    # what is seen

    def ask(self, statement: str) -> list[list[str]]:
        """Rows of text."""
        told = self.server.sql(statement, database=self.database)
        return [line.split("|") for line in told.splitlines() if line]

    def jobs(self, component: str) -> list[tuple[int, str]]:
        """(id, state) of this component's rows, the oldest first."""
        rows = self.ask(f"SELECT id, state FROM job WHERE job_type = '{JOBS[component]}' ORDER BY id")
        return [(int(number), state) for number, state in rows]

    def line(self, component: str) -> dict[str, bool]:
        """Who stands in line, by host, and whether it is ready."""
        if self.ask("SELECT to_regclass('heirflow_member') IS NOT NULL") != [["t"]]:
            return {}
        rows = self.ask(
            f"SELECT host, ready FROM heirflow_member WHERE election = 'airflow-{component}' ORDER BY seniority"
        )
        return {host: ready == "t" for host, ready in rows}

    def history(self, component: str) -> list[str]:
        rows = self.ask(f"SELECT what, because FROM heirflow_event WHERE election = 'airflow-{component}' ORDER BY id")
        return [" | ".join(row) for row in rows]

    def facts(self, host: str, component: str) -> dict[str, Any]:
        """What the member itself says at its door."""
        return ask(self.doors / host, f"airflow-{component}", 5.0)

    def wait_for(
        self, done: Callable[[], Answer], what: str, *members: Process, limit_s: float = LIMIT_S, every_s: float = 0.1
    ) -> Answer:
        limit = time.monotonic() + limit_s
        while not (answer := done()):
            ends = "\n".join(f"--- {member.name}\n{member.log_end(30)}" for member in members)
            assert time.monotonic() < limit, f"{what}\n{ends}"
            time.sleep(every_s)
        return answer

    def at_work(self, component: str, *members: Process) -> int:
        """Wait until one row says that the component runs; its id."""

        def newest() -> int:
            rows = self.jobs(component)
            return rows[-1][0] if rows and rows[-1][1] == "running" else 0

        return self.wait_for(newest, f"{component}: not at work", *members)

    def warm(self, component: str, host: str, *members: Process) -> int:
        """Wait until this heir is ready; the pid of its standby."""
        self.wait_for(lambda: self.line(component).get(host), f"{host}: no warm heir", *members)
        return int(self.facts(host, component)["standby_pid"])


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def sockets(pid: int) -> list[str]:
    """What network sockets a process has: every line of its tables whose inode it holds open."""
    held = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held.add(os.readlink(fd))
        except OSError:
            continue
    lines: list[str] = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        every = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        lines += [f"{table} {line}" for line in every if f"socket:[{line.split()[9]}]" in held]
    return lines


def kill(pid: int) -> float:
    os.kill(pid, signal.SIGKILL)
    return time.time()
