"""A will is carried out by a program that has the bare driver and nothing of ours."""

from __future__ import annotations

import dataclasses
import importlib
import json
import ssl
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from heirflow.election.record import Exchange, What
from heirflow.stores import Will, open_store
from heirflow.testing.seats_contract import led_by, made, sits
from heirflow.testing.store_tools import HOSTILE, hears, ids, join, new_election, take, who
from tests.contract.drivers import ALL

DatabaseUrl = Callable[[str], str]


def carry_out(payload: dict[str, Any]) -> bool:
    """As `alone/will_helper.py` does, in few words."""
    driver = importlib.import_module(payload["module"])
    connection = driver.connect(*payload["connect_args"], **payload["connect_kwargs"])
    try:
        cursor = connection.cursor()
        for number, (statement, bound) in enumerate(payload["statements"]):
            cursor.execute(statement, tuple(bound) if isinstance(bound, list) else bound)
            if number == 0 and cursor.rowcount < 1:
                connection.rollback()
                return False
        connection.commit()
        for statement, bound in payload["news"]:
            connection.autocommit = True
            cursor.execute(statement, bound)
        return True
    finally:
        connection.close()


def sent(will: Will | None) -> dict[str, Any]:
    """The will as it arrives at the helper."""
    assert will is not None
    return json.loads(json.dumps(dataclasses.asdict(will)))


@pytest.mark.parametrize("driver", ALL)
def test_a_will_releases_exactly_this_members_term(driver: str, database_url: DatabaseUrl) -> None:
    election, url = new_election(), database_url(driver)
    writer = open_store(url, call_limit_s=1.5)  # never opened: a will can be written before anything else
    heir = open_store(url, call_limit_s=1.5)
    heir.open()  # whoever comes first makes the tables
    because = f"a was killed {HOSTILE}"
    will = sent(writer.will(election, "a", 3, because))
    assert not carry_out(will), "there was no record"
    join(heir, election, "a")
    join(heir, election, "b")
    for leader, term, version in (("a", 2, 1), ("b", 3, 2)):
        heir.exchange(election, Exchange(swap=take(leader, term, version, expected=version - 1 or None)))
        assert not carry_out(will), f"term {term} of {leader} was released by the will of a's term 3"
    held = heir.exchange(election, Exchange(who("b"), swap=take("a", 3, 3, expected=2, switchover_to="b", paused=True)))
    while heir.news(election):
        pass
    assert carry_out(will)
    if heir.news_fd() is not None or heir.news_poll_s is not None:
        assert hears(heir, election), "a release by will was no news"
    seen = heir.exchange(election, Exchange())
    assert seen.record is not None
    assert (seen.record.leader, seen.record.term, seen.record.version, seen.record.because) == (None, 3, 4, because)
    assert (seen.record.switchover_to, seen.record.paused) == ("b", True), "an order outlives the leader"
    assert seen.since > held.since
    assert ids(seen) == ["b"]
    told = heir.events(election, 1)[0]
    assert (told.what, told.term, told.member, told.because) == (What.RELEASED, 3, "a", because)
    assert not carry_out(will), "a will is carried out once"
    heir.close()


@pytest.mark.parametrize("driver", ALL)
def test_a_will_of_one_seat_releases_that_seat_only(driver: str, database_url: DatabaseUrl) -> None:
    """Though its terms are those of the other seats, and though an earlier will of the same member was for another one."""
    election, url = new_election(), database_url(driver)
    with closing(open_store(url, call_limit_s=1.5)) as store:
        store.open()
        made(store, election, 3)
        join(store, election, "b")
        sits(store, election, 2, "b", 1, 2)
        sits(store, election, 3, "c", 1, 2)
        of_another = [sent(store.will(election, "b", 1, "b was killed", seat=seat)) for seat in (1, 3)]
        assert not any(map(carry_out, of_another)), "these seats are led by others, in the same term"
        will = sent(store.will(election, "b", 1, "b was killed", seat=2))
        while store.news(election):
            pass
        assert carry_out(will)
        if store.news_fd() is not None or store.news_poll_s is not None:
            assert hears(store, election), "a release by will was no news"
        seen = store.exchange(election, Exchange())
        assert led_by(seen) == [("a", 1), (None, 1), ("c", 1)]
        assert ids(seen) == ["a"]
        [told] = [event for event in store.events(election, 9) if event.what is What.RELEASED]
        assert (told.seat, told.term, told.member) == (2, 1, "b")
        assert not carry_out(will), "a will is carried out once"


@pytest.mark.parametrize("driver", ALL)
def test_the_members_own_helper_understands_it(driver: str, database_url: DatabaseUrl) -> None:
    from heirflow.alone import will_helper as helper

    election = new_election()
    store = open_store(database_url(driver), call_limit_s=1.5)
    join(store, election, "a")
    store.exchange(election, Exchange(swap=take("a", 1, 1, expected=None)))
    payload = sent(store.will(election, "a", 1, "a was killed"))
    connection = helper.connect(importlib.import_module(payload["module"]), payload)
    assert helper.carry_out(connection, payload["statements"])
    connection.close()
    record = store.exchange(election, Exchange()).record
    assert record is not None
    assert record.leader is None
    store.close()


def test_a_tls_context_makes_no_will() -> None:
    store = open_store("mysql+pymysql://db/x", call_limit_s=1.5, connect_args={"ssl": ssl.create_default_context()})
    assert store.will("e", "a", 1, "x") is None
