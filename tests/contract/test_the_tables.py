"""How the tables come into being, and what an exchange costs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from heirflow.election.record import Exchange
from heirflow.stores import StoreMisfit, open_store
from heirflow.testing.store_tools import ids, join, members, new_election, take, who
from lab.servers.servers import Server
from tests.contract.drivers import ALL, MYSQL, POSTGRES, SERVERS

NewDatabase = Callable[[str], str]
TEN = 10
START = """
import sys
from heirflow.election.record import CheckIn, Exchange
from heirflow.stores import open_store
url, me = sys.argv[1:]
store = open_store(url, call_limit_s=20)  # ten at once on a small machine, and nobody tries again here
sys.stdin.read()
store.open()
store.exchange("e", Exchange(CheckIn(me, "h", 1, True), join=True))
store.close()
"""


@pytest.mark.parametrize("driver", ALL)
def test_ten_members_meet_an_empty_database_at_once(driver: str, new_database: NewDatabase) -> None:
    url = new_database(driver)
    starters = [
        subprocess.Popen([sys.executable, "-c", START, url, f"m{n}"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for n in range(TEN)
    ]
    for starter in starters:
        starter.stdin.close()
    failures = [starter.stderr.read().decode() for starter in starters if starter.wait() != 0]
    for starter in starters:
        starter.stderr.close()
    assert not failures, failures[0]
    store = open_store(url, call_limit_s=1.5)
    assert sorted(ids(store.exchange("e", Exchange()))) == sorted(f"m{n}" for n in range(TEN))
    store.close()


@pytest.mark.parametrize("driver", ALL)
def test_the_tables_are_there_for_all_before_the_next_may_make_them(driver: str, new_database: NewDatabase) -> None:
    # On MySQL the lock was given back before the commit: the next one made them again and met "Duplicate entry".
    url = new_database(driver)
    first, second = open_store(url, call_limit_s=1.5), open_store(url, call_limit_s=1.5)
    unlock, seen = first._flavour.unlock, []

    def look(conn: sa.engine.Connection) -> None:
        second.open(create=False)
        seen.append(True)
        unlock(conn)

    first._flavour.unlock = look
    first.open()
    assert seen
    first.close()
    second.close()


@pytest.mark.parametrize("driver", ALL)
def test_open_makes_tables_only_when_it_may(driver: str, new_database: NewDatabase) -> None:
    url = new_database(driver)
    store = open_store(url, call_limit_s=1.5)
    with pytest.raises(StoreMisfit, match="heirflow init"):
        store.open(create=False)
    with pytest.raises(StoreMisfit, match="heirflow init"):
        store.exchange("e", Exchange())
    store.open()
    store.open(create=False)
    store.close()


@pytest.mark.parametrize("driver", ALL)
def test_tables_of_a_newer_version_are_left_alone(driver: str, new_database: NewDatabase) -> None:
    url = new_database(driver)
    store = open_store(url, call_limit_s=1.5)
    store.open()
    with store._transaction(writes=True) as conn:
        conn.execute(sa.text("UPDATE heirflow_meta SET value = '9'"))
    with pytest.raises(StoreMisfit, match=r"too old: the tables are of version 9, which members from version 9 on"):
        store.open()
    with pytest.raises(StoreMisfit, match="too old"):
        store.open(create=False)


def a_role_that_may_only_change_rows(driver: str, server: Server, *, tables: bool) -> str:
    """The URL of such a role in a database of its own, with or without the tables in it."""
    name = f"rows_{driver}_{'with' if tables else 'without'}"
    if driver in POSTGRES:
        server.sql(f"CREATE DATABASE {name}")
        server.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{server.password}'")
        if tables:
            open_and_close(server.url(driver, user="postgres", database=name))
            server.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}", database=name)
    else:
        server.sql(f"CREATE DATABASE {name}; CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{server.password}'")
        server.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO {name}@'127.0.0.1'")
        if tables:
            server.sql(f"GRANT ALL ON {name}.* TO heirflow@'127.0.0.1'")
            open_and_close(server.url(driver, database=name))
    return server.url(driver, user=name, database=name)


def open_and_close(url: str) -> None:
    store = open_store(url, call_limit_s=1.5)
    store.open()
    store.close()


@pytest.mark.parametrize("driver", SERVERS)
def test_a_role_that_may_only_change_rows_is_enough(driver: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("postgres" if driver in POSTGRES else "mariadb")
    store = open_store(a_role_that_may_only_change_rows(driver, server, tables=True), call_limit_s=1.5)
    store.open()
    join(store, "e", "a")
    assert store.exchange("e", Exchange(who("a"), swap=take("a", 1, 1, expected=None))).swapped
    assert store.drain("e", "a", True)
    assert len(store.events("e", 5)) == 1
    [rights] = [finding for finding in store.examine() if finding.topic in {"tables", "rights"}]
    assert rights.level == "note"
    assert rights.sentence.startswith("this role may do all that a member does, and may not make tables")
    store.close()


@pytest.mark.parametrize("driver", SERVERS)
def test_a_role_that_may_not_make_tables_is_told_what_to_do(driver: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("postgres" if driver in POSTGRES else "mariadb")
    store = open_store(a_role_that_may_only_change_rows(driver, server, tables=False), call_limit_s=1.5)
    with pytest.raises(StoreMisfit, match="may not make them; run `heirflow init`"):
        store.open()
    [found] = [finding for finding in store.examine() if finding.topic in {"tables", "rights"}]
    assert found.level == "problem"
    assert found.sentence.startswith("HeirFlow's tables are not there and this role may not make them")
    store.close()


@pytest.mark.parametrize("driver", MYSQL)
def test_a_right_that_comes_with_a_role_of_mysql_is_left_open(driver: str, mariadb: Server) -> None:
    name = f"granted_{driver}"
    user = f"{name}@'127.0.0.1'"
    mariadb.sql(
        f"CREATE DATABASE {name}; CREATE USER {user} IDENTIFIED BY '{mariadb.password}'; CREATE ROLE {name}_maker;"
        f"GRANT ALL ON {name}.* TO {name}_maker; GRANT {name}_maker TO {user}; SET DEFAULT ROLE {name}_maker FOR {user}"
    )
    store = open_store(mariadb.url(driver, user=name, database=name), call_limit_s=1.5)
    [found] = [finding for finding in store.examine() if finding.topic == "tables"]
    assert found.level == "warning" and "could not be seen" in found.sentence
    store.open()
    [found] = [finding for finding in store.examine() if finding.topic == "rights"]
    assert (found.level, found.sentence) == ("ok", "this role may do all that a member does")
    store.close()


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_role_that_may_not_read_is_a_problem(driver: str, new_database: NewDatabase, postgres: Server) -> None:
    url = new_database(driver)
    open_and_close(url)
    database, role = url.rpartition("/")[2], f"blind_{driver}"
    postgres.sql(f"CREATE ROLE {role} LOGIN PASSWORD '{postgres.password}'")
    steps = (
        ("SELECT 1", "may not read HeirFlow's tables (permission denied for table heirflow_meta)"),
        (f"GRANT SELECT ON heirflow_meta TO {role}", "(permission denied for table heirflow_election)"),
        # What is in a schema that it may not even use is not there for this role.
        ("REVOKE USAGE ON SCHEMA public FROM PUBLIC", "are not there and this role may not make them"),
    )
    for statement, told in steps:
        postgres.sql(statement, database=database)
        store = open_store(postgres.url(driver, user=role, database=database), call_limit_s=1.5)
        [found] = [finding for finding in store.examine() if finding.topic in {"tables", "rights"}]
        store.close()
        assert found.level == "problem"
        assert told in found.sentence


@pytest.mark.parametrize("driver", POSTGRES)
def test_the_tables_may_live_in_a_schema_of_their_own(driver: str, new_database: NewDatabase, postgres: Server) -> None:
    url = new_database(driver)
    database = url.rpartition("/")[2]
    postgres.sql('CREATE SCHEMA "Its own" AUTHORIZATION heirflow', database=database)
    store = open_store(url, call_limit_s=1.5, schema="Its own")
    store.open()
    store.open(create=False)
    join(store, "e", "a")
    store.examine()
    store.close()
    found = postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'Its own'", database=database)
    assert found == "4"


@pytest.mark.parametrize("driver", ALL)
def test_every_instant_is_by_the_databases_clock(
    driver: str, database_url: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host whose own clock is an hour off would look silent to the others, or never silent again."""
    election, wall = new_election(), time.time
    with members(lambda: open_store(database_url(driver), call_limit_s=1.5)) as [right, wrong]:
        for off_s in (-3600, 3600):
            with monkeypatch.context() as patched:
                patched.setattr(time, "time", lambda off_s=off_s: wall() + off_s)
                join(wrong, election, "joined")
                join(wrong, election, "checked in")
                swap = take("a", 1, 1, expected=None) if off_s < 0 else take("a", 2, 2, expected=1)
                assert wrong.exchange(election, Exchange(who("checked in"), swap=swap)).swapped
            seen = right.exchange(election, Exchange())
            silent_s = {row.id: row.silent_s for row in seen.members}
            assert silent_s == pytest.approx({"joined": 0, "checked in": 0}, abs=60)
            told = [seen.written_at, seen.since, right.events(election, 1)[0].at]
            assert told == pytest.approx([seen.db_now] * 3, abs=60)
            assert [row.joined_at for row in seen.members] == pytest.approx([seen.db_now] * 2, abs=60)


