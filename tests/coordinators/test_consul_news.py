"""Consul: word of changes by blocking queries, what a restored snapshot does, and that nothing is left behind."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from heirflow.election.record import Exchange
from heirflow.stores import Store, StoreUnavailable, open_store
from heirflow.testing.store_tools import charge, hears, join, new_election, take, who
from lab.servers.consul_double import ConsulDouble, consul_double
from tests.coordinators.of_consul import opened


@pytest.fixture
def consul() -> Iterator[ConsulDouble]:
    with consul_double() as double:
        yield double


def until(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    limit = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.01)


def waiting(consul: ConsulDouble) -> list[int]:
    """The indexes that blocking queries named."""
    return [int(asked.query["index"]) for asked in consul.asked if "index" in asked.query]


def listening(consul: ConsulDouble, store: Store, election: str) -> None:
    """Join, and wait until the thread that listens waits."""
    before = consul.blocked
    join(store, election, "b")
    until(lambda: consul.blocked > before)
    while store.news(election):
        pass


def rings(store: Store, within_s: float) -> bool:
    fd = store.news_fd()
    assert fd is not None
    return bool(select.select([fd], [], [], within_s)[0])


def test_a_change_is_heard_at_once(consul: ConsulDouble) -> None:
    election = new_election()
    with closing(opened(consul.url)) as a, closing(opened(consul.url)) as b:
        listening(consul, b, election)
        begun = time.monotonic()
        a.exchange(election, charge("a", 1))
        assert hears(b, election)
        assert time.monotonic() - begun < 1.0


def test_a_query_that_ends_without_a_change_rings_nothing(consul: ConsulDouble) -> None:
    election = new_election()
    with closing(opened(consul.url)) as a, closing(opened(consul.url)) as b:
        a.exchange(election, charge("a", 1))
        until(lambda: consul.blocked == 1)
        listening(consul, b, election)
        for _ in range(3):
            asked = len(waiting(consul))
            consul.wake()
            until(lambda asked=asked: len(waiting(consul)) > asked)
        assert not rings(b, 0.1)
        a.exchange(election, Exchange(swap=take("a", 2, 2, expected=1)))
        assert hears(b, election)


def test_other_keys_wake_the_query_of_an_absent_one_and_ring_nothing(consul: ConsulDouble) -> None:
    election = new_election()
    with closing(opened(consul.url)) as b:
        listening(consul, b, election)
        for number in range(40):
            consul.state.put("elsewhere", b"%d" % number)
            time.sleep(0.01)
        assert not rings(b, 0.1)
        assert len(waiting(consul)) < 12, "it asks again and again"


def test_an_index_of_zero_makes_no_busy_loop(consul: ConsulDouble) -> None:
    consul.index_offset = -(10**6)
    election = new_election()
    with closing(opened(consul.url)) as a, closing(opened(consul.url)) as b:
        listening(consul, b, election)
        time.sleep(0.3)
        assert set(waiting(consul)) == {1}
        assert len(waiting(consul)) < 4
        a.exchange(election, charge("a", 1))
        consul.wake()
        assert hears(b, election)


def test_an_index_that_goes_backwards_is_forgotten(consul: ConsulDouble) -> None:
    election = new_election()
    with closing(opened(consul.url)) as a, closing(opened(consul.url)) as b:
        a.exchange(election, charge("a", 1))
        until(lambda: consul.blocked == 1)
        old = consul.snapshot()
        for term in (2, 3, 4):
            a.exchange(election, charge("a", term))
        listening(consul, b, election)
        high = waiting(consul)[-1]

        def unwaiting() -> int:
            return sum(asked.path.endswith("/news") and "index" not in asked.query for asked in consul.asked)

        before = unwaiting()
        consul.restore(old)
        assert hears(b, election), "what stands there now is news"
        until(lambda: waiting(consul)[-1] < high)
        until(lambda: unwaiting() > before)  # the first query after that does not wait
        b.news(election)
        with closing(opened(consul.url)) as other:
            other.exchange(election, charge("c", 2))
        assert rings(b, 2.0)


def test_a_query_waits_its_whole_time_at_one_server(consul: ConsulDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heirflow.stores.keyed.consul_watch.WAIT_S", 2.0)
    consul.jitter = False
    with consul_double() as other:
        other.state = consul.state
        store = open_store(f"consul://{consul.endpoint},{other.endpoint}/heirflow", call_limit_s=0.5)
        with closing(store):
            listening(consul, store, new_election())
            begun, asked = time.monotonic(), len(waiting(consul))
            until(lambda: len(waiting(consul)) > asked)
            assert time.monotonic() - begun > 1.5
            assert not other.asked


def test_who_listens_goes_on_after_failures(consul: ConsulDouble) -> None:
    election = new_election()
    with closing(opened(consul.url)) as a, closing(opened(consul.url)) as b:
        listening(consul, b, election)
        consul.stop()
        time.sleep(0.3)
        consul.start()
        a.exchange(election, charge("a", 1))
        assert hears(b, election)
        asked = len(consul.asked)
        consul.fail(500, "No cluster leader", of="GET", times=3)
        consul.wake()
        until(lambda: len(consul.asked) > asked + 3)
        a.exchange(election, Exchange(swap=take("a", 2, 2, expected=1)))
        assert hears(b, election)


def test_who_listens_leaves_a_server_alone_that_asks_for_it(consul: ConsulDouble) -> None:
    election = new_election()
    with closing(opened(consul.url)) as b:
        listening(consul, b, election)
        consul.fail(429, "rate limit", of="GET", times=100, Retry_After="60")
        consul.wake()
        time.sleep(0.6)
        asked = len(consul.asked)
        time.sleep(0.5)
        assert len(consul.asked) == asked
        assert len(waiting(consul)) < 4


@pytest.mark.parametrize("state", ["serving", "frozen", "away"])
def test_nothing_is_left_of_a_closed_store(consul: ConsulDouble, state: str) -> None:
    def threads() -> set[str]:
        return {thread.name for thread in threading.enumerate() if thread.name.startswith("heirflow-consul")}

    store = opened(consul.url)
    listening(consul, store, new_election())
    assert threads()
    assert consul.connections == 2
    {"serving": lambda: None, "frozen": consul.freeze, "away": consul.stop}[state]()
    begun = time.monotonic()
    store.close()
    assert time.monotonic() - begun < 1.0
    assert not threads()
    consul.thaw()
    consul.wake()  # who waited is not there any more: that is seen when it is answered
    until(lambda: consul.connections == 0)


# A restored snapshot


def test_a_restored_snapshot_is_told_once_and_read_anew(consul: ConsulDouble) -> None:
    election = new_election()
    with closing(opened(consul.url)) as a:
        a.exchange(election, charge("a", 1))
        old = consul.snapshot()
        a.exchange(election, charge("a", 2))
        consul.restore(old)
        with pytest.raises(StoreUnavailable, match="snapshot"):
            a.exchange(election, Exchange())
        record = a.exchange(election, Exchange()).record
        assert record is not None and record.term == 1
        assert a.exchange(election, charge("a", 2)).swapped


@pytest.mark.parametrize("fresh", [True, False], ids=["numbers are given again", "numbers go on"])
def test_a_leader_does_not_write_over_what_came_after_a_snapshot(consul: ConsulDouble, fresh: bool) -> None:
    election = new_election()
    with closing(opened(consul.url)) as a, closing(opened(consul.url)) as b:
        a.exchange(election, Exchange(who("a"), join=True, swap=take("a", 1, 1, expected=None)))
        b.exchange(election, Exchange(who("b"), join=True))
        old = consul.snapshot()
        a.exchange(election, Exchange(who("a"), swap=take("a", 1, 2, expected=1)))
        number = consul.state.index
        consul.restore(old, fresh=fresh)
        with closing(opened(consul.url)) as other:
            if fresh:
                consul.state.index = number - 1  # so that b's record gets just the number that a has seen
            other.exchange(election, Exchange(who("b"), swap=take("b", 2, 2, expected=1)))
        if fresh:
            assert consul.state.rows[f"heirflow/elections/{election}/record"].modified == number
        renewal = Exchange(who("a"), swap=take("a", 1, 3, expected=2, news=False))
        with pytest.raises(StoreUnavailable, match="snapshot"):
            a.exchange(election, renewal)
        seen = b.exchange(election, Exchange())
        assert seen.record is not None and (seen.record.leader, seen.record.term) == ("b", 2)
