"""The contract in a real ZooKeeper, alone and of three servers; what only ZooKeeper has; and what happens when servers go."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from heirflow.election.record import Exchange
from heirflow.errors import ConfigError
from heirflow.stores import StoreUnavailable, open_store
from heirflow.stores.base import Finding, Store, StoreRefuses
from heirflow.stores.keyed.keys import ABSENT, Bell, Write
from heirflow.stores.keyed.place import Where
from heirflow.stores.keyed.zookeeper import ZooKeeper
from heirflow.testing import seats_contract, store_contract
from heirflow.testing.store_tools import hears, ids, join, members, new_election, take, who
from lab.servers.servers import free_port
from lab.servers.zookeeper import Ensemble, zookeeper_ensemble, zookeeper_missing, zookeeper_server
from tests.coordinators import of_coordinators

GIVEN = "HEIRFLOW_TEST_ZOOKEEPER"
"""Names a server for the contract instead of ours."""
LIMIT_S = 1.5
LATE_S = 0.5
"""How much longer than its limit a call may take here, where others work on the same processors."""
WAIT_S = 20.0
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def alone(zookeeper: Ensemble) -> Ensemble:
    """One server that nobody stops."""
    return zookeeper


@pytest.fixture(scope="session")
def three() -> Iterator[Ensemble]:
    """Three that nobody stops."""
    if (missing := zookeeper_missing()) is not None:
        pytest.skip(missing)
    with zookeeper_ensemble(3) as ensemble:
        yield ensemble


@pytest.fixture(scope="session")
def _mortal(alone: Ensemble) -> Iterator[Ensemble]:
    with zookeeper_server() as ensemble:
        yield ensemble


@pytest.fixture
def mortal(_mortal: Ensemble) -> Iterator[Ensemble]:
    """One server for a test to stop."""
    yield _mortal
    _mortal.server.thaw()
    _mortal.start()


@pytest.fixture(scope="session")
def _mortals(three: Ensemble) -> Iterator[Ensemble]:
    with zookeeper_ensemble(3) as ensemble:
        yield ensemble


@pytest.fixture
def mortals(_mortals: Ensemble) -> Iterator[Ensemble]:
    """Three for a test to stop."""
    yield _mortals
    for server in _mortals.servers:
        server.thaw()
    _mortals.start()


@pytest.mark.parametrize("servers", ["alone", "three"])
@pytest.mark.parametrize(
    "check", [*store_contract.CHECKS, *seats_contract.CHECKS, *of_coordinators.CHECKS], ids=store_contract.name
)
def test_the_contract(check: store_contract.Check, servers: str, request: pytest.FixtureRequest) -> None:
    url = os.environ.get(GIVEN) or request.getfixturevalue(servers).url
    check(lambda: open_store(url, call_limit_s=LIMIT_S))


def new_folder() -> str:
    return f"folder-{next(_numbers)}"


@contextmanager
def opened(url: object) -> Iterator[Store]:
    with closing(open_store(url, call_limit_s=LIMIT_S)) as store:  # type: ignore[arg-type]
        store.open()
        yield store


@contextmanager
def as_admin(ensemble: Ensemble, user: str = "") -> Iterator[KazooClient]:
    client = KazooClient(f"127.0.0.1:{ensemble.server.port}", auth_data=[("digest", user)] if user else None)
    client.start()
    try:
        yield client
    finally:
        client.stop()
        client.close()


def until(works: Callable[[], object], *, within_s: float = WAIT_S) -> float:
    """Try until the store answers; how long that took. None of the calls took longer than it may."""
    began = time.monotonic()
    while True:
        asked = time.monotonic()
        try:
            works()
            return time.monotonic() - began
        except StoreUnavailable:
            assert time.monotonic() - asked < LIMIT_S + LATE_S
            assert time.monotonic() - began < within_s
            time.sleep(0.05)


# Numbers


def test_a_swap_from_before_a_forget_never_matches_a_record_of_after_it(alone: Ensemble) -> None:
    """The version of a node that is made anew begins at 0 again: so a record is emptied, and not deleted."""
    with closing(ZooKeeper(Where(alone.url), call_limit_s=LIMIT_S)) as keys:
        folder = f"elections/{new_election()}"
        for key in (f"{folder}/record", f"{folder}/record#2"):
            numbers: list[int] = []
            for _ in range(3):
                done, seen = keys.commit(folder, Write({key: ABSENT}, {key: b"new"}))
                assert done
                numbers.append(seen.number(key))
                for late in numbers[:-1]:
                    assert not keys.commit(folder, Write({key: late}, {key: b"late"}))[0]
                assert not keys.commit(folder, Write({key: ABSENT}, {key: b"late"}))[0]
                done, seen = keys.commit(folder, Write({key: numbers[-1]}, deletes=[key]))
                assert done
                assert seen.number(key) == ABSENT
                assert keys.read(folder).entries == {}
                assert keys.names(folder) == []
                assert keys.values([key]) == {}
                assert not keys.commit(folder, Write({key: numbers[-1]}, {key: b"late"}))[0]
            assert len({*numbers, ABSENT}) == 4


def test_an_emptied_record_is_replaced_once(alone: Ensemble) -> None:
    """Two who saw it emptied make it anew: one of them does."""
    with ExitStack() as undo:
        one, other = (undo.enter_context(closing(ZooKeeper(Where(alone.url), call_limit_s=LIMIT_S))) for _ in range(2))
        folder = f"elections/{new_election()}"
        key = f"{folder}/record"
        for _ in range(3):
            done, seen = one.commit(folder, Write({key: ABSENT}, {key: b"one"}))
            assert done
            assert one.commit(folder, Write({key: seen.number(key)}, deletes=[key]))[0]
            assert other.read(folder).number(key) == ABSENT
            done, seen = one.commit(folder, Write({key: ABSENT}, {key: b"one"}))
            assert done
            done, seen = other.commit(folder, Write({key: ABSENT}, {key: b"other"}))
            assert not done
            assert seen.entries[key].value == b"one"
            # Emptied since it was seen: what was concluded from that is concluded again.
            assert other.commit(folder, Write({key: seen.number(key)}, deletes=[key]))[0]
            done, seen = one.commit(folder, Write({key: ABSENT}, {key: b"one"}))
            assert not done
            done, seen = one.commit(folder, Write({key: ABSENT}, {key: b"one"}))
            assert done
            assert one.commit(folder, Write({key: seen.number(key)}, deletes=[key]))[0]


def test_who_has_not_seen_the_emptied_record_makes_it_anew_all_the_same(alone: Ensemble) -> None:
    election = new_election()
    with members(lambda: open_store(alone.url, call_limit_s=LIMIT_S)) as [a, b]:
        assert b.exchange(election, Exchange()).record is None
        first = a.exchange(election, Exchange(who("a"), join=True, swap=take("a", 1, 1, expected=None)))
        assert a.forget(election, a.exchange(election, Exchange()))
        assert election not in a.elections()
        assert a.events(election, 10) == ()
        assert b.exchange(election, Exchange(swap=take("b", 1, 1, expected=None))).swapped
        assert not a.forget(election, first)


@pytest.mark.parametrize("guard", ["other", "absent"])
def test_a_guard_on_what_is_not_written_holds_too(alone: Ensemble, guard: str) -> None:
    with closing(ZooKeeper(Where(alone.url), call_limit_s=LIMIT_S)) as keys:
        folder = f"elections/{new_election()}"
        guarded, written = f"{folder}/guarded", f"{folder}/written"
        _, seen = keys.commit(folder, Write(puts={guarded: b"1"} if guard == "other" else {}, guards={}))
        wrong = Write({guarded: 7 if guard == "other" else 3}, {written: b"2"})
        assert keys.commit(folder, wrong)[0] is False
        done, seen = keys.commit(folder, Write({guarded: seen.number(guarded)}, {written: b"2"}))
        assert done
        assert seen.entries[written].value == b"2"
        assert (guarded in seen.entries) is (guard == "other")


def test_a_record_is_seen_with_the_line_of_its_time(alone: Ensemble) -> None:
    """Nodes are read one by one: who joins and takes charge at once is never a leader without a row."""
    election, stop, odd, readings = new_election(), threading.Event(), [], 0
    with members(lambda: open_store(alone.url, call_limit_s=LIMIT_S)) as [writer, reader]:

        def write() -> None:
            for version in itertools.count(1, 2):
                if stop.is_set():
                    return
                lead = replace(take("a", version, version, expected=version - 1 or None), event=None)
                writer.exchange(election, Exchange(who("a"), join=True, swap=lead))
                vacate = replace(take(None, version, version + 1, expected=version), event=None)
                writer.exchange(election, Exchange(who("a"), leave=True, swap=vacate))

        thread = threading.Thread(target=write)
        thread.start()
        try:
            limit = time.monotonic() + 2
            while time.monotonic() < limit:
                seen, readings = reader.exchange(election, Exchange()), readings + 1
                if seen.record is not None and ids(seen) != ([seen.record.leader] if seen.record.leader else []):
                    odd.append(seen)
        finally:
            stop.set()
            thread.join()
    assert not odd
    assert readings > 20


# Whose it is


def test_who_has_a_user_closes_its_nodes_to_others(alone: Ensemble) -> None:
    folder, election = new_folder(), new_election()
    with opened(alone.url_of(folder, user="anna:one")) as anna:
        join(anna, election, "a")
        anna.exchange(election, Exchange(who("a"), swap=take("a", 1, 1, expected=None)))
        assert finding(anna, "acl").level == "ok"
        assert finding(anna, "rights").level == "ok"
    for user in ("", "anna:two", "ben:one"):
        sentence = f"does not let .*{user.partition(':')[0]}.* in: give it the rights"
        with pytest.raises(StoreRefuses, match=sentence), opened(alone.url_of(folder, user=user)):
            pass
    with as_admin(alone, "anna:one") as client:
        for path in (f"/{folder}", f"/{folder}/elections", f"/{folder}/elections/{election}/record"):
            [acl] = client.get_acls(path)[0]
            assert (acl.id.scheme, acl.perms) == ("digest", 31)


def change_password(alone: Ensemble, folder: str, old: str, new: str) -> None:
    with as_admin(alone, old) as client:

        def below(path: str) -> Iterator[str]:
            for name in client.get_children(path):
                yield from below(f"{path}/{name}")
            yield path

        for path in [*below(f"/{folder}")]:
            client.set_acls(path, [make_digest_acl(*new.split(":"), all=True)])


def test_a_password_that_changes_in_its_file_counts_at_once(alone: Ensemble, tmp_path: Path) -> None:
    folder, election, file = new_folder(), new_election(), tmp_path / "password"
    file.write_text("one\n")
    with opened(alone.url_of(folder, user="anna", query=f"password-file={file}")) as store:
        join(store, election, "a")
        change_password(alone, folder, "anna:one", "anna:two")
        with pytest.raises(StoreRefuses, match="does not let the user anna in"):
            store.exchange(election, Exchange(who("a")))
        change_password(alone, folder, "anna:two", "anna:one")
        assert ids(store.exchange(election, Exchange(who("a")))) == ["a"]
        change_password(alone, folder, "anna:one", "anna:three")
        file.write_text("three")
        assert ids(store.exchange(election, Exchange(who("a")))) == ["a"]
        file.unlink()
        assert ids(store.exchange(election, Exchange(who("a")))) == ["a"], "it is read for a new session only"
        store.sever()
        with pytest.raises(StoreRefuses, match="cannot read the password in"):
            store.exchange(election, Exchange(who("a")))


class Changing:
    """An address that learns another password when it is refused."""

    def __init__(self, *urls: str) -> None:
        self.urls = list(urls)

    @property
    def known(self) -> str:
        return self.urls[0]

    def now(self) -> str:
        return self.urls[0]

    def refused(self, url: str) -> bool:
        assert url == self.urls[0]
        return len(self.urls) > 1 and bool(self.urls.pop(0))

    def accepted(self) -> None:
        pass


def test_an_address_that_was_refused_is_asked_for_another(alone: Ensemble) -> None:
    folder, election = new_folder(), new_election()
    right, wrong = (alone.url_of(folder, user=f"anna:{word}") for word in ("one", "two"))
    with opened(right) as store:
        join(store, election, "a")
    with opened(Changing(wrong, right)) as store:
        assert ids(store.exchange(election, Exchange(who("a")))) == ["a"]
    with pytest.raises(StoreRefuses), opened(Changing(wrong, wrong)):
        pass


def test_an_acl_as_it_is_said(alone: Ensemble) -> None:
    folder, election = new_folder(), new_election()
    [mine] = [make_digest_acl("anna", "one", all=True)]
    query = f"acl=digest:{mine.id.id}:cdrwa,world:anyone:r"
    with opened(alone.url_of(folder, user="anna:one", query=query)) as store:
        join(store, election, "a")
    with opened(alone.url_of(folder)) as stranger:
        assert ids(stranger.exchange(election, Exchange())) == ["a"]
        assert finding(stranger, "rights").level == "problem"
        assert finding(stranger, "acl").level == "ok"
        with pytest.raises(StoreRefuses):
            join(stranger, election, "b")
    with opened(alone.url_of(new_folder(), user="anna:one", query="acl=open")) as store:
        join(store, election, "a")
        assert finding(store, "acl").level == "warning"
    for wrong in ("creator", "anna", "digest:anna", "digest:anna:x:q"):
        with pytest.raises(ConfigError, match="acl"):
            open_store(alone.url_of(folder, query=f"acl={wrong}"), call_limit_s=LIMIT_S)


def test_folders_know_nothing_of_each_other(alone: Ensemble) -> None:
    deep, election = f"{new_folder()}/b%20c/ä", new_election()
    with opened(alone.url_of(deep)) as one, opened(alone.url_of(new_folder())) as other:
        join(one, election, "a")
        one.exchange(election, Exchange(who("a"), swap=take("a", 1, 1, expected=None)))
        assert other.exchange(election, Exchange()).members == ()
        assert (one.elections(), other.elections()) == ((election,), ())
    with as_admin(alone) as client:
        assert client.exists(f"/{deep.replace('%20', ' ')}/elections")


def test_a_folder_above_which_nothing_may_be_made_is_used(alone: Ensemble) -> None:
    folder, election = new_folder(), new_election()
    with as_admin(alone) as client:
        client.create(f"/{folder}", acl=[make_digest_acl("root", "x", all=True)])
        client.add_auth("digest", "root:x")
        client.create(f"/{folder}/line", acl=[make_digest_acl("anna", "one", all=True)])
    with opened(alone.url_of(f"{folder}/line", user="anna:one")) as store:
        assert ids(join(store, election, "a")) == ["a"]
    with pytest.raises(StoreRefuses), opened(alone.url_of(f"{folder}/other", user="anna:one")) as store:
        join(store, election, "a")


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's and a client's certificate, each with its key."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2",
                "-subj", f"/CN={name}")  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        openssl(
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-out", f"{name}.pem", "-extfile", "names")  # fmt: skip
        (folder / f"{name}-both.pem").write_text(
            (folder / f"{name}.key").read_text() + (folder / f"{name}.pem").read_text()
        )
    for path in (folder, *folder.parents[:3], *folder.iterdir()):
        with suppress(OSError):
            path.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def secured(certificates: Path) -> Iterator[tuple[Ensemble, int]]:
    """A server with TLS that asks for a client's certificate, and its port."""
    port = free_port()
    settings = {
        "secureClientPort": str(port), "secureClientPortAddress": "127.0.0.1",
        "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
        "ssl.keyStore.location": str(certificates / "server-both.pem"),
        "ssl.trustStore.location": str(certificates / "ca.pem"), "ssl.clientAuth": "need",
    }  # fmt: skip
    with zookeeper_server(settings=settings) as ensemble:
        yield ensemble, port


