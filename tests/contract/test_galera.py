"""A real Galera cluster, of one node: doctor names it and says what to set, and its history is the cluster's."""

from __future__ import annotations

from pathlib import Path

import pytest

from heirflow.election.record import Exchange
from heirflow.stores import open_store
from heirflow.testing.store_tools import new_election, take, who
from lab.servers.servers import free_port, mariadb_missing, mariadb_server

PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")


@pytest.mark.skipif(mariadb_missing() is not None or not PROVIDER.exists(), reason="no Galera is installed here")
def test_doctor_names_a_galera_cluster_and_says_what_to_set() -> None:
    settings = {
        "wsrep-on": "ON", "wsrep-provider": str(PROVIDER), "wsrep-cluster-address": "gcomm://", "wsrep-cluster-name": "three",
        "wsrep-node-address": "127.0.0.1", "binlog-format": "ROW",
        "wsrep-provider-options": f"base_port={free_port()};gcache.size=1M",
    }  # fmt: skip
    with mariadb_server(settings=settings) as server:
        store, election = open_store(server.url("pymysql"), call_limit_s=5), new_election()
        store.open()
        assert (
            store.exchange(election, Exchange(who("a"), swap=take("a", 1, 1, expected=None))).history == "galera/three"
        )
        findings = store.examine()
        [named] = [each for each in findings if each.topic == "durability" and "Galera" in each.sentence]
        assert named.level == "warning"
        assert "one and the same node" in named.sentence and "wsrep_sync_wait to 7" in named.sentence
        store.close()
