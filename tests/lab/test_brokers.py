"""A cluster of RabbitMQ: whatever happens to one node, the queue has a leader, and the cluster becomes whole again."""

from __future__ import annotations

import time

import pytest

from lab.campaign import ground
from lab.campaign.ground import Cable, Ground
from lab.servers.broker import BrokerNode, rabbitmq_missing, rabbitmq_server
from lab.servers.brokers import BrokerCluster, rabbitmq_cluster
from lab.servers.server import Place

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(rabbitmq_missing() is not None, reason=str(rabbitmq_missing())),
]
DECLARE = """rabbit_amqqueue:declare(rabbit_misc:r(<<"/">>, queue, <<"work">>), true, false,
    [{<<"x-queue-type">>, longstr, <<"quorum">>}], none, <<"test">>)."""


def declare(cluster: BrokerCluster) -> BrokerNode:
    """Make a quorum queue; returns its leader."""
    cluster.ctl(cluster.nodes[0], "eval", DECLARE)
    leader = cluster.leader_of("work")
    assert leader is not None
    return leader


def another_leads(cluster: BrokerCluster, struck: BrokerNode, limit_s: float = 40.0) -> bool:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if cluster.leader_of("work") not in (None, struck):
            return True
        time.sleep(0.1)
    return False


def test_one_alone() -> None:
    with rabbitmq_server() as broker:
        assert f"@127.0.0.1:{broker.port}//" in broker.url


def test_a_node_crashes_and_comes_back_and_all_crash_at_once() -> None:
    with rabbitmq_cluster() as cluster:
        assert cluster.urls.count("amqp://") == 3
        for end in (BrokerNode.crash, BrokerNode.stop):
            leader = declare(cluster) if cluster.leader_of("work") is None else cluster.leader_of("work")
            assert leader is not None
            end(leader)
            assert leader.processes() == []
            assert another_leads(cluster, leader)
            leader.start()
            cluster.whole()
        for node in cluster.nodes:
            node.crash()
        cluster.begin()
        cluster.whole()
        assert cluster.leader_of("work") is not None


def test_a_host_is_frozen_and_cut_off() -> None:
    if missing := ground.missing():
        pytest.skip("; ".join(missing))  # in CI a skip is a failure
    made = Ground("brokers", 91, ("mq1", "mq2", "mq3"))
    try:
        made.make()
        places = [Place(made.space(host), 5672, made.network, made.address(host)) for host in made.hosts]
        with rabbitmq_cluster(places=places) as cluster:
            leader = declare(cluster)
            leader.freeze()
            assert another_leads(cluster, leader)
            time.sleep(6)  # longer than the others wait for it: they are at odds when it wakes
            leader.thaw()
            cluster.whole()
            leader = cluster.leader_of("work")
            assert leader is not None
            made.cables[leader.name] = Cable(drop_from=True, drop_to=True)
            made.apply()
            assert another_leads(cluster, leader)
            until = time.monotonic() + 40
            while leader.answers() and time.monotonic() < until:
                time.sleep(0.1)
            assert not leader.answers(), "it sees fewer than half, so it serves nobody"
            made.cables[leader.name] = Cable()
            made.apply()
            cluster.whole()
    finally:
        made.end()
