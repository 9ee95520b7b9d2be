"""A server names its own history, a record keeps the name, and a fail-over that forgets is seen: on real servers."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from heirflow.election.record import Event, Exchange, Record, Swap, What
from heirflow.election.rules import decide
from heirflow.election.state import State
from heirflow.election.steps import Answered, GuardUp, Send, Tick
from heirflow.election.timings import Timings
from heirflow.stores import open_store
from heirflow.stores.base import Store
from heirflow.testing.store_tools import charge, join, new_election, take, who
from lab.servers.replicas import postgres_replica
from lab.servers.server import Server
from lab.servers.servers import debian_postgres, postgres_server
from tests.contract.drivers import ALL

NewDatabase = Callable[[str], str]
DriverUrl = Callable[[str], str]
REPLICATION = {"max_wal_senders": "4", "hot_standby": "on", "wal_receiver_status_interval": "1s"}


@contextmanager
def opened(url: str) -> Iterator[Store]:
    store = open_store(url, call_limit_s=10)
    store.open()
    try:
        yield store
    finally:
        store.close()


@pytest.fixture(params=["wheel", "debian"])
def own_postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    programs: Path | None = None
    if request.param == "debian" and (programs := debian_postgres()) is None:
        pytest.skip("Debian's PostgreSQL is not installed here")
    with postgres_server(programs=programs) as server:
        yield server


@pytest.mark.parametrize("driver", ALL)
def test_every_database_names_its_history_and_keeps_the_name_in_the_record(
    driver: str, database_url: DriverUrl
) -> None:
    election = new_election()
    with opened(database_url(driver)) as store, opened(database_url(driver)) as other:
        here = store.exchange(election, Exchange()).history
        assert here
        assert here == other.exchange(election, Exchange()).history
        wanted = take("a", 1, 1, expected=None)
        store.exchange(election, Exchange(who("a"), join=True, swap=wanted))
        named = replace(wanted.record, version=2, history=here)
        read = store.exchange(election, Exchange(who("a"), swap=Swap(1, named, under=here)))
        assert read.swapped
        assert other.exchange(election, Exchange()).record == named


@pytest.mark.parametrize("driver", ALL)
def test_a_swap_is_lost_under_another_history_than_it_was_asked_for(driver: str, database_url: DriverUrl) -> None:
    election = new_election()
    with opened(database_url(driver)) as store:
        store.exchange(election, Exchange(who("a"), join=True, swap=take("a", 1, 1, expected=None)))
        elsewhere = replace(take("b", 2, 2, expected=1), under="another history")
        read = store.exchange(election, Exchange(who("b"), join=True, swap=elsewhere))
        assert read.swapped is False
        assert read.record is not None
        assert read.record.leader == "a"


@pytest.mark.parametrize("driver", ALL)
def test_tables_that_an_older_heirflow_made_get_the_column_and_older_members_go_on(
    driver: str, new_database: NewDatabase
) -> None:
    url, election = new_database(driver), new_election()
    with opened(url) as store:
        store.exchange(election, Exchange(who("a"), join=True, swap=take("a", 1, 1, expected=None)))
    engine = sa.create_engine(url)
    with engine.begin() as conn:
        conn.execute(sa.text("ALTER TABLE heirflow_election DROP COLUMN history"))
        conn.execute(sa.text("ALTER TABLE heirflow_event DROP COLUMN ago_s"))
        conn.execute(sa.text("ALTER TABLE heirflow_event DROP COLUMN times"))
    store = open_store(url, call_limit_s=10)
    store.open(create=False)  # which changes no table
    told = {each.topic: each.level for each in store.examine()}
    assert "problem" not in told.values() and told.get("rights", "ok") == "ok", "doctor looks before the upgrade too"
    read = store.exchange(election, Exchange(who("a"), swap=take("a", 1, 2, expected=1)))
    assert read.swapped
    assert read.record is not None
    assert read.record.history is None
    assert read.history
    late = Event(What.LOST, 1, "a", "the store did not answer", ago_s=40.0, times=8)
    store.exchange(election, Exchange(notes=(late,)))
    [told] = store.events(election, 1)
    assert replace(told, at=0.0) == replace(late, ago_s=0.0, times=1), (
        "when it was written is not kept there, when it happened is"
    )
    assert 20 < read.db_now - told.at < 41
    with opened(url) as newer:
        wanted = replace(take("a", 1, 3, expected=2).record, history=read.history)
        newer.exchange(election, Exchange(who("a"), swap=Swap(2, wanted)))
        assert newer.exchange(election, Exchange()).record == wanted
        newer.exchange(election, Exchange(notes=(late,)))
        assert [each.ago_s for each in newer.events(election, 2)] == [0.0, 40.0]
    read = store.exchange(election, Exchange(who("a"), swap=take("a", 1, 4, expected=3)))  # it knows no such column
    assert read.swapped
    store.close()
    with engine.begin() as conn:
        assert conn.execute(sa.text("SELECT history FROM heirflow_election")).scalar() == wanted.history
    engine.dispose()


def promoted_in_place(server: Server) -> None:
    """The server becomes a standby of nobody, and is promoted: it begins a new timeline."""
    server.stop()
    (server.data / "standby.signal").touch()
    if server.user is not None:
        shutil.chown(server.data / "standby.signal", server.user)
    server.start()
    server.sql("SELECT pg_promote(true, 20)", database="postgres")


def test_a_promotion_is_another_history_at_once_and_for_an_ordinary_role(own_postgres: Server) -> None:
    # `pg_control_checkpoint` still names the old timeline then.
    election = new_election()
    with opened(own_postgres.url("psycopg")) as store:
        before = store.exchange(election, Exchange()).history
    promoted_in_place(own_postgres)
    with opened(own_postgres.url("psycopg")) as store:
        after = store.exchange(election, Exchange()).history
    assert before is not None
    assert after is not None
    assert before != after
    assert before.partition("/")[0] == after.partition("/")[0]
    assert after.endswith("/00000002")


def test_where_the_name_may_not_be_asked_everything_goes_on_without_it(own_postgres: Server) -> None:
    own_postgres.sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC", database="heirflow")
    with opened(own_postgres.url("psycopg")) as store:
        election = new_election()
        join(store, election, "a")
        read = store.exchange(election, charge("a", 1))
        assert (read.swapped, read.history) == (True, None)


class Member:
    """The real rules on a real store; time goes as the test says."""

    def __init__(self, me: str, store: Store, election: str) -> None:
        self.store, self.election, self.timings = store, election, Timings.of(10.0)
        self.state = State(me=me, host=me, pid=1, born_at=0.0)
        self.now = 0.0
        self.asks: list[Send] = []
        self.decide(GuardUp())

    def decide(self, event: Answered | GuardUp | Tick) -> None:
        step = decide(self.state, event, self.now, self.timings)
        self.state, self.asks = step.state, [act for act in step.acts if isinstance(act, Send)]

    def goes_on_until(self, now: float) -> None:
        while self.now < now:
            while self.asks:
                ask = self.asks.pop().ask
                self.decide(Answered(ask.serial, self.store.exchange(self.election, ask.exchange)))
            self.now += 0.5
            self.decide(Tick())


def test_who_comes_after_a_fail_over_that_forgot_waits_for_whoever_led_what_is_forgotten() -> None:
    # a released, and that was on the standby too. Then b took charge, which was confirmed; the standby had not heard of it.
    election = new_election()
    with (
        postgres_server(settings=REPLICATION) as primary,
        postgres_replica(primary, "127.0.0.1", settings=REPLICATION) as standby,
    ):
        with opened(primary.url("psycopg")) as store:
            a = Member("a", store, election)
            a.goes_on_until(3)
            record = store.exchange(election, Exchange()).record
            assert record is not None
            assert record.history is not None
            vacant = replace(record, version=record.version + 1, leader=None)
            assert store.exchange(election, Exchange(swap=Swap(record.version, vacant))).swapped
            _heard(standby, election, vacant)
            _cut_off(standby)
            b = Member("b", store, election)
            b.goes_on_until(3)
            assert b.state.term == record.term + 1
            primary.crash()
        standby.sql("SELECT pg_promote(true, 20)", database="postgres")
        with opened(standby.url("psycopg")) as store:
            found = store.exchange(election, Exchange())
            assert found.record is not None
            assert (found.record.leader, found.record.term) == (None, record.term), "nothing was forgotten"
            c = Member("c", store, election)
            c.goes_on_until(9.5)
            assert c.state.term is None, "it took charge while b still trusted what it had been told"
            c.goes_on_until(20)
            assert c.state.term is not None
            assert b.state.term is not None
            assert c.state.term > b.state.term
            b.store, b.now = store, b.now + 1
            b.asks = []
            b.state = replace(b.state, ask=None, ask_at=0.0)
            b.decide(Tick())
            b.goes_on_until(b.now + 1)
            assert b.state.term is None


def _cut_off(standby: Server) -> None:
    """What the primary writes now it never hears."""
    standby.sql("ALTER SYSTEM SET primary_conninfo = ''", database="postgres")
    standby.sql("SELECT pg_reload_conf()", database="postgres")
    _until(lambda: standby.sql("SELECT count(*) FROM pg_stat_wal_receiver", database="postgres") == "0")


def _until(done: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not done():
        assert time.monotonic() < limit, "that took too long"
        time.sleep(0.05)


def _heard(standby: Server, election: str, wanted: Record) -> None:
    """Wait until the standby has this record."""
    asked = f"SELECT version FROM heirflow_election WHERE name = '{election}'"
    _until(lambda: standby.sql(asked) == str(wanted.version))


def test_who_may_not_add_a_column_keeps_nobody_else_from_it(mariadb: Server, new_database: NewDatabase) -> None:
    """MySQL's lock is of the session, and not of the transaction that failed."""
    url = new_database("pymysql")
    name = str(sa.engine.make_url(url).database)
    mariadb.sql(f"CREATE USER poor@'%' IDENTIFIED BY 'x'; GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO poor@'%'")
    with opened(url):
        mariadb.sql("ALTER TABLE heirflow_event DROP COLUMN times", database=name)
    with opened(mariadb.url("pymysql", user="poor", password="x", database=name)):
        assert mariadb.sql("SELECT IS_FREE_LOCK('heirflow tables')", database=name).strip() == "1"
        with opened(url):
            assert mariadb.sql("SHOW COLUMNS FROM heirflow_event LIKE 'times'", database=name).startswith("times")