def test_over_tls(secured: tuple[Ensemble, int], certificates: Path) -> None:
    _, port = secured
    election = new_election()

    def url(ca: str, *, host: str = "127.0.0.1", cert: str = "client") -> str:
        more = f"&cert={certificates}/{cert}.pem&key={certificates}/{cert}.key" if cert else ""
        return f"zookeepers://{host}:{port}/tls?ca={certificates}/{ca}.pem{more}"

    with opened(url("ca")) as store:
        assert ids(join(store, election, "a")) == ["a"]
        assert ids(store.exchange(election, Exchange(who("a")))) == ["a"]
        assert finding(store, "version").level == "ok"
    for wrong in (url("other"), url("ca", host="localhost"), url("ca", cert="")):
        with pytest.raises(StoreUnavailable, match=str(port)), opened(wrong):
            pass
    with pytest.raises(StoreRefuses, match="cannot use the certificates"), opened(url("none")):
        pass


# Trouble


def test_a_commit_whose_answer_is_lost_is_written_once_or_not_at_all(mortal: Ensemble) -> None:
    election, written = new_election(), 0
    with opened(mortal.url) as store:
        for number in range(1, 5):
            seen = join(store, election, "a")
            version = 0 if seen.record is None else seen.record.version
            mortal.server.freeze()
            asked = time.monotonic()
            with pytest.raises(StoreUnavailable) as lost:
                store.exchange(
                    election, Exchange(who("a"), swap=take("a", number, version + 1, expected=version or None))
                )
            assert time.monotonic() - asked < LIMIT_S + LATE_S
            assert not isinstance(lost.value, StoreRefuses)
            mortal.server.thaw()
            until(lambda: store.exchange(election, Exchange()))
            record = store.exchange(election, Exchange()).record
            now = 0 if record is None else record.version
            assert now in {version, version + 1}
            written += now - version
            assert len(store.events(election, 10)) == written


