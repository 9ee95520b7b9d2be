"""What a database refuses is told by its right name, with what to do, and with the exit code that fits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from heirflow.errors import HeirflowError
from heirflow.stores import StoreMisfit, StoreRefuses, StoreUnavailable, open_store
from heirflow.stores.sql.connecting import NotConnected
from heirflow.stores.sql.troubles import TROUBLES, named
from lab.servers.pooler import pooler
from lab.servers.servers import Server
from tests.conftest import DatabaseUrl
from tests.contract.drivers import SERVERS

CLOSED_PORT = 1


def trouble(url: str) -> HeirflowError:
    """What comes of opening it."""
    store = open_store(url, call_limit_s=10)
    try:
        with pytest.raises(HeirflowError) as told:
            store.open()
    finally:
        store.close()
    assert "secret" not in str(told.value)
    return told.value


@pytest.mark.parametrize("driver", SERVERS)
@pytest.mark.parametrize(
    ("changes", "kind", "said", "advice"),
    [
        ({"password": "secret"}, StoreRefuses, "refuses this user or password", "`heirflow config` says where"),
        ({"username": "nobody_here"}, StoreRefuses, "refuses this user or password", "`heirflow config` says where"),
        ({"host": "no-such-host.invalid"}, StoreUnavailable, "cannot be found", "is its host right"),
        ({"port": CLOSED_PORT}, StoreUnavailable, "cannot be reached", "is the server up"),
        ({"host": "localhost", "port": CLOSED_PORT}, StoreUnavailable, "cannot be reached", "is the server up"),
    ],
)
def test_what_keeps_one_out_has_its_name(
    database_url: DatabaseUrl,
    driver: str,
    changes: dict[str, object],
    kind: type[HeirflowError],
    said: str,
    advice: str,
) -> None:
    url = sa.engine.make_url(database_url(driver)).set(**changes)
    found = trouble(url.render_as_string(hide_password=False))
    assert type(found) is kind and said in str(found) and advice in str(found), found


@pytest.mark.parametrize("driver", SERVERS)
def test_a_database_that_is_not_there(request: pytest.FixtureRequest, driver: str) -> None:
    server: Server = request.getfixturevalue("mariadb" if "mysql" in driver else "postgres")
    found = trouble(server.url(driver, database="no_such_db"))
    # MariaDB does not tell those who have no right to it whether it is there.
    said = "does not let this user do that" if "mysql" in driver else "has no such database"
    assert type(found) is StoreRefuses and said in str(found), found


@pytest.mark.parametrize("driver", SERVERS)
def test_a_right_that_is_missing(request: pytest.FixtureRequest, new_database: DatabaseUrl, driver: str) -> None:
    owner = sa.engine.make_url(new_database(driver))
    own = open_store(owner.render_as_string(hide_password=False), call_limit_s=10)
    own.open()
    own.close()
    server: Server = request.getfixturevalue("mariadb" if "mysql" in driver else "postgres")
    name = f"poor_{owner.database}"
    if "mysql" in driver:
        server.sql(f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY 'secret'")
        server.sql(f"GRANT SELECT ON {owner.database}.heirflow_election TO {name}@'127.0.0.1'")
    else:
        server.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    found = trouble(owner.set(username=name, password="secret").render_as_string(hide_password=False))
    assert type(found) is StoreRefuses and "GRANTs" in str(found), found


def test_tables_of_a_newer_version(new_database: DatabaseUrl, postgres: Server) -> None:
    url = sa.engine.make_url(new_database("psycopg"))
    own = open_store(url.render_as_string(hide_password=False), call_limit_s=10)
    own.open()
    own.close()
    postgres.sql("UPDATE heirflow_meta SET value = '99'", database=str(url.database))
    found = trouble(url.render_as_string(hide_password=False))
    assert type(found) is StoreMisfit and "this HeirFlow is too old" in str(found), found


def test_a_pooler_that_pools_by_statement(postgres: Server) -> None:
    with pooler(postgres.url("psycopg"), pool_mode="statement") as url:
        found = trouble(url)
    assert type(found) is StoreRefuses and "through a pooler" in str(found) and "connect directly" in str(found), found


def test_several_addresses_have_one_name_where_it_is_clear() -> None:
    refused, wrong = OSError("Connection refused"), OSError("password authentication failed for user")
    kinds = {each.said: each for each in TROUBLES}
    nobody, password = kinds["cannot be reached"], kinds["refuses this user or password"]
    assert named(NotConnected("", [refused, refused]), "") is nobody
    assert named(NotConnected("", [refused, wrong]), "") is password, "one of them answered"
    assert named(NotConnected("", [refused, OSError("what?")]), "") is None
    assert named(NotConnected("", [refused], waits=True), "") is None
    assert named(NotConnected(""), "") is None


def test_the_command_line_ends_with_the_code_that_fits(postgres: Server, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HEIRFLOW_")}
    env |= {"HEIRFLOW_DB_URL": postgres.url("psycopg", password="secret"), "HEIRFLOW_RUN_DIR": str(tmp_path / "run")}

    def code(*args: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "heirflow", *args], env=env, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stderr.splitlines()[-1]

    assert code("status")[0] == 77
    # A member goes on trying, as a password may be in the middle of a change; what it says last is why it ended.
    given_up, last = code("run", "--name", "beat", "--start-timeout", "1s", "--", "true")
    assert given_up == 69 and "warning: gives up: PostgreSQL at" in last and "refuses this user or password" in last
