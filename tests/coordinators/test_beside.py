"""The line is in etcd, and the command works in a database: what is done there at a takeover, and what when it cannot be done.

Both servers are real. Airflow's job table is made by the test.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from heirflow.config.address import Address
from heirflow.election.record import CheckIn, Event, Exchange, Reading, Record, Swap, What
from heirflow.errors import ConfigError
from heirflow.programs.airflow.adopt import Adoption
from heirflow.stores import StoreRefuses, open_store
from heirflow.stores.keyed.documents import event_key, history_of, left_in, record_document, record_key
from heirflow.stores.keyed.keys import Write
from heirflow.stores.keyed.store import KeyedStore
from heirflow.stores.sql.beside import BUDGET, Database
from heirflow.stores.sql.store import SqlStore
from lab.servers.etcd import EtcdServer, etcd_missing, etcd_server
from lab.servers.servers import Server, free_port, postgres_server

pytestmark = pytest.mark.skipif(etcd_missing() is not None, reason=str(etcd_missing()))
LIMIT_S = 1.5
IN_TIME_S = BUDGET * LIMIT_S + 0.5
TTL_S = 10.0
ADOPTION = Adoption(None)
_numbers = count(1)


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    with etcd_server() as server:
        yield server


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Server]:
    """One that may be frozen."""
    with postgres_server() as server:
        yield server


def note_of(job: int) -> str:
    return json.dumps({"job_id": job, "job_type": "SchedulerJob"})


def job_table(url: str, *numbers: int) -> None:
    """Airflow's, with these rows running."""
    engine = sa.create_engine(url, future=True)
    moment = {"postgresql": "TIMESTAMP WITH TIME ZONE", "mysql": "TIMESTAMP(6)"}.get(engine.dialect.name, "TIMESTAMP")
    with engine.connect() as conn:
        conn.exec_driver_sql(
            "CREATE TABLE job (id INTEGER PRIMARY KEY, state VARCHAR(20), job_type VARCHAR(30), "
            f"end_date {moment} NULL, latest_heartbeat {moment} NULL)"
        )
        for number in numbers:
            conn.exec_driver_sql(f"INSERT INTO job (id, state, job_type) VALUES ({number}, 'running', 'SchedulerJob')")
        conn.commit()
    engine.dispose()


def states(url: str) -> dict[int, str]:
    engine = sa.create_engine(url, future=True)
    with engine.connect() as conn:
        found = {int(number): str(state) for number, state in conn.exec_driver_sql("SELECT id, state FROM job")}
    engine.dispose()
    return found


