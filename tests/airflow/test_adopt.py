"""Which row of Airflow's `job` table is marked, and that no other row ever is. The table here is made by the test."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from heirflow.election.record import Event, Exchange, Record, Swap, What
from heirflow.member.asker import CannotTell
from heirflow.programs.airflow.adopt import Adoption, NotAirflows, job_of
from heirflow.programs.airflow.row import Fingerprint, RowCheck
from heirflow.stores import open_store
from heirflow.stores.sql.store import SqlStore

OURS = json.dumps({"job_id": 2, "job_type": "SchedulerJob"})
COLUMNS = """id INTEGER PRIMARY KEY, dag_id VARCHAR(250), state VARCHAR(20), job_type VARCHAR(30), start_date {moment},
    end_date {moment} NULL, latest_heartbeat {moment} NULL"""
ROWS = ["1, 'running', 'SchedulerJob'", "2, 'running', 'SchedulerJob'", "3, 'running', 'TriggererJob'",
        "4, 'success', 'SchedulerJob'", "5, NULL, 'DagProcessorJob'"]  # fmt: skip


@pytest.fixture(params=["psycopg", "psycopg2", "pymysql", "sqlite"])
def url(request: pytest.FixtureRequest, new_database) -> str:
    return new_database(request.param)


@pytest.fixture
def connection(url: str) -> Iterator[sa.engine.Connection]:
    engine = sa.create_engine(url, future=True)
    moment = {"postgresql": "TIMESTAMP WITH TIME ZONE", "mysql": "TIMESTAMP(6)"}.get(engine.dialect.name, "TIMESTAMP")
    with engine.connect() as conn:
        conn.exec_driver_sql(f"CREATE TABLE job ({COLUMNS.format(moment=moment)})")
        for row in ROWS:
            conn.exec_driver_sql(f"INSERT INTO job (id, state, job_type) VALUES ({row})")
        conn.commit()
        yield conn
    engine.dispose()


def states(conn: sa.engine.Connection) -> dict[int, tuple[str | None, bool]]:
    return {row[0]: (row[1], row[2] is not None) for row in conn.exec_driver_sql("SELECT id, state, end_date FROM job")}


def test_only_the_predecessors_row_is_marked(connection: sa.engine.Connection) -> None:
    before = states(connection)
    adopt = Adoption(None)
    assert adopt(connection, OURS) == "marked job 2 of the predecessor failed, so that its tasks are adopted at once"
    connection.commit()
    assert states(connection) == {**before, 2: ("failed", True)}
    assert adopt(connection, OURS) is None, "once"
    assert adopt(connection, json.dumps({"job_id": 3, "job_type": "TriggererJob"})) == (
        "marked job 3 of the predecessor failed, so that its triggers are taken over at once"
    )


@pytest.mark.parametrize(
    "note",
    [
        "[" * 100_000,
        '{"job_id": ' + "[" * 100_000,
        '{"job_id": 2, "job_type": ["SchedulerJob"]}',
        '{"job_id": 2, "job_type": {}}',
        '{"job_id": 99999999999999999999, "job_type": "SchedulerJob"}',
        '{"job_id": ' + "9" * 10_000 + ', "job_type": "SchedulerJob"}',
        '{"job_id": true, "job_type": "SchedulerJob"}',
        "[2]",
        "",
    ],
    ids=lambda note: note[:40],
)
def test_a_note_that_names_no_row_is_no_error(note: str) -> None:
    assert job_of(note) is None


def test_the_moment_is_now_by_the_clock_of_airflow(connection: sa.engine.Connection) -> None:
    if connection.dialect.name == "mysql":
        connection.exec_driver_sql("SET time_zone = '+05:00'")
    Adoption(None)(connection, OURS)
    ages = {
        "postgresql": "EXTRACT(EPOCH FROM clock_timestamp() - end_date)",
        "mysql": "TIMESTAMPDIFF(SECOND, end_date, CURRENT_TIMESTAMP(6))",
        "sqlite": "(julianday('now') - julianday(end_date)) * 86400",
    }
    age = connection.exec_driver_sql(f"SELECT {ages[connection.dialect.name]} FROM job WHERE id = 2").scalar()
    assert age is not None and abs(float(age)) < 30


@pytest.mark.parametrize(
    "note",
    [
        "", "{}", "[]", "null", "not JSON", '{"job_id": "2", "job_type": "SchedulerJob"}', '{"job_id": 2}',
        '{"job_id": true, "job_type": "SchedulerJob"}', '{"job_id": 2, "job_type": "TriggererJob"}',
        '{"job_id": 4, "job_type": "SchedulerJob"}', '{"job_id": 99, "job_type": "SchedulerJob"}',
        '{"job_id": 2, "job_type": "LocalTaskJob"}', '{"job_id": "2 OR 1=1", "job_type": "SchedulerJob"}',
    ],
)  # fmt: skip
def test_other_notes_change_nothing(connection: sa.engine.Connection, note: str) -> None:
    before = states(connection)
    assert Adoption(None)(connection, note) is None
    connection.commit()
    assert states(connection) == before


def test_a_table_that_is_not_airflows_is_left_alone(url: str) -> None:
    engine = sa.create_engine(url, future=True)
    with engine.connect() as conn:
        for table in ("", "CREATE TABLE job (id INTEGER PRIMARY KEY, state VARCHAR(20))"):
            if table:
                conn.exec_driver_sql(table)
                conn.commit()
            with pytest.raises(NotAirflows, match="not Airflow's job table"):
                Adoption(None)(conn, OURS)
            conn.rollback()
    engine.dispose()


def test_which_job() -> None:
    assert job_of(OURS) == (2, "SchedulerJob")
    assert job_of('{"job_id": 2, "job_type": "Other"}') is None


def test_of_several_schedulers_only_the_one_whose_seat_is_taken_or_vacated_is_marked(
    connection: sa.engine.Connection, url: str
) -> None:
    """a runs job 1 in the first seat all the time. c's job 2 was in the second, and its host is lost. Each seat has its note."""
    before = states(connection)
    store = open_store(url, call_limit_s=5.0, on_taken=Adoption(None))
    try:
        store.open()
        first, second = "airflow-scheduler", "its-second-seat"
        for seat, who, number in ((first, "a", 1), (second, "c", 2)):
            note = json.dumps({"job_id": number, "job_type": "SchedulerJob"})
            store.exchange(seat, Exchange(swap=Swap(None, Record(1, 1, who, 10.0), takes_over="")))
            store.exchange(seat, Exchange(swap=Swap(1, Record(2, 1, who, 10.0, note=note))))
        left = store.exchange(second, Exchange()).record
        assert left is not None and states(connection) == before
        event = Event(What.RELEASED, 1, "a", "c was silent for 10.0 s")
        vacant = Swap(2, Record(3, 1, None, 10.0), event, takes_over=left.note)
        reading = store.exchange(second, Exchange(swap=vacant))
        connection.rollback()
        assert states(connection) == {**before, 2: ("failed", True)}
        [told] = reading.told
        assert told.sentence.startswith("marked job 2 of the predecessor failed")
        taken = Swap(3, Record(4, 2, "b", 10.0), Event(What.TOOK_CHARGE, 2, "b", "nobody led"), takes_over="")
        assert store.exchange(second, Exchange(swap=taken)).swapped
        connection.rollback()
        assert states(connection) == {**before, 2: ("failed", True)}, "a's goes on"
    finally:
        store.close()


