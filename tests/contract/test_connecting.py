"""Whatever the URL says, connecting ends within the limit of a call, and a silent host costs its share of it only."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from heirflow.election.record import Exchange
from heirflow.stores import StoreUnavailable, open_store
from heirflow.testing.store_tools import ids, new_election, who
from lab.servers.replicas import postgres_replica
from lab.servers.servers import Server, postgres_server
from tests.contract.drivers import POSTGRES, SERVERS

DatabaseUrl = Callable[[str], str]
LIMIT_S = 0.45
"""Of a call with ttl 3 s."""
LATE_S = 0.35
"""What a busy machine may add."""


@contextmanager
def dead(address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port that answers nothing at all, as that of a host that lost its power: its queue is full."""
    with socket.socket() as listener:
        listener.bind((address, port))
        listener.listen(0)
        callers = [socket.socket() for _ in range(3)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        try:
            yield listener.getsockname()[1]
        finally:
            for caller in callers:
                caller.close()


@contextmanager
def mute() -> Iterator[int]:
    """A port that takes every call and says nothing, as that of a server that hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield listener.getsockname()[1]


def in_time(url: str, limit_s: float = LIMIT_S) -> float:
    """How long it takes until the store is said not to answer."""
    with closing(open_store(url, call_limit_s=limit_s)) as store:
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.open()
        return time.monotonic() - begun


@pytest.mark.parametrize("silence", [dead, mute])
@pytest.mark.parametrize("asked", ["", "60", "0", "-1"])
@pytest.mark.parametrize("driver", SERVERS)
def test_a_silent_host_ends_the_call_in_time(driver: str, asked: str, silence: Callable[[], object]) -> None:
    kind = "mysql" if "mysql" in driver else "postgresql"
    query = f"?connect_timeout={asked}" if asked else ""
    with silence() as port:  # type: ignore[attr-defined]
        took_s = in_time(f"{kind}+{driver}://me:secret@127.0.0.1:{port}/x{query}")
    assert took_s < LIMIT_S + LATE_S


def several(driver: str, server: Server, *ports: int, more: str = "") -> str:
    """A URL that names these ports of this host in their order."""
    user, _, _ = server.url(driver).rpartition("@")
    return f"{user}@/heirflow?{'&'.join(f'host=127.0.0.1:{port}' for port in ports)}{more}"


@pytest.mark.parametrize("silence", [dead, mute])
@pytest.mark.parametrize("asked", ["", "&connect_timeout=60", "&connect_timeout=0"])
@pytest.mark.parametrize("driver", POSTGRES)
def test_the_next_host_is_tried_soon_enough(
    driver: str, asked: str, silence: Callable[[], object], postgres: Server
) -> None:
    with closing(open_store(postgres.url(driver), call_limit_s=5)) as store:
        store.open()
    with silence() as first:  # type: ignore[attr-defined]
        url, election = several(driver, postgres, first, postgres.port, more=asked), new_election()
        with closing(open_store(url, call_limit_s=LIMIT_S)) as store:
            begun = time.monotonic()
            store.open()
            assert time.monotonic() - begun < LIMIT_S
            assert ids(store.exchange(election, Exchange(who("a"), join=True))) == ["a"]


@pytest.mark.parametrize("driver", POSTGRES)
def test_hosts_that_all_fail_are_told_one_by_one(driver: str, postgres: Server) -> None:
    with dead() as silent, closing(socket.socket()) as shut:
        shut.bind(("127.0.0.1", 0))  # nobody listens here
        url = several(driver, postgres, shut.getsockname()[1], silent)
        with (
            closing(open_store(url, call_limit_s=LIMIT_S)) as store,
            pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:\d+: .*no answer within 0\.45 s"),
        ):
            store.open()


@pytest.mark.parametrize("driver", SERVERS)
def test_severing_ends_the_connecting(driver: str) -> None:
    kind = "mysql" if "mysql" in driver else "postgresql"
    with (
        dead() as port,
        closing(open_store(f"{kind}+{driver}://me:secret@127.0.0.1:{port}/x", call_limit_s=20)) as store,
    ):
        severed_at: list[float] = []
        timer = threading.Timer(0.3, lambda: (severed_at.append(time.monotonic()), store.sever()))
        timer.start()
        with pytest.raises(StoreUnavailable):
            store.open()
        assert time.monotonic() - severed_at[0] < 0.2
        timer.join()


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_connection_that_comes_too_late_is_given_back(driver: str) -> None:
    with postgres_server() as server:
        server.freeze()
        try:
            for _ in range(3):
                assert in_time(server.url(driver)) < LIMIT_S + LATE_S
        finally:
            server.thaw()
        limit, left = time.monotonic() + 5, "?"
        while left != "0" and time.monotonic() < limit:
            left = server.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'heirflow%'")
        assert left == "0"
        with closing(open_store(server.url(driver), call_limit_s=5)) as store:
            store.open()


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_server_that_only_repeats_is_taken_when_no_other_can_be_had(driver: str) -> None:
    with postgres_server() as primary, postgres_replica(primary, "127.0.0.1", settings={}) as standby:
        both = several(driver, primary, standby.port, primary.port)
        with closing(open_store(both, call_limit_s=5)) as store:
            store.open()
            assert not store._flavour.standby
        primary.crash()
        with closing(open_store(both, call_limit_s=5)) as store:
            assert store.examine()
            assert store._flavour.standby


# Names

SCRIPT = """\
mount --bind "$1/resolv.conf" /etc/resolv.conf && mount --bind "$1/hosts" /etc/hosts && shift && exec "$@"
"""
CONNECT = """\
import sys, time
from heirflow.stores import StoreUnavailable, open_store
store = open_store(sys.argv[1], call_limit_s=float(sys.argv[2]))
begun = time.monotonic()
try:
    store.open()
    print("open", time.monotonic() - begun)
except StoreUnavailable as error:
    print("unavailable", time.monotonic() - begun)
sys.stdout.flush()
import os
os._exit(0)
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Callable[[str, float], tuple[str, float]]]:
    """Connect to a URL where the resolver never answers, and ``two.test`` has two addresses, the second alone alive."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root may have a resolver of its own")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.bind(("127.9.9.9", 53))
        (tmp_path / "resolv.conf").write_text("nameserver 127.9.9.9\noptions timeout:5 attempts:2\n")
        (tmp_path / "hosts").write_text("127.0.0.1 localhost\n127.0.0.3 two.test\n127.0.0.1 two.test\n")

        def connect(url: str, limit_s: float) -> tuple[str, float]:
            words = [
                "unshare",
                "-m",
                "sh",
                "-c",
                SCRIPT,
                "sh",
                str(tmp_path),
                sys.executable,
                "-c",
                CONNECT,
                url,
                str(limit_s),
            ]
            done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
            assert done.stdout, done.stderr
            what, took_s = done.stdout.split()
            return what, float(took_s)

        yield connect


@pytest.mark.parametrize("driver", SERVERS)
def test_a_resolver_that_hangs_ends_the_call_in_time(
    driver: str, elsewhere: Callable[[str, float], tuple[str, float]]
) -> None:
    kind = "mysql" if "mysql" in driver else "postgresql"
    what, took_s = elsewhere(f"{kind}+{driver}://me:secret@db.example.test/x?connect_timeout=60", LIMIT_S)
    assert what == "unavailable"
    assert took_s < LIMIT_S + 2 * LATE_S  # with all that is imported


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_name_that_is_not_found_costs_its_share_only(
    driver: str, elsewhere: Callable[[str, float], tuple[str, float]], postgres: Server
) -> None:
    with closing(open_store(postgres.url(driver), call_limit_s=5)) as store:
        store.open()
    user, _, place = postgres.url(driver).rpartition("@")
    url = f"{user}@/heirflow?host=db.example.test:{postgres.port}&host={place.partition('/')[0]}"
    what, took_s = elsewhere(url, 1.5)
    assert what == "open" and took_s < 1.5


@pytest.mark.parametrize("driver", SERVERS)
def test_each_address_of_a_name_has_its_share(
    driver: str,
    elsewhere: Callable[[str, float], tuple[str, float]],
    request: pytest.FixtureRequest,
) -> None:
    server: Server = request.getfixturevalue("mariadb" if "mysql" in driver else "postgres")
    with closing(open_store(server.url(driver), call_limit_s=5)) as store:
        store.open()
    with dead("127.0.0.3", server.port):
        what, took_s = elsewhere(server.url(driver).replace("127.0.0.1", "two.test"), 1.5)
    assert what == "open" and took_s < 1.5