@dataclass
class Line:
    """An election in etcd whose members take charge one after the other, each with a store of its own."""

    etcd: EtcdServer
    undo: ExitStack
    election: str = field(default_factory=lambda: f"beside-{next(_numbers)}")
    stores: dict[str, KeyedStore] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    failed: bool = False
    took_s: float = 0.0

    def member(self, who: str, url: str | Address, on_taken: Any = ADOPTION) -> KeyedStore:
        """In line, and working in this database."""
        database = open_store(url, call_limit_s=LIMIT_S, application_name=f"member/{who}")
        assert isinstance(database, SqlStore)
        beside = Database(database, on_taken=on_taken, call_limit_s=LIMIT_S)
        store = open_store(self.etcd.store_url, call_limit_s=LIMIT_S, beside=beside)
        assert isinstance(store, KeyedStore)
        self.undo.callback(store.close)
        store.open()
        store.exchange(self.election, Exchange(check_in=CheckIn(who, who, 1, ready=True), join=True))
        self.stores[who] = store
        return store

    def exchange(self, who: str, swap: Swap | None) -> Reading:
        began = time.monotonic()
        reading = self.stores[who].exchange(
            self.election, Exchange(check_in=CheckIn(who, who, 1, ready=True), swap=swap)
        )
        self.took_s = time.monotonic() - began
        self.told = [each.sentence for each in reading.told]
        self.failed = any(each.failed for each in reading.told)
        return reading

    def record(self, seat: int = 1) -> Record | None:
        reading = next(iter(self.stores.values())).exchange(self.election, Exchange())
        return reading.places[seat - 1].record

    def takes(self, who: str, *, seat: int = 1, seats: int = 1) -> None:
        """Its swap wins."""
        before = self.record(seat) if seat > 1 else self.record()
        term = 1 if before is None else before.term + 1
        taken = Record(1 if before is None else before.version + 1, term, who, TTL_S)
        event = Event(What.TOOK_CHARGE, term, who, "it is its turn", seat=seat)
        left = "" if before is None else before.note
        expected = None if before is None else before.version
        swap = Swap(expected, taken, event, takes_over=left, news=True, seat=seat, seats=seats)
        assert self.exchange(who, swap).swapped

    def renews(self, who: str, note: str = "", *, seat: int = 1) -> None:
        before = self.record(seat)
        assert before is not None
        record = Record(before.version + 1, before.term, who, TTL_S, note=note or before.note)
        assert self.exchange(who, Swap(before.version, record, seat=seat)).swapped

    def leads(self, who: str, job: int) -> None:
        """Take charge, and say which row the command has written."""
        self.takes(who)
        self.renews(who, note_of(job))

    def left(self) -> list[str]:
        """The notes of those whose work nobody has adopted, as the record says."""
        seen = next(iter(self.stores.values()))._keys.read(f"elections/{self.election}")
        return left_in(record_document(seen, record_key(self.election, 1)))

    def history(self) -> list[str]:
        return [f"{each.word}: {each.because}" for each in self._events()]

    def _events(self) -> tuple[Event, ...]:
        return next(iter(self.stores.values())).events(self.election, 100)


@pytest.fixture
def line(etcd: EtcdServer) -> Iterator[Line]:
    with ExitStack() as undo:
        yield Line(etcd, undo)


