"""What counts as a backlog that stands still, and all that does not: on tables that are made here as both majors have them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from heirflow.member.asker import CannotTell, Check
from heirflow.programs.airflow.progress import Limits, TriggererProgress, least_limit_s, progress_of, release_of
from heirflow.stores import open_store
from heirflow.stores.sql.store import SqlStore

MAJORS = {"3.3.2": "is_stale", "2.11.2": "is_active"}
TABLES = """
task_instance (dag_id VARCHAR(50), run_id VARCHAR(50), task_id VARCHAR(50), map_index INTEGER, state VARCHAR(20), pool VARCHAR(50),
               pool_slots INTEGER, queued_dttm {moment} NULL, executor VARCHAR(50), trigger_id INTEGER)
dag_run (dag_id VARCHAR(50), run_id VARCHAR(50), state VARCHAR(20), run_type VARCHAR(50), start_date {moment} NULL)
dag (dag_id VARCHAR(50), is_paused BOOLEAN, {active} BOOLEAN, max_active_tasks INTEGER, max_active_runs INTEGER,
     has_task_concurrency_limits BOOLEAN, last_parsed_time {moment} NULL)
slot_pool (pool VARCHAR(50), slots INTEGER, include_deferred BOOLEAN)
import_error (id INTEGER, {quoted} {moment} NULL)
"""
TRIGGER = {"3.3.2": "queue VARCHAR(50), team_name VARCHAR(50), ", "2.11.2": ""}
OURS = json.dumps({"job_id": 7, "job_type": "TriggererJob"})


@dataclass
class Database:
    """Airflow's tables, with one DAG, one running run, one task that waits, and one pool."""

    url: str
    version: str
    conn: sa.engine.Connection

    def does(self, *statements: str) -> None:
        for statement in statements:
            self.conn.exec_driver_sql(statement)
        self.conn.commit()

    def anew(self) -> None:
        """As it was at first."""
        here = MAJORS[self.version] == "is_active"
        self.does(
            *(f"DELETE FROM {table}" for table in ("dag", "dag_run", "slot_pool", "import_error", "task_instance")),
            f"INSERT INTO dag VALUES ('etl', FALSE, {here}, 16, 2, FALSE, '2026-01-01 00:00:00')",
            "INSERT INTO dag_run VALUES ('etl', 'run', 'running', 'scheduled', '2026-01-01 00:00:00')",
            "INSERT INTO slot_pool VALUES ('default_pool', 128, FALSE)",
            "INSERT INTO import_error VALUES (1, '2026-01-01 00:00:00')",
            self.waits(1),
        )

    def check(self, component: str, *words: str, **limits: int) -> Check:
        def store() -> SqlStore:
            made = open_store(self.url, call_limit_s=5.0)
            assert isinstance(made, SqlStore)
            return made

        return progress_of(component, ("airflow", component, *words), Limits.of(limits), self.version, store, None)

    def waits(self, number: int, *, state: str = "scheduled", pool: str = "default_pool", dag: str = "etl") -> str:
        moment = "NULL" if state == "scheduled" else "'2026-01-01 00:00:00'"
        values = f"'{dag}', 'run', 'task{number}', -1, '{state}', '{pool}', 1, {moment}, NULL, NULL"
        return f"INSERT INTO task_instance VALUES ({values})"


@pytest.fixture(params=["psycopg", "pymysql", "sqlite"])
def url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    return new_database(request.param)


@pytest.fixture(params=list(MAJORS))
def database(request: pytest.FixtureRequest, url: str) -> Iterator[Database]:
    engine = sa.create_engine(url, future=True)
    moment = {"postgresql": "TIMESTAMP WITH TIME ZONE", "mysql": "TIMESTAMP(6)"}.get(engine.dialect.name, "TIMESTAMP")
    quote = engine.dialect.identifier_preparer.quote_identifier
    active = MAJORS[request.param]
    words = TABLES.format(moment=moment, active=active, quoted=quote("timestamp"))
    with engine.connect() as conn:
        made = Database(url, request.param, conn)
        made.does(
            *(f"CREATE TABLE {table})" for each in words.strip().split(")\n") if (table := each.removesuffix(")"))),
            f"CREATE TABLE {quote('trigger')} ({TRIGGER[request.param]}id INTEGER, triggerer_id INTEGER)",
        )
        made.anew()
        yield made
    engine.dispose()


def stands_still(check: Check, note: str = "") -> str:
    """What the second of two looks says."""
    assert check.look(note, 5.0) == "", "the first look knows nothing of before"
    return check.look(note, 5.0)


