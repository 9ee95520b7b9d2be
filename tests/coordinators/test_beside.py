"""Beside a coordinator: what is done, after a swap that won, in the database in which the command works.

The promises that could break here: never two (a session of who led before writes on), always one, soon (that database keeps
somebody from taking charge), that nobody else is touched, and that what could not be adopted is not forgotten.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, cast

import pytest
import sqlalchemy as sa

from heirflow.election.record import CheckIn, Event, Exchange, Reading, Record, Swap, Told, What
from heirflow.programs.airflow.adopt import Adoption
from heirflow.stores import Address, OnTaken, StoreUnavailable, open_store
from heirflow.stores.keyed.documents import history_of, left_in, record_document, record_key
from heirflow.stores.keyed.documents import written as as_written
from heirflow.stores.keyed.keys import Seen, Write
from heirflow.stores.keyed.store import KeyedStore
from heirflow.stores.keyed.will import carry_out
from heirflow.stores.sql.beside import BUDGET, Database
from heirflow.stores.sql.store import SqlStore
from heirflow.testing.store_tools import new_election, take, who
from lab.servers.consul_double import consul_double
from lab.servers.etcd import etcd_missing, etcd_server
from lab.servers.servers import Server, postgres_server
from lab.servers.zookeeper import zookeeper_missing, zookeeper_server
from tests.contract.drivers import ALL, POSTGRES, SERVERS
from tests.contract.test_fencing import Sessions, alive

pytestmark = pytest.mark.skipif(etcd_missing() is not None, reason=str(etcd_missing()))

NewDatabase = Callable[[str], str]
LIMIT_S = 1.5
JOB = """CREATE TABLE job (id INTEGER PRIMARY KEY, state VARCHAR(20), job_type VARCHAR(30), start_date {moment},
    end_date {moment} NULL, latest_heartbeat {moment} NULL)"""
MOMENT = {"postgresql": "TIMESTAMP WITH TIME ZONE", "mysql": "TIMESTAMP(6)"}


@pytest.fixture(scope="module")
def etcd() -> Iterator[str]:
    with etcd_server() as server:
        yield server.store_url


@contextmanager
def coordinator(kind: str) -> Iterator[tuple[str, Any]]:
    """Its URL, and what can be frozen and thawed."""
    if kind == "etcd":
        with etcd_server() as server:
            yield server.store_url, server
    elif kind == "consul":
        with consul_double() as consul:
            yield consul.url, consul
    else:
        if (missing := zookeeper_missing()) is not None:
            pytest.skip(missing)  # in CI a skip is a failure
        with zookeeper_server() as ensemble:
            yield ensemble.url, ensemble.server


@pytest.fixture(scope="module")
def struck() -> Iterator[Server]:
    """A PostgreSQL that tests may freeze and stop; each thaws and starts it again."""
    with postgres_server() as server:
        yield server


def note_of(number: int) -> str:
    return json.dumps({"job_id": number, "job_type": "SchedulerJob"})


def marked(number: int) -> Told:
    return Told(f"marked job {number} of the predecessor failed, so that its tasks are adopted at once")


class Metadata:
    """A database with Airflow's job table."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = sa.create_engine(url, future=True, poolclass=sa.pool.NullPool)
        moment = MOMENT.get(self.engine.dialect.name, "TIMESTAMP")
        with self.engine.begin() as conn:
            conn.exec_driver_sql(JOB.format(moment=moment))
            for number in range(1, 10):
                conn.exec_driver_sql(
                    f"INSERT INTO job (id, state, job_type) VALUES ({number}, 'running', 'SchedulerJob')"
                )

    @property
    def marked(self) -> list[int]:
        """Rows that do not run any more."""
        with self.engine.connect() as conn:
            return [row[0] for row in conn.exec_driver_sql("SELECT id FROM job WHERE state = 'failed' ORDER BY id")]


