"""Warm heirs of real Airflow, as pinned in locks/: what they hold, how fast they begin, and a scheduler that hangs."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from heirflow.demo.stage import Stage
from lab.airflow.environment import AirflowEnvironment
from lab.servers.servers import Server
from tests.airflow.rig import JOBS, Rig, kill, sockets, tree

SOON_S = 8.0
"""What a failover may take on a busy machine that runs other tests; bench/airflow_failover.py measures it."""


@pytest.fixture
def rig(airflow: AirflowEnvironment, server: Server, stage: Stage, database_name: str) -> Rig:
    return Rig(airflow, server, stage, database_name, SCHEDULER__SCHEDULER_HEARTBEAT_SEC="1")


def sessions(rig: Rig) -> list[str]:
    names = rig.ask("SELECT application_name FROM pg_stat_activity WHERE datname = current_database()")
    return sorted(name for (name,) in names)


@pytest.mark.timeout(600)
def test_a_scheduler_that_is_killed_and_one_that_hangs(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    # With so long a lease a scheduler that is stopped is given up for its heartbeat before it is for standing still.
    health = ("--health-timeout", "10s", "--stop-timeout", "20s", "--ttl", "60s")
    a = rig.member("a", "scheduler", *health)
    first = rig.at_work("scheduler", a)
    b = rig.member("b", "scheduler", *health)
    standby = rig.warm("scheduler", "b", a, b)

    # It has begun nothing, written nothing, and holds nothing.
    assert tree(standby) == [standby]
    assert sockets(standby) == []
    assert rig.jobs("scheduler") == [(first, "running")]
    assert [name for name in sessions(rig) if "/b-" in name] == [
        name for name in sessions(rig) if name.startswith("heirflow-member/b-")
    ]

    command = int(rig.facts("a", "scheduler")["command_pid"])
    killed_at = kill(command)
    rig.wait_for(lambda: len(rig.jobs("scheduler")) == 2, "nobody took charge", a, b, every_s=0.02)
    second = rig.at_work("scheduler", a, b)
    took_s = float(rig.ask(f"SELECT extract(epoch FROM start_date) - {killed_at} FROM job WHERE id = {second}")[0][0])
    with capsys.disabled():
        print(f"\nAirflow {rig.airflow.version}: from kill -9 to the heir's job row {took_s:.2f} s", flush=True)
    assert took_s < SOON_S
    assert rig.jobs("scheduler") == [(first, "failed"), (second, "running")]
    assert rig.facts("b", "scheduler")["command_pid"] == standby
    rig.wait_for(lambda: any(name.startswith("heirflow/b-") for name in sessions(rig)), "its sessions' name", b)
    assert any(f"marked job {first} of the predecessor failed" in told for told in rig.history("scheduler"))

    # It hangs: the whole tree stands still, and the heir, which is the first member again, takes charge.
    rig.warm("scheduler", "a", a, b)
    time.sleep(3.0)
    for pid in tree(standby):
        os.kill(pid, signal.SIGSTOP)
    rig.wait_for(lambda: len(rig.jobs("scheduler")) == 3, "the scheduler that hangs was not succeeded", a, b)
    third = rig.at_work("scheduler", a, b)
    assert rig.facts("a", "scheduler")["leader"]
    assert any("does not write its heartbeat" in told for told in rig.history("scheduler"))

    # An orderly stop of all.
    for member in (b, a):
        rig.stage.signal(member, signal.SIGTERM)
        assert rig.stage.wait(member, 90.0) == 0, member.log_end()
    assert rig.jobs("scheduler")[-1] == (third, "success")
    assert not Path(f"/proc/{standby}").exists()


@pytest.mark.timeout(600)
def test_dag_processor_and_triggerer(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    for component in ("dag-processor", "triggerer"):
        a = rig.member("a", component)
        first = rig.at_work(component, a)
        b = rig.member("b", component)
        standby = rig.warm(component, "b", a, b)
        assert tree(standby) == [standby]
        assert sockets(standby) == []
        assert rig.jobs(component) == [(first, "running")]
        killed_at = kill(int(rig.facts("a", component)["command_pid"]))
        rig.wait_for(lambda c=component: len(rig.jobs(c)) == 2, "nobody took charge", a, b, every_s=0.02)
        second = rig.at_work(component, a, b)
        rows = rig.ask(f"SELECT extract(epoch FROM start_date) - {killed_at} FROM job WHERE id = {second}")
        with capsys.disabled():
            print(
                f"\nAirflow {rig.airflow.version} {component}: kill -9 to job row {float(rows[0][0]):.2f} s", flush=True
            )
        assert float(rows[0][0]) < SOON_S
        assert rig.jobs(component) == [(first, "failed"), (second, "running")]
        ended = rig.ask(f"SELECT end_date IS NOT NULL FROM job WHERE id = {first} AND job_type = '{JOBS[component]}'")
        assert ended == [["t"]]
        for member in (a, b):
            rig.stage.signal(member, signal.SIGTERM)
        for member in (a, b):
            assert rig.stage.wait(member, 90.0) == 0, member.log_end()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("airflow", ["3.3"], indirect=True)
def test_a_standby_that_grew_stale_is_started_anew(rig: Rig) -> None:
    a = rig.member("a", "scheduler")
    rig.at_work("scheduler", a)
    b = rig.member("b", "scheduler")
    before = rig.warm("scheduler", "b", a, b)
    configuration = rig.home / "airflow.cfg"
    os.utime(configuration) if configuration.exists() else configuration.write_text("[core]\n")
    rig.wait_for(
        lambda: rig.facts("b", "scheduler").get("standby_pid") not in {None, before}, "the same standby", b, limit_s=90
    )
    assert "the standby is started anew: airflow.cfg changed" in b.log.read_text()
    rig.warm("scheduler", "b", b)
    assert len(rig.jobs("scheduler")) == 1
