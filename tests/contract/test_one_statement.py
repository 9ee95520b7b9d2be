"""PostgreSQL: a check-in, a renewal and a look are one statement each, and mean what a transaction of several meant.

The promises that could break here: never two (a lost swap told as won, or an old record shown as news), and nearly free.
A statement sees its own changes only in what it returns, and what others commit while it waits for a row not at all.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from heirflow.election.record import Event, Exchange, Swap, What
from heirflow.stores import Store, StoreUnavailable, open_store
from heirflow.testing.store_tools import ids, join, new_election, row, take, who
from lab.servers.servers import Server
from tests.contract.drivers import POSTGRES

NewDatabase = Callable[[str], str]
STATEMENTS = re.compile(r"heirflow-member LOG:  (?:statement|execute [^:]*): (\S*)")


def renewal(leader: str, version: int, term: int = 1, **more: Any) -> Exchange:
    """As a leader sends it: from this version to the next."""
    swap = take(leader, term, version + 1, expected=version, news=False, **more)
    return Exchange(who(leader), swap=dataclasses.replace(swap, event=None))


@contextmanager
def a_line(url: str) -> Iterator[tuple[Store, Store, str]]:
    """Two stores, and an election that `a` leads with `b` as heir."""
    one, other, election = open_store(url, call_limit_s=4), open_store(url, call_limit_s=20), new_election()
    try:
        one.open()
        other.open()
        join(one, election, "a")
        join(one, election, "b")
        one.exchange(election, Exchange(swap=take("a", 1, 1, expected=None)))
        yield one, other, election
    finally:
        one.close()
        other.close()


@contextmanager
def meanwhile(other: Store, statement: str, values: dict[str, Any]) -> Iterator[None]:
    """Somebody else has changed a row and commits when the caller has been waiting for it for a while."""
    conn = other._connected()
    other._flavour.begin(conn, writes=True)
    conn.execute(sa.text(statement), values)
    waiting = threading.Thread(target=lambda: (time.sleep(0.4), conn.commit()))
    waiting.start()
    try:
        yield
    finally:
        waiting.join()


def alive(conn: sa.engine.Connection) -> bool:
    try:
        return bool(conn.execute(sa.text("SELECT 1")).scalar())
    except sa.exc.DBAPIError:
        return False


def messages(server: Server, url: str) -> Callable[[], list[str]]:
    """The first words of the statements that the server got in this database since the last call."""
    server.sql(f"ALTER DATABASE \"{url.rpartition('/')[2]}\" SET log_statement = 'all'")
    place = server.log.stat().st_size

    def since() -> list[str]:
        nonlocal place
        text = server.log.read_bytes()[place:].decode(errors="replace")
        place += len(text.encode())
        return STATEMENTS.findall(text)

    return since


@contextmanager
def a_line_that_is_heard(url: str, server: Server) -> Iterator[tuple[Store, Store, str, Callable[[], list[str]]]]:
    """The same, with what the server was asked since the last call."""
    told = messages(server, url)
    with a_line(url) as line:
        yield (*line, told)


@pytest.mark.parametrize("driver", POSTGRES)
def test_check_in_renewal_and_look_are_one_message_each(
    driver: str, new_database: NewDatabase, postgres: Server
) -> None:
    with a_line_that_is_heard(new_database(driver), postgres) as (store, _, election, told):
        for _ in range(8):  # each prepares one more
            store.exchange(election, Exchange(who("b")))
        for name, first, request in (
            ("an heir", Exchange(who("b")), Exchange(who("b"))),
            ("a leader", renewal("a", 1), renewal("a", 2)),
            ("somebody who looks", Exchange(), Exchange()),
        ):
            store.exchange(election, first)  # psycopg2 must say once what it will ask
            told()
            store.exchange(election, request)
            assert len(said := told()) == 1, f"{name}: {said}"


def release(leader: str, version: int, term: int = 1, *, join: bool = False) -> Exchange:
    """As a leader sends it when its command has ended."""
    swap = take(None, term, version + 1, expected=version)
    event = Event(What.RELEASED, term, leader, "its reason", 0.5)
    return Exchange(who(leader), join=join, swap=dataclasses.replace(swap, event=event))


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_release_is_one_message_and_taking_charge_four_and_its_news_come_last(
    driver: str, new_database: NewDatabase, postgres: Server
) -> None:
    with a_line_that_is_heard(new_database(driver), postgres) as (store, _, election, told):
        version = 1
        for turn in (1, 2):  # psycopg2 must say once what it will ask
            told()
            assert store.exchange(election, release("a", version, turn)).swapped
            released = told()
            swap = take("a", turn + 1, version + 2, expected=version + 1, takes_over="")
            assert store.exchange(election, Exchange(who("a"), swap=swap)).swapped
            taken = told()
            store.news(election)
            version += 2
            assert told() == ["SELECT"], "whoever has taken charge starts its command, and then the others are told"
        assert released[1:] == ["SELECT"], "the news"
        assert (taken[0], taken[2:]) == ("BEGIN", ["INSERT", "COMMIT"])


@pytest.mark.parametrize("driver", POSTGRES)
def test_the_history_tells_of_a_release_that_won_and_of_no_other(driver: str, new_database: NewDatabase) -> None:
    with a_line(new_database(driver)) as (store, _, election):
        before = store.events(election, 9)
        assert store.exchange(election, release("a", 7)).swapped is False
        assert store.events(election, 9) == before
        reading = store.exchange(election, release("a", 1))
        assert reading.swapped
        assert reading.record is not None
        assert (reading.record.leader, reading.record.version) == (None, 2)
        event = store.events(election, 1)[0]
        assert (event.what, event.term, event.member, event.because, event.took_s) == (
            What.RELEASED, 1, "a", "its reason", 0.5,
        )  # fmt: skip
        assert abs(event.at - reading.db_now) < 5


@pytest.mark.parametrize("driver", POSTGRES)
def test_who_releases_and_goes_to_the_end_keeps_all_but_its_place(
    driver: str, new_database: NewDatabase, postgres: Server
) -> None:
    with a_line_that_is_heard(new_database(driver), postgres) as (store, other, election, told):
        other.drain(election, "a", True)
        before = row(store.exchange(election, Exchange(who("a"))), "a")
        time.sleep(0.02)
        told()
        reading = store.exchange(election, release("a", 1, join=True))
        assert len([word for word in told() if word != "PREPARE"]) == 2, "the release and its news"
        after = row(reading, "a")
        assert reading.swapped
        assert ids(reading) == ["b", "a"]
        assert (after.drained, after.joined_at, after.host) == (True, before.joined_at, before.host)
        assert after.stamp > before.stamp
        with other._transaction(writes=True) as conn:
            conn.execute(sa.text("DELETE FROM heirflow_member WHERE election = :e AND id = 'b'"), {"e": election})
        assert store.exchange(election, Exchange(who("b"), swap=take("b", 2, 3, expected=2, takes_over=""))).swapped
        reading = store.exchange(election, release("b", 3, 2, join=True))
        assert reading.swapped
        assert ids(reading) == ["a", "b"], "also where its row was gone"
        assert not row(reading, "b").drained


@pytest.mark.parametrize("driver", POSTGRES)
def test_what_fails_after_charge_was_taken_takes_it_back(
    driver: str, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions are ended and work is adopted before the commit: half of it is nothing."""
    with a_line(new_database(driver)) as (store, other, election):
        swap = take("b", 2, 2, expected=1, takes_over="")
        store.exchange(election, Exchange(who("b")))  # whose connection commits by itself
        with monkeypatch.context() as patched:
            patched.setattr(store, "_write", lambda conn, *_: conn.execute(sa.text("SELECT 1/0")))
            with pytest.raises(StoreUnavailable):
                store.exchange(election, Exchange(who("b"), swap=swap))
        record = other.exchange(election, Exchange()).record
        assert record is not None
        assert (record.leader, record.version) == ("a", 1)
        assert store.exchange(election, Exchange(who("b"), swap=swap)).swapped
        assert store.events(election, 1)[0].what is What.TOOK_CHARGE