class Line:
    """A line in etcd. Each member has a store of its own; what a member does is done as members do it."""

    def __init__(self, coordinator: str, beside: str | Address, undo: ExitStack, adopt: OnTaken | None) -> None:
        self.coordinator, self.beside, self.adopt = coordinator, beside, adopt
        self.election = new_election()
        self._undo = undo
        self.stores: dict[str, KeyedStore] = {}

    def store(self, member: str) -> KeyedStore:
        if member not in self.stores:
            limit_s = BUDGET * LIMIT_S
            database = open_store(self.beside, call_limit_s=limit_s, application_name=f"member/{member}")
            own = Database(cast("SqlStore", database), on_taken=self.adopt, limit_s=limit_s)
            made = open_store(self.coordinator, call_limit_s=LIMIT_S, beside=own)
            self._undo.callback(made.close)
            self.stores[member] = cast("KeyedStore", made)
        return self.stores[member]

    def join(self, *members: str) -> None:
        for member in members:
            self.store(member).exchange(self.election, Exchange(who(member), join=True))

    def record(self, seat: int = 1) -> Record | None:
        first = next(iter(self.stores.values()))
        return first.exchange(self.election, Exchange()).record_of(seat)

    def takes(self, member: str, *, note: str = "", seat: int = 1, seats: int = 1) -> Reading:
        """Take charge in a new term, over what the record says; and say which row is its own, as with the next renewal."""
        reading, before = self.asks(member, seat=seat, seats=seats)
        assert reading.swapped
        if note:
            self.renews(member, note=note, seat=seat)
        return dataclasses.replace(reading, swapped=before is not None)

    def asks(self, member: str, *, seat: int = 1, seats: int = 1) -> tuple[Reading, Record | None]:
        store = self.store(member)
        before = store.exchange(self.election, Exchange()).record_of(seat)
        version, term = (0, 0) if before is None else (before.version, before.term)
        swap = take(
            member, term + 1, version + 1, expected=version or None, takes_over="" if before is None else before.note
        )
        swap = dataclasses.replace(swap, seat=seat, seats=seats, start=1)
        return store.exchange(self.election, Exchange(who(member), swap=swap)), before

    def renews(self, member: str, *, note: str = "", seat: int = 1) -> Reading:
        before = self.record(seat)
        assert before is not None and before.leader == member
        record = dataclasses.replace(before, version=before.version + 1, note=note or before.note)
        swap = Swap(before.version, record, seat=seat, start=1)
        reading = self.store(member).exchange(self.election, Exchange(who(member), swap=swap))
        assert reading.swapped
        return reading

    def left(self, seat: int = 1) -> list[str]:
        """What the record says that nobody has adopted."""
        first = next(iter(self.stores.values()))
        seen = first._keys.read(f"elections/{self.election}")
        return left_in(record_document(seen, record_key(self.election, seat)))

    @property
    def history(self) -> list[tuple[str, str]]:
        first = next(iter(self.stores.values()))
        return [(each.what.value, each.because) for each in first.events(self.election, 99)]


@contextmanager
def line_in(coordinator: str, beside: str | Address, adopt: OnTaken | None = None) -> Iterator[Line]:
    with ExitStack() as undo:
        yield Line(coordinator, beside, undo, adopt or Adoption(None))


@pytest.fixture
def metadata(new_database: NewDatabase) -> Metadata:
    return Metadata(new_database(POSTGRES[0]))


@pytest.fixture
def line(etcd: str, metadata: Metadata) -> Iterator[Line]:
    with line_in(etcd, metadata.url) as made:
        yield made


@pytest.fixture
def theirs(metadata: Metadata) -> Iterator[Sessions]:
    with ExitStack() as undo:
        yield Sessions(metadata.url, undo)


# ---- what is done ----


