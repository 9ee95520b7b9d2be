"""Tasks of Airflow's CeleryExecutor while a RabbitMQ of three is struck: which are lost, which come twice, how long none starts.

    python -m lab.airflow.quorum crash freeze cut

Each broker stands on a host of its own, and so do the sender and the workers (`quorum_play`): a host that is cut off is cut off
from them too. The settings are those of deploy/ha/airflow/celery_quorum.py. Root only.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from heirflow.demo.stage import Process, Stage
from lab.airflow.environment import CHECKOUT, AirflowEnvironment, ensure
from lab.campaign.ground import Cable, Ground
from lab.servers.broker import BrokerNode
from lab.servers.brokers import BrokerCluster, rabbitmq_cluster
from lab.servers.server import Place, Server
from lab.servers.servers import postgres_server

SETTINGS = CHECKOUT / "deploy" / "ha" / "airflow" / "celery_quorum.py"
HOSTS = ("mq1", "mq2", "mq3")
HOME = "home"
"""The host of everything that is no broker."""
WORKERS = 2
BROKER_PORT, DATABASE_PORT = 5672, 5432
QUEUE = "default"
READY_LIMIT_S = 120.0
DONE_LIMIT_S = 150.0
STRIKES = ("crash", "freeze", "cut", "stop")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the tasks of one strike."""

    strike: str
    sent: int
    refused: int
    """Airflow gave them up, and told so: it marks them failed."""
    lost: int
    """Sent for all that Airflow knows, and never started."""
    twice: int
    """Starts beyond the first. Airflow turns these away, and the sender here does not."""
    no_start_s: float
    """The longest time without a start, from the strike on."""
    no_send_s: float
    ended: bool
    """Whether the sender came to its end."""

    def __str__(self) -> str:
        told = f"{self.sent} sent, {self.refused} refused, {self.lost} lost, {self.twice} started twice"
        gaps = f"no task started for {self.no_start_s:.1f} s, none was sent for {self.no_send_s:.1f} s"
        return f"{self.strike}: {told}; {gaps}{'' if self.ended else '; the sender hangs'}"