def test_a_session_that_the_server_ended_is_made_anew(alone: Ensemble) -> None:
    election = new_election()
    with members(lambda: open_store(alone.url, call_limit_s=LIMIT_S)) as [a, b]:
        join(b, election, "b")
        while b.news(election):
            pass
        # Whoever has its name and password may end it.
        client = KazooClient(f"127.0.0.1:{alone.server.port}", client_id=b._keys._session.client.client_id)  # type: ignore[attr-defined]
        client.start()
        client.stop()
        client.close()
        assert hears(b, election), "that nothing more will be heard is news"
        until(lambda: b.exchange(election, Exchange(who("b"))), within_s=LIMIT_S)
        a.exchange(election, Exchange(swap=take("a", 1, 1, expected=None)))
        assert hears(b, election), "the watch was not set in the new session"


def test_the_client_does_not_go_on_by_itself_with_another_host(alone: Ensemble) -> None:
    """It would be the same session, and nothing would be watched any more."""
    election, host = new_election(), f"127.0.0.1:{alone.server.port}"
    with opened(alone.url) as a, opened(alone.url_of("heirflow", hosts=",".join([host] * 3))) as b:
        join(b, election, "b")
        while b.news(election):
            pass
        b._keys._session._handler._socket.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
        assert hears(b, election)
        until(lambda: b.exchange(election, Exchange(who("b"))), within_s=LIMIT_S)
        while b.news(election):
            pass
        a.exchange(election, Exchange(swap=take("a", 1, 1, expected=None)))
        assert hears(b, election)