# ---- looks at the same table ----


def test_a_row_that_goes_on_changing_is_well(connection: sa.engine.Connection, url: str) -> None:
    def store() -> SqlStore:
        made = open_store(url, call_limit_s=5.0)
        assert isinstance(made, SqlStore)
        return made

    check = RowCheck(store, None)
    assert check.look("", 5.0) == "it has not written its row in Airflow's job table"
    for second in ("01", "02"):
        connection.exec_driver_sql(f"UPDATE job SET latest_heartbeat = '2026-01-01 00:00:{second}' WHERE id = 2")
        connection.commit()
        assert check.look(OURS, 5.0) == ""
    assert check.look(OURS, 5.0) == "SchedulerJob 2 does not write its heartbeat"
    with pytest.raises(CannotTell):
        check.look('{"job_id": 99, "job_type": "SchedulerJob"}', 5.0)
    connection.exec_driver_sql("DROP TABLE job")
    connection.commit()
    with pytest.raises(CannotTell):
        check.look(OURS, 5.0)


def test_the_fingerprint_of_a_standby(connection: sa.engine.Connection, url: str, tmp_path) -> None:
    def store() -> SqlStore:
        made = open_store(url, call_limit_s=5.0)
        assert isinstance(made, SqlStore)
        return made

    version, configuration = "the version of the metadata database", tmp_path / "airflow.cfg"
    prints = Fingerprint({"airflow.cfg": str(configuration)}, store, None)
    assert prints() == {"airflow.cfg": "absent", version: None}, "what cannot be told is no change"
    configuration.write_text("[core]\n")
    connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('abc')")
    connection.commit()
    first = prints()
    assert first[version] == ["abc"]
    assert prints() == first
    configuration.write_text("[core]\nparallelism = 1\n")
    assert prints()["airflow.cfg"] != first["airflow.cfg"]
