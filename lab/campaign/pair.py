"""The Patroni pair of one world: db1 and db2, each Patroni with its PostgreSQL, and three etcd servers on hosts of their own.

Members are given one URL that names both nodes, with ``target_session_attrs=read-write``; no address moves. Orders are given at
a desk, as with an ensemble, so that they too look for the primary by that URL.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lab.campaign.clocks import Clocks
from lab.campaign.coordinators import DESK, Coordinator, coordinator
from lab.campaign.databases import HOSTS, PORTS, Database
from lab.campaign.disks import Disks
from lab.campaign.ground import Ground
from lab.campaign.plan import PAIR_TTL_S
from lab.servers.etcd import etcd_missing
from lab.servers.patroni import PatroniCluster, PatroniNode, patroni_cluster, patroni_missing
from lab.servers.server import NAME, Place, ServerTrouble

WAIT_LIMIT_S = 3.0 * PAIR_TTL_S
POLL_S = 0.05


def missing() -> str | None:
    """What keeps this world's servers from working here, as a sentence; None when nothing does."""
    return etcd_missing() or patroni_missing()


class Pair(Database):
    """`server` and `host` are the primary's, as they were when the pair was last seen whole or taking writes."""

    def __init__(self, ground: Ground, cluster: PatroniCluster, etcd: Coordinator) -> None:
        super().__init__("postgres", ground, *cluster.nodes)
        self.cluster, self.etcd = cluster, etcd
        self.nodes = dict(zip(HOSTS, cluster.nodes, strict=True))

    @property
    def clock_hosts(self) -> tuple[str, ...]:
        """None: whether Patroni bears a clock that jumps is not for us to try."""
        return ()

    @property
    def primary(self) -> PatroniNode:
        """The node that `server` is."""
        return self.nodes[self.host]

    @property
    def replica(self) -> PatroniNode:
        """The other one."""
        return self.nodes[self.standby_host]

    def url(self) -> str:
        return self.cluster.url("psycopg")

    def command_env(self) -> dict[str, str]:
        """The same, as libpq writes it."""
        hosts = ",".join(f"{node.address}:{node.port}" for node in self.cluster.nodes)
        secret = self.server.password
        return {"LAB_URL": f"postgresql://{NAME}:{secret}@{hosts}/{NAME}?target_session_attrs=read-write"}

    def order_url(self) -> str:
        return self.url()

    def order_words(self) -> list[str]:
        return ["nsenter", f"--net={self.ground.space(DESK)}", "--"]

    def synchronous(self, on: bool) -> None:
        """Patroni's business."""

    def settle(self) -> None:
        """Patroni's business too."""

    def whole(self) -> None:
        """Wait for a primary that confirms a write, a replica that follows it, and all of etcd. Raises `ServerTrouble`."""
        self.etcd.whole()
        self.cluster.whole(WAIT_LIMIT_S)
        self.takes_writes()

    def takes_writes(self, *, but_not: PatroniNode | None = None) -> None:
        """Wait until a primary, another one than `but_not`, has confirmed a write. Raises `ServerTrouble`."""
        until = time.monotonic() + WAIT_LIMIT_S
        while not self._taken(but_not):
            if time.monotonic() > until:
                logs = "\n".join(f"{host}: {node.log_end(12)}" for host, node in self.nodes.items())
                raise ServerTrouble(f"the pair took no writes within {WAIT_LIMIT_S:g} s\n{logs}")
            time.sleep(POLL_S)

    def _taken(self, but_not: PatroniNode | None) -> bool:
        for host, node in self.nodes.items():
            if node is not but_not and node.role() == "primary":
                # Waits for a synchronous replica, until Patroni gives it up.
                with suppress(ServerTrouble, subprocess.TimeoutExpired):
                    node.sql("SELECT pg_logical_emit_message(true, 'lab', '')")
                    self.host, self.standby_host = host, next(other for other in HOSTS if other != host)
                    self.server, self.standby = node, self.replica
                    return True
        return False

    def nobody_is_primary(self, among: Callable[[PatroniNode], bool] = lambda _node: True) -> None:
        """Wait until none of these nodes says so. Raises `ServerTrouble`."""
        until = time.monotonic() + WAIT_LIMIT_S
        while any(among(node) and node.role() == "primary" for node in self.nodes.values()):
            if time.monotonic() > until:
                raise ServerTrouble(
                    f"a primary did not step down within {WAIT_LIMIT_S:g} s\n{self.primary.log_end(12)}"
                )
            time.sleep(POLL_S)


@contextmanager
def pair(ground: Ground, clocks: Clocks, disks: Disks, *, synchronous: bool) -> Iterator[Pair]:
    """The real servers of one world, ready for members."""
    places = [Place(ground.space(host), PORTS["postgres"], ground.network, ground.address(host)) for host in HOSTS]
    with coordinator("etcd", ground, clocks, disks) as etcd:
        endpoints = [f"{ground.address(host)}:{server.port}" for host, server in etcd.servers.items()]
        with patroni_cluster(endpoints, names=HOSTS, places=places, synchronous=synchronous) as cluster:
            made = Pair(ground, cluster, etcd)
            made.prepare()
            made.whole()
            yield made
