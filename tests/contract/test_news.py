"""News decides nothing: a server that can take no notification any more costs nobody a swap, an order or a release."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import psycopg
import pytest

from heirflow.alone import will_helper
from heirflow.election.record import Exchange
from heirflow.stores import Store, open_store
from heirflow.testing.store_tools import join, new_election, take, who
from lab.servers.servers import Server, postgres_server
from tests.contract.drivers import POSTGRES


@pytest.fixture(scope="module")
def crammed() -> Iterator[Server]:
    """A server whose queue of notifications is full: some application listens and leaves its transaction open."""
    small = {"max_notify_queue_pages": "64"}
    with postgres_server(settings=small) as server, psycopg.connect(server.url(""), autocommit=True) as idler:
        for statement in ("LISTEN elsewhere", "BEGIN", "SELECT 1"):
            idler.execute(statement)
        with pytest.raises(psycopg.OperationalError, match="too many notifications"):
            fill(server)
        yield server


def fill(server: Server) -> None:
    with psycopg.connect(server.url(""), autocommit=True) as filler:
        for number in range(1000):
            filler.execute("SELECT pg_notify('elsewhere', %s)", (f"{number:07999}",))


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_full_queue_stops_neither_succession_nor_orders(driver: str, crammed: Server) -> None:
    election = new_election()
    store = open_store(crammed.url(driver), call_limit_s=1.5)
    join(store, election, "a")
    connected = store._link.driver
    reading = store.exchange(election, Exchange(who("a"), swap=take("a", 1, 1, expected=None)))
    assert reading.swapped
    assert [told.failed for told in reading.told] == [True]
    assert "could not be told at once" in reading.told[0].sentence
    assert store.drain(election, "a", on=True)
    reading = store.exchange(election, Exchange(who("a"), swap=take("a", 2, 2, expected=1)))
    assert reading.swapped and reading.members[0].drained
    assert store._link.driver is connected, "the connection was thrown away"
    store.close()


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_full_queue_stops_no_will(driver: str, crammed: Server) -> None:
    election = new_election()
    store = open_store(crammed.url(driver), call_limit_s=1.5)
    join(store, election, "a")
    store.exchange(election, Exchange(swap=dataclasses.replace(take("a", 1, 1, expected=None), news=False)))
    assert helped(store, election, "a", 1) == (b"released\n", 0)
    record = store.exchange(election, Exchange()).record
    assert record is not None and record.leader is None
    store.close()


def helped(store: Store, election: str, member: str, term: int) -> tuple[bytes, int]:
    """What the will's helper says, started as the guard starts it, and its exit code."""
    will = store.will(election, member, term, f"{member} was killed")
    assert will is not None
    until = {"give_up_at": time.monotonic() + 5, "clock": time.CLOCK_MONOTONIC, "sys_path": sys.path}
    order = json.dumps({**dataclasses.asdict(will), **until}).encode() + b"\ngo\n"
    argv = [sys.executable, "-I", "-S", "-E", will_helper.__file__]
    done = subprocess.run(argv, input=order, capture_output=True, timeout=20, check=False)
    return done.stdout, done.returncode
