"""The recipe in docs/fencing.md for programs that fence by themselves, carried out with drivers that nobody has told anything."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from heirflow import LostLead
from heirflow.election.record import Exchange
from heirflow.stores import open_store
from heirflow.testing.store_tools import take
from tests.contract.drivers import MYSQL, POSTGRES

DOCS = Path(__file__).resolve().parents[2] / "docs"
DRIVERS = [POSTGRES[0], *MYSQL]
Begin = Callable[[Any], None]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def begin() -> Begin:
    names: dict[str, Begin] = {}
    _, recipe = blocks("fencing.md", "python")
    exec(recipe, names)  # type: ignore[arg-type]
    return names["begin"]


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    """Of a database with the recipe's table."""
    address = new_database(request.param)
    (tables,) = blocks("fencing.md", "sql")
    with closing(connected(address)) as link:
        for statement in [*tables.strip().rstrip(";").split(";"), "CREATE TABLE written (term bigint)"]:
            link.cursor().execute(statement)
        link.commit()
    return address


def connected(url: str) -> Any:
    """A connection of the bare driver's: SQLAlchemy has MySQL's count rows in another way."""
    address = sa.engine.make_url(url)
    driver: Any = sa.create_engine(address).dialect.dbapi
    name = "database" if "mysql" in address.drivername else "dbname"
    where = {"host": address.host, "port": address.port, "user": address.username, name: address.database}
    return driver.connect(password=address.password, **where)


@pytest.mark.parametrize("term", [1, 2])
def test_the_program_that_holds_writes_in_its_own_term_only(
    url: str, term: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {}
    program, _ = blocks("fencing.md", "python")
    with closing(open_store(url, call_limit_s=5)) as store, closing(connected(url)) as link:
        store.open()
        store.exchange("nightly", Exchange(swap=take("a-1", term, 1, expected=None)))
        cursor = link.cursor()
        cursor.execute("CREATE TABLE report (name varchar(100))")
        link.commit()
        for name, value in {"ELECTION": "nightly", "MEMBER": "a-1", "TERM": "1"}.items():
            monkeypatch.setenv(f"HEIRFLOW_{name}", value)
        monkeypatch.setenv("DATABASE_URL", url)
        with nullcontext() if term == 1 else pytest.raises(LostLead):
            exec(program, names)
        names["engine"].dispose()
        cursor.execute("SELECT count(*) FROM report")
        assert cursor.fetchone() == (int(term == 1),)


def test_the_guarded_update_lets_no_old_term_write(url: str, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(connected(url)) as old, closing(connected(url)) as new:

        def write(link: Any, term: int) -> None:
            monkeypatch.setenv("HEIRFLOW_TERM", str(term))
            cursor = link.cursor()
            begin(cursor)
            cursor.execute("INSERT INTO written VALUES (%s)", (term,))

        write(old, 7)  # within its transaction, when the new leader comes
        heir = threading.Thread(target=write, args=(new, 8))
        heir.start()
        heir.join(0.3)
        assert heir.is_alive(), "the new term waits until the old one's transaction has ended"
        old.commit()
        heir.join(10)
        new.commit()
        with pytest.raises(SystemExit, match="term 7 is over"):
            write(old, 7)
        old.rollback()
        for _ in range(2):  # one term, one transaction after the other
            write(new, 8)
            new.commit()
        cursor = old.cursor()
        cursor.execute("SELECT term FROM written")
        assert [term for (term,) in cursor.fetchall()] == [7, 8, 8, 8]


def test_a_limit_for_idle_transactions_frees_the_row_of_a_host_that_is_lost(
    url: str, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = "idle_transaction_timeout = 1" if "mysql" in url else "idle_in_transaction_session_timeout = '1s'"
    with closing(connected(url)) as lost, closing(connected(url)) as heir:
        lost.cursor().execute(f"SET {limit}")
        lost.commit()
        for term, link in ((7, lost), (8, heir)):
            monkeypatch.setenv("HEIRFLOW_TERM", str(term))
            start = time.monotonic()
            begin(link.cursor())
        assert 0.5 < time.monotonic() - start < 10
        heir.commit()
