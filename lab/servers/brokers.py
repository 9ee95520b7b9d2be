"""A real cluster of RabbitMQ, three nodes as a rule, for queues that outlive any one of them (quorum queues).

    with rabbitmq_cluster() as cluster:
        celery_broker_url = cluster.urls
        cluster.leader_of("default").crash()

What the settings are for:

- `pause_minority`: a node that sees fewer than half of the others stops serving, so that clients leave it. A cluster that
  goes on in both halves of a cut loses what one half accepted. It does not help a machine that was paused and goes on: its
  connections are new before it has counted the nodes that it sees, and it stays at odds with them until somebody restarts it
  (`mend`; RabbitMQ's documentation says so under "suspend and resume").
- `net_ticktime` and Raft's own failure detector: short, so that a host that fell silent is noticed within seconds. A process
  that died is noticed at once, by its connections.
- `consumer_timeout`: RabbitMQ closes the channel of a consumer that has not acknowledged a message after 30 minutes, and
  Airflow's workers acknowledge a task when it has ended.
- Nobody waits for a node that is away: a node that starts looks for the others again and again, so that all may crash at once
  and be started in any order.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from lab.servers.broker import LOOPBACK, START_LIMIT_S, BrokerNode, NameServer, Secrets, rabbitmq_missing
from lab.servers.server import Place, ServerTrouble
from lab.servers.servers import free_port, private_folder

SETTINGS = """\
cluster_partition_handling = pause_minority
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.discovery_retry_limit = 60
cluster_formation.discovery_retry_interval = 500
mnesia_table_loading_retry_timeout = 10000
mnesia_table_loading_retry_limit = 60
cluster_keepalive_interval = 2000
queue_leader_locator = balanced
net_ticktime = 4
heartbeat = 10
consumer_timeout = 86400000
"""
MEND_AFTER_S = 12.0
"""So long a cluster has to become whole by itself, before its nodes are asked whether they are at odds."""
HANGS_AFTER_S = 60.0
ADVANCED = "[{aten, [{poll_interval, 1000}]}].\n"
"""How often Raft's own failure detector looks, in ms. RabbitMQ's 5 s would be most of the time without a leader."""


@dataclass(frozen=True, slots=True)
class BrokerCluster:
    """Nodes that know each other. Made by `rabbitmq_cluster`."""

    nodes: tuple[BrokerNode, ...]

    @property
    def urls(self) -> str:
        """For Celery's ``broker_url``: it goes to the next when one does not answer."""
        return ";".join(node.amqp for node in self.nodes)

    def begin(self) -> None:
        """Start what does not run, without waiting; `whole` waits."""
        for node in self.nodes:
            node.begin()

    def ctl(self, node: BrokerNode, *words: str) -> str:
        """What ``rabbitmqctl`` prints there. Raises `ServerTrouble`."""
        return node.ctl(*words)

    def leader_of(self, queue: str) -> BrokerNode | None:
        """Of a quorum queue; None while it has none, or while no node can say."""
        for found in self._queues():
            if found.name == queue:
                return next((node for node in self.nodes if node.node_name == found.leader), None)
        return None

    def lead(self, queue: str, node: BrokerNode) -> bool:
        """Let this node lead a quorum queue; returns whether it does now."""
        if self.leader_of(queue) is not node:
            there = f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>))'
            node.ctl("eval", f"{there}, rabbit_quorum_queue:transfer_leadership(Q, '{node.node_name}').")
        return self.leader_of(queue) is node

    def mend(self) -> BrokerNode | None:
        """Restart the node with which most others are at odds, as its keeper would; else one whose start hangs. Returns it.

        A start can hang for good when a node comes while the others still part with what it was before.
        """
        answering = [node for node in self.nodes if node.answers()]
        at_odds: Counter[str] = Counter()
        for node in answering:
            for other in node.at_odds():
                at_odds.update((node.node_name, other))
        worst = max(self.nodes, key=lambda node: at_odds[node.node_name])
        if not at_odds:
            hanging = [node for node in self.nodes if node not in answering and node.running_s() > HANGS_AFTER_S]
            if not hanging or len(answering) <= len(self.nodes) / 2:
                return None
            worst = hanging[0]
        worst.crash()
        worst.begin()
        return worst

    def whole(self, limit_s: float = 2 * START_LIMIT_S) -> None:
        """Wait until all run in one cluster, and every quorum queue has a leader and all members. Raises `ServerTrouble`.

        Mends what does not mend itself.
        """
        limit, mend_at = time.monotonic() + limit_s, time.monotonic() + MEND_AFTER_S
        while (why := self.why_not_whole()) is not None:
            if time.monotonic() > limit:
                raise ServerTrouble(f"the cluster of RabbitMQ is not whole after {limit_s:.0f} s: {why}")
            if time.monotonic() > mend_at:
                self.mend()
                mend_at = time.monotonic() + MEND_AFTER_S
            time.sleep(0.2)

    def why_not_whole(self) -> str | None:
        for node in self.nodes:
            if node.pid is None:
                raise ServerTrouble(f"RabbitMQ {node.name} does not run:\n{node.log_end(20)}")
            if not node.answers():
                return f"{node.name} does not answer:\n{node.log_end(20)}"
        everybody = {node.node_name for node in self.nodes}
        try:
            for node in self.nodes:
                if not everybody <= (running := node.names("rabbit_nodes:all_running()")):
                    return f"{node.name} sees only {sorted(everybody & running)}"
                if others := node.at_odds():
                    return f"{node.name} is at odds with {sorted(others)}"
            for queue in self._queues():
                if queue.kind == "quorum" and not (queue.leader in everybody and everybody <= queue.online):
                    return f"queue {queue.name}: its leader is {queue.leader or 'nobody'}, online are {sorted(queue.online)}"
        except ServerTrouble as error:
            return str(error)
        return None

    def _queues(self) -> list[_Queue]:
        """Asked of the first node that answers."""
        for node in self.nodes:
            with suppress(ServerTrouble):
                if node.answers():
                    said = node.ctl("list_queues", "--no-table-headers", "name", "type", "leader", "online", limit_s=10)
                    return [_Queue.read(line) for line in said.splitlines()]
        return []