class Play:
    """Brokers, workers and a database, until `scene` ends."""

    def __init__(
        self, stage: Stage, ground: Ground, cluster: BrokerCluster, database: Server, more: Mapping[str, str]
    ) -> None:
        self._stage, self._ground, self.cluster = stage, ground, cluster
        self._airflow: AirflowEnvironment = ensure("3.3")
        home = stage.folder / "airflow"
        (home / "config").mkdir(parents=True)
        shutil.copy(SETTINGS, home / "config")
        self._starts, self._rounds = stage.folder / "starts", 0
        self._starts.touch()
        settings = {
            "CORE__EXECUTOR": "CeleryExecutor",
            "CORE__LOAD_EXAMPLES": "False",
            "DATABASE__SQL_ALCHEMY_CONN": database.url("psycopg2"),
            "CELERY__BROKER_URL": cluster.urls,
            "CELERY__RESULT_BACKEND": f"db+{database.url('psycopg2')}",
            "CELERY__CELERY_CONFIG_OPTIONS": "celery_quorum.CELERY_CONFIG",
            "CELERY__WORKER_CONCURRENCY": "4",
            "CELERY__SYNC_PARALLELISM": "1",
            "CELERY__OPERATION_TIMEOUT": "15",
            "CELERY__TASK_PUBLISH_MAX_RETRIES": "20",
            **more,
        }
        self._env = {
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "PYTHONPATH": os.pathsep.join([str(home / "config"), str(CHECKOUT)]),
            "PLAY_STARTS": str(self._starts),
            "C_FORCE_ROOT": "1",
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        }
        self._workers: list[Process] = []

    def _start(self, name: str, *words: str) -> Process:
        command = [*self._ground.enter(HOME), self._airflow.python, "-m", *words]
        return self._stage.start(name, command, self._env)

    def round(self, strike: str, *, count: int = 300, per_s: float = 20.0, after_s: float = 4.0) -> Outcome:
        """Send so many, strike the broker that leads their queue, and see. The cluster is whole again afterwards."""
        leader = self._gathered()
        seen = len(self._lines(self._starts))
        sender = self._start(f"sender-{self._rounds}", "lab.airflow.quorum_play", str(count), f"{per_s:g}")
        _until(lambda: len(self._lines(self._starts)) > seen + after_s * per_s, "first tasks", READY_LIMIT_S)
        struck_at = time.monotonic()
        self._strike(strike, leader)
        until = time.monotonic() + DONE_LIMIT_S
        while time.monotonic() < until:
            ended = self._stage.status(sender) is not None
            told = self._lines(sender.log)
            starts = self._lines(self._starts)[seen:]
            refused = {each["task"] for each in told if "fail" in each["state"].lower()}
            lost = {each["task"] for each in told} - refused - {each["task"] for each in starts}
            if ended and not lost:
                break
            time.sleep(0.5)
        self._heal(strike, leader)
        if not ended:
            self._stage.signal(sender, signal.SIGKILL)
        self.cluster.whole()
        return Outcome(
            strike, len(told), len(refused), len(lost), len(starts) - len({each["task"] for each in starts}),
            _longest(starts, struck_at), _longest(told, struck_at), ended,
        )  # fmt: skip

    def _gathered(self) -> BrokerNode:
        """The worst of cases: the broker that leads the queue is the one that all are connected to, the first of the list."""
        self._rounds += 1
        for worker in self._workers:
            self._stage.signal(worker, signal.SIGKILL)
        words = ["celery", "-A", "lab.airflow.quorum_play", "worker", "-Q", QUEUE, "--loglevel", "INFO"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        names = [f"w{self._rounds}-{number}" for number in range(WORKERS)]
        self._workers = [self._start(name, *words, "-n", f"{name}@home", *quiet) for name in names]
        _until(lambda: all("ready." in worker.log_end() for worker in self._workers), "workers", READY_LIMIT_S)
        first = self.cluster.nodes[0]
        _until(lambda: self.cluster.lead(QUEUE, first), "leader where all are connected", READY_LIMIT_S)
        return first

    def _strike(self, strike: str, node: BrokerNode) -> None:
        if strike == "cut":
            self._ground.cables[self._host_of(node)] = Cable(drop_from=True, drop_to=True)
            self._ground.apply()
        else:
            getattr(node, strike)()

    def _heal(self, strike: str, node: BrokerNode) -> None:
        if strike == "cut":
            self._ground.cables[self._host_of(node)] = Cable()
            self._ground.apply()
        elif strike == "freeze":
            node.thaw()
        else:
            node.begin()

    def _host_of(self, node: BrokerNode) -> str:
        return HOSTS[self.cluster.nodes.index(node)]

    @staticmethod
    def _lines(path: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text("utf-8", "replace").splitlines() if line.startswith("{")]


@contextmanager
def scene(stage: Stage, **more: str) -> Iterator[Play]:
    """`more`: Airflow's settings, as ``SECTION__KEY``. Raises `Trouble`, `ServerTrouble` or `GroundTrouble`."""
    with ExitStack() as undo:
        ground = Ground("mq", 92, (*HOSTS, HOME))
        undo.callback(ground.end)
        ground.make()
        places = [Place(ground.space(host), BROKER_PORT, ground.network, ground.address(host)) for host in HOSTS]
        cluster = undo.enter_context(rabbitmq_cluster(names=HOSTS, places=places))
        home = Place(ground.space(HOME), DATABASE_PORT, ground.network, ground.address(HOME))
        yield Play(stage, ground, cluster, undo.enter_context(postgres_server(place=home)), more)


def _longest(lines: list[dict[str, Any]], since: float) -> float:
    moments = [since, *sorted(each["at"] for each in lines if each["at"] >= since)]
    return max((later - earlier for earlier, later in pairwise(moments)), default=0.0)


def _until(condition: Any, what: str, limit_s: float) -> None:
    limit = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < limit, f"no {what} within {limit_s:.0f} s"
        time.sleep(0.1)


def main() -> int:
    """Strike in this order and tell."""
    with Stage() as stage, scene(stage) as play:
        for strike in sys.argv[1:] or STRIKES:
            print(play.round(strike, count=500), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
