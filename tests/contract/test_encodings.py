"""Databases of other encodings: everything works there, and free text loses a letter before an exchange fails."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from heirflow.election.record import Event, Exchange, What
from heirflow.stores import StoreMisfit, open_store
from heirflow.testing.store_tools import charge, hears, join, new_election, row, who
from lab.servers.servers import Server
from tests.contract.drivers import POSTGRES

DatabaseUrl = Callable[[str], str]
LETTERS = "naïve 日本 Łódź"


def database(server: Server, driver: str, encoding: str) -> str:
    """The URL of a database in this encoding."""
    name = f"in_{encoding.lower()}_{driver}"
    if server.sql(f"SELECT count(*) FROM pg_database WHERE datname = '{name}'") == "0":
        form = f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        server.sql(f"CREATE DATABASE {name} OWNER heirflow {form}")
    return server.url(driver, database=name)


@pytest.mark.parametrize("driver", POSTGRES)
@pytest.mark.parametrize(
    ("encoding", "kept"),
    [
        ("SQL_ASCII", LETTERS),
        ("LATIN1", "naïve ?? ?ód?"),
        ("LATIN2", "na?ve ?? Łódź"),
        ("WIN1252", "naïve ?? ?ód?"),
        ("KOI8R", "na?ve ?? ??d?"),
        ("EUC_JP", "na?ve ?? ??d?"),
    ],
)
def test_letters_that_a_database_lacks_do_not_keep_a_member_out(
    driver: str, encoding: str, kept: str, postgres: Server
) -> None:
    store, election = open_store(database(postgres, driver, encoding), call_limit_s=1.5), new_election()
    store.exchange(election, Exchange(who("a", label=LETTERS, note=LETTERS), join=True))
    store.exchange(election, charge("a", 1))
    note = Event(What.REFUSED, 1, "a", LETTERS)
    seen = store.exchange(election, Exchange(who("a", label=LETTERS), notes=(note,)))
    assert row(seen, "a").label == kept
    assert store.events(election, 1)[0].because == kept
    assert store.will(election, "a", 1, LETTERS).statements[0][1]
    store.close()


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_name_that_a_database_lacks_letters_for_is_refused_by_what_it_is(driver: str, postgres: Server) -> None:
    store = open_store(database(postgres, driver, "LATIN1"), call_limit_s=1.5)
    store.open()
    told = r"the name of the election has letters that this database \(LATIN1\) cannot hold: '日本'"
    with pytest.raises(StoreMisfit, match=told):
        store.exchange("日本", Exchange())
    assert store.exchange("naïve", Exchange()).record is None
    store.close()


@pytest.mark.parametrize("driver", POSTGRES)
def test_the_environment_does_not_say_how_we_speak(
    driver: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    store, election = open_store(database(postgres, driver, "UTF8"), call_limit_s=1.5), new_election()
    assert row(store.exchange(election, Exchange(who("a", label=LETTERS), join=True)), "a").label == LETTERS
    store.close()


def test_text_that_is_none_hides_nothing_in_sqlite(database_url: DatabaseUrl) -> None:
    url = database_url("sqlite")
    store, election = open_store(url, call_limit_s=1.5), new_election()
    join(store, election, "a")
    with sqlite3.connect(url.partition("///")[2]) as db:
        db.execute("UPDATE heirflow_member SET label = CAST(x'62ff' AS TEXT) WHERE election = ?", (election,))
    db.close()
    assert row(store.exchange(election, Exchange()), "a").label == "b\ufffd"
    store.close()


@pytest.mark.parametrize("driver", POSTGRES)
@pytest.mark.parametrize(("encoding", "news"), [("SQL_ASCII", False), ("WIN1252", False), ("LATIN1", True)])
def test_a_payload_that_is_no_text_ends_no_session(driver: str, encoding: str, news: bool, postgres: Server) -> None:
    """Anybody who may connect can send one."""
    url = database(postgres, driver, encoding)
    store, other, election = open_store(url, call_limit_s=1.5), open_store(url, call_limit_s=1.5), new_election()
    join(store, election, "a")
    session = store._link.driver
    told = f"SET client_encoding = '{encoding}'; SELECT pg_notify('heirflow', E'\\x81\\xfe')"
    postgres.sql(told, database=url.rpartition("/")[2])
    assert not hears(store, election, within_s=0.3)
    store.exchange(election, Exchange(who("a")))
    assert store._link.driver is session
    assert store.news(election) is False
    other.exchange(election, charge("b", 1))
    other.news(election)  # whoever takes charge tells the others once its command is on its way
    assert (store.news_fd() is not None, hears(store, election, within_s=0.3)) == (news, news)
    [finding] = [each for each in store.examine() if each.topic == "session"]
    assert (f"this database is {encoding}" in finding.sentence) is not news
    store.close()
    other.close()
