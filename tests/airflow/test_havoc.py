"""A highly available Airflow that loses a seat's scheduler, its database's primary and its planned one while DAG runs go.

bench/havoc.py does the same for longer and with all parts, and measures. Here times are not judged: the machine does other things.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lab.airflow.chaos import Load
from lab.airflow.environment import CHECKOUT
from lab.campaign.ground import SPACES, own_mark
from lab.cluster import havoc, show
from lab.cluster.cluster import missing
from lab.cluster.losses import KINDS
from tests.promises import broken

ABSENT = "; ".join(missing())
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)
LOST = ("scheduler's seat", "database switchover", "primary killed")
LOAD = Load(tasks=2, sleep_s=0.2, every_s=4.0, slow_s=40.0, begun_ago_s=-60.0)


@pytest.mark.timeout(900)
def test_three_losses_cost_no_task(capsys: pytest.CaptureFixture[str]) -> None:
    def tell(sentence: str) -> None:
        with capsys.disabled():
            print(f"\n{sentence}", end="", flush=True)

    losses = [(kind,) for name in LOST for kind in KINDS if kind.name == name]
    with havoc.scene(LOAD, ("patroni", "seats"), lines="etcd") as (cluster, stage, files):
        assert {part.kind for part in cluster.all_parts()} <= set(show.COSTS)
        assert show.table(cluster).row_count == len({part.kind for part in cluster.all_parts()})
        with havoc.Prober(cluster) as prober:
            havoc.await_starts(files)
            found = havoc.campaign(cluster, files, losses, seed=1, prober=prober, tell=tell)
        short, slow = havoc.verdict(cluster, stage, files, LOAD, limit_s=300.0, tell=tell)
    assert [loss.name for loss in found] == list(LOST)
    assert not [loss.unwell for loss in found if loss.whole_at is None]
    two = [sentence for sentence in short.broken if sentence.startswith("two schedulers")]
    assert not two, broken("\n".join(short.broken))
    assert not [*short.broken, *slow.broken]
    assert short.runs >= 10
    assert slow.runs >= 1
    # Nothing of it is left: no host, no process.
    assert not list(SPACES.glob(f"*{own_mark()}-ha-*"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--parts", "patron"], "No part is called 'patron'"),
        (["--only", "nothing"], "begins with 'nothing'"),
    ],
)
def test_havoc_says_what_there_is(words: list[str], says: str) -> None:
    done = subprocess.run(
        [sys.executable, "bench/havoc.py", *words], cwd=CHECKOUT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
