"""The login trigger where it could do harm: in copies and restored dumps, beside a standby, with two lines in one database."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from heirflow.stores import open_store
from heirflow.testing.store_tools import new_election
from lab.servers.replicas import postgres_replica
from lab.servers.servers import Server, postgres_server
from tests.contract.drivers import POSTGRES
from tests.contract.test_fencing import plant_spy, spied
from tests.fencing.test_cli import heirflow, lead, login, superuser

AGAIN = "run `heirflow fence install` again"


def told(url: str) -> dict[str, Any]:
    with closing(open_store(url, call_limit_s=5)) as store:
        finding = store.fence()
        return {**finding.facts, "sentence": finding.sentence}


def name_of(url: str) -> str:
    return str(sa.engine.make_url(url).database)


@pytest.fixture
def by_superuser(postgres: Server) -> Iterator[Callable[[str, str], None]]:
    """A word that installs or removes the trigger; what is installed is removed in the end."""
    there: set[str] = set()

    def fence(url: str, act: str) -> None:
        there.add(url)
        done = heirflow(superuser(url, postgres), "fence", act)
        assert done.returncode == 0, done.stderr

    yield fence
    for url in tuple(there):
        fence(url, "remove")


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    """A server of its own, which may be reconfigured."""
    with postgres_server() as server:
        yield server


def test_in_a_copy_of_its_database_it_refuses_nobody(
    new_database: Callable[[str], str], postgres: Server, by_superuser: Callable[[str, str], None]
) -> None:
    url, election = new_database(POSTGRES[0]), new_election()
    lead(url, election, "a-1", "b-2")
    by_superuser(url, "install")
    name = f"{name_of(url)}_copy"
    postgres.sql(f"CREATE DATABASE {name} TEMPLATE {name_of(url)} OWNER heirflow", database="postgres")
    copy = sa.engine.make_url(url).set(database=name).render_as_string(hide_password=False)
    lead(url, election, "a-1", after=2)
    assert login(url, "heirflow/a-1") == login(copy, "heirflow/a-1") == ""
    assert told(url)["state"] == "fenced"
    said = told(copy)
    assert (said["state"], said["trigger"]) == ("sessions ended", "broken")
    assert said["sentence"].endswith(f"is that of another database, and does nothing here; {AGAIN}")
    by_superuser(copy, "install")  # and there it knows what it is told there
    assert "a-1 led term 1" in login(copy, "heirflow/a-1")
    assert told(copy)["state"] == told(url)["state"] == "fenced"
    assert "b-2 led term 2" in login(url, "heirflow/b-2")


def test_a_restored_dump_does_not_run_as_the_superuser_who_restored_it(
    new_database: Callable[[str], str], postgres: Server, other: Server, by_superuser: Callable[[str, str], None]
) -> None:
    """Where the role is missing, its functions stay the superuser's, and the owner of the tables need only wait."""
    url = new_database(POSTGRES[0])
    lead(url, new_election(), "a-1", "b-2")
    by_superuser(url, "install")
    other.sql("CREATE DATABASE restored OWNER heirflow", database="postgres")

    def client(program: str, server: Server, *words: str, stdin: str = "") -> str:
        command = [
            str(Path(server.program).with_name(program)),
            *["-h", "127.0.0.1", "-U", "postgres", "-p"],
            str(server.port),
        ]
        env = {**os.environ, "PGPASSWORD": server.password}
        done = subprocess.run([*command, *words], capture_output=True, text=True, env=env, input=stdin, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    dump = client("pg_dump", postgres, "-d", name_of(url))
    assert 'role "heirflow_fence" does not exist' in client("psql", other, "-X", "-d", "restored", stdin=dump)
    restored = other.url(POSTGRES[0], database="restored")
    owners = other.sql("SELECT DISTINCT proowner::regrole FROM pg_proc WHERE prosecdef", database="restored")
    assert owners == "postgres"
    engine = sa.create_engine(restored, poolclass=sa.pool.NullPool, future=True)
    with engine.connect() as owner:
        plant_spy(owner, "restored")
    answers = [login(restored, f"heirflow/{name}") for name in ("a-1", "never")]
    assert spied(other, "restored") == set(), "it ran as the superuser"
    assert answers == ["", ""]
    other.sql("DROP VIEW heirflow_election; ALTER TABLE real_election RENAME TO heirflow_election", database="restored")
    said = told(restored)
    assert (said["state"], said["trigger"]) == ("sessions ended", "broken") and said["sentence"].endswith(AGAIN)
    assert heirflow(superuser(restored, other), "fence", "install").returncode == 0
    assert told(restored)["state"] == "fenced" and "a-1 led term 1" in login(restored, "heirflow/a-1")


def test_two_lines_in_two_schemas_do_not_take_it_from_one_another(
    new_database: Callable[[str], str], postgres: Server, by_superuser: Callable[[str, str], None]
) -> None:
    url = new_database(POSTGRES[0])
    one, two = (f"{url}?options=-csearch_path%3D{schema}" for schema in ("one", "two"))
    for schema, line in (("one", one), ("two", two)):
        postgres.sql(f"CREATE SCHEMA {schema} AUTHORIZATION heirflow", database=name_of(url))
        lead(line, new_election(), f"{schema}-1", f"{schema}-2")
    by_superuser(one, "install")
    refused = heirflow(superuser(two, postgres), "fence", "install")
    assert refused.returncode == 1
    assert 'looks at "one".heirflow_election, and there is one only; `heirflow fence remove` first' in refused.stderr
    assert told(one)["state"] == "fenced"
    assert told(two)["sentence"].endswith(
        'the login trigger looks at "one".heirflow_election, and a database has one only'
    )
    assert "one-1 led term 1" in login(url, "heirflow/one-1")
    postgres.sql("DROP SCHEMA one CASCADE", database=name_of(url))
    by_superuser(two, "install")
    assert told(two)["state"] == "fenced" and "two-1 led term 1" in login(url, "heirflow/two-1")


def test_a_lost_synchronous_standby_locks_nobody_out(other: Server) -> None:
    """A commit that waits for it would hold what every login needs, and no limit of ours ends that."""
    other.sql("CREATE DATABASE alone OWNER heirflow", database="postgres")
    url = other.url(POSTGRES[0], database="alone")
    lead(url, new_election(), "a-1")

    def wait_for(standby: str) -> None:
        other.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{standby}'", database="postgres")
        other.sql("SELECT pg_reload_conf()", database="postgres")

    wait_for("lost")
    try:
        for act in ("install", "remove"):
            done = heirflow(superuser(url, other), "fence", act)
            assert done.returncode == 0, done.stderr
            assert login(f"{url}?connect_timeout=5", "psql") == ""
    finally:
        wait_for("")


def test_when_it_is_removed_a_hot_standby_goes_on_letting_everybody_in(other: Server) -> None:
    other.sql("CREATE DATABASE followed OWNER heirflow", database="postgres")
    url = other.url(POSTGRES[0], database="followed")
    lead(url, new_election(), "a-1")
    with postgres_replica(other, "127.0.0.1", settings={}) as standby:
        there = standby.url(POSTGRES[0], database="followed")

        def follow() -> None:
            # Asked in another database: a login to this one would change what is looked at.
            end = other.sql("SELECT pg_current_wal_insert_lsn()", database="postgres")
            until = time.monotonic() + 30
            while standby.sql(f"SELECT pg_last_wal_replay_lsn() >= '{end}'", database="postgres") != "t":
                assert time.monotonic() < until
                time.sleep(0.05)

        assert heirflow(superuser(url, other), "fence", "install").returncode == 0
        follow()
        assert login(there, "psql") == ""
        removed = heirflow(superuser(url, other), "fence", "remove")
        assert removed.returncode == 0 and removed.stdout.strip().endswith("/followed")
        follow()
        assert login(there, "psql") == ""

        # By hand, the way back in is `remove`; before that a superuser's is to leave such triggers out.
        assert heirflow(superuser(url, other), "fence", "install").returncode == 0
        other.sql("DROP EVENT TRIGGER heirflow_fence", database="followed")
        follow()
        boss = sa.engine.make_url(superuser(there, standby)).set(drivername="postgresql").render_as_string(False)
        psycopg.connect(boss, options="-c event_triggers=off").close()
        assert heirflow(superuser(url, other), "fence", "remove").returncode == 0
        follow()
        assert login(there, "psql") == ""
