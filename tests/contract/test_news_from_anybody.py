"""Anybody who may connect may send notifications: a member keeps its own election's only, however many there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heirflow.election.record import Exchange
from heirflow.stores import open_store
from heirflow.testing.store_tools import hears, join, new_election, take, who
from lab.servers.servers import Server
from tests.contract.drivers import POSTGRES

DatabaseUrl = Callable[[str], str]
FLOOD = "SELECT count(pg_notify('heirflow', repeat('x', 40) || n)) FROM generate_series(1, 20000) n"


@pytest.mark.parametrize("driver", POSTGRES)
def test_what_is_told_of_other_elections_is_not_kept(driver: str, database_url: DatabaseUrl, postgres: Server) -> None:
    store, other, election = (
        open_store(database_url(driver), call_limit_s=1.5),
        open_store(database_url(driver), call_limit_s=1.5),
        new_election(),
    )
    join(store, election, "a")
    join(other, election, "b")
    database = database_url(driver).rpartition("/")[2]
    for _ in range(3):
        postgres.sql(FLOOD, database=database)
        store.exchange(election, Exchange(who("a")))
        assert not hears(store, election, within_s=0.2), "a stranger's word was news"
    assert len(store._flavour._heard) <= 1
    assert not getattr(store._link.driver, "notifies", None) or driver == "psycopg"
    other.exchange(election, Exchange(who("b"), swap=take("b", 1, 1, expected=None)))
    assert hears(store, election), "its own election was no news any more"
    store.close()
    other.close()
