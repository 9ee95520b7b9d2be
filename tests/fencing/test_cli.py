"""`heirflow fence`, from end to end: what a superuser does once, and what everybody else is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest
import sqlalchemy as sa

from heirflow.election.record import Told
from heirflow.stores import open_store
from heirflow.terminal.tables import CELL_LIMIT
from heirflow.testing.store_tools import charge, new_election
from lab.servers.servers import Server, debian_postgres, postgres_server
from tests.contract.drivers import POSTGRES
from tests.schemas import check_output

Said = subprocess.CompletedProcess[str]


def heirflow(url: str, *words: str) -> Said:
    env = {**os.environ, "HEIRFLOW_DB_URL": url}
    said = subprocess.run(
        [sys.executable, "-m", "heirflow", *words], capture_output=True, text=True, env=env, timeout=60
    )
    check_output(words, said.stdout)
    return said


def superuser(url: str, server: Server) -> str:
    return sa.engine.make_url(url).set(username="postgres", password=server.password).render_as_string(False)


def state(url: str) -> tuple[int, str]:
    answer = heirflow(url, "fence", "status", "--json")
    return answer.returncode, json.loads(answer.stdout)["state"]


def login(url: str, name: str) -> str:
    """Empty, or why this session was refused."""
    plain = url.replace("postgresql+psycopg2", "postgresql").replace("postgresql+psycopg", "postgresql")
    try:
        psycopg.connect(plain, application_name=name).close()
    except psycopg.OperationalError as error:
        return str(error)
    return ""


def lead(url: str, election: str, *members: str, after: int = 0) -> None:
    """Let these members lead, one after the other; `after`: so many have led."""
    with closing(open_store(url, call_limit_s=5)) as store:
        store.open()
        for term, member in enumerate(members, after + 1):
            assert store.exchange(election, charge(member, term)).swapped


def test_installed_once_it_refuses_who_led_before_until_it_is_removed(
    new_database: Callable[[str], str], postgres: Server
) -> None:
    url = new_database(POSTGRES[0])
    assert heirflow(url, "init").returncode == 0
    lead(url, new_election(), "a-1", "b-2")
    assert state(url) == (0, "sessions ended")
    assert login(url, "heirflow/a-1") == ""

    refused = heirflow(url, "fence", "install")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "only a superuser may make a login trigger; give --db-url-file" in refused.stderr

    for _ in range(2):  # safe to run again
        made = heirflow(superuser(url, postgres), "fence", "install")
        assert made.returncode == 0, made.stderr
        assert made.stdout.startswith("members that led before are refused at login by postgresql")
        assert postgres.password not in made.stdout
    assert state(url) == (0, "fenced")
    assert "a-1 led term 1 of election" in login(url, "heirflow/a-1")
    assert login(url, "heirflow/b-2") == login(url, "heirflow-standby/a-1") == login(url, "psql") == ""
    assert json.loads(heirflow(url, "status", "--json").stdout)["fence"]["state"] == "fenced"

    assert "only a superuser may remove a login trigger; give --db-url-file" in heirflow(url, "fence", "remove").stderr
    assert heirflow(superuser(url, postgres), "fence", "remove").stdout.startswith("the login trigger is gone from")
    again = json.loads(heirflow(superuser(url, postgres), "fence", "remove", "--json").stdout)
    assert again["removed"] is False
    assert again["sentence"].startswith("there was no login trigger in postgresql")
    assert postgres.password not in again["database"]
    assert login(url, "heirflow/a-1") == ""
    assert state(url) == (0, "sessions ended")


def test_what_is_said_is_what_the_asking_role_sees(new_database: Callable[[str], str], postgres: Server) -> None:
    """No leader has the rights of a role that may only read."""
    url = new_database(POSTGRES[0])
    assert heirflow(url, "init").returncode == 0
    postgres.sql("CREATE ROLE curious LOGIN PASSWORD 'curious' IN ROLE pg_read_all_data")
    try:
        for role, word in (("curious", "curious"), ("heirflow", postgres.password)):
            asked = sa.engine.make_url(url).set(username=role, password=word).render_as_string(False)
            sentence = json.loads(heirflow(asked, "fence", "status", "--json").stdout)["sentence"]
            assert sentence.startswith(f"sessions ended, seen as role {role}: ")
            assert len(sentence) < CELL_LIMIT, "doctor's table would cut it off"
    finally:
        postgres.sql("DROP ROLE curious")


@pytest.fixture(scope="module")
def older() -> Iterator[Server]:
    programs = debian_postgres()
    if programs is None or int(programs.parent.name) >= 17:
        pytest.skip("no PostgreSQL below 17 is installed here (Debian 12: postgresql-15)")
    with postgres_server(programs=programs) as server:
        yield server


def test_below_17_sessions_are_ended_and_the_command_line_says_what_is_missing(older: Server) -> None:
    url = older.url("psycopg")
    assert heirflow(url, "init").returncode == 0
    refused = heirflow(superuser(url, older), "fence", "install")
    assert refused.returncode == 1
    assert refused.stderr.strip().endswith("there a leader ends sessions and cannot refuse logins")
    assert "login triggers need PostgreSQL 17 or later, this is 1" in refused.stderr
    assert "login triggers need PostgreSQL 17 or later" in heirflow(url, "doctor").stdout
    assert state(url) == (0, "sessions ended")
    plain = url.replace("postgresql+psycopg", "postgresql")
    lead(url, new_election(), "a-1")
    with psycopg.connect(plain, application_name="heirflow/a-1", autocommit=True) as session:
        store, election = open_store(url, call_limit_s=5), new_election()
        store.open()
        for term, member in enumerate(("a-1", "b-2"), 1):
            if member == "b-2":
                session.execute("SELECT 1")
            reading = store.exchange(election, charge(member, term))
        store.close()
        assert reading.told == (Told("ended 1 session of a-1, which led before"),)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


@pytest.mark.parametrize("driver", ["sqlite", "pymysql"])
def test_other_databases_have_no_such_trigger(driver: str, new_database: Callable[[str], str]) -> None:
    url = new_database(driver)
    assert heirflow(url, "init").returncode == 0
    for word in ("install", "remove"):
        refused = heirflow(url, "fence", word)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "only PostgreSQL 17 and later has login triggers; this is " in refused.stderr
        assert "Traceback" not in refused.stderr
    assert state(url) == (1, "lease only")