@dataclass(frozen=True, slots=True)
class _Queue:
    name: str
    kind: str
    leader: str
    online: frozenset[str]

    @staticmethod
    def read(line: str) -> _Queue:
        """One line of ``list_queues``: a node that does not know yet leaves fields out."""
        name, kind, leader, online = [*line.split("\t"), "", "", ""][:4]
        return _Queue(name, kind, leader, frozenset(online.strip("[]").replace(",", " ").split()))


@contextmanager
def rabbitmq_cluster(
    *, names: Sequence[str] = ("mq1", "mq2", "mq3"), places: Sequence[Place] = (), settings: str = ""
) -> Iterator[BrokerCluster]:
    """So many nodes in one cluster. `places`: one for each, with its address there; none: all on loopback.

    `settings`: more for rabbitmq.conf. Raises `ServerTrouble`.
    """
    if (missing := rabbitmq_missing()) is not None:
        raise ServerTrouble(missing)
    with ExitStack() as undo:
        common = Secrets()
        folders = [undo.enter_context(private_folder("heirflow-rabbitmq-")) for _ in names]
        shared = None
        if not places:
            # On one address there can be only one: it always listens on 127.0.0.1 too.
            folder, user = undo.enter_context(private_folder("heirflow-epmd-"))
            shared = NameServer(folder, user, LOOPBACK, free_port())
            undo.callback(shared.end)
            shared.start()
        first = f"{names[0]}@{places[0].address if places else LOOPBACK}"
        more = f"{SETTINGS}cluster_formation.classic_config.nodes.1 = {first}\n{settings}"
        stands: Sequence[Place | None] = places or [None] * len(names)
        nodes = tuple(
            BrokerNode(
                folder, user, name, common, names=shared, place=place, settings=more, advanced=ADVANCED,
            )
            for (folder, user), name, place in zip(folders, names, stands, strict=True)
        )  # fmt: skip
        cluster = BrokerCluster(nodes)
        for node in nodes:
            undo.callback(_ended, node)
        # The others join the first: three that look for each other all at once may each begin a cluster of its own. And one
        # after the other: two that join at the same moment can wait for each other until `mend` ends it.
        for node in nodes:
            node.start()
        cluster.whole()
        yield cluster


def _ended(node: BrokerNode) -> None:
    node.thaw()
    node.crash()
