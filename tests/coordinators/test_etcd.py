"""etcd: the contract on one server and on three, what doctor tells of them, and a will."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from heirflow.election.record import Exchange
from heirflow.stores import Finding, StoreUnavailable, open_store
from heirflow.stores.keyed.etcd import Etcd
from heirflow.stores.keyed.etcd_doctor import FORGETFUL
from heirflow.stores.keyed.place import Where
from heirflow.stores.keyed.will import carry_out
from heirflow.testing import seats_contract, store_contract
from heirflow.testing.store_tools import charge, hears, ids, join, new_election
from lab.servers.etcd import etcd_ensemble, etcd_missing, etcd_server, url_of
from tests.coordinators import of_coordinators

GIVEN = "HEIRFLOW_TEST_ETCD"
pytestmark = pytest.mark.skipif(etcd_missing() is not None, reason=str(etcd_missing()))


@pytest.fixture(scope="module")
def one() -> Iterator[str]:
    """The URL of one server."""
    if given := os.environ.get(GIVEN):
        yield given
        return
    with etcd_server() as server:
        yield server.store_url


@pytest.fixture(scope="module")
def three() -> Iterator[str]:
    """The URL of a cluster of three."""
    with etcd_ensemble() as servers:
        yield url_of(servers)


@pytest.mark.parametrize(
    "check", [*store_contract.CHECKS, *seats_contract.CHECKS, *of_coordinators.CHECKS], ids=store_contract.name
)
def test_the_contract_on_one_server(check: store_contract.Check, one: str) -> None:
    check(lambda: open_store(one, call_limit_s=1.5))


@pytest.mark.parametrize(
    "check", [*store_contract.CHECKS, *seats_contract.CHECKS, *of_coordinators.CHECKS], ids=store_contract.name
)
def test_the_contract_on_three_servers(check: store_contract.Check, three: str) -> None:
    check(lambda: open_store(three, call_limit_s=1.5))


def test_the_name_of_the_history_is_the_clusters(one: str, three: str) -> None:
    names = set()
    for url in (one, one, three):
        with closing(open_store(url, call_limit_s=1.5)) as store:
            store.open()
            seen = store.exchange(new_election(), Exchange())
            assert seen.history and seen.history.isdecimal()
            names.add(seen.history)
    assert len(names) == 2


def test_a_will_releases_exactly_this_members_term(three: str) -> None:
    election = new_election()
    with closing(open_store(three, call_limit_s=1.5)) as store:
        store.open()
        join(store, election, "a")
        join(store, election, "b")
        assert store.exchange(election, charge("a", 1)).swapped
        hears(store, election)
        will = dataclasses.asdict(store.will(election, "a", 1, "a was killed, says {prover}"))
        assert carry_out({**will, "term": 2}, lambda: True) is False
        assert carry_out(will, lambda: False) is None
        assert carry_out(will, lambda: True) is True
        assert hears(store, election)
        seen = store.exchange(election, Exchange())
        assert ids(seen) == ["b"]
        assert seen.record is not None and seen.record.leader is None
        assert seen.record.because == "a was killed, says its guard"
        assert carry_out(will, lambda: True) is False


# What doctor tells


def found(url: str) -> dict[str, list[Finding]]:
    """By topic."""
    topics: dict[str, list[Finding]] = {}
    with closing(open_store(url, call_limit_s=1.5)) as store:
        store.open()
        for finding in store.examine():
            topics.setdefault(finding.topic, []).append(finding)
    return topics


def test_doctor_of_one_server() -> None:
    with etcd_server() as server:
        topics = found(server.store_url)
        [version] = topics["server"]
        runs = server.ask("/version")["etcdserver"]
        assert version.sentence.startswith(f"etcd {runs}")
        assert version.level == ("warning" if runs in FORGETFUL else "ok")
        assert topics["durability"][0].level == "warning"
        assert "cluster of one server" in topics["durability"][0].sentence
        assert "--unsafe-no-fsync" in topics["durability"][1].sentence
        [store] = topics["store"]
        assert 0 < store.facts["median_s"] < 1 and 0 < store.facts["write_median_s"] < 1
        assert topics["clock"][0].level == "ok"
        assert [each.level for each in topics["rights"]] == ["ok", "warning"]
        assert topics["quorum"][0].level == "ok" and server.endpoint in topics["quorum"][0].sentence
        assert topics["space"][0].facts["quota"] == 2 * 2**30
        assert topics["history"][0].facts["history"]
        assert "session" not in topics
        with closing(Etcd(Where(server.store_url), call_limit_s=1.5)) as keys:
            assert keys.names("") == [], "nothing is left of it"


def test_doctor_of_three_servers() -> None:
    with etcd_ensemble() as servers:
        topics = found(url_of(servers))
        assert topics["durability"][0].level == "ok" and topics["durability"][0].facts == {"servers": 3}
        assert topics["quorum"][0].level == "ok"
        assert len(topics["space"]) == 3
        some = found(servers[0].store_url)
        assert any("names one server of several" in each.sentence for each in some["server"])
        servers[0].crash()
        topics = found(url_of(servers))
        assert topics["server"][0].level == "warning"
        assert f"{servers[0].endpoint} refuses the connection" in topics["server"][0].sentence
        servers[1].crash()
        with closing(open_store(url_of(servers), call_limit_s=1.0)) as store, pytest.raises(StoreUnavailable):
            store.examine()


def test_doctor_sees_servers_of_two_clusters_in_one_url() -> None:
    with etcd_server() as a, etcd_server() as b:
        quorum = found(url_of([a, b]))["quorum"]
        assert [each.level for each in quorum] == ["problem"]
        assert "of 2 clusters" in quorum[0].sentence


def test_doctor_warns_of_a_network_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    with etcd_server() as server:
        # This name means loopback, too, and does not look like it.
        [session] = found(server.store_url.replace("127.0.0.1", "127.1"))["session"]
        assert session.level == "warning" and "no TLS to 127.1" in session.sentence