@pytest.mark.parametrize("driver", POSTGRES)
def test_they_are_prepared_where_the_session_is_ours_alone(
    driver: str, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = sa.text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%heirflow_member%'")
    with a_line(new_database(driver)) as (store, _, election):
        for _ in range(3):
            store.exchange(election, Exchange(who("b")))
        with store._transaction(writes=False) as conn:
            assert conn.execute(count).scalar() == 1 + 3, "each check-in prepares one more, for which people will wait"
    monkeypatch.setattr("heirflow.stores.sql.postgres.backend_pid", lambda driver: -1)
    with a_line(new_database(driver)) as (store, _, election):
        for version in range(1, 9):
            store.exchange(election, renewal("a", version))
            store.exchange(election, Exchange(who("b")))
        with store._transaction(writes=False) as conn:
            assert conn.execute(count).scalar() == 0, "behind a pooler they would land in somebody else's session"


@pytest.mark.parametrize("driver", POSTGRES)
def test_to_prepare_changes_nothing(driver: str, new_database: NewDatabase) -> None:
    with a_line(new_database(driver)) as (store, other, election):

        def tables() -> list[Any]:
            with other._transaction(writes=False) as conn:
                asked = ("heirflow_election", "heirflow_member ORDER BY id", "heirflow_event ORDER BY id")
                return [conn.execute(sa.text(f"SELECT * FROM {each}")).all() for each in asked]

        before = tables()
        store.exchange(election, Exchange())
        for _ in range(9):
            store._flavour._carrier._one.warm(store._link.driver)
        assert tables() == before


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_session_that_forgets_what_was_prepared_costs_one_exchange(driver: str, new_database: NewDatabase) -> None:
    with a_line(new_database(driver)) as (store, _, election):
        failed = 0
        for _ in range(4):
            try:
                assert ids(store.exchange(election, Exchange(who("b")))) == ["a", "b"]
            except StoreUnavailable:
                failed += 1
                continue
            with store._transaction(writes=False) as conn:
                conn.exec_driver_sql("DEALLOCATE ALL")
        assert failed <= 1


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_swap_lost_while_it_waited_shows_who_won(driver: str, new_database: NewDatabase) -> None:
    """The statement began before the other one committed: its own view of the record is the old one."""
    with a_line(new_database(driver)) as (store, other, election):
        for _ in range(7):  # a plan made for all
            store.exchange(election, Exchange(who("a")))
        moved = "UPDATE heirflow_election SET version = 2, term = 2, leader = 'b' WHERE name = :e"
        with meanwhile(other, moved, {"e": election}):
            reading = store.exchange(election, renewal("a", 1))
        assert reading.swapped is False
        assert reading.record is not None
        assert (reading.record.version, reading.record.term, reading.record.leader) == (2, 2, "b")
        assert ids(reading) == ["a", "b"]


@pytest.mark.parametrize("driver", POSTGRES)
def test_an_order_given_while_a_check_in_waited_is_seen(driver: str, new_database: NewDatabase) -> None:
    with a_line(new_database(driver)) as (store, other, election):
        drained = "UPDATE heirflow_member SET drained = true WHERE election = :e AND id = 'b'"
        with meanwhile(other, drained, {"e": election}):
            reading = store.exchange(election, Exchange(who("b")))
        assert row(reading, "b").drained


@pytest.mark.parametrize("driver", POSTGRES)
def test_who_was_forgotten_while_a_check_in_waited_is_not_shown(driver: str, new_database: NewDatabase) -> None:
    with a_line(new_database(driver)) as (store, other, election):
        with meanwhile(other, "DELETE FROM heirflow_member WHERE election = :e AND id = 'b'", {"e": election}):
            reading = store.exchange(election, Exchange(who("b")))
        assert ids(reading) == ["a"]


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_lost_renewal_is_still_a_check_in(driver: str, new_database: NewDatabase) -> None:
    with a_line(new_database(driver)) as (store, _, election):
        before = row(store.exchange(election, Exchange()), "a").stamp
        time.sleep(0.02)
        reading = store.exchange(election, renewal("a", 7))
        assert reading.swapped is False
        assert row(reading, "a").stamp > before


@pytest.mark.parametrize("driver", POSTGRES)
def test_where_serializable_is_the_rule_a_swap_is_still_lost_and_not_an_error(
    driver: str, new_database: NewDatabase, postgres: Server
) -> None:
    url = new_database(driver)
    postgres.sql(f"ALTER DATABASE \"{url.rpartition('/')[2]}\" SET default_transaction_isolation = 'serializable'")
    with a_line(url) as (store, other, election):
        moved = "UPDATE heirflow_election SET version = 2 WHERE name = :e"
        with meanwhile(other, moved, {"e": election}):
            assert store.exchange(election, renewal("a", 1)).swapped is False


def test_who_took_charge_after_a_renewal_keeps_its_sessions(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`b` led before, is ended at a renewal of `a`, and takes charge again in the very moment between the two."""
    url = new_database(POSTGRES[0])
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool, connect_args={"application_name": "heirflow/b"})
    sessions = []

    def opens() -> sa.engine.Connection:
        sessions.append(conn := engine.connect())
        conn.execute(sa.text("SELECT 1"))
        return conn

    with a_line(url) as (store, other, election):
        store.exchange(election, Exchange(who("b"), swap=take("b", 2, 2, expected=1, takes_over="")))
        store.exchange(election, Exchange(who("a"), swap=take("a", 3, 3, expected=2, takes_over="")))
        opens()  # the remains of b's first reign, which the renewal is after
        begin = store._flavour.begin

        def overtaken(*args: Any, **named: Any) -> None:
            swap: Swap = take("b", 4, 5, expected=4, takes_over="")
            assert other.exchange(election, Exchange(who("b"), swap=swap)).swapped
            opens()
            begin(*args, **named)

        monkeypatch.setattr(store._flavour, "begin", overtaken)
        assert store.exchange(election, renewal("a", 3, 3)).swapped
        monkeypatch.undo()
        time.sleep(0.1)
        assert alive(sessions[1]), "the leader's own command lost its session"
        for conn in sessions:
            conn.invalidate()


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_renewal_is_lost_where_the_version_came_a_second_time(driver: str, new_database: NewDatabase) -> None:
    """A restored backup counts its versions again: the same one under another term is not the one that was seen."""
    with a_line(new_database(driver)) as (store, other, election):
        other.exchange(election, Exchange(who("b"), swap=take("b", 2, 2, expected=1)))
        late = renewal("a", 2)
        assert late.swap is not None
        late = dataclasses.replace(late, swap=dataclasses.replace(late.swap, expected_term=1))
        reading = store.exchange(election, late)
        assert reading.swapped is False
        assert reading.record is not None
        assert reading.record.leader == "b"


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_renewal_is_lost_in_another_history(driver: str, new_database: NewDatabase) -> None:
    """What was decided about one history never lands in another one; and an answer tells which one it is of."""
    with a_line(new_database(driver)) as (store, _, election):
        here = store.exchange(election, Exchange(who("a"))).history
        assert here
        for under, won in (("another server's", False), (here, True)):
            asked = renewal("a", 1)
            assert asked.swap is not None
            wanted = dataclasses.replace(asked.swap.record, history=here)
            asked = dataclasses.replace(asked, swap=dataclasses.replace(asked.swap, record=wanted, under=under))
            reading = store.exchange(election, asked)
            assert reading.swapped is won
        assert reading.record is not None
        assert (reading.history, reading.record.history) == (here, here)


@pytest.mark.parametrize("driver", POSTGRES)
def test_odd_values_are_read_as_defensively(driver: str, new_database: NewDatabase) -> None:
    with a_line(new_database(driver)) as (store, other, election):
        with other._transaction(writes=True) as conn:
            conn.execute(sa.text("UPDATE heirflow_election SET ttl_s = 'NaN' WHERE name = :e"), {"e": election})
        reading = store.exchange(election, Exchange(who("a")))
        assert any("ttl" in told for told in reading.odd)


WARNS = """CREATE FUNCTION warns() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE WARNING 'database "x" must be vacuumed within 39999999 transactions'; RETURN new; END $$;
CREATE TRIGGER warns BEFORE UPDATE ON heirflow_member FOR EACH ROW EXECUTE FUNCTION warns()"""


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_server_that_warns_of_something_else_costs_one_exchange(
    driver: str, new_database: NewDatabase, postgres: Server
) -> None:
    """Near the end of its transaction numbers a server warns at every write. Only a warning of COMMIT says "not confirmed"."""
    url = new_database(driver)
    with a_line(url) as (store, _, election):
        postgres.sql(WARNS, database=url.rpartition("/")[2])
        failed = 0
        for _ in range(5):
            try:
                assert ids(store.exchange(election, Exchange(who("b")))) == ["a", "b"]
            except StoreUnavailable:
                failed += 1
        assert failed == 1
