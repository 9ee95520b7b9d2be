"""The two settings by which schedulers judge one another: what the installed Airflow has, and what they do to one that is late."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from heirflow.demo.stage import Process, Stage
from heirflow.programs.airflow.ask import ask
from heirflow.programs.airflow.lateness import INTERVAL, INTERVAL_S, THRESHOLD, THRESHOLD_S, variable
from lab.airflow.environment import AirflowEnvironment
from lab.servers.servers import Server
from tests.airflow.rig import Rig, kill

SET = {variable(THRESHOLD): str(THRESHOLD_S), variable(INTERVAL): str(INTERVAL_S)}
USES = {
    "jobs/job.py": {THRESHOLD},  # Job.is_alive, and what the log says of a heartbeat
    "jobs/scheduler_job_runner.py": {THRESHOLD, INTERVAL},  # adopt_or_reset_orphaned_tasks
}
"""Every file of Airflow's code that reads them: see the table in docs/airflow.md."""
ALIVE = {
    "3.3": {
        "api/common/airflow_health.py",
        "api_fastapi/core_api/routes/public/job.py",
        "cli/commands/jobs_command.py",
        "cli/commands/standalone_command.py",
        "jobs/job.py",
        "utils/scheduler_health.py",
    },
    "2.11": {
        "api/common/airflow_health.py",
        "cli/commands/jobs_command.py",
        "cli/commands/standalone_command.py",
        "jobs/job.py",
        "models/dag.py",  # of a triggerer
        "utils/scheduler_health.py",
    },
}
"""Every file that asks a job whether it is alive."""
LOOK = """
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
SchedulerJobRunner(job=Job()).adopt_or_reset_orphaned_tasks()
"""
LATE = """INSERT INTO job (id, job_type, state, hostname, latest_heartbeat)
VALUES ({number}, 'SchedulerJob', 'running', 'h', clock_timestamp() - interval '{ago_s} seconds')"""
LOOKED = re.compile("Adopting or resetting orphaned tasks")


@pytest.fixture
def rig(airflow: AirflowEnvironment, server: Server, stage: Stage, database_name: str) -> Rig:
    return Rig(airflow, server, stage, database_name, SCHEDULER__SCHEDULER_HEARTBEAT_SEC="1")


def code(airflow: AirflowEnvironment) -> Iterator[tuple[str, str]]:
    """Each file of the installed Airflow, by its path below `airflow/`."""
    [root] = airflow.folder.glob("lib/python3*/site-packages/airflow")
    for path in root.rglob("*.py"):
        yield str(path.relative_to(root)), path.read_text("utf-8", "replace")


def test_airflow_reads_both_where_we_have_looked(airflow: AirflowEnvironment) -> None:
    version = airflow.version.rpartition(".")[0]
    found: dict[str, set[str]] = {}
    alive = set()
    for name, text in code(airflow):
        for key in (THRESHOLD, INTERVAL):
            if re.search(rf"['\"]{key}['\"]", text, re.IGNORECASE):
                found.setdefault(name, set()).add(key)
        if re.search(r"(job|self|recent)\.is_alive\(", text) and not name.startswith("providers/"):
            alive.add(name)
    assert found == USES
    assert alive - {"jobs/triggerer_job_runner.py"} == ALIVE[version]