def test_a_task_that_waits_though_there_is_room(database: Database) -> None:
    check = database.check("scheduler", parallelism=4)
    said = "1 task (etl.task1) waits in `scheduled` though there is room, and none is queued"
    assert stands_still(check) == check.look("", 5.0) == said
    database.does(database.waits(2))
    assert check.look("", 5.0) == said, "what has come to wait only now is not yet one of them"
    assert check.look("", 5.0).startswith("2 tasks (etl.task1, …) wait")
    database.does("UPDATE task_instance SET state = 'queued' WHERE task_id = 'task1'")
    assert check.look("", 5.0) == ""
    assert check.look("", 5.0).startswith("1 task (etl.task2)")
    database.does(database.waits(3, state="running"))
    assert check.look("", 5.0) == "", "another one was queued meanwhile"


HELD_UP = {
    "the DAG is paused": "UPDATE dag SET is_paused = TRUE",
    "the DAG is at its limit": "UPDATE dag SET max_active_tasks = 0",
    "the DAG limits its tasks": "UPDATE dag SET has_task_concurrency_limits = TRUE",
    "the pool is closed": "UPDATE slot_pool SET slots = 0",
    "there is no such pool": "DELETE FROM slot_pool",
    "the task needs more slots than there are": "UPDATE task_instance SET pool_slots = 129",
    "the task has an executor of its own": "UPDATE task_instance SET executor = 'x'",
    "the run is not running": "UPDATE dag_run SET state = 'failed'",
    "nothing is there": "DELETE FROM dag",
    "nothing waits": "DELETE FROM task_instance",
}


def test_what_something_known_holds_up_is_no_backlog(database: Database) -> None:
    for why, statement in HELD_UP.items():
        database.anew()
        database.does(statement)
        assert stands_still(database.check("scheduler", parallelism=4)) == "", why


def test_a_dag_that_is_no_longer_there_is_no_backlog(database: Database) -> None:
    database.does(
        "UPDATE dag SET is_stale = TRUE" if database.version == "3.3.2" else "UPDATE dag SET is_active = FALSE",
        "INSERT INTO dag_run VALUES ('etl', 'next', 'queued', 'scheduled', NULL)",
    )
    for component in ("scheduler", "dag-processor"):
        assert stands_still(database.check(component, parallelism=4)) == ""


FULL = [(4, 3, True), (4, 4, False), (4, 5, False), (0, 5, True), (None, 0, True), (None, 1, False)]


def test_an_executor_that_may_be_full_is_no_backlog(database: Database) -> None:
    for parallelism, busy, room in FULL:
        database.anew()
        database.does(*(database.waits(10 + number, state="running", dag="other") for number in range(busy)))
        limits = {} if parallelism is None else {"parallelism": parallelism}
        assert bool(stands_still(database.check("scheduler", **limits))) is room, (parallelism, busy)


def test_deferred_tasks_fill_a_pool_that_counts_them_and_one_without_a_limit_is_never_full(database: Database) -> None:
    for include, room in (("FALSE", True), ("TRUE", False)):
        database.anew()
        database.does(
            "UPDATE slot_pool SET slots = 2",
            f"UPDATE slot_pool SET include_deferred = {include}",
            database.waits(2, state="deferred", dag="other"),
            database.waits(3, state="deferred", dag="other"),
        )
        assert bool(stands_still(database.check("scheduler", parallelism=4))) is room
    database.does("UPDATE slot_pool SET slots = -1", database.waits(2, state="running", dag="other"))
    assert stands_still(database.check("scheduler", parallelism=4))


RUNS = {
    "one of two may run": ("scheduled", "UPDATE dag SET max_active_runs = 2", True),
    "the one that may runs": ("scheduled", "UPDATE dag SET max_active_runs = 1", False),
    "the DAG is paused": ("scheduled", "UPDATE dag SET is_paused = TRUE", False),
    "by hand, perhaps for later": ("manual", "", False),
    "a backfill has limits of its own": ("backfill", "", False),
    "an asset triggered it": ("asset_triggered", "", True),
}


def test_runs_that_wait(database: Database) -> None:
    for case, (kind, also, backlog) in RUNS.items():
        database.anew()
        queued = f"INSERT INTO dag_run VALUES ('etl', 'next', 'queued', '{kind}', NULL)"
        database.does("DELETE FROM task_instance", queued, *([also] if also else []))
        check = database.check("scheduler", parallelism=4)
        said = "1 run (etl) waits in `queued` though more may run, and none is started" if backlog else ""
        assert stands_still(check) == said, case
        database.does("UPDATE dag_run SET state = 'running' WHERE run_id = 'next'")
        assert check.look("", 5.0) == "", case