# What an exchange costs


@pytest.mark.parametrize("driver", [driver for driver in ALL if driver not in POSTGRES])  # see test_one_statement
def test_an_exchange_has_only_the_statements_it_needs(driver: str, database_url: NewDatabase) -> None:
    store, election = open_store(database_url(driver), call_limit_s=1.5), new_election()
    join(store, election, "a")
    store.exchange(election, Exchange(swap=take("a", 1, 1, expected=None)))
    told: list[str] = []
    sa.event.listen(store._link.engine, "before_cursor_execute", lambda *args: told.append(args[2].split()[0]))
    store.exchange(election, Exchange(who("a")))
    assert told == ["UPDATE", "SELECT"], "an heir"
    told.clear()
    store.exchange(election, Exchange(who("a"), swap=replace(take("a", 1, 2, expected=1, news=False), event=None)))
    assert told == ["UPDATE", "UPDATE", "SELECT"], "a leader that renews"
    told.clear()
    store.exchange(election, Exchange())
    assert told == ["SELECT"], "somebody who looks"
    store.close()


def commits(server: Server, driver: str, database: str) -> int:
    """How many transactions the server has counted, once it counts no more."""
    before = -1
    while True:
        if driver in POSTGRES:
            now = int(
                server.sql(f"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{database}'")
            )
        else:
            row = server.sql("SHOW GLOBAL STATUS WHERE Variable_name IN ('Com_commit', 'Com_rollback')")
            now = sum(int(line.split()[1]) for line in row.splitlines())
        if now == before:
            return now
        before = now
        time.sleep(0.3)