class Sessions:
    """Of commands, by the names that HeirFlow gives them."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("+psycopg", "")
        self._open: dict[str, psycopg.Connection[Any]] = {}

    def open(self, *names: str) -> None:
        for name in names:
            self._open[name] = psycopg.connect(self._url, application_name=f"heirflow/{name}", autocommit=True)

    def alive(self) -> set[str]:
        found = set()
        for name, connection in self._open.items():
            with suppress(psycopg.Error):
                connection.execute("SELECT 1")
                found.add(name)
        return found

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()


@pytest.fixture
def sessions(database: str) -> Iterator[Sessions]:
    made = Sessions(database)
    yield made
    made.close()


@pytest.fixture
def database(new_database: Callable[[str], str]) -> str:
    return new_database("psycopg")


# ---- what is done ----


def test_sessions_of_all_who_led_and_of_who_stands_in_line_are_ended(
    line: Line, database: str, sessions: Sessions
) -> None:
    """a led two terms ago and is in no line any more; b is silent, and the record still names it; d and e never led."""
    job_table(database, 1, 2)
    for who in ("a", "c", "d", "e"):
        line.member(who, database)
    line.leads("a", 1)
    line.stores["a"].exchange(line.election, Exchange(check_in=CheckIn("a", "a", 1, ready=True), leave=True))
    line.member("b", database)
    line.leads("b", 2)
    assert states(database) == {1: "failed", 2: "running"}
    sessions.open("a/1", "b/1", "b", "d/1", "e", "stranger/1")
    line.takes("c")
    assert not line.failed, line.told
    assert sessions.alive() == {"e", "stranger/1"}
    assert states(database) == {1: "failed", 2: "failed"}
    assert "ended 1 session of a, which led before" in line.told
    assert "ended 2 sessions of b, which led before" in line.told
    assert "marked job 2 of the predecessor failed, so that its tasks are adopted at once" in line.told
    line.renews("c")
    [told] = [each for each in line.history() if "session of a" in each]
    assert told.startswith("adopted: ") and "marked job 2" in told


def test_who_leads_another_seat_keeps_its_sessions(line: Line, database: str, sessions: Sessions) -> None:
    job_table(database, 1, 2)
    for who in ("a", "b", "c"):
        line.member(who, database)
    line.takes("a", seats=2)
    line.renews("a", note_of(1))
    line.takes("b", seat=2)
    line.renews("b", note_of(2), seat=2)
    sessions.open("a/1", "b/1")
    line.takes("c", seat=2)
    assert sessions.alive() == {"a/1"}
    assert states(database) == {1: "running", 2: "failed"}


def test_who_makes_a_seat_vacant_adopts_for_it(line: Line, database: str, sessions: Sessions) -> None:
    job_table(database, 1, 2)
    for who in ("a", "b"):
        line.member(who, database)
    line.takes("a", seats=2)
    line.renews("a", note_of(1))
    line.takes("b", seat=2)
    line.renews("b", note_of(2), seat=2)
    sessions.open("a/1", "b/1")
    before = line.record(2)
    assert before is not None
    vacant = Record(before.version + 1, before.term, None, TTL_S)
    swap = Swap(
        before.version, vacant, Event(What.RELEASED, 1, "a", "b was silent", seat=2), takes_over=before.note, seat=2
    )
    assert line.exchange("a", swap).swapped
    assert sessions.alive() == {"a/1"}
    assert states(database) == {1: "running", 2: "failed"}


def test_a_start_in_place_ends_the_sessions_of_the_start_before(line: Line, database: str, sessions: Sessions) -> None:
    job_table(database, 1)
    line.member("a", database)
    line.leads("a", 1)
    sessions.open("a/1")
    before = line.record()
    assert before is not None
    record = Record(before.version + 1, before.term, "a", TTL_S)
    assert line.exchange("a", Swap(before.version, record, takes_over=before.note, start=2)).swapped
    assert sessions.alive() == set()
    assert states(database) == {1: "failed"}


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pymysql", "sqlite"])
def test_the_row_is_marked_in_every_database(driver: str, line: Line, new_database: Callable[[str], str]) -> None:
    url = new_database(driver)
    job_table(url, 1, 2)
    for who in ("a", "b"):
        line.member(who, url)
    line.leads("a", 1)
    line.takes("b")
    assert line.told == ["marked job 1 of the predecessor failed, so that its tasks are adopted at once"]
    assert states(url) == {1: "failed", 2: "running"}
    line.renews("b")
    assert line.left() == []


def test_a_renewal_asks_nothing_of_the_database(line: Line) -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        door.setblocking(False)
        line.member("a", f"postgresql+psycopg://x:y@127.0.0.1:{door.getsockname()[1]}/z")
        line.takes("a")
        with suppress(BlockingIOError):
            while True:
                door.accept()[0].close()
        for _ in range(5):
            line.renews("a", note_of(1))
            assert line.took_s < 0.5
        with pytest.raises(BlockingIOError):
            door.accept()


# ---- what cannot be done ----


@pytest.mark.parametrize("how", ["away", "refusing", "hanging"])
def test_what_failed_is_told_and_the_next_one_adopts_for_both(how: str, line: Line, own_postgres: Server) -> None:
    name = f"metadata_{how}"
    own_postgres.sql(f"CREATE DATABASE {name} OWNER heirflow", database="postgres")
    url = own_postgres.url("psycopg", database=name)
    job_table(url, 1, 2, 3)
    troubled = {
        "away": f"postgresql+psycopg://x:y@127.0.0.1:{free_port()}/z",
        "refusing": own_postgres.url("psycopg", database=name, password="another"),
        "hanging": url,
    }[how]
    for who in ("a", "c"):
        line.member(who, url)
    line.member("b", troubled)
    line.leads("a", 1)
    if how == "hanging":
        own_postgres.freeze()
    try:
        line.takes("b")
    finally:
        own_postgres.thaw()
    assert line.took_s < IN_TIME_S
    assert line.failed
    [told] = line.told
    assert told.startswith("could not adopt, nor end the sessions of who led before: PostgreSQL at ")
    assert "another" not in told
    line.renews("b", note_of(2))
    assert line.history()[-1] == f"fenced: {told}"
    assert line.left() == [note_of(1)]
    assert states(url) == {1: "running", 2: "running", 3: "running"}
    line.takes("c")
    assert not line.failed
    assert sorted(line.told) == [
        f"marked job {number} of the predecessor failed, so that its tasks are adopted at once" for number in (1, 2)
    ]
    assert states(url) == {1: "failed", 2: "failed", 3: "running"}
    line.renews("c", note_of(3))
    assert line.left() == []


def test_a_sqlite_that_is_not_there_is_not_made(line: Line, tmp_path: Any) -> None:
    file = tmp_path / "airflow.db"
    line.member("a", f"sqlite:///{file}")
    line.takes("a")
    assert line.failed
    assert not file.exists()


def test_when_the_history_cannot_be_read_the_row_is_marked_all_the_same(
    line: Line, database: str, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_table(database, 1)
    for who in ("a", "b"):
        line.member(who, database)
    line.leads("a", 1)
    line.stores["a"].exchange(line.election, Exchange(check_in=CheckIn("a", "a", 1, ready=True), leave=True))
    sessions.open("a/1")

    def refused(folder: str) -> list[str]:
        raise StoreRefuses(f"no right to read {folder}")

    with monkeypatch.context() as now:
        now.setattr(line.stores["b"]._keys, "names", refused)
        line.takes("b")
    assert line.failed
    assert line.told[0].startswith("could not tell whose sessions are over: no right to read")
    assert sessions.alive() == {"a/1"}
    assert states(database) == {1: "failed"}


def test_a_coordinator_that_hangs_after_the_swap_keeps_nobody_longer_than_a_taking_may_last(
    line: Line, database: str, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_table(database, 1)
    for who in ("a", "b"):
        line.member(who, database)
    line.leads("a", 1)
    line.stores["a"].exchange(line.election, Exchange(check_in=CheckIn("a", "a", 1, ready=True), leave=True))
    sessions.open("a/1")
    names = line.stores["b"]._keys.names

    def hanging(folder: str) -> list[str]:
        line.etcd.freeze()
        return names(folder)

    try:
        with monkeypatch.context() as now:
            now.setattr(line.stores["b"]._keys, "names", hanging)
            line.takes("b")
    finally:
        line.etcd.thaw()
    assert line.took_s < 2 * LIMIT_S - 0.5
    assert line.failed
    line.renews("b")
    assert line.left() == [note_of(1)]


def test_odd_events_in_the_history_hinder_nobody(line: Line, database: str, sessions: Sessions) -> None:
    """Anybody may write there."""
    job_table(database, 1)
    for who in ("a", "b"):
        line.member(who, database)
    line.leads("a", 1)
    sessions.open("a/1")
    took = Event(What.TOOK_CHARGE, 1, "a", "")
    odd = {
        event_key(line.election, 900 + number, took): json.dumps(each).encode()
        for number, each in enumerate(
            [{"member": "b", "term": "x"}, {"member": "b", "term": None}, {"member": ["b"]}, {"member": "b"}, [1], 7]
        )
    }
    line.stores["a"]._keys.commit(history_of(line.election), Write(puts=odd))
    line.takes("b")
    assert not line.failed, line.told
    assert sessions.alive() == set()
    assert states(database) == {1: "failed"}


def test_a_hook_that_did_not_come_back_is_tried_again_by_the_next_taking(line: Line, own_postgres: Server) -> None:
    own_postgres.sql("CREATE DATABASE stuck OWNER heirflow", database="postgres")
    url = own_postgres.url("psycopg", database="stuck")
    job_table(url, 1, 2)
    adoption = Adoption(None)
    hangs = True

    def hook(connection: sa.engine.Connection, note: str) -> str | None:
        if hangs:
            own_postgres.freeze()
        return adoption(connection, note)

    line.member("a", url)
    line.member("b", url, hook)
    line.leads("a", 1)
    try:
        line.takes("b")
    finally:
        own_postgres.thaw()
    assert line.failed and line.took_s < IN_TIME_S
    hangs = False
    line.takes("b")
    assert line.told == ["marked job 1 of the predecessor failed, so that its tasks are adopted at once"]


def test_who_cannot_adopt_keeps_what_others_left(line: Line, database: str) -> None:
    """A member that could not ask Airflow for its database stands in the line too."""
    job_table(database, 1, 2)
    line.member("a", database)
    line.member("b", f"postgresql+psycopg://x:y@127.0.0.1:{free_port()}/z")
    line.member("d", database)
    line.leads("a", 1)
    line.takes("b")
    plain = open_store(line.etcd.store_url, call_limit_s=LIMIT_S)
    assert isinstance(plain, KeyedStore)
    line.undo.callback(plain.close)
    plain.open()
    line.stores["c"] = plain
    line.takes("c")
    line.renews("c", note_of(2))
    assert line.left() == [note_of(1)]
    line.takes("d")
    assert states(database) == {1: "failed", 2: "failed"}


def test_severed_before_it_began_it_is_not_begun(line: Line, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The member has given this exchange up, and another one of its own may lead to a command by now."""
    job_table(database, 1)
    for who in ("a", "b"):
        line.member(who, database)
    line.leads("a", 1)
    store = line.stores["b"]
    commit = store._keys.commit

    def given_up(folder: str, write: Write) -> Any:
        done = commit(folder, write)
        store.sever()
        return done

    monkeypatch.setattr(store._keys, "commit", given_up)
    line.takes("b")
    assert line.failed
    assert states(database) == {1: "running"}
    monkeypatch.undo()
    line.renews("b")
    assert line.left() == [note_of(1)]
    line.takes("b")
    assert states(database) == {1: "failed"}


