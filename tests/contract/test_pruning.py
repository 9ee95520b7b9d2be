"""Old history goes in small bites; what keeps earlier leaders out stays, and what cannot be deleted costs nobody anything."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heirflow.election.record import Event, Exchange, Keep, What
from heirflow.stores import open_store
from heirflow.stores.sql.forgetting import BITE
from heirflow.testing.store_tools import new_election, take
from lab.servers.servers import Server
from tests.contract.drivers import ALL
from tests.contract.test_odd_rows import led

DatabaseUrl = Callable[[str], str]
DAY_S = 86400.0


def note(number: int, ago_s: float = 0.0) -> Event:
    return Event(What.ORDERED, 1, "ann", str(number), ago_s=ago_s)


@pytest.mark.parametrize("driver", ALL)
def test_what_is_too_old_goes_but_for_who_took_charge(driver: str, database_url: DatabaseUrl) -> None:
    with led(database_url(driver)) as (store, election):
        store.exchange(election, Exchange(notes=(note(1, 91 * DAY_S), note(2, 89 * DAY_S), note(3))))
        other = new_election()
        store.exchange(other, Exchange(notes=(note(4, 91 * DAY_S),)))
        took = Event(What.TOOK_CHARGE, 1, "z", "long ago", ago_s=400 * DAY_S)
        store.exchange(election, Exchange(notes=(took,)))
        assert not store.prune(election, Keep(90 * DAY_S, 0))
        assert [each.because for each in store.events(election, 10) if each.what is What.ORDERED] == ["2", "3"]
        assert [each.member for each in store.events(election, 10) if each.what is What.TOOK_CHARGE] == ["a", "z"]
        assert [each.because for each in store.events(other, 10)] == ["4"], "another election's history is not its"


@pytest.mark.parametrize("driver", ALL)
def test_of_who_took_charge_again_and_again_the_newest_stays(driver: str, database_url: DatabaseUrl) -> None:
    """Two hosts whose program crashes at once hand the lead to and fro, and each time it is a change of leader."""
    with led(database_url(driver)) as (store, election):
        took = [
            Event(What.TOOK_CHARGE, term, member, "the other one's ended", ago_s=(400 - term) * DAY_S)
            for term in range(2, 20, 2)
            for member in ("y", "z")
        ]
        store.exchange(election, Exchange(notes=tuple(took)))
        assert not store.prune(election, Keep(90 * DAY_S, 0))
        assert sorted((each.member, each.term) for each in store.events(election, 99)) == [
            ("a", 1),
            ("y", 18),
            ("z", 18),
        ]


@pytest.mark.parametrize("driver", ALL)
def test_what_is_too_many_goes_in_bites(driver: str, database_url: DatabaseUrl) -> None:
    with led(database_url(driver)) as (store, election):
        written = BITE + 30
        store.exchange(election, Exchange(notes=tuple(note(number) for number in range(written))))
        for keep in (Keep(0, 0), Keep(90 * DAY_S, 10 * BITE)):
            assert not store.prune(election, keep)
            assert len(store.events(election, 10 * BITE)) == written + 1
        assert store.prune(election, Keep(0, 20)), "there is more"
        assert len(store.events(election, 10 * BITE)) == written + 1 - BITE
        assert not store.prune(election, Keep(0, 20))
        kept = [int(each.because) for each in store.events(election, 10 * BITE) if each.what is What.ORDERED]
        assert kept == list(range(written - 20, written))
        renewed = store.exchange(election, Exchange(swap=take("a", 1, 2, expected=1, news=False)))
        assert renewed.swapped, "the connection is as it was"


def test_who_may_not_delete_goes_on(postgres: Server) -> None:
    with led(postgres.url("psycopg")) as (store, election):
        store.exchange(election, Exchange(notes=(note(1, 91 * DAY_S),)))
        tables = "heirflow_election, heirflow_member, heirflow_event, heirflow_meta"
        postgres.sql(
            f"CREATE ROLE without_delete LOGIN PASSWORD 'x';GRANT SELECT, INSERT, UPDATE ON {tables} TO without_delete"
        )
        poor = open_store(postgres.url("psycopg", user="without_delete", password="x"), call_limit_s=1.5)
        try:
            assert poor.exchange(election, Exchange()).record is not None
            driver = poor._link.driver  # type: ignore[attr-defined]
            assert not poor.prune(election, Keep(90 * DAY_S, 0))
            assert poor.exchange(election, Exchange(notes=(note(2),))).record is not None
            assert poor._link.driver is driver, "a refusal costs no connection"  # type: ignore[attr-defined]
        finally:
            poor.close()
        assert [each.because for each in store.events(election, 10) if each.what is What.ORDERED] == ["1", "2"]
