"""`Lead.hold`: what a leader writes and the proof that it leads commit together, on every database and with every driver."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from heirflow import ConfigError, Lead, LostLead
from heirflow.election.record import Exchange
from heirflow.stores import Store, open_store
from heirflow.testing.store_tools import take, who
from tests.contract.drivers import ALL, SERVERS

NewDatabase = Callable[[str], str]
LEAD = Lead("e", "a-1", 1)


def led(url: str) -> Store:
    store = open_store(url, call_limit_s=5)
    store.open()
    assert store.exchange("e", Exchange(who("a-1"), swap=take("a-1", 1, 1, expected=None))).swapped
    return store


def taken_over(store: Store) -> bool:
    return store.exchange("e", Exchange(who("b-2"), swap=take("b-2", 2, 2, expected=1))).swapped is True


@pytest.fixture(params=ALL)
def engine(request: pytest.FixtureRequest, new_database: NewDatabase) -> Iterator[sa.engine.Engine]:
    made = sa.create_engine(new_database(request.param), future=True)
    with made.begin() as conn:
        conn.execute(sa.text("CREATE TABLE effect (n integer)"))
    yield made
    made.dispose()


def url_of(engine: sa.engine.Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


WRITE = sa.text("INSERT INTO effect VALUES (1)")


def effects(engine: sa.engine.Engine) -> int:
    with engine.connect() as conn:
        return conn.execute(sa.text("SELECT count(*) FROM effect")).scalar()


def test_while_it_leads_it_writes(engine):
    with closing(led(url_of(engine))):
        with engine.begin() as conn:
            conn.execute(WRITE)
            LEAD.hold(conn)
        with Session(engine) as session, session.begin():
            session.execute(WRITE)
            LEAD.hold(session)
        assert effects(engine) == 2


def test_after_another_has_taken_charge_nothing_is_written(engine):
    with closing(led(url_of(engine))) as store:
        assert taken_over(store)

        def late() -> None:
            with engine.begin() as conn:
                conn.execute(WRITE)
                LEAD.hold(conn)

        with pytest.raises(LostLead, match="term 1 of e is over: the record names b-2, term 2"):
            late()
        assert effects(engine) == 0


def test_an_election_that_is_not_there_is_led_by_nobody(engine):
    with closing(led(url_of(engine))), engine.begin() as conn:
        conn.execute(WRITE)
        with pytest.raises(LostLead, match="nobody"):
            Lead("other", "a-1", 1).hold(conn)


def test_nobody_takes_charge_between_the_proof_and_the_commit(engine):
    """The order of the commits: what the old leader wrote is there before the new one leads, or is not there at all."""
    store = led(url_of(engine))
    order, heir = [], threading.Thread(target=lambda: (taken_over(store), order.append("taken over")))
    with engine.begin() as conn:
        conn.execute(WRITE)
        LEAD.hold(conn)
        heir.start()
        time.sleep(0.5)
        assert order == [], "it waits for this transaction"
        order.append("about to commit")
    heir.join(20)
    store.close()
    assert order == ["about to commit", "taken over"]
    assert effects(engine) == 1


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
def test_a_cursor_of_the_driver_will_do(engine):
    with closing(led(url_of(engine))) as store:
        link = engine.raw_connection()
        cursor = link.cursor()
        cursor.execute("INSERT INTO effect VALUES (1)")
        LEAD.hold(cursor)
        link.commit()
        assert taken_over(store)
        with pytest.raises(LostLead):
            LEAD.hold(cursor)
        link.rollback()
        link.close()
    assert effects(engine) == 1


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_cursor_of_sqlite3_will_do_once_it_has_written(engine):
    with closing(led(url_of(engine))) as store:
        with closing(sqlite3.connect(engine.url.database)) as link:
            cursor = link.cursor()
            with pytest.raises(ConfigError, match="within a transaction only"):
                LEAD.hold(cursor)  # nothing was begun: what comes next would not be held
            cursor.execute("INSERT INTO effect VALUES (1)")
            LEAD.hold(cursor)
            link.commit()
        assert taken_over(store)
    assert effects(engine) == 1


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
def test_without_a_transaction_there_is_nothing_to_hold(engine):
    with (
        closing(led(url_of(engine))),
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn,
        pytest.raises(ConfigError, match="within a transaction only"),
    ):
        LEAD.hold(conn)


def test_what_is_no_connection_is_refused():
    with pytest.raises(ConfigError, match="not str"):
        LEAD.hold("postgresql://x")


def test_a_program_knows_the_lead_under_which_it_was_started(monkeypatch):
    monkeypatch.setenv("HEIRFLOW_ELECTION", "e")
    monkeypatch.setenv("HEIRFLOW_MEMBER", "a-1")
    with pytest.raises(ConfigError, match="not started by `heirflow run`"):
        Lead.of_command()
    monkeypatch.setenv("HEIRFLOW_TERM", "1")
    found = Lead.of_command()
    assert (found.election, found.member, found.term) == ("e", "a-1", 1)