def test_airflow_says_how_it_has_them_and_who_has_set_them(airflow: AirflowEnvironment, tmp_path: Path) -> None:
    file = tmp_path / "airflow.cfg"
    base = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path)}

    def told(text: str, **env: str) -> dict[str, tuple[str, str]]:
        file.write_text(text)
        answer = ask([airflow.python], base | env, limit_s=60.0)
        assert answer.problem == ""
        return {key: (found.value, found.by) for key, found in answer.given.items()}

    late, look = variable(THRESHOLD), variable(INTERVAL)
    assert told("") == {THRESHOLD: ("30", ""), INTERVAL: ("300.0", "")}, "the defaults that docs/airflow.md tells"
    assert told(f"[scheduler]\n{INTERVAL} = 60\n", **{late: "30"}) == {
        THRESHOLD: ("30", late),
        INTERVAL: ("60", "airflow.cfg"),
    }
    written = told(f"[scheduler]\n{THRESHOLD} = 30\n{INTERVAL} = 300.0\n")
    assert written == {THRESHOLD: ("30", ""), INTERVAL: ("300.0", "")}, "as in a file that Airflow wrote"
    forms = told(f"[scheduler]\n{THRESHOLD}_cmd = echo 7\n", **{f"{look}_SECRET": "there"})
    assert {key: by for key, (_, by) in forms.items()} == {THRESHOLD: "airflow.cfg", INTERVAL: f"{look}_SECRET"}
    assert told("", **SET) == {THRESHOLD: ("300", late), INTERVAL: ("5", look)}


@pytest.mark.timeout(300)
def test_one_that_is_late_is_left_alone_with_our_settings_and_marked_without(rig: Rig) -> None:
    for number, ago_s in ((101, 1), (102, 45)):
        rig.ask(LATE.format(number=number, ago_s=ago_s))

    def look(**env: str) -> list[tuple[int, str]]:
        done = subprocess.run(
            [rig.airflow.python, "-c", LOOK], env={**rig.env, **env}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return rig.jobs("scheduler")

    assert look(**SET) == [(101, "running"), (102, "running")]
    assert look() == [(101, "running"), (102, "failed")], "as Airflow does by itself"


@pytest.mark.timeout(600)
def test_two_seats_each_with_its_settings_and_one_that_is_killed(rig: Rig) -> None:
    """A third row is of one that is only late."""

    def member(host: str, *flags: str) -> Process:
        return rig.member(host, "scheduler", "--seats", "2", *flags)

    a = member("a", "--log-format", "json")
    rig.wait_for(lambda: len(rig.jobs("scheduler")) == 1, "a does not work", a)
    b = member("b")
    rig.wait_for(lambda: len(rig.jobs("scheduler")) == 2, "b does not work", a, b)
    c = member("c")
    rig.warm("scheduler", "c", a, b, c)
    assert [rig.facts(host, "scheduler")["seat"] for host in "abc"] == [1, 2, None]
    (first, _), (second, _) = rig.jobs("scheduler")
    said = [json.loads(line) for line in a.log_end(1000).splitlines() if line.startswith('{"time"')]
    [told] = [line for line in said if line["event"] == "settings_given"]
    assert (told["level"], told["environment"]) == ("info", SET)

    rig.ask(LATE.format(number=99, ago_s=45))
    looks = {each: len(LOOKED.findall(each.log.read_text())) for each in (a, b)}
    for each, before in looks.items():
        rig.wait_for(
            lambda each=each, before=before: len(LOOKED.findall(each.log.read_text())) >= before + 2,
            "it does not look every 5 s", each, limit_s=40.0,
        )  # fmt: skip
    assert dict(rig.jobs("scheduler"))[99] == "running", "two looks of both have left it alone"

    kill(int(rig.facts("b", "scheduler")["command_pid"]))
    third = rig.wait_for(
        lambda: next((number for number, state in rig.jobs("scheduler") if number not in {first, second, 99}), None),
        "nobody took charge", a, b, c,
    )  # fmt: skip
    assert dict(rig.jobs("scheduler")) == {first: "running", second: "failed", third: "running", 99: "running"}
    looked = len(LOOKED.findall(c.log.read_text()))
    rig.wait_for(lambda: len(LOOKED.findall(c.log.read_text())) >= looked + 2, "it does not look", c, limit_s=60.0)
    for process in (b, c, a):
        rig.stage.signal(process, signal.SIGTERM)
        assert rig.stage.wait(process, 90.0) == 0, process.log_end()
    assert dict(rig.jobs("scheduler")) == {first: "success", second: "failed", third: "success", 99: "running"}
