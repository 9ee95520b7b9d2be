"""The ensemble of one world: three servers of etcd or ZooKeeper, each on a host of its own, and a desk from which people ask.

Members are given a URL with all three. The servers flush to disk what they confirm, as they would in earnest. No fault touches
the desk, a host that has nothing but its cable: orders are given there, and the history is read there.

ZooKeeper's clocks are quicker than its usual ones, as ``ttl`` is here: with them a server that stands still is left after
1 s, and not after 10.
"""

# The client of ZooKeeper has no types.
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from kazoo.client import KazooClient

from heirflow.election.record import What
from heirflow.stores import open_store
from heirflow.stores.base import Store
from lab.campaign.clocks import Clocks
from lab.campaign.disks import Disks
from lab.campaign.ground import Ground
from lab.servers import zookeeper
from lab.servers.etcd import EtcdServer, etcd_ensemble, etcd_missing
from lab.servers.server import Place, Server, ServerTrouble
from lab.servers.spaces import inside
from lab.servers.zookeeper import zookeeper_ensemble, zookeeper_missing

T = TypeVar("T")
SERVERS = ("co1", "co2", "co3")
DESK = "desk"
PORTS = {"etcd": 2379, "zookeeper": 2181}
QUICK = {"tickTime": "200", "initLimit": "25", "syncLimit": "5"}
WHOLE_LIMIT_S = 40.0
ANSWER_S = 5.0
TRIAL_MS = 150


def missing(kind: str) -> str | None:
    """What keeps this world's servers from working here, as a sentence; None when nothing does."""
    return etcd_missing() if kind == "etcd" else zookeeper_missing()