def test_hosts_that_are_dead_or_mute_are_left_at_once(alone: Ensemble) -> None:
    election = new_election()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        hosts = ",".join(f"127.0.0.1:{port}" for port in (free_port(), mute.getsockname()[1], alone.server.port))
        for _ in range(8):  # they are tried in any order
            with opened(alone.url_of("heirflow", hosts=hosts)) as store:
                join(store, election, "a")
        url = f"zookeeper://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(StoreUnavailable, match="takes connections and does not serve"), opened(url):
            pass


def test_a_host_without_an_address_is_named(alone: Ensemble) -> None:
    with pytest.raises(StoreUnavailable, match="no host takes us: "), opened("zookeeper://nowhere.invalid"):
        pass


@pytest.mark.slow
def test_the_ensemble_outlives_its_leader(mortals: Ensemble) -> None:
    election = new_election()
    with members(lambda: open_store(mortals.url, call_limit_s=LIMIT_S), 3) as stores:
        for number, store in enumerate(stores):
            join(store, election, f"m{number}")
        stores[0].exchange(election, Exchange(who("m0"), swap=take("m0", 1, 1, expected=None)))
        mortals.leader().crash()
        took = [until(lambda store=store: store.exchange(election, Exchange(who("m1")))) for store in stores]  # type: ignore[misc]
        assert max(took) < 10
        for store in stores:
            while store.news(election):
                pass
        reading = stores[1].exchange(election, Exchange(who("m1"), swap=take("m1", 2, 2, expected=1)))
        assert reading.swapped
        assert hears(stores[0], election)
        assert hears(stores[2], election)
        assert ids(reading) == ["m0", "m1", "m2"]
        assert finding(stores[1], "quorum").level == "warning"


