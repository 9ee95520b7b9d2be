"""A password that changes while a store is in use costs nothing: its URL is read again when a connection is made anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from heirflow.config.address import Address
from heirflow.config.resolve import resolve
from heirflow.election.record import Exchange
from heirflow.errors import ConfigError
from heirflow.steering.places import store_of
from heirflow.stores import Store, StoreUnavailable, open_store
from heirflow.testing.store_tools import ids, join, new_election, who
from lab.servers.servers import Server
from tests.contract.drivers import SERVERS

LIMIT_S = 1.5


def role(driver: str, server: Server, *, end_sessions: bool = True) -> tuple[str, Callable[[str], str]]:
    """The URL of a role of its own, and how its password changes: its sessions end, and the new URL is returned."""
    name = f"changing_{driver}"
    mysql = "mysql" in driver

    def change(password: str) -> str:
        if mysql:
            server.sql(f"ALTER USER {name}@'127.0.0.1' IDENTIFIED BY '{password}'")
            ids = server.sql(f"SELECT id FROM information_schema.processlist WHERE user = '{name}'").split()
            for each in ids if end_sessions else ():
                server.sql(f"KILL {each}")
        else:
            server.sql(f"ALTER ROLE {name} PASSWORD '{password}'")
            if end_sessions:
                server.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'")
        return server.url(driver, user=name, password=password)

    if mysql:
        server.sql(
            f"CREATE OR REPLACE USER {name}@'127.0.0.1' IDENTIFIED BY 'old'; GRANT ALL ON *.* TO {name}@'127.0.0.1'"
        )
    else:
        server.sql(f"DROP ROLE IF EXISTS {name}")
        server.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'old' IN ROLE heirflow")
    return server.url(driver, user=name, password="old"), change


def ended(store: Store) -> None:
    """Wait until it is seen that the server has ended the session."""
    limit = time.monotonic() + 5
    while not store._link.hung_up():  # type: ignore[attr-defined]
        assert time.monotonic() < limit
        time.sleep(0.005)


@pytest.fixture
def server(request: pytest.FixtureRequest, driver: str) -> Server:
    found: Server = request.getfixturevalue("mariadb" if "mysql" in driver else "postgres")
    with closing(open_store(found.url(driver), call_limit_s=5)) as store:
        store.open()
    return found


@pytest.mark.parametrize("driver", SERVERS)
def test_the_file_is_read_again_for_each_connection(driver: str, server: Server, tmp_path: Path) -> None:
    url, change = role(driver, server)
    file, election = tmp_path / "url", new_election()
    file.write_text(url)
    config = resolve({"db-url-file": str(file)}, {})
    with closing(store_of(config, call_limit_s=LIMIT_S, application_name="test")) as store:
        join(store, election, "a")
        file.write_text(change("new1"))
        ended(store)
        assert ids(store.exchange(election, Exchange(who("a")))) == ["a"]
        will_store = store_of(config, call_limit_s=LIMIT_S, application_name="test")
        file.write_text(change("new2"))
        will = will_store.will(election, "a", 1, "killed")
        assert will is not None and "new2" in str(will.connect_kwargs)
        file.unlink()
        assert "new1" not in str(store_of(config, call_limit_s=LIMIT_S, application_name="test").where)
        ended(store)
        file.write_text(url)  # the old one again: refused, and told without it
        with pytest.raises(StoreUnavailable) as caught:
            store.exchange(election, Exchange(who("a")))
        assert "old" not in str(caught.value).partition("as it should")[2].replace("password", "")


@pytest.mark.parametrize("driver", SERVERS)
def test_a_program_is_asked_again_when_a_connection_was_refused(driver: str, server: Server) -> None:
    url, change = role(driver, server)
    election, asked, answer = new_election(), list[str](), [url]

    def ask() -> str:
        asked.append(answer[0])
        if not answer[0]:
            raise ConfigError("Airflow cannot be asked now")
        return answer[0]

    with closing(open_store(Address(url, ask=ask), call_limit_s=LIMIT_S)) as store:
        join(store, election, "a")
        assert not asked, "asked though nothing was refused"
        answer[0] = change("new")
        ended(store)
        assert ids(store.exchange(election, Exchange(who("a")))) == ["a"]
        assert len(asked) == 1
        change("later")
        ended(store)
        for _ in range(3):  # a program that knows nothing new is not asked all the time
            with pytest.raises(StoreUnavailable):
                store.exchange(election, Exchange(who("a")))
        assert len(asked) == 2


@pytest.mark.parametrize("driver", SERVERS)
def test_a_url_of_another_place_is_not_taken(driver: str, server: Server, tmp_path: Path) -> None:
    """Who leads there would not know of who leads here."""
    file, election = tmp_path / "url", new_election()
    file.write_text(server.url(driver))
    config = resolve({"db-url-file": str(file)}, {})
    with closing(store_of(config, call_limit_s=LIMIT_S, application_name="test")) as store:
        join(store, election, "a")
        file.write_text(server.url(driver, database="elsewhere"))
        store._link.drop()
        assert ids(store.exchange(election, Exchange(who("a")))) == ["a"]
        assert store.where.endswith("/heirflow")