class Coordinator:
    """Three servers, by the hosts on which they stand. The world asks it what it asks a `Database`."""

    def __init__(self, kind: str, ground: Ground, clocks: Clocks, disks: Disks, servers: Sequence[Server]) -> None:
        self.kind, self.ground, self.disks = kind, ground, disks
        self._clocks = clocks
        self.servers = dict(zip(SERVERS, servers, strict=True))
        self.host = "ensemble"
        """Where its faults strike; which of its servers, each strike decides and tells."""
        self.clock_hosts = SERVERS if kind == "zookeeper" else ()
        """Whose wall clocks can jump: a static program as etcd takes its clock from the kernel itself."""

    def url(self) -> str:
        """What the members are given."""
        hosts = ",".join(f"{self.ground.address(host)}:{PORTS[self.kind]}" for host in self.servers)
        return f"{self.kind}://{hosts}/heirflow"

    def command_env(self) -> dict[str, str]:
        """Commands write no rows here: there is no database that could take them."""
        return {}

    def order_url(self) -> str:
        return self.url()

    def order_words(self) -> list[str]:
        return ["nsenter", f"--net={self.ground.space(DESK)}", "--"]

    # what strikes need

    def leader(self) -> str | None:
        """The host of the ensemble's leader; None: there is none now, or more than one says so."""
        leading = [host for host, server in self.servers.items() if _leads(server)]
        return leading[0] if len(leading) == 1 else None

    def start(self, hosts: Sequence[str]) -> None:
        """Start these servers at once, as none of them answers before there are most."""
        for host in hosts:
            _begun(self.servers[host])

    # what the world asks

    def whole(self) -> None:
        """Wait until all three are in the ensemble again, and confirm what is written. Raises `ServerTrouble`."""
        until = time.monotonic() + WHOLE_LIMIT_S
        while not self.is_whole():
            if time.monotonic() > until:
                logs = "\n".join(f"{host}: {server.log_end(8)}" for host, server in self.servers.items())
                raise ServerTrouble(f"the ensemble of {self.kind} is not whole within {WHOLE_LIMIT_S:g} s\n{logs}")
            time.sleep(0.05)

    def is_whole(self) -> bool:
        """Whether all three serve."""
        if self.leader() is None:
            return False
        if self.kind == "zookeeper":
            modes = [zookeeper.mode(server) for server in self.servers.values()]
            return sorted(modes) == ["follower", "follower", "leader"]
        return all(_is_in(server) for server in self.servers.values())

    def settle(self) -> None:
        """Nothing is left to be set right after a fault."""

    def clock_offset_s(self) -> float:
        """How far the wall clock that the ensemble writes by is from the true one."""
        return self._written_at_s() - time.time()

    def _written_at_s(self) -> float:
        """Write something, and wait until it is confirmed: when that was by the ensemble's clock, or 0 where it does not tell."""
        server = self.servers[SERVERS[0]]
        if isinstance(server, EtcdServer):
            server.ask("/v3/kv/put", {"key": "bGFi", "value": "bGFi"})
            return 0.0

        def asked() -> float:
            client = KazooClient(hosts=",".join(f"{self.ground.address(host)}:{PORTS[self.kind]}" for host in SERVERS))
            try:
                client.start(ANSWER_S)
                return float(client.set("/", b"").mtime) / 1000
            finally:
                client.stop()
                client.close()

        return inside(self.ground.space(DESK), asked)

    def try_disks(self) -> None:
        """A slow disk that slows nothing must not count as a fault. Raises `ServerTrouble`."""
        if self.disks.program is None:
            return
        for host in SERVERS:
            self.disks.slow(host, TRIAL_MS)
        began = time.monotonic()
        self._written_at_s()
        took_s = time.monotonic() - began
        for host in SERVERS:
            self.disks.slow(host, 0)
        if took_s < TRIAL_MS / 1000:
            raise ServerTrouble(f"the disks of {self.kind} do not become slow: a write took {took_s:.3f} s")

    def late_rows(self) -> list[tuple[Any, ...]]:
        return []

    def rows(self) -> int:
        return 0

    def took_charge(self, election: str) -> set[tuple[int, str, int]]:
        """Term, member and seat of every change of leadership in the history."""
        events = self._asked(lambda store: store.events(election, 10**9))
        return {(event.term, event.member, event.seat) for event in events if event.what is What.TOOK_CHARGE}

    def _asked(self, question: Callable[[Store], T]) -> T:
        def there() -> T:
            store = open_store(self.url(), call_limit_s=ANSWER_S)
            try:
                store.open(create=False)
                return question(store)
            finally:
                store.close()

        return inside(self.ground.space(DESK), there)


def _leads(server: Server) -> bool:
    if isinstance(server, EtcdServer):
        return server.pid is not None and server.leads
    return server.pid is not None and zookeeper.mode(server) == "leader"


def _is_in(server: Server) -> bool:
    """Whether an etcd confirms that it knows all that the others do."""
    with suppress(ServerTrouble):
        return bool(isinstance(server, EtcdServer) and server.ask("/health", limit_s=1.0).get("health") == "true")
    return False


def _begun(server: Server) -> None:
    if isinstance(server, EtcdServer):
        server.begin()
    else:
        server.start()  # a ZooKeeper answers also while it looks for the others


@contextmanager
def coordinator(kind: str, ground: Ground, clocks: Clocks, disks: Disks) -> Iterator[Coordinator]:
    """The real servers of one world, ready for members."""
    places = [
        Place(ground.space(host), PORTS[kind], ground.network, ground.address(host), disks.words(host))
        for host in SERVERS
    ]
    if kind == "etcd":
        with etcd_ensemble(places=places, unsafe_no_fsync="false") as servers:
            yield _whole(Coordinator(kind, ground, clocks, disks, servers))
        return
    envs = [clocks.env(host) for host in SERVERS]
    with zookeeper_ensemble(settings=QUICK, places=places, envs=envs, syncs=True) as ensemble:
        yield _whole(Coordinator(kind, ground, clocks, disks, ensemble.servers))


def _whole(made: Coordinator) -> Coordinator:
    made.whole()
    made.try_disks()
    made.whole()
    return made