@pytest.mark.parametrize(
    ("kind", "driver"),
    [*(("etcd", driver) for driver in POSTGRES), ("zookeeper", POSTGRES[0]), ("consul", POSTGRES[0])],
)
def test_the_sessions_of_who_led_end_and_their_row_is_marked(kind: str, driver: str, new_database: NewDatabase) -> None:
    metadata = Metadata(new_database(driver))
    with ExitStack() as undo, coordinator(kind) as (where, _), line_in(where, metadata.url) as line:
        theirs = Sessions(metadata.url, undo)
        line.join("m-4")
        for number, member in enumerate(("a-1", "b-2", "c-3"), 1):
            line.takes(member, note=note_of(number))
        assert metadata.marked == [1, 2]
        before, frozen, in_line = (theirs.open(f"heirflow/{name}/1") for name in ("c-3", "a-1", "m-4"))
        frozen.execute(sa.text("SELECT id FROM job FOR UPDATE"))
        spared = [
            theirs.open(name) for name in ("heirflow/d-5/1x", "heirflow/z-9/1", "heirflow-standby/m-4", "psql", "")
        ]
        reading = line.takes("d-5")
        assert not any(alive(conn) for conn in (before, frozen, in_line))
        assert all(alive(conn) for conn in spared)
        assert metadata.marked == [1, 2, 3]
        ended = tuple(Told(f"ended 1 session of {each}, which led before") for each in ("a-1", "c-3", "m-4"))
        assert reading.told == (*ended, marked(3))
        said = "; ".join(each.sentence for each in reading.told)
        assert ("adopted", said) not in line.history
        line.renews("d-5")
        assert line.history[-1] == ("adopted", said)
        assert line.left() == []


def test_who_leads_another_seat_is_spared(line: Line, metadata: Metadata, theirs: Sessions) -> None:
    line.takes("a-1", note=note_of(1), seats=2)
    line.takes("b-2", note=note_of(2), seat=2)
    first, second = theirs.open("heirflow/a-1/1"), theirs.open("heirflow/b-2/1")
    assert line.takes("c-3", seat=2).told == (Told("ended 1 session of b-2, which led before"), marked(2))
    assert alive(first) and not alive(second)
    assert metadata.marked == [2]
    third = theirs.open("heirflow/c-3/1")
    assert line.takes("d-4").told == (Told("ended 1 session of a-1, which led before"), marked(1))
    assert alive(third) and not alive(first)


def test_a_seat_that_is_made_vacant_is_adopted(line: Line, metadata: Metadata, theirs: Sessions) -> None:
    line.takes("a-1", note=note_of(1), seats=2)
    line.takes("b-2", note=note_of(2), seat=2)
    first, second = theirs.open("heirflow/a-1/1"), theirs.open("heirflow/b-2/1")
    before = line.record(2)
    assert before is not None
    vacant = dataclasses.replace(before, version=before.version + 1, leader=None, note="")
    event = Event(What.RELEASED, before.term, "a-1", "b-2 was silent", seat=2)
    swap = Swap(before.version, vacant, event, news=True, seat=2, takes_over=before.note)
    reading = line.store("a-1").exchange(line.election, Exchange(who("a-1"), swap=swap))
    assert reading.told == (Told("ended 1 session of b-2, which led before"), marked(2))
    assert alive(first) and not alive(second)
    assert metadata.marked == [2]


def test_nothing_of_it_happens_at_renewals(line: Line, metadata: Metadata, theirs: Sessions) -> None:
    line.takes("a-1", note=note_of(1))
    line.takes("b-2", note=note_of(2))
    back = theirs.open("heirflow/a-1/1")
    with metadata.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE job SET state = 'running'")
    for _ in range(3):
        assert line.renews("b-2").told == ()
    line.store("b-2").exchange(line.election, Exchange(who("b-2")))
    assert alive(back) and metadata.marked == []
    asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'heirflow-member/%'"
    with metadata.engine.connect() as conn:
        assert conn.exec_driver_sql(asked.replace("%", "%%")).scalar() == 0, "no connection is kept"


def test_a_swap_that_is_lost_does_nothing(line: Line, metadata: Metadata, theirs: Sessions) -> None:
    line.takes("a-1", note=note_of(1))
    own = theirs.open("heirflow/a-1/1")
    lost = take("b-2", 2, 9, expected=8, takes_over=note_of(1))
    reading = line.store("b-2").exchange(line.election, Exchange(who("b-2"), swap=lost))
    assert (reading.swapped, reading.told) == (False, ())
    assert alive(own) and metadata.marked == []


@pytest.mark.parametrize("driver", [name for name in ALL if name not in POSTGRES])
def test_where_no_sessions_can_be_ended_the_row_is_marked(driver: str, etcd: str, new_database: NewDatabase) -> None:
    metadata = Metadata(new_database(driver))
    with line_in(etcd, metadata.url) as line:
        line.takes("a-1", note=note_of(1))
        assert line.takes("b-2").told == (marked(1),)
        assert metadata.marked == [1]


