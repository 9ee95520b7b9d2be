"""A real Patroni pair: one URL that names both nodes works through switchovers and crashes, for drivers and for our store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy

from heirflow.election.record import Exchange
from heirflow.stores import Store, StoreUnavailable, open_store
from heirflow.testing.store_tools import join, new_election, take, who
from lab.servers.etcd import etcd_ensemble, etcd_missing
from lab.servers.patroni import STANDS_WITHIN_S, TTL_S, PatroniCluster, patroni_cluster, patroni_missing

MISSING = etcd_missing() or patroni_missing()
pytestmark = [pytest.mark.skipif(MISSING is not None, reason=str(MISSING)), pytest.mark.slow, pytest.mark.timeout(180)]
DRIVERS = ("psycopg", "psycopg2")
LATE_S = 5.0


@pytest.fixture(scope="module")
def pair() -> Iterator[PatroniCluster]:
    with etcd_ensemble() as servers:
        begun = time.monotonic()
        with patroni_cluster([each.endpoint for each in servers]) as cluster:
            assert time.monotonic() - begun < STANDS_WITHIN_S
            yield cluster


@pytest.fixture
def whole(pair: PatroniCluster) -> PatroniCluster:
    """Whatever a test before this one has left."""
    for node in pair.nodes:
        node.thaw()
        node.start()
    pair.whole()
    return pair


def where(cluster: PatroniCluster, driver: str) -> int:
    """The port of the server that SQLAlchemy reaches by the URL, which must take writes."""
    engine = sqlalchemy.create_engine(cluster.url(driver), poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE IF NOT EXISTS written (at integer)"))
        found = connection.execute(sqlalchemy.text("INSERT INTO written VALUES (1) RETURNING inet_server_port()"))
        return int(found.scalar_one())


def written(store: Store, election: str, version: int, *, within_s: float) -> None:
    """Write the next version as soon as the database lets us."""
    limit = time.monotonic() + within_s
    swap = take("a", 1, version, expected=version - 1 or None)
    while True:
        try:
            answer = store.exchange(election, Exchange(who("a"), swap=swap))
        except StoreUnavailable:
            if time.monotonic() > limit:
                raise
            time.sleep(0.1)
        else:
            # Swapped by an exchange before, whose answer was lost: it says so in the record.
            assert answer.record is not None
            assert answer.record.version == version
            return


def test_both_drivers_and_our_store_follow_the_primary(whole: PatroniCluster) -> None:
    for driver in DRIVERS:
        election = new_election()
        with closing(open_store(whole.url(driver), call_limit_s=1.5)) as store:
            store.open()
            join(store, election, "a")
            written(store, election, 1, within_s=LATE_S)
            before = whole.primary()
            assert before is not None
            assert where(whole, driver) == before.port
            whole.switchover()
            after = whole.primary()
            assert after is not None
            assert after is not before
            written(store, election, 2, within_s=LATE_S)
            assert where(whole, driver) == after.port
        whole.whole()


def test_the_other_one_leads_after_a_crash_and_the_dead_one_comes_back(whole: PatroniCluster) -> None:
    election, dead, other = new_election(), whole.primary(), whole.replica()
    assert dead is not None
    assert other is not None
    with closing(open_store(whole.url("psycopg"), call_limit_s=1.5)) as store:
        store.open()
        join(store, election, "a")
        written(store, election, 1, within_s=LATE_S)
        dead.crash()
        assert dead.processes() == []
        assert dead.role() == ""
        written(store, election, 2, within_s=TTL_S + LATE_S)
    assert whole.primary() is other
    for driver in DRIVERS:
        assert where(whole, driver) == other.port
    dead.start()
    whole.whole()
    assert dead.role() == "replica"


def test_a_postgres_that_alone_was_killed_is_started_again(whole: PatroniCluster) -> None:
    node = whole.primary()
    assert node is not None
    before = node.processes()
    node.crash_postgres()
    whole.whole()
    assert node.pid == before[0]
    assert set(node.processes()) & set(before) == {before[0]}


def test_a_frozen_primary_is_one_no_more(whole: PatroniCluster) -> None:
    frozen, other = whole.primary(), whole.replica()
    assert frozen is not None
    assert other is not None
    frozen.freeze()
    limit = time.monotonic() + TTL_S + LATE_S
    while other.role() != "primary":
        assert time.monotonic() < limit
        time.sleep(0.2)
    frozen.thaw()
    whole.whole()
    assert frozen.role() == "replica"