def test_a_dag_processor(database: Database) -> None:
    check, quote = database.check("dag-processor"), database.conn.dialect.identifier_preparer.quote_identifier
    assert stands_still(check) == "none of 1 DAG was parsed again"
    for change in (
        "UPDATE dag SET last_parsed_time = '2026-01-01 00:00:30'",
        f"UPDATE import_error SET {quote('timestamp')} = '2026-01-01 00:01:00'",
        "DELETE FROM import_error",
    ):
        database.does(change)
        assert check.look("", 5.0) == "", change
        assert check.look("", 5.0) != ""
    database.does("DELETE FROM dag")
    assert check.look("", 5.0) == check.look("", 5.0) == "", "an empty installation has nothing to parse"


def test_a_dag_processor_has_time_for_some_intervals() -> None:
    assert least_limit_s("dag-processor", Limits.of({"min_file_process_interval": 600})) == 1800
    assert least_limit_s("dag-processor", Limits.of({})) == 90
    assert least_limit_s("scheduler", Limits.of({"min_file_process_interval": 600})) == 0


def trigger(database: Database, number: int, owner: str = "NULL", **columns: str) -> tuple[str, str]:
    quote = database.conn.dialect.identifier_preparer.quote_identifier
    names = ", ".join((*columns, "id", "triggerer_id"))
    values = ", ".join((*(f"'{value}'" for value in columns.values()), str(number), owner))
    return (
        f"INSERT INTO {quote('trigger')} ({names}) VALUES ({values})",
        f"INSERT INTO task_instance VALUES ('etl', 'run', 'waits{number}', -1, 'deferred', 'p', 1, NULL, NULL, {number})",
    )


def test_a_triggerer_that_takes_no_trigger(database: Database) -> None:
    quote = database.conn.dialect.identifier_preparer.quote_identifier
    check = database.check("triggerer", capacity=2)
    with pytest.raises(CannotTell, match="has not written its row"):
        check.look("", 5.0)
    assert stands_still(check, OURS) == ""
    database.does(*trigger(database, 1), *trigger(database, 2, "7"), *trigger(database, 3, "8"))
    assert check.look(OURS, 5.0) == "", "it came only now"
    assert check.look(OURS, 5.0) == "1 deferred task without a triggerer, and it takes none"
    database.does(*trigger(database, 4))
    check.look(OURS, 5.0)
    assert check.look(OURS, 5.0).startswith("2 deferred tasks without")
    database.does(f"UPDATE {quote('trigger')} SET triggerer_id = 7 WHERE id = 1")
    assert check.look(OURS, 5.0) == ""
    assert check.look(OURS, 5.0) == "", "it is full"
    assert stands_still(database.check("triggerer"), OURS) == "", "how many it can take is not known"
    assert stands_still(database.check("triggerer", "--capacity", "5", capacity=2), OURS) != ""
    assert stands_still(database.check("triggerer", "--capacity=1", capacity=5), OURS) == ""


def test_triggers_of_others_or_of_nobody_are_not_ours_to_take(database: Database) -> None:
    quote = database.conn.dialect.identifier_preparer.quote_identifier
    if database.version == "3.3.2":
        database.does(*trigger(database, 1, queue="q"), *trigger(database, 2, team_name="t"))
    database.does(f"INSERT INTO {quote('trigger')} (id, triggerer_id) VALUES (3, NULL)")  # of no task that is deferred
    assert stands_still(database.check("triggerer", capacity=5), OURS) == ""


def test_releases() -> None:
    assert [release_of(each) for each in ("2.11.2", "3.0.0rc1", "3.10.1", "dev")] == [(2, 11), (3, 0), (3, 10), (3, 3)]
    for version, columns in (("2.11.2", ()), ("3.1.8", ()), ("3.2.0", ("queue",)), ("3.3.2", ("queue", "team_name"))):
        check = progress_of("triggerer", (), Limits(), version, lambda: None, None)  # type: ignore[arg-type, return-value]
        assert isinstance(check, TriggererProgress) and check.of_others == columns


@pytest.mark.parametrize("component", ["scheduler", "dag-processor", "triggerer"])
def test_tables_that_are_not_there_are_no_hang(url: str, component: str) -> None:
    engine = sa.create_engine(url, future=True)
    with engine.connect() as conn:
        check = Database(url, "3.3.2", conn).check(component)
        with pytest.raises(CannotTell):
            check.look(OURS, 5.0)
    engine.dispose()
