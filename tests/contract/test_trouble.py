"""Locks, frozen and restarted servers, severed connections: a call always ends, and the next one works again."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from heirflow.election.record import Exchange
from heirflow.stores import Store, StoreUnavailable, open_store
from heirflow.testing.store_tools import hears, ids, join, new_election, take, who
from lab.servers.servers import Server, mariadb_missing, mariadb_server, postgres_server
from tests.contract.drivers import ALL, MYSQL, POSTGRES, SERVERS

DatabaseUrl = Callable[[str], str]
LIMIT_S = 1.5


@pytest.fixture(scope="module")
def fragile() -> Iterator[Callable[[str], Server]]:
    """Servers that tests may stop and freeze."""
    running: dict[str, tuple[Server, object]] = {}

    def server(driver: str) -> Server:
        kind = "mysql" if driver in MYSQL else "postgresql"
        if kind not in running:
            if kind == "mysql" and (missing := mariadb_missing()) is not None:
                pytest.skip(missing)
            making = mariadb_server() if kind == "mysql" else postgres_server()
            running[kind] = (making.__enter__(), making)
        return running[kind][0]

    yield server
    for _, making in running.values():
        making.__exit__(None, None, None)


@contextmanager
def opened(url: str, call_limit_s: float = LIMIT_S) -> Iterator[Store]:
    store = open_store(url, call_limit_s=call_limit_s)
    try:
        store.open()
        yield store
    finally:
        store.close()


def eventually(store: Store, election: str, request: Exchange, *, within_s: float = 10.0) -> object:
    """The first reading that comes."""
    limit = time.monotonic() + within_s
    while True:
        try:
            return store.exchange(election, request)
        except StoreUnavailable:
            assert time.monotonic() < limit, "the store did not come back"
            time.sleep(0.05)


@pytest.mark.parametrize("driver", ALL)
def test_a_lock_held_by_somebody_else_ends_the_call_in_time(driver: str, database_url: DatabaseUrl) -> None:
    election, url = new_election(), database_url(driver)
    with opened(url) as store, opened(url, 60) as other:
        store.exchange(election, Exchange(swap=take("a", 1, 1, expected=None)))
        try:
            with other._transaction(writes=True) as conn:
                conn.execute(sa.text("UPDATE heirflow_election SET because = 'held' WHERE name = :e"), {"e": election})
                start = time.monotonic()
                with pytest.raises(StoreUnavailable) as caught:
                    store.exchange(election, Exchange(swap=take("b", 2, 2, expected=1)))
                took_s = time.monotonic() - start
                assert caught.value.__cause__ is not None
                raise KeyboardInterrupt  # the other lets go without committing
        except KeyboardInterrupt:
            pass
        assert took_s < LIMIT_S
        assert store.exchange(election, Exchange(swap=take("b", 2, 2, expected=1))).swapped


@pytest.mark.parametrize("driver", SERVERS)
def test_a_member_that_freezes_within_a_transaction_does_not_keep_the_record(
    driver: str, database_url: DatabaseUrl
) -> None:
    election, url = new_election(), database_url(driver)
    with opened(url, 1) as frozen, opened(url) as heir:
        frozen.exchange(election, Exchange(swap=take("a", 1, 1, expected=None)))
        conn = frozen._connected()
        frozen._flavour.begin(conn, writes=True)
        conn.execute(sa.text("UPDATE heirflow_election SET because = 'held' WHERE name = :e"), {"e": election})
        start = time.monotonic()
        reading = eventually(heir, election, Exchange(swap=take("b", 2, 2, expected=1)))
        assert reading.swapped
        assert time.monotonic() - start < 4
        with pytest.raises(sa.exc.DBAPIError):
            conn.execute(sa.text("SELECT 1"))  # what it had begun is gone


@pytest.mark.parametrize("driver", SERVERS)
def test_severing_ends_a_call_that_waits_for_a_lock(driver: str, database_url: DatabaseUrl) -> None:
    election, url = new_election(), database_url(driver)
    with opened(url, 30) as store, opened(url, 30) as other:
        store.exchange(election, Exchange(swap=take("a", 1, 1, expected=None)))
        conn = other._connected()
        other._flavour.begin(conn, writes=True)
        conn.execute(sa.text("UPDATE heirflow_election SET because = 'held' WHERE name = :e"), {"e": election})
        severed_at: list[float] = []
        timer = threading.Timer(0.3, lambda: (severed_at.append(time.monotonic()), store.sever()))
        timer.start()
        with pytest.raises(StoreUnavailable):
            store.exchange(election, Exchange(swap=take("b", 2, 2, expected=1)))
        assert time.monotonic() - severed_at[0] < 0.2
        timer.join()
        conn.rollback()
        assert eventually(store, election, Exchange(who("a"), join=True))


@pytest.mark.parametrize("driver", SERVERS)
def test_severing_ends_a_call_to_a_frozen_server(driver: str, fragile: Callable[[str], Server]) -> None:
    server, election = fragile(driver), new_election()
    with opened(server.url(driver), 20) as store:
        join(store, election, "a")
        server.freeze()
        try:
            severed_at: list[float] = []
            timer = threading.Timer(0.3, lambda: (severed_at.append(time.monotonic()), store.sever()))
            timer.start()
            with pytest.raises(StoreUnavailable):
                store.exchange(election, Exchange(who("a")))
            assert time.monotonic() - severed_at[0] < 0.2
            timer.join()
            start = time.monotonic()
            store.sever()
            store.close()
            assert time.monotonic() - start < 0.2, "closing waited for the server"
        finally:
            server.thaw()
        assert ids(eventually(store, election, Exchange(who("a")))) == ["a"]


@pytest.mark.parametrize("driver", SERVERS)
def test_connecting_to_a_frozen_server_ends_by_itself(driver: str, fragile: Callable[[str], Server]) -> None:
    server = fragile(driver)
    with opened(server.url(driver)):
        pass
    server.freeze()
    try:
        start = time.monotonic()
        with pytest.raises(StoreUnavailable), opened(server.url(driver), 0.5):
            pass
        assert time.monotonic() - start < 3  # libpq's shortest time-out for connecting is 2 s
    finally:
        server.thaw()


@pytest.mark.parametrize("driver", SERVERS)
def test_a_restart_while_idle_is_not_noticed(driver: str, fragile: Callable[[str], Server]) -> None:
    server, election = fragile(driver), new_election()
    with opened(server.url(driver)) as store:
        join(store, election, "a")
        server.restart()
        assert ids(store.exchange(election, Exchange(who("a")))) == ["a"]


@pytest.mark.parametrize("driver", SERVERS)
def test_a_server_that_is_gone_is_told_in_one_line_without_the_password(
    driver: str, fragile: Callable[[str], Server]
) -> None:
    server, election = fragile(driver), new_election()
    with opened(server.url(driver)) as store:
        join(store, election, "a")
        server.crash()
        try:
            for _ in range(2):
                with pytest.raises(StoreUnavailable) as caught:
                    store.exchange(election, Exchange(who("a")))
                sentence = str(caught.value)
                assert f"127.0.0.1:{server.port}/heirflow" in sentence
                assert server.password not in sentence
                assert "\n" not in sentence
                assert store.news_fd() is None
        finally:
            server.start()
        assert ids(eventually(store, election, Exchange(who("a")))) == ["a"], "a crash of the server forgot a member"


@pytest.mark.parametrize("driver", SERVERS)
def test_a_wrong_password_is_not_shown(driver: str, database_url: DatabaseUrl) -> None:
    scheme, _, place = database_url(driver).partition("://")
    url = f"{scheme}://heirflow:s3cr%2Fet@{place.partition('@')[2]}"
    with pytest.raises(StoreUnavailable) as caught:
        open_store(url, call_limit_s=LIMIT_S).open()
    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize("driver", SERVERS)
def test_a_server_that_turns_read_only_is_unavailable(driver: str, fragile: Callable[[str], Server]) -> None:
    server, election = fragile(driver), new_election()
    with opened(server.url(driver)) as store:
        join(store, election, "a")
        server.read_only(True)
        try:
            if driver in POSTGRES:  # a session hears of it at its own pace
                limit = time.monotonic() + 10
                while not any(f.topic == "server" and f.level == "problem" for f in store.examine()):
                    assert time.monotonic() < limit
            with pytest.raises(StoreUnavailable, match=r"read.only"):
                store.exchange(election, Exchange(who("a")))
            assert [f.level for f in store.examine() if f.topic == "server"][-1] == "problem"
            assert ids(store.exchange(election, Exchange())) == ["a"], "looking is allowed"
        finally:
            server.read_only(False)
        eventually(store, election, Exchange(who("a")))


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_lost_connection_is_news(driver: str, postgres: Server, database_url: DatabaseUrl) -> None:
    """Whoever waits must look: the descriptor is readable, and there will be no news on it any more."""
    with opened(postgres.url(driver)) as store:
        join(store, "e", "a")
        pid = store._link.driver.info.backend_pid
        postgres.sql(f"SELECT pg_terminate_backend({pid})")
        assert hears(store, "e")
        assert store.news_fd() is None
        assert store.exchange("e", Exchange())
        assert store.news_fd() is not None


@pytest.mark.parametrize("driver", ALL)
def test_an_interrupted_exchange_leaves_nothing_open(
    driver: str, database_url: DatabaseUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    election = new_election()
    with opened(database_url(driver)) as store, opened(database_url(driver)) as other:
        join(store, election, "a")

        def interrupt(*args: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(store, "_write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.exchange(election, Exchange(who("a"), swap=take("a", 1, 1, expected=None)))
        monkeypatch.undo()
        reading = other.exchange(election, Exchange(swap=take("b", 1, 1, expected=None)))
        assert reading.swapped, "half an exchange was kept"
        assert store.exchange(election, Exchange()).record == reading.record


# SQLite


def test_a_sqlite_file_is_its_owners_alone_and_in_wal_mode(tmp_path: Path) -> None:
    path = tmp_path / "new" / "line.db"
    with opened(f"sqlite:///{path}") as store:
        join(store, "e", "a")
        assert path.parent.stat().st_mode & 0o777 == 0o700
        for name in ("line.db", "line.db-wal", "line.db-shm"):
            assert (path.parent / name).stat().st_mode & 0o777 == 0o600, name
    with sqlite3.connect(path) as look:
        assert look.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    look.close()


def test_a_sqlite_file_that_was_taken_away_is_never_made_again(tmp_path: Path) -> None:
    """Whoever found an empty file would take charge while the old leader still trusts the old one."""
    path = tmp_path / "line.db"
    with opened(f"sqlite:///{path}") as store:
        join(store, "e", "a")
        moved = path.rename(tmp_path / "elsewhere.db")
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="does not exist any more"):
                store.exchange("e", Exchange(who("a")))
        assert not path.exists()
        moved.rename(path)
        assert ids(store.exchange("e", Exchange(who("a")))) == ["a"]


def test_a_network_file_system_is_a_problem(tmp_path: Path) -> None:
    from heirflow.stores.sql.examine import file_system

    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:20 / / rw - ext4 /dev/sda rw\n"
        f"23 22 0:21 / {tmp_path} rw,noatime shared:1 - nfs4 server:/x rw\n"
        f"24 22 0:22 / {tmp_path}-other rw - tmpfs tmpfs rw\n"
    )
    assert file_system(tmp_path / "line.db", mounts) == "nfs4"
    assert file_system(Path("/line.db"), mounts) == "ext4"


def test_whatever_a_driver_raises_as_it_connects_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_words: object, **_named: object) -> None:
        raise RuntimeError("'cryptography' package is required for caching_sha2_password auth methods")

    monkeypatch.setattr("pymysql.connect", lacking)
    store = open_store("mysql+pymysql://a:secret@127.0.0.1/b", call_limit_s=1.0)
    with pytest.raises(StoreUnavailable, match="'cryptography' package is required"):
        store.open()


def test_a_commit_that_waits_for_a_lost_standby_ends_for_those_who_wait_for_it() -> None:
    election = new_election()
    with postgres_server() as server, opened(server.url("psycopg"), call_limit_s=5.0) as store:
        store.exchange(election, Exchange(who("a"), join=True))
        server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        server.sql("SELECT pg_reload_conf()")
        time.sleep(0.5)
        store.limit_answers(1.0)
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="did not answer within 1 s"):
            store.exchange(election, Exchange(who("a")))
        assert time.monotonic() - begun < 3.0
        assert ids(store.exchange(election, Exchange())) == ["a"], "reading waits for no standby"


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_commit_whose_wait_for_the_standby_was_cut_short_is_not_confirmed(driver: str) -> None:
    """Which the server answers with success and a warning."""
    election, swap = new_election(), take("a", 1, 1, expected=None)
    with postgres_server() as server, opened(server.url(driver), call_limit_s=5.0) as store:

        def standbys(names: str) -> None:
            server.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
            server.sql("SELECT pg_reload_conf()")
            time.sleep(0.5)

        def cancel() -> None:
            waiting = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            while not server.sql(waiting):
                time.sleep(0.05)

        store.exchange(election, Exchange(who("a"), join=True))
        standbys("nobody")
        operator = threading.Thread(target=cancel)
        operator.start()
        with pytest.raises(StoreUnavailable, match="its synchronous standby did not confirm"):
            store.exchange(election, Exchange(who("a"), swap=swap))
        operator.join()
        reading = store.exchange(election, Exchange())
        assert reading.record is not None and reading.record.leader == "a", "as after an answer that was lost"
        standbys("")
        assert store.exchange(election, Exchange(who("a"), swap=take("a", 2, 2, expected=1))).swapped