@pytest.mark.parametrize("driver", SERVERS)
def test_every_exchange_is_one_transaction_by_the_servers_own_count(
    driver: str, new_database: NewDatabase, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("postgres" if driver in POSTGRES else "mariadb")
    url = new_database(driver)
    database = url.rpartition("/")[2]
    open_and_close(url)

    def cost(exchanges: int) -> int:
        before = commits(server, driver, database)
        store = open_store(url, call_limit_s=1.5)
        store.open()
        with store._transaction(writes=True) as conn:
            conn.execute(sa.text("DELETE FROM heirflow_election"))
        for number in range(exchanges):
            # Without news: PostgreSQL counts the delivery of a notification as a transaction too.
            swap = take("a", number + 1, number + 1, expected=number or None, news=False)
            store.exchange("e", Exchange(who("a"), join=True, swap=swap, forget=("b",), notes=(swap.event,)))
        store.close()
        return commits(server, driver, database) - before

    assert cost(25) - cost(0) == 25


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_member_is_one_idle_session_with_its_name(driver: str, new_database: NewDatabase, postgres: Server) -> None:
    url = new_database(driver)
    store = open_store(url, call_limit_s=1.5, application_name=f"test of {driver}")
    store.open()
    for number in range(3):
        swap = take("a", number + 1, number + 1, expected=number or None)
        store.exchange("e", Exchange(who("a"), join=not number, swap=swap))
        store.news("e")
        query = f"SELECT state, application_name FROM pg_stat_activity WHERE datname = '{url.rpartition('/')[2]}'"
        assert postgres.sql(query) == f"idle|heirflow-test of {driver}"
    store.close()


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_session_that_forgets_commits_is_mended(driver: str, new_database: NewDatabase, postgres: Server) -> None:
    url = new_database(driver)
    postgres.sql(f"ALTER DATABASE {url.rpartition('/')[2]} SET synchronous_commit = off")
    postgres.sql(f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_isolation = 'serializable'")
    store = open_store(url, call_limit_s=1.5)
    store.open()
    with store._transaction(writes=False) as conn:
        assert conn.execute(sa.text("SHOW synchronous_commit")).scalar() == "on"
        assert conn.execute(sa.text("SHOW transaction_isolation")).scalar() == "read committed"
    store.close()


@pytest.mark.parametrize("driver", MYSQL)
def test_a_mysql_session_reads_what_is_committed(driver: str, database_url: NewDatabase) -> None:
    store = open_store(database_url(driver), call_limit_s=1.5)
    store.open()
    with store._transaction(writes=False) as conn:
        level = conn.execute(sa.text("SELECT @@session.tx_isolation, @@session.innodb_lock_wait_timeout")).one()
    assert tuple(level) == ("READ-COMMITTED", 1)
    store.close()


@pytest.mark.parametrize("driver", POSTGRES)
def test_behind_a_pooler_nothing_is_left_in_a_session(
    driver: str, new_database: NewDatabase, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler is known by its answer: another server process than the driver connected to."""
    monkeypatch.setattr("heirflow.stores.sql.postgres.backend_pid", lambda driver: -1)
    store = open_store(new_database(driver), call_limit_s=1.5)
    store.open()
    join(store, "e", "a")
    assert store.exchange("e", Exchange(who("a"), swap=take("a", 1, 1, expected=None))).swapped
    assert store.news_fd() is None
    assert [finding.level for finding in store.examine() if finding.topic == "session"] == ["warning"]
    with store._transaction(writes=True) as conn:
        assert conn.execute(sa.text("SHOW lock_timeout")).scalar() == "750ms"
    names = "'lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout'"
    conn = store._link.conn
    assert set(conn.execute(sa.text(f"SELECT setting FROM pg_settings WHERE name IN ({names})")).scalars()) == {"0"}
    assert conn.execute(sa.text("SELECT count(*) FROM pg_listening_channels()")).scalar() == 0
    store.close()