def test_a_call_that_hangs_ends_when_it_is_severed(line: Line, own_postgres: Server) -> None:
    line.member("a", own_postgres.url("psycopg"))
    line.takes("a")
    own_postgres.freeze()
    try:
        severing = threading.Timer(0.2, line.stores["a"].sever)
        severing.start()
        line.takes("a")
        severing.join()
    finally:
        own_postgres.thaw()
    assert 0.15 < line.took_s < 0.6
    assert line.failed


class TestAPasswordThatHasChanged:
    @pytest.fixture
    def url(self, own_postgres: Server) -> str:
        name = f"rotated_{next(_numbers)}"
        own_postgres.sql(f"CREATE DATABASE {name} OWNER heirflow", database="postgres")
        url = own_postgres.url("psycopg", database=name)
        job_table(url, 1)
        return url

    def test_is_asked_for(self, line: Line, url: str) -> None:
        line.member("a", url)
        line.member("b", Address(url.replace("heirflow:", "heirflow:old"), ask=lambda: url))
        line.leads("a", 1)
        line.takes("b")
        assert states(url) == {1: "failed"}, line.told

    def test_is_not_waited_for_beyond_the_limit(self, line: Line, url: str) -> None:
        """It goes on being asked for, and who takes charge next knows it."""
        asked = threading.Event()

        def slowly() -> str:
            time.sleep(2.0)
            asked.set()
            return url

        line.member("a", url)
        line.member("b", Address(url.replace("heirflow:", "heirflow:old"), ask=slowly))
        line.leads("a", 1)
        line.takes("b")
        assert line.took_s < IN_TIME_S
        assert line.failed
        assert asked.wait(5.0)
        line.takes("b")
        assert states(url) == {1: "failed"}, line.told

    def test_is_asked_for_in_vain(self, line: Line, url: str) -> None:
        def away() -> str:
            raise ConfigError("Airflow cannot be asked")

        line.member("a", url)
        line.member("b", Address(url.replace("heirflow:", "heirflow:old"), ask=away))
        line.leads("a", 1)
        line.takes("b")
        assert line.failed and line.took_s < IN_TIME_S