@pytest.mark.parametrize("driver", ALL)
def test_the_same_note_adopted_twice_changes_nothing(driver: str, etcd: str, new_database: NewDatabase) -> None:
    metadata = Metadata(new_database(driver))
    with line_in(etcd, metadata.url) as line:
        line.takes("a-1", note=note_of(1))
        line.takes("b-2")
        with metadata.engine.connect() as conn:
            before = conn.exec_driver_sql("SELECT * FROM job ORDER BY id").all()
        # Its member died before a renewal could say that it is done with.
        assert line.left() == [note_of(1)]
        assert line.takes("c-3").told == ()
        with metadata.engine.connect() as conn:
            assert conn.exec_driver_sql("SELECT * FROM job ORDER BY id").all() == before
        line.renews("c-3")
        assert line.left() == []


# ---- a database that is away ----


FAILED = "could not adopt, nor end the sessions of who led before: "


@pytest.mark.parametrize("strike", ["away", "refusing", "hanging"])
def test_a_database_that_fails_keeps_nobody_from_taking_charge_and_the_next_one_adopts_for_both(
    strike: str, etcd: str, struck: Server
) -> None:
    name = f"metadata_{strike}"
    struck.sql(f"CREATE DATABASE {name} OWNER heirflow")
    metadata = Metadata(struck.url(POSTGRES[0], database=name))
    with line_in(etcd, metadata.url) as line:
        line.takes("a-1", note=note_of(1))
        line.store("b-2")
        harm = {"away": struck.crash, "hanging": struck.freeze}.get(
            strike, lambda: struck.sql("ALTER ROLE heirflow NOLOGIN", database="postgres")
        )
        undo = {"away": struck.start, "hanging": struck.thaw}.get(
            strike, lambda: struck.sql("ALTER ROLE heirflow LOGIN", database="postgres")
        )
        harm()
        try:
            start = time.monotonic()
            reading = line.takes("b-2")
            took_s = time.monotonic() - start
            assert took_s < LIMIT_S
            assert reading.record is not None and reading.record.leader == "b-2"
            [told] = reading.told
            assert told.failed and told.sentence.startswith(FAILED)
            assert struck.password not in told.sentence
            start = time.monotonic()
            line.renews("b-2", note=note_of(2))
            assert time.monotonic() - start < LIMIT_S / 2, "a renewal does not wait for another server"
            assert line.history[-1] == ("fenced", told.sentence)
            assert line.left() == [note_of(1)]
        finally:
            undo()
        assert metadata.marked == []
        assert line.takes("c-3").told == (marked(2), marked(1))
        assert metadata.marked == [1, 2]
        line.renews("c-3")
        assert line.left() == []


