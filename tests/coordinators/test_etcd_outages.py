"""etcd in trouble: servers dead, frozen, cut off, full and restored, and answers that are lost on the way."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from heirflow.election.record import Exchange, Reading
from heirflow.stores import Store, StoreMisfit, StoreUnavailable, open_store
from heirflow.stores.keyed import etcd_watch
from heirflow.stores.keyed.documents import folder_of, record_key
from heirflow.stores.keyed.etcd import Etcd
from heirflow.stores.keyed.keys import Bell, Write
from heirflow.stores.keyed.place import Where
from heirflow.testing.store_tools import charge, hears, ids, join, new_election, take, who
from lab.servers.etcd import FOLDER, EtcdServer, etcd_ensemble, etcd_missing, etcd_server, url_of
from lab.servers.relay import relay
from lab.servers.servers import free_port

pytestmark = pytest.mark.skipif(etcd_missing() is not None, reason=str(etcd_missing()))
LIMIT_S = 1.5


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """One that is whole again after each test."""
    with etcd_server() as server:
        yield server


@pytest.fixture(scope="module")
def three() -> Iterator[list[EtcdServer]]:
    """Three that are whole again after each test."""
    with etcd_ensemble() as servers:
        yield servers


@pytest.fixture(autouse=True)
def whole_again(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in {"server", "three"} & set(request.fixturenames):
        found = request.getfixturevalue(name)
        servers = found if isinstance(found, list) else [found]
        for each in servers:
            each.thaw()
        for each in servers:
            each.begin()
        for each in servers:
            each.start()


def through(port: int, *more: int) -> str:
    hosts = ",".join(f"127.0.0.1:{each}" for each in (port, *more))
    return f"etcd://{hosts}/{FOLDER}"


def renewed(election: str, version: int) -> Exchange:
    return Exchange(who("a"), swap=take("a", 1, version, expected=version - 1))


def again_and_again(store: Store, election: str, within_s: float = 10.0) -> Reading:
    """Read until there is an answer."""
    limit = time.monotonic() + within_s
    while True:
        try:
            return store.exchange(election, Exchange())
        except StoreUnavailable:
            if time.monotonic() > limit:
                raise
            time.sleep(0.05)


def took(question: Callable[[], object]) -> float:
    start = time.monotonic()
    question()
    return time.monotonic() - start


def fails(question: Callable[[], object], *, within_s: float) -> str:
    """What is said of it."""
    start = time.monotonic()
    with pytest.raises(StoreUnavailable) as failure:
        question()
    assert time.monotonic() - start < within_s
    return str(failure.value)


@contextmanager
def severing(sever: Callable[[], None]) -> Iterator[None]:
    """Again and again: it ends only what hangs already."""
    done = threading.Event()

    def again() -> None:
        while not done.wait(0.2):
            sever()

    thread = threading.Thread(target=again)
    thread.start()
    yield
    done.set()
    thread.join()


def test_a_write_whose_answer_is_lost_is_not_known_and_is_written_once(server: EtcdServer) -> None:
    election = new_election()
    with relay(server.port) as way, closing(open_store(through(way.port, server.port), call_limit_s=LIMIT_S)) as store:
        store.open()
        join(store, election, "a")
        assert store.exchange(election, charge("a", 1)).swapped
        way.swallows = True
        way.asked.clear()
        said = fails(lambda: store.exchange(election, renewed(election, 2)), within_s=LIMIT_S + 0.5)
        assert "whether it was written is not known" in said
        assert way.asked.count(b"/v3/kv/txn") == 1
        # There is a second server in the URL, and it was not given the same write.
        seen = store.exchange(election, Exchange())
        assert seen.record is not None and seen.record.version == 2
        assert [event.term for event in store.events(election, 9)] == [1, 1]


def test_a_server_that_freezes_in_a_write_leaves_it_unknown_and_never_twice(server: EtcdServer) -> None:
    election = new_election()
    with closing(open_store(server.store_url, call_limit_s=LIMIT_S)) as store:
        store.open()
        assert store.exchange(election, charge("a", 1)).swapped
        server.freeze()
        fails(lambda: store.exchange(election, renewed(election, 2)), within_s=LIMIT_S + 0.5)
        server.thaw()
        seen = again_and_again(store, election)
        assert seen.record is not None and seen.record.version in {1, 2}
        written = len(store.events(election, 9))
        assert written == seen.record.version
        assert store.exchange(election, renewed(election, seen.record.version + 1)).swapped


def test_a_first_server_that_is_dead_costs_nothing(server: EtcdServer) -> None:
    election = new_election()
    with closing(open_store(through(free_port(), server.port), call_limit_s=LIMIT_S)) as store:
        store.open()
        join(store, election, "a")
        assert store.exchange(election, charge("a", 1)).swapped


def test_a_first_server_that_is_frozen_is_left_within_the_call_and_asked_last_from_then_on(
    three: list[EtcdServer],
) -> None:
    election = new_election()
    frozen, *others = sorted(three, key=lambda each: each.leads)
    with (
        relay(frozen.port) as way,
        closing(open_store(through(way.port, *(each.port for each in others)), call_limit_s=LIMIT_S)) as store,
    ):
        frozen.freeze()
        assert took(store.open) < LIMIT_S
        assert way.asked
        way.asked.clear()
        join(store, election, "a")
        assert store.exchange(election, charge("a", 1)).swapped
        assert b"/v3/kv/txn" not in way.asked


def test_a_server_that_freezes_under_a_connection_is_left_after_one_call(three: list[EtcdServer]) -> None:
    election = new_election()
    frozen, *others = sorted(three, key=lambda each: each.leads)
    with (
        relay(frozen.port) as way,
        closing(open_store(through(way.port, *(each.port for each in others)), call_limit_s=LIMIT_S)) as store,
    ):
        store.open()
        join(store, election, "a")
        frozen.freeze()
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{way.port} does not answer in time"):
            store.exchange(election, Exchange(who("a")))
        way.asked.clear()
        store.exchange(election, Exchange(who("a")))
        assert store.exchange(election, charge("a", 1)).swapped
        assert b"/v3/kv/txn" not in way.asked


def test_a_lost_quorum_ends_within_the_limit_and_is_whole_again_after(three: list[EtcdServer]) -> None:
    election = new_election()
    with closing(open_store(url_of(three), call_limit_s=LIMIT_S)) as store:
        store.open()
        assert store.exchange(election, charge("a", 1)).swapped
        for each in three[1:]:
            each.crash()
        said = ""
        for _ in range(4):
            said = fails(lambda: store.exchange(election, Exchange(who("a"))), within_s=LIMIT_S + 0.5)
        assert "no leader" in said or "does not answer in time" in said
        for each in three[1:]:
            each.begin()
        seen = again_and_again(store, election)
        assert seen.record is not None and (seen.record.leader, seen.record.version) == ("a", 1)
        assert store.exchange(election, renewed(election, 2)).swapped


def test_a_leader_that_is_killed_is_replaced_and_nothing_is_forgotten(three: list[EtcdServer]) -> None:
    election = new_election()
    with closing(open_store(url_of(three), call_limit_s=LIMIT_S)) as store:
        store.open()
        assert store.exchange(election, charge("a", 1)).swapped
        next(each for each in three if each.leads).crash()
        seen = again_and_again(store, election)
        assert seen.record is not None and seen.record.version == 1
        assert seen.history == store.exchange(election, Exchange()).history
        version = 2
        while not store.exchange(election, renewed(election, version)).swapped:
            version += 1
            assert version < 5


def test_a_follower_that_is_cut_off_tells_nothing_old(three: list[EtcdServer]) -> None:
    election = new_election()
    follower = next(each for each in three if not each.leads)
    others = [each for each in three if each is not follower]
    with relay(follower.port) as way, closing(open_store(through(way.port), call_limit_s=LIMIT_S)) as store:
        store.open()
        assert store.exchange(election, charge("a", 1)).swapped
        for each in others:
            each.freeze()
        # Its own data has the record, and a serializable read would show it.
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                store.exchange(election, Exchange())
        assert b"serializable" not in way.asked
        assert b"/v3/kv/range" in way.asked


def test_a_leader_that_was_frozen_and_replaced_tells_nothing_old_when_it_thaws(three: list[EtcdServer]) -> None:
    election = new_election()
    old = next(each for each in three if each.leads)
    others = [each for each in three if each is not old]
    with (
        closing(open_store(old.store_url, call_limit_s=LIMIT_S)) as a,
        closing(open_store(url_of(others), call_limit_s=LIMIT_S)) as b,
    ):
        a.open()
        b.open()
        assert a.exchange(election, charge("a", 1)).swapped
        for term in range(2, 5):
            before = next((each for each in three if each.leads), old)
            before.freeze()
            there = [each for each in three if each is not before]
            with closing(open_store(url_of(there), call_limit_s=LIMIT_S)) as c:
                again_and_again(c, election)
                assert c.exchange(election, charge("b", term)).swapped
            with closing(open_store(before.store_url, call_limit_s=LIMIT_S)) as late:
                before.thaw()
                seen = again_and_again(late, election)
                assert seen.record is not None and (seen.record.term, seen.record.leader) == (term, "b")


def test_a_store_never_asks_for_what_may_be_old(server: EtcdServer) -> None:
    election = new_election()
    with relay(server.port) as way, closing(open_store(through(way.port), call_limit_s=LIMIT_S)) as store:
        store.open()
        store.exchange(election, charge("a", 1))
        store.events(election, 9)
        store.elections()
        store.examine()
        store.drain(election, "a", True)
        assert store.forget(election, store.exchange(election, Exchange()))
        assert b"serializable" not in way.asked


def test_a_connection_that_has_ended_in_the_meantime_costs_no_write(server: EtcdServer) -> None:
    election = new_election()
    with relay(server.port) as way, closing(open_store(through(way.port), call_limit_s=LIMIT_S)) as store:
        store.open()
        join(store, election, "a")
        way.cut()
        time.sleep(0.05)
        assert store.exchange(election, charge("a", 1)).swapped, "it was noticed before the write"
        assert way.asked.count(b"/v3/kv/txn") == 2


def test_a_call_that_hangs_is_severed_by_another_thread(server: EtcdServer) -> None:
    election = new_election()
    with closing(open_store(server.store_url, call_limit_s=30.0)) as store:
        store.open()
        join(store, election, "a")
        server.freeze()
        with severing(store.sever):
            fails(lambda: store.exchange(election, Exchange()), within_s=10.0)
        server.thaw()
        assert ids(store.exchange(election, Exchange())) == ["a"]


# What was written is old, or gone


def peers_of(server: EtcdServer) -> list[str]:
    words = {"--name", "--initial-cluster", "--initial-advertise-peer-urls"}
    return [word for word in server._command if word.partition("=")[0] in words]


@pytest.mark.parametrize("token", [(), ("--initial-cluster-token=after-the-fire",)], ids=["same name", "new name"])
def test_a_swap_from_before_a_restored_snapshot_does_not_match(token: tuple[str, ...], tmp_path: Path) -> None:
    election = new_election()
    folder, key = folder_of(election), record_key(election, 1)
    with etcd_server() as server:
        keys = Etcd(Where(server.store_url), call_limit_s=LIMIT_S)
        assert keys.commit(folder, Write({key: 0}, {key: b'{"version":1}'}))[0]
        server.ctl("snapshot", "save", str(tmp_path / "snapshot"))
        done, seen = keys.commit(
            folder, Write({key: keys.read(folder).number(key)}, {key: b'{"version":2,"leader":"a"}'})
        )
        assert done
        before = keys.history
        server.stop()
        server.restored(tmp_path / "snapshot", *peers_of(server), *token)
        server.start()
        # Another member writes there first, and its write gets the very same number.
        other = Etcd(Where(server.store_url), call_limit_s=LIMIT_S)
        done, theirs = other.commit(
            folder, Write({key: other.read(folder).number(key)}, {key: b'{"version":2,"leader":"b"}'})
        )
        assert done
        assert theirs.number(key) == seen.number(key)
        write = Write({key: seen.number(key)}, {key: b'{"version":3,"leader":"a"}'})
        if token:
            with pytest.raises(StoreUnavailable, match="another etcd cluster answers here"):
                keys.commit(folder, write)
            assert keys.history != before
        else:
            done, after = keys.commit(folder, write)
            assert not done
            assert b'"b"' in after.entries[key].value
        assert b'"b"' in keys.read(folder).entries[key].value
        assert keys.history == other.history
        keys.close()
        other.close()


def test_a_compaction_disturbs_nobody(server: EtcdServer) -> None:
    election = new_election()
    with (
        closing(open_store(server.store_url, call_limit_s=LIMIT_S)) as a,
        closing(open_store(server.store_url, call_limit_s=LIMIT_S)) as b,
    ):
        a.open()
        b.open()
        join(b, election, "b")
        for term in range(1, 4):
            assert a.exchange(election, charge("a", term)).swapped
            assert hears(b, election)
            revision = server.ask("/v3/kv/range", {"key": "YQ=="})["header"]["revision"]
            server.ctl("compact", "--physical", revision)
            b.exchange(election, Exchange(who("b")))


def test_what_is_compacted_while_a_watch_is_broken_is_heard_of_all_the_same(server: EtcdServer) -> None:
    key = f"elections/{new_election()}/news"
    with relay(server.port) as way:
        watching = Etcd(Where(through(way.port)), call_limit_s=LIMIT_S)
        writing = Etcd(Where(server.store_url), call_limit_s=LIMIT_S)
        writing.commit("elections/x", Write(puts={key: b"{}"}))
        number = writing.read(key.rpartition("/")[0]).number(key)
        bell = Bell()
        watching.watch(key, number, bell)
        wait_for(lambda: b"/v3/watch" in way.asked)
        way.refuses = True
        way.cut()
        writing.commit("elections/x", Write(puts={key: b"1"}))
        writing.commit("elections/x", Write(puts={key: b"2"}))
        revision = server.ask("/v3/kv/range", {"key": "YQ=="})["header"]["revision"]
        server.ctl("compact", "--physical", revision)
        assert not bell.heard(number)
        way.refuses = False
        wait_for(lambda: bell.heard(number))
        # Being watched again, it is heard of at once.
        wait_for(lambda: way.asked.count(b"/v3/watch") > 1)
        bell.heard(0)
        writing.commit("elections/x", Write(puts={key: b"3"}))
        now = writing.read(key.rpartition("/")[0]).number(key)
        assert now > number
        wait_for(lambda: bell.heard(now - 1))
        watching.close()
        writing.close()
        bell.close()


def test_a_watch_of_which_nothing_is_heard_is_begun_anew_without_a_ring(
    server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_watch, "IDLE_S", 0.2)
    key = f"elections/{new_election()}/news"
    with (
        relay(server.port) as way,
        closing(Bell()) as bell,
        closing(Etcd(Where(through(way.port)), call_limit_s=LIMIT_S)) as watching,
        closing(Etcd(Where(server.store_url), call_limit_s=LIMIT_S)) as writing,
    ):
        writing.commit("elections/x", Write(puts={key: b"{}"}))
        watching.watch(key, writing.read(key.rpartition("/")[0]).number(key), bell)
        wait_for(lambda: way.asked.count(b"/v3/watch") > 3)
        assert not bell.heard(-1)
        writing.commit("elections/x", Write(puts={key: b"1"}))
        wait_for(lambda: bell.heard(-1))


def wait_for(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    limit = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_a_full_database_is_said_with_what_to_do() -> None:
    election = new_election()
    with (
        etcd_server(quota_backend_bytes=str(4 * 2**20)) as server,
        closing(open_store(server.store_url, call_limit_s=LIMIT_S)) as store,
    ):
        store.open()
        assert store.exchange(election, charge("a", 1)).swapped

        def fill() -> None:
            with closing(Etcd(Where(server.store_url), call_limit_s=LIMIT_S)) as full:
                for number in range(20):
                    full.commit("elections/x", Write(puts={f"elections/x/{number}": b"x" * 900_000}))

        with pytest.raises(StoreUnavailable, match="etcdctl alarm disarm"):
            fill()
        with pytest.raises(StoreUnavailable, match="etcdctl defrag"):
            store.exchange(election, renewed(election, 2))
        seen = store.exchange(election, Exchange())
        assert seen.record is not None and seen.record.version == 1
        assert any(each.topic == "space" and each.level == "problem" for each in store.examine())
        server.ctl("del", "--prefix", f"{FOLDER}/elections/x/")
        revision = server.ask("/v3/kv/range", {"key": "YQ=="})["header"]["revision"]
        server.ctl("compact", "--physical", revision)
        server.ctl("defrag")
        server.ctl("alarm", "disarm")
        assert store.exchange(election, renewed(election, 2)).swapped


def test_a_disabled_gateway_is_a_clear_sentence() -> None:
    with (
        etcd_server(enable_grpc_gateway="false") as server,
        closing(open_store(server.store_url, call_limit_s=LIMIT_S)) as store,
    ):
        with pytest.raises(StoreMisfit, match="--enable-grpc-gateway=true"):
            store.open()
        with pytest.raises(StoreMisfit, match="--enable-grpc-gateway=true"):
            store.examine()


def test_more_than_one_transaction_takes_is_a_clear_sentence_and_history_goes_in_parts(server: EtcdServer) -> None:
    keys = Etcd(Where(server.store_url), call_limit_s=LIMIT_S)
    many = {f"elections/many/{number:03d}": b"{}" for number in range(120)}
    more = {f"elections/more/{number:03d}": b"{}" for number in range(120)}
    keys.commit("elections/many", Write(puts=many))
    keys.commit("elections/more", Write(puts=more))
    with pytest.raises(StoreUnavailable, match="too many operations in txn request; nothing was written"):
        keys.commit("elections/many", Write(puts={**many, **more}))
    assert sorted(keys.values([*many, *more])) == sorted([*many, *more])
    keys.commit("elections/many", Write(deletes=[*many, *more]))
    assert keys.values([*many, *more]) == {}
    keys.close()


def test_close_leaves_no_thread_and_no_socket(server: EtcdServer) -> None:
    def sockets() -> int:
        found = 0
        for number in os.listdir("/proc/self/fd"):
            try:
                found += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
            except OSError:
                continue
        return found

    threads, before = set(threading.enumerate()), sockets()
    for severed in (False, True):
        election = new_election()
        store = open_store(server.store_url, call_limit_s=LIMIT_S)
        store.open()
        join(store, election, "a")
        store.examine()
        assert len(set(threading.enumerate()) - threads) == 1
        if severed:
            server.freeze()
        assert took(store.close) < LIMIT_S
        server.thaw()
        assert set(threading.enumerate()) <= threads
        assert sockets() == before
