"""Airflow with Celery and RabbitMQ whose scheduler is killed, lost and switched over while runs go. bench/airflow_failover.py
does the same for longer (``--what chaos``), and measures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.airflow import ledger
from lab.airflow.chaos import Load, campaign, scene, verdict
from lab.airflow.line import Line
from lab.servers.broker import rabbitmq_missing
from tests.promises import broken

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="hosts are process trees, and those are read in /proc"),
    pytest.mark.skipif(rabbitmq_missing() is not None, reason=str(rabbitmq_missing())),
]
BLOWS = ("command", "host", "switchover", "member")


@pytest.mark.timeout(600)
def test_no_task_is_lost_or_ends_twice_and_there_is_one_scheduler(capsys: pytest.CaptureFixture[str]) -> None:
    load = Load(tasks=3, sleep_s=0.3, every_s=4.0)

    def tell(sentence: str) -> None:
        with capsys.disabled():
            print(f"\n{sentence}", end="", flush=True)

    # What was never sent to the broker is queued again after this time.
    with scene("celery", load, SCHEDULER__TASK_QUEUED_TIMEOUT="20") as (site, stage, files):
        line = Line(site, stage, "scheduler", ("ada", "ben", "cleo"), "--ttl", "4s")
        line.start()
        line.settled(lambda _: bool(ledger.attempts(files.tasks)), heirs=1)
        blows = campaign(line, BLOWS, seed=1, heirs=1, tell=tell)
        found = verdict(site, line, files, load, limit_s=180.0, tell=tell)
        line.close()
        members = list(line.members.values())
    assert [blow.kind for blow in blows if "job row" in blow.seconds] == list(BLOWS)
    two = [sentence for sentence in found.broken if sentence.startswith("two schedulers")]
    assert not two, broken("\n".join(found.broken))
    assert not found.broken, "\n".join(found.broken)
    assert found.runs >= 4
    assert found.tasks == 3 * found.runs
    assert not [member for member in members if Path(f"/proc/{member.pid}").exists()]


def test_a_broker_is_gone_when_its_owner_was_killed() -> None:
    owner = """
import time
from lab.servers.broker import rabbitmq_server
with rabbitmq_server() as broker:
    print(broker.log.parent, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert len(working_in(folder)) >= 2  # the broker and its name server
        process.send_signal(signal.SIGKILL)
    limit = time.monotonic() + 20.0
    while folder.exists() or working_in(folder):
        assert time.monotonic() < limit, f"left in {folder}: {working_in(folder)}"
        time.sleep(0.1)


def working_in(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if os.readlink(entry).startswith(str(folder)):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found