@pytest.mark.slow
def test_without_a_majority_nothing_is_answered(mortals: Ensemble) -> None:
    election = new_election()
    with opened(mortals.url) as store:
        join(store, election, "a")
        leader = mortals.leader()
        for server in [server for server in mortals.servers if server is not leader]:
            server.crash()
        for _ in range(4):
            for request in (Exchange(who("a")), Exchange(who("a"), swap=take("a", 1, 1, expected=None))):
                asked = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    store.exchange(election, request)
                assert time.monotonic() - asked < LIMIT_S + LATE_S
        mortals.start()
        until(lambda: store.exchange(election, Exchange(who("a"))))
        record = store.exchange(election, Exchange(who("a"))).record
        assert record is None or record.leader == "a"


@pytest.mark.slow
def test_a_leader_that_is_frozen_is_left(mortals: Ensemble) -> None:
    election = new_election()
    with opened(mortals.url) as store:
        join(store, election, "a")
        mortals.leader().freeze()
        assert until(lambda: store.exchange(election, Exchange(who("a")))) < 15


def test_news_outlives_a_restart(mortal: Ensemble) -> None:
    election = new_election()
    with members(lambda: open_store(mortal.url, call_limit_s=LIMIT_S)) as [a, b]:
        join(b, election, "b")
        while b.news(election):
            pass
        mortal.server.stop()
        assert hears(b, election), "that nothing more will be heard is news"
        with pytest.raises(StoreUnavailable, match="no host takes us"):
            b.exchange(election, Exchange(who("b")))
        mortal.start()
        for store, name in ((a, "a"), (b, "b")):
            until(lambda store=store, name=name: store.exchange(election, Exchange(who(name))))  # type: ignore[misc]
        while b.news(election):
            pass
        a.exchange(election, Exchange(swap=take("a", 1, 1, expected=None)))
        assert hears(b, election)


