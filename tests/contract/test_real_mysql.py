"""MariaDB stands for MySQL in most tests. These say that a real one does as it does, with ``caching_sha2_password``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from heirflow.election.record import Exchange
from heirflow.stores import open_store
from heirflow.testing import store_contract
from heirflow.testing.store_tools import join, new_election, take, who
from lab.rig import written
from lab.rig.rig import Rig, now_s
from lab.servers.mysql import mysql_missing, mysql_server
from lab.servers.servers import NAME, Server
from tests.contract import test_odd_rows, test_the_tables, test_trouble, test_upgrades, test_wills
from tests.contract.conftest import GIVEN

Test = Callable[..., None]
DRIVER = "pymysql"
PATIENT_S = 10.0
"""A lease that is far longer than anything that a busy machine adds to a will."""


@pytest.fixture(scope="module")
def mysql() -> Iterator[Server]:
    """One of ours, which tests may stop and freeze: each leaves it as it was."""
    with mysql_server() as server:
        yield server


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest) -> str:
    """A database on the server that is given, or on ours."""
    if given := os.environ.get(GIVEN):
        return f"mysql+{DRIVER}:{given.partition(':')[2]}"
    server: Server = request.getfixturevalue("mysql")
    return server.url(DRIVER)


@pytest.mark.parametrize("check", store_contract.CHECKS, ids=store_contract.name)
def test_the_contract(check: store_contract.Check, url: str) -> None:
    check(lambda: open_store(url, call_limit_s=1.5))


ON_ANY: list[Test] = [
    test_wills.test_a_will_releases_exactly_this_members_term,
    test_wills.test_the_members_own_helper_understands_it,
    test_trouble.test_a_lock_held_by_somebody_else_ends_the_call_in_time,
    test_trouble.test_severing_ends_a_call_that_waits_for_a_lock,
    test_trouble.test_a_wrong_password_is_not_shown,
    test_odd_rows.test_an_event_that_cannot_be_hides_no_other,
    test_odd_rows.test_a_ttl_that_no_member_writes_is_the_longest_there_is,
    test_the_tables.test_an_exchange_has_only_the_statements_it_needs,
]
"""Tests of the other servers that need a database and nothing else."""


@pytest.mark.parametrize("test", ON_ANY, ids=lambda test: test.__name__)
def test_as_on_the_others(test: Test, url: str) -> None:
    test(DRIVER, lambda _: url)


if mysql_missing() is None:  # these stop and freeze the server, or make databases: only one of ours may be treated so
    OUTAGES: list[Test] = [
        test_trouble.test_severing_ends_a_call_to_a_frozen_server,
        test_trouble.test_connecting_to_a_frozen_server_ends_by_itself,
        test_trouble.test_a_restart_while_idle_is_not_noticed,
        test_trouble.test_a_server_that_is_gone_is_told_in_one_line_without_the_password,
        test_trouble.test_a_server_that_turns_read_only_is_unavailable,
    ]

    @pytest.mark.parametrize("test", OUTAGES, ids=lambda test: test.__name__)
    def test_an_outage_as_on_the_others(test: Test, mysql: Server) -> None:
        test(DRIVER, lambda _: mysql)

    EMPTY: list[Test] = [
        test_the_tables.test_ten_members_meet_an_empty_database_at_once,
        test_the_tables.test_open_makes_tables_only_when_it_may,
        test_upgrades.test_a_member_goes_on_with_newer_tables_that_it_can_read,
        test_upgrades.test_a_swap_names_the_term_too,
    ]

    @pytest.mark.parametrize("test", EMPTY, ids=lambda test: test.__name__)
    def test_an_empty_database_as_on_the_others(test: Test, mysql: Server) -> None:
        name = test.__name__[:60]

        def new_database(_: str) -> str:
            mysql.sql(f"CREATE DATABASE `{name}`; GRANT ALL ON `{name}`.* TO {NAME}@'127.0.0.1'", database="mysql")
            return mysql.url(DRIVER, database=name)

        test(DRIVER, new_database)

    def test_it_is_a_mysql_whose_users_log_in_by_its_own_method(mysql: Server) -> None:
        plugins = mysql.sql(f"SELECT DISTINCT plugin FROM mysql.user WHERE user = '{NAME}'", database="mysql")
        assert plugins == "caching_sha2_password"
        store = open_store(mysql.url(DRIVER), call_limit_s=1.5)
        findings = store.examine()
        [server] = [each.sentence for each in findings if each.topic == "server"]
        assert server.startswith("MySQL ")
        assert not [each for each in findings if each.level == "problem"]
        store.close()


def test_its_sessions_read_what_is_committed(url: str) -> None:
    store, election = open_store(url, call_limit_s=1.5), new_election()
    join(store, election, "a")
    assert store.exchange(election, Exchange(who("a"), swap=take("a", 1, 1, expected=None))).swapped
    with store._transaction(writes=False) as conn:
        level = conn.execute(
            sa.text("SELECT @@session.transaction_isolation, @@session.innodb_lock_wait_timeout")
        ).one()
    assert tuple(level) == ("READ-COMMITTED", 1)
    store.close()


def test_a_member_that_freezes_within_a_transaction_keeps_the_record_for_two_limits_of_a_call(url: str) -> None:
    """MariaDB ends a transaction that stands idle after one; MySQL can only end the whole session (`Mysql._idle_limit`)."""
    election, limit_s = new_election(), 2.0
    with test_trouble.opened(url, limit_s) as frozen, test_trouble.opened(url) as heir:
        frozen.exchange(election, Exchange(swap=take("a", 1, 1, expected=None)))
        conn = frozen._connected()
        conn.execute(sa.text("UPDATE heirflow_election SET because = 'held' WHERE name = :e"), {"e": election})
        start = time.monotonic()
        reading = test_trouble.eventually(heir, election, Exchange(swap=take("b", 2, 2, expected=1)), within_s=20)
        assert reading.swapped
        assert time.monotonic() - start < 3 * limit_s
        with pytest.raises(sa.exc.DBAPIError):
            conn.execute(sa.text("SELECT 1"))


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("parts", "ttl_s", "least_s", "most_s"),
    [
        # All of it, at once: there is nobody left who could tell, and the heir waits until the lease has run out.
        (("member", "guard", "backstop"), 3.0, 2.0, 15.0),
        # Whoever is left proves the end of the command, and carries out the will.
        (("member",), PATIENT_S, 0.0, 0.6 * PATIENT_S),
        (("member", "guard"), PATIENT_S, 0.0, 0.6 * PATIENT_S),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else "",
)
def test_the_heir_of_a_leader_that_was_killed(
    parts: tuple[str, ...], ttl_s: float, least_s: float, most_s: float, url: str, tmp_path: Path
) -> None:
    with Rig(url, tmp_path, ttl_s=ttl_s, election=f"k{time.time_ns() % 10**9}") as rig:  # its socket must fit
        for host in "ab":
            rig.add(host)
        leader = rig.wait_for_line(2, limit_s=40)
        first = rig.wait_for_start(0.0, 20)
        leader.kill(*parts)
        killed_s = now_s()
        second = rig.wait_for_start(killed_s, 30, other_than=first.member)
        assert least_s < second.from_s - killed_s < most_s
        [first, _] = sorted(written.starts_in(rig.ticks), key=lambda start: start.term)
        assert first.to_s < second.from_s, "two at once"
