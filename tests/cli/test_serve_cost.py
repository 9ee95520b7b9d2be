"""What the page asks of a database while nothing happens: one statement a second, whoever looks and however much there is."""

from __future__ import annotations

import re
import threading
import time
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection, HTTPException

import pytest

from heirflow.election.record import CheckIn, Event, Exchange, What
from heirflow.stores import open_store
from heirflow.testing.store_tools import take
from lab.servers.servers import Server
from tests.cli.conftest import until
from tests.cli.test_serve import serve  # noqa: F401  a fixture
from tests.contract.drivers import POSTGRES

ASKED = re.compile(r"heirflow-web\S* LOG: +(?:statement|execute [^:]*): (.*)")
ELECTIONS = [f"line-{number:02}" for number in range(20)]
FOR_S = 8.0
RISING_S = 4.0
"""So long the page may take to have read everything once."""


@pytest.mark.parametrize("driver", POSTGRES)
def test_one_statement_a_second_for_twenty_elections_and_three_viewers(
    serve,  # noqa: F811
    new_database,
    postgres: Server,
    driver,
):
    url = new_database(driver)
    postgres.sql(f"ALTER DATABASE {url.rpartition('/')[2].partition('?')[0]} SET log_statement = 'all'")
    store = open_store(url, call_limit_s=5)
    with ExitStack() as undo:
        undo.callback(store.close)
        store.open()
        for name in ELECTIONS:
            for number, member in enumerate(("a", "b", "c")):
                swap = None if number else take(member, 1, 1, expected=None)
                store.exchange(name, Exchange(CheckIn(member, f"host-{member}", 1, ready=True), join=True, swap=swap))
        page = serve("--db-url", url)
        heard = dict.fromkeys(("/", *(f"/election?name={name}" for name in ELECTIONS[:2])), b"")

        def look(path: str) -> None:
            with suppress(OSError, HTTPException), closing(HTTPConnection("127.0.0.1", page.port, timeout=60)) as link:
                link.request("GET", path, headers={"Accept": "text/event-stream"})
                answer = link.getresponse()
                while not over.is_set():
                    heard[path] += answer.read1(65536)

        over = threading.Event()
        threads = [threading.Thread(target=look, args=(path,), daemon=True) for path in heard]
        undo.callback(over.set)
        for thread in threads:
            thread.start()
        until(lambda: all(heard.values()), "everybody sees something")
        time.sleep(RISING_S)
        position, began = postgres.log.stat().st_size, time.monotonic()
        time.sleep(FOR_S)
        took_s = time.monotonic() - began
        with postgres.log.open("rb") as log:
            log.seek(position)
            asked = ASKED.findall(log.read().decode())
        assert all(thread.is_alive() for thread in threads), heard
        assert 0.6 * took_s <= len(asked) <= 1.2 * took_s + 1, asked
        # What happens is seen all the same, at once and of any election.
        said = "something that nobody expected"
        store.exchange(ELECTIONS[1], Exchange(notes=(Event(What.REFUSED, 1, "a", said),)))
        path = [*heard][2]
        until(lambda: said.encode() in heard[path], "the page tells it")