def test_a_node_that_is_made_anew_is_news(alone: Ensemble) -> None:
    key = f"elections/{new_election()}/news"
    folder = key.rpartition("/")[0]
    with closing(Bell()) as bell, closing(ZooKeeper(Where(alone.url), call_limit_s=LIMIT_S)) as keys:
        for _ in range(3):
            _, seen = keys.commit(folder, Write(puts={key: b"x"}))
        number = seen.number(key)
        keys.watch(key, number, bell)
        keys.commit(folder, Write(deletes=[key]))
        keys.commit(folder, Write(puts={key: b"x"}))
        limit = time.monotonic() + 5
        while not bell.heard(number):
            assert time.monotonic() < limit
            time.sleep(0.01)


# What is left


def descriptors() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return found


@pytest.mark.parametrize("state", ["well", "severed", "frozen", "gone"])
def test_close_leaves_no_threads_and_no_sockets(
    mortal: Ensemble, state: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before, threads = descriptors(), set(threading.enumerate())
    election = new_election()
    with ExitStack() as undo:
        store = undo.enter_context(opened(mortal.url))
        join(store, election, "a")
        ours = [int(each.split()[0]) for each in descriptors() - before if "socket:" in each]
        assert ours
        assert not any(os.get_inheritable(fd) for fd in ours), "a program that is started would keep it open"
        if state == "severed":
            store.sever()
        elif state == "frozen":
            mortal.server.freeze()
        elif state == "gone":
            mortal.server.crash()
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    store.exchange(election, Exchange(who("a")))
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert set(threading.enumerate()) <= threads
    assert descriptors() - before == set()
    assert capfd.readouterr() == ("", "")


# Doctor


def finding(store: Store, topic: str) -> Finding:
    [found] = [finding for finding in store.examine() if finding.topic == topic]
    return found


def test_what_doctor_tells(alone: Ensemble, three: Ensemble) -> None:
    with opened(alone.url_of(new_folder())) as store:
        told = {finding.topic: finding for finding in store.examine()}
        assert told["version"].sentence == "ZooKeeper 3.8.0" or told["version"].level == "ok"
        assert told["quorum"].level == "warning"
        assert "one server only" in told["quorum"].sentence
        assert told["latency"].facts["median_s"] < LIMIT_S
        assert abs(told["clock"].facts["ahead_s"]) < 1
        assert told["rights"].level == "ok"
        assert "is made when a member first joins" in told["rights"].sentence
        assert told["forgetting"].level == "note"
        assert "acl" not in told
        join(store, new_election(), "a")
        assert finding(store, "acl").level == "warning"
    with opened(three.url_of("heirflow")) as store:
        found = finding(store, "quorum")
        assert found.level == "ok"
        assert sorted(found.facts["hosts"].values()) == ["follower", "follower", "leader"]
        assert found.facts["voters"] == 3
    one = f"127.0.0.1:{three.server.port}"
    with opened(three.url_of("heirflow", hosts=one)) as store:
        assert "1 of the 1 servers in the URL serve of 3 in the ensemble" in finding(store, "quorum").sentence
    with opened(three.url_of("heirflow", hosts=f"127.0.0.1:{free_port()},{one}")) as store:
        assert finding(store, "quorum").level == "warning"