def test_who_took_charge_while_the_database_was_away_adopts_when_it_is_back(
    etcd: str, struck: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the tasks that were left wait until somebody else takes charge, or for Airflow's own five minutes."""
    struck.sql("CREATE DATABASE metadata_back OWNER heirflow")
    metadata = Metadata(struck.url(POSTGRES[0], database="metadata_back"))
    with line_in(etcd, metadata.url) as line:
        line.takes("a-1", note=note_of(1))
        line.store("b-2")
        struck.crash()
        try:
            assert [each.failed for each in line.takes("b-2").told] == [True]
            monkeypatch.setattr("heirflow.stores.keyed.store.ADOPT_AGAIN_S", 0.0)
            line.store("b-2")._adopt_at = 0.0
            start = time.monotonic()
            assert line.renews("b-2", note=note_of(2)).told == (), "what fails again is not told again"
            assert time.monotonic() - start < LIMIT_S
        finally:
            struck.start()
        assert line.left() == [note_of(1)]
        assert line.renews("b-2").told == (marked(1),)
        assert metadata.marked == [1]
        line.renews("b-2")
        assert line.left() == []
        assert line.history[-1] == ("adopted", marked(1).sentence)
        assert line.renews("b-2").told == ()


@pytest.mark.parametrize("driver", SERVERS)
def test_a_row_that_somebody_has_locked_costs_no_more_than_its_time(
    driver: str, etcd: str, new_database: NewDatabase
) -> None:
    metadata = Metadata(new_database(driver))
    with line_in(etcd, metadata.url) as line, metadata.engine.connect() as holder:
        line.takes("a-1", note=note_of(1))
        line.takes("b-2", note=note_of(2))
        holder.exec_driver_sql("SELECT id FROM job WHERE id = 2 FOR UPDATE")
        start = time.monotonic()
        [told] = line.takes("c-3", note=note_of(3)).told
        assert time.monotonic() - start < LIMIT_S
        assert told.failed and "could not adopt: " in told.sentence
        assert line.left() == [note_of(2)]
        # The newest is not kept from being adopted by the one before, nor the other way round.
        assert [each.failed for each in line.takes("d-4", note=note_of(4)).told] == [False, True]
        assert metadata.marked == [1, 3]
        assert line.left() == [note_of(2)]
        holder.rollback()
        line.takes("e-5")
        assert metadata.marked == [1, 2, 3, 4]


def test_a_file_that_somebody_has_locked_costs_no_more_than_its_time(etcd: str, new_database: NewDatabase) -> None:
    metadata = Metadata(new_database("sqlite"))
    with line_in(etcd, metadata.url) as line, metadata.engine.connect() as holder:
        line.takes("a-1", note=note_of(1))
        holder.exec_driver_sql("BEGIN IMMEDIATE")
        start = time.monotonic()
        [told] = line.takes("b-2", note=note_of(2)).told
        assert time.monotonic() - start < LIMIT_S
        assert told.failed and "locked" in told.sentence
        holder.rollback()
        assert line.takes("c-3").told == (marked(2), marked(1))


def test_a_coordinator_that_takes_long_leaves_no_time_for_it(
    line: Line, metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member waits twice the limit of a call for this exchange. One that it gives up would have to be made again."""
    line.takes("a-1", note=note_of(1))
    keys = line.store("b-2")._keys
    commit = keys.commit

    def late(folder: str, write: Write) -> tuple[bool, Seen]:
        time.sleep(LIMIT_S)
        return commit(folder, write)

    with monkeypatch.context() as patched:
        patched.setattr(keys, "commit", late)
        [told] = line.takes("b-2").told
    assert told.failed and told.sentence.endswith("etcd took too long")
    assert (metadata.marked, line.left()) == ([], [note_of(1)])


def test_severed_from_another_thread_it_ends_at_once(etcd: str, struck: Server) -> None:
    struck.sql("CREATE DATABASE metadata_severed OWNER heirflow")
    metadata = Metadata(struck.url(POSTGRES[0], database="metadata_severed"))
    with line_in(etcd, metadata.url) as line:
        line.takes("a-1", note=note_of(1))
        store = line.store("b-2")
        struck.freeze()
        try:
            start = time.monotonic()
            threading.Timer(0.2, store.sever).start()
            reading = line.takes("b-2")
            assert 0.2 < time.monotonic() - start < BUDGET * LIMIT_S - 0.1
            assert [each.failed for each in reading.told] == [True]
        finally:
            struck.thaw()
        assert line.renews("b-2").swapped


def test_a_hook_that_breaks_the_connection_is_told_and_called_again(etcd: str, metadata: Metadata) -> None:
    """No swap can be lost to it here."""
    calls: list[str] = []

    def adopt(conn: sa.engine.Connection, note: str) -> str | None:
        calls.append(note)
        if len(calls) == 1:
            conn.invalidate()
            raise LookupError("nothing that anybody knows")
        return Adoption(None)(conn, note)

    with line_in(etcd, metadata.url, adopt) as line:
        line.takes("a-1", note=note_of(1))
        [told] = line.takes("b-2").told
        assert told.failed and told.sentence.startswith("could not adopt")
        assert line.takes("c-3").told == (marked(1),)


def test_a_file_that_is_gone_is_not_made_anew(etcd: str, tmp_path: Any) -> None:
    file = tmp_path / "airflow.db"
    with line_in(etcd, f"sqlite:///{file}") as line:
        line.takes("a-1", note=note_of(1))
        [told] = line.takes("b-2").told
        assert told.failed and told.sentence.endswith("does not exist")
        assert not file.exists()


# ---- who must not lose what is left ----


def test_a_will_and_an_order_leave_what_is_to_be_adopted(line: Line, metadata: Metadata, etcd: str) -> None:
    line.takes("a-1", note=note_of(1))
    good, line.beside = line.beside, sa.engine.make_url(metadata.url).set(port=1).render_as_string(False)
    line.takes("b-2", note=note_of(2))
    assert line.left() == [note_of(1)]
    before = line.record()
    assert before is not None
    with closing(open_store(etcd, call_limit_s=LIMIT_S)) as person:
        paused = dataclasses.replace(before, version=before.version + 1, paused=True)
        assert person.exchange(line.election, Exchange(swap=Swap(before.version, paused))).swapped
        assert person.set_seats(line.election, 2)
    assert line.left() == [note_of(1)]
    will = dataclasses.asdict(line.store("b-2").will(line.election, "b-2", before.term, "killed, says {prover}"))
    assert carry_out(will, lambda: True)
    assert line.left() == [note_of(1)]
    line.beside = good
    assert line.takes("c-3").told == (marked(2), marked(1))


def test_a_member_without_that_database_leaves_its_predecessors_note(line: Line, metadata: Metadata, etcd: str) -> None:
    """Airflow could not be asked on that host."""
    line.takes("a-1", note=note_of(1))
    with closing(open_store(etcd, call_limit_s=LIMIT_S)) as without:
        line.stores["b-2"] = cast("KeyedStore", without)
        assert line.takes("b-2", note=note_of(2)).told == ()
        assert line.left() == [note_of(1)]
        assert line.takes("c-3").told == (marked(2), marked(1))
    assert metadata.marked == [1, 2]


# ---- who leads now ----


def test_who_took_charge_meanwhile_keeps_its_sessions(
    etcd: str, metadata: Metadata, theirs: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """b-2 stands still between its swap and the look at the database; its lease ends, and c-3 leads."""
    with line_in(etcd, metadata.url) as line:
        line.join("c-3")
        line.takes("a-1")
        own = Database.taken
        opened: list[sa.engine.Connection] = []

        def late(self: Database, *said: Any) -> Any:
            if not opened:
                opened.append(theirs.open("heirflow/c-3/1"))  # before, so that c-3's own look does not come first
                monkeypatch.setattr(Database, "taken", lambda *_: ((), frozenset()))
                line.takes("c-3")
            return own(self, *said)

        monkeypatch.setattr(Database, "taken", late)
        reading = line.takes("b-2")
        assert reading.told == ()
        assert alive(opened[0])


@pytest.mark.parametrize("term", ["x", None, [], 1e300])
def test_a_history_that_anybody_has_written_in_spoils_nothing(
    term: object, line: Line, metadata: Metadata, theirs: Sessions
) -> None:
    line.takes("a-1", note=note_of(1))
    odd = {"what": "took charge", "term": term, "member": "b-2"}
    keys = line.store("a-1")._keys
    keys.commit(f"elections/{line.election}", Write(puts={f"{history_of(line.election)}/9999t": as_written(odd)}))
    session = theirs.open("heirflow/a-1/1")
    theirs.open("heirflow/b-2/1")
    assert marked(1) in line.takes("b-2").told
    assert not alive(session)


@pytest.mark.parametrize("kind", ["etcd", "zookeeper", "consul"])
def test_a_coordinator_that_hangs_when_it_is_asked_who_led_costs_little_and_the_row_is_marked(
    kind: str, metadata: Metadata, theirs: Sessions
) -> None:
    with coordinator(kind) as (url, server), line_in(url, metadata.url) as line:
        line.takes("a-1", note=note_of(1))
        session = theirs.open("heirflow/a-1/1")
        with frozen_when_asked_for_names(line.store("b-2"), server):
            start = time.monotonic()
            told = line.takes("b-2").told
            assert time.monotonic() - start < LIMIT_S
        assert told[1:] == (marked(1),), told
        assert told[0].failed and told[0].sentence.startswith("the sessions of earlier leaders stay: ")
        assert alive(session), "nobody could say whose it is"
        assert line.renews("b-2").swapped
        line.takes("c-3")
        assert not alive(session)


@contextmanager
def frozen_when_asked_for_names(store: KeyedStore, server: Any) -> Iterator[None]:
    names = store._keys.names

    def asked(folder: str) -> list[str]:
        server.freeze()
        return names(folder)

    store._keys.names = asked  # type: ignore[method-assign]
    try:
        yield
    finally:
        server.thaw()
        del store._keys.names


# ---- a password that changes ----


class Rotating:
    """An `Address` whose program takes long to answer."""

    def __init__(self, url: str, then: str, takes_s: float) -> None:
        self.known, self._then, self._takes_s = url, then, takes_s

    def now(self) -> str:
        return self.known

    def refused(self, url: str) -> bool:
        if url == self.known:
            time.sleep(self._takes_s)
            self.known = self._then
        return self.known != url

    def accepted(self) -> None:
        pass


@pytest.mark.parametrize("takes_s", [0.05, 2.5])
def test_a_rotated_password_is_learnt_and_not_waited_for_too_long(
    takes_s: float, etcd: str, metadata: Metadata, postgres: Server
) -> None:
    database = metadata.url.rpartition("/")[2]
    old = postgres.url(POSTGRES[0], database=database, password="of yesterday")
    with line_in(etcd, Rotating(old, metadata.url, takes_s)) as line:
        line.store("a-1")
        start = time.monotonic()
        told = line.takes("a-1", note=note_of(1)).told
        assert time.monotonic() - start < LIMIT_S
        assert [each.failed for each in told] == ([] if takes_s < 1 else [True])
        if told:
            assert "password" in told[0].sentence, "it is said why"
            time.sleep(takes_s)
        assert line.takes("b-2").told == (marked(1),)


def test_a_check_in_waits_for_nothing_there(etcd: str) -> None:
    with line_in(etcd, "postgresql://heirflow:x@127.0.0.1:1/airflow") as line:
        line.join("a-1")
        who_is_there = Exchange(CheckIn("a-1", "host", 1, ready=True))
        assert line.store("a-1").exchange(line.election, who_is_there).told == ()
        with pytest.raises(StoreUnavailable):
            line.store("a-1")._beside._store.ask(sa.text("SELECT 1"))  # type: ignore[union-attr]


FIRST_TIME = """
import json, sys
from heirflow.cli.run import member_store
from heirflow.config.resolve import resolve
from heirflow.election.record import Record, Swap
from heirflow.member.health import Lookout
from heirflow.programs.airflow.adopt import Adoption
from heirflow.programs.program import Handling

etcd, url = sys.argv[1:]
config = resolve({"db-url": etcd}, {})
beside = resolve({"db-url": url}, {})
store = member_store(Handling(config=config, beside=beside, on_taken=Adoption(None), lookout=Lookout(), children=set()), 1.5, "b-2")
store.open()
before = {*sys.modules}
swap = Swap(1, Record(2, 2, "b-2", 10.0), takes_over="x", start=1)
told, adopted = store._beside.taken(swap, [sys.stdin.read()], lambda asked: dict.fromkeys(asked["p_ids"], True))
print(json.dumps([[each.sentence for each in told], len(adopted), sorted({*sys.modules} - before)]))
"""


@pytest.mark.parametrize("driver", ALL)
def test_nothing_is_imported_when_somebody_takes_charge(
    driver: str, etcd: str, new_database: NewDatabase, tmp_path: Any
) -> None:
    """On a busy host an import costs more time than all of it."""
    metadata = Metadata(new_database(driver))
    with ExitStack() as undo:
        if driver in POSTGRES:
            Sessions(metadata.url, undo).open("heirflow/a-1/1")
        done = subprocess.run(
            [sys.executable, "-c", FIRST_TIME, etcd, metadata.url], input=note_of(1), capture_output=True, text=True, check=False,
            cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told, adopted, imported = json.loads(done.stdout)
    ended = ["ended 1 session of a-1, which led before"] if driver in POSTGRES else []
    assert (told, adopted, imported) == ([*ended, marked(1).sentence], 1, [])
