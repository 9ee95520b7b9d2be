"""Two schedulers of Airflow at once, each with an heir, killed, lost and switched over while runs go.

bench/airflow_failover.py does the same for longer (``--what chaos --seats 2``), and measures.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from lab.airflow import ledger
from lab.airflow.chaos import Load, campaign, scene, verdict
from lab.airflow.line import LEFT
from lab.airflow.seated import Seats
from lab.servers.broker import rabbitmq_missing
from tests.promises import broken

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="hosts are process trees, and those are read in /proc"),
    pytest.mark.skipif(rabbitmq_missing() is not None, reason=str(rabbitmq_missing())),
]
BLOWS = ("command", "host", "switchover", "member")
TTL_S = 4.0


@pytest.mark.timeout(600)
def test_no_task_is_lost_or_ends_twice_and_each_seat_has_one_scheduler(capsys: pytest.CaptureFixture[str]) -> None:
    load = Load(tasks=3, sleep_s=0.3, every_s=4.0, long_s=3600.0)

    def tell(sentence: str) -> None:
        with capsys.disabled():
            print(f"\n{sentence}", end="", flush=True)

    with scene("celery", load, SCHEDULER__TASK_QUEUED_TIMEOUT="20") as (site, stage, files):
        line = Seats(site, stage, "scheduler", ("ada", "ben", "cleo"), 2, "--ttl", f"{TTL_S:g}s")
        line.start()
        line.settled(lambda _: bool(ledger.attempts(files.tasks)), heirs=1)
        blows = campaign(line, BLOWS, seed=1, heirs=1, tell=tell)

        # The heir's host is lost, and then that of a leader: what it had queued is the survivor's, who holds the other seat.
        line.settled(heirs=1)
        leading = {each.host for each in line.led(line.reading())}
        [heir] = [host for host in line.hosts if host not in leading]
        stage.signal(line.members[heir], 9)
        blow = line.strike("host", lambda job: bool(site.ask(LEFT, job=job)[0][0]), heirs=0)
        limit = time.monotonic() + TTL_S + 30.0
        while site.ask(LEFT, job=blow.job)[0][0] and time.monotonic() < limit:
            time.sleep(0.05)
        took_s = time.time() - blow.at
        tell(f"no heir left: adopted by the survivor after {took_s:.2f} s\n")
        [alone] = [each.host for each in line.led(line.reading())]
        assert alone in leading
        line.start()
        found = verdict(site, line, files, load, limit_s=180.0, tell=tell)
        line.close()
        members = list(line.members.values())
    assert [each.kind for each in blows if "job row" in each.seconds] == list(BLOWS)
    assert took_s < TTL_S + 15.0, "its lease, the other's next look, and Airflow's next look for orphans"
    two = [sentence for sentence in found.broken if sentence.startswith("two schedulers")]
    assert not two, broken("\n".join(found.broken))
    assert not found.broken, "\n".join(found.broken)
    assert found.runs >= 4
    assert found.tasks == 3 * found.runs
    assert not [member for member in members if Path(f"/proc/{member.pid}").exists()]
