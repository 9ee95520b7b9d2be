"""What `heirflow doctor` tells of components that run without HeirFlow. The job table here is made by the test."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from heirflow.cli.doctor import examined
from heirflow.config.resolve import resolve
from heirflow.election.record import CheckIn, Exchange, Record, Swap
from heirflow.programs.airflow.lateness import THRESHOLD, variable
from heirflow.stores import Finding, Store, open_store

COLUMNS = """id INTEGER PRIMARY KEY, dag_id VARCHAR(250), state VARCHAR(20), job_type VARCHAR(30), start_date {moment},
    end_date {moment} NULL, latest_heartbeat {moment} NULL, hostname VARCHAR(500)"""
AGO = {
    "postgresql": "clock_timestamp() - interval '{s} seconds'",
    "mysql": "current_timestamp(6) - INTERVAL {s} SECOND",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', 'now', '-{s} seconds')",
}
CONFIGURATION = """
import os
AIRFLOW_HOME = os.environ["AIRFLOW_HOME"]
DEFAULTS = {"scheduler_health_check_threshold": os.environ.get("FAKE_LATE", "30"), "orphaned_tasks_check_interval": "300.0"}
class conf:
    @staticmethod
    def get(section, key, fallback=None):
        return os.environ["FAKE_URL"] if key == "sql_alchemy_conn" else DEFAULTS.get(key, fallback)
    @staticmethod
    def getboolean(section, key, fallback=None):
        assert (section, key) == ("scheduler", "use_row_level_locking")
        return os.environ["FAKE_LOCKS"] == "True"
"""

SET = variable(THRESHOLD)


class Place:
    """A database with Airflow's job table, and with lines of ours."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = sa.create_engine(url, future=True)
        kind = self.engine.dialect.name
        self.ago = AGO[kind]
        moment = {"postgresql": "TIMESTAMP WITH TIME ZONE", "mysql": "TIMESTAMP(6)"}.get(kind, "TIMESTAMP")
        self.sql(f"CREATE TABLE job ({COLUMNS.format(moment=moment)})")
        self.store: Store = open_store(url, call_limit_s=5)

    def sql(self, statement: str) -> None:
        with self.engine.connect() as conn:
            conn.exec_driver_sql(
                statement.replace("%", "%%") if self.engine.dialect.paramstyle != "qmark" else statement
            )
            conn.commit()

    def job(self, number: int, kind: str, host: str, ago_s: float = 2, state: str = "running") -> None:
        self.sql(
            "INSERT INTO job (id, state, job_type, hostname, latest_heartbeat) "
            f"VALUES ({number}, '{state}', '{kind}', '{host}', {self.ago.format(s=ago_s)})"
        )

    def second_seat(self, election: str, *, leads: str, job: int | None) -> None:
        """There are two, and this member leads the second one; it has no row in the line."""
        note = "" if job is None else json.dumps({"job_id": job, "job_type": "SchedulerJob"})
        assert self.store.set_seats(election, 2)
        self.store.exchange(election, Exchange(swap=Swap(1, Record(2, 1, leads, 600.0, note=note), seat=2)))

    def leader(
        self, election: str, host: str, job: int | None = None, kind: str = "SchedulerJob", seats: int = 2
    ) -> None:
        said: dict[str, Any] = {
            "settings": {"command": "airflow#012345", "ttl_s": 10.0, "check_in_s": 2.0, "seats": seats},
            "runs": True,
        }
        if job is not None:
            said |= {"job_id": job, "job_type": kind}
        self.store.open()
        who = CheckIn(f"{host}-123456", host, 1, ready=True, note=json.dumps(said))
        self.store.exchange(election, Exchange(check_in=who, join=True))
        self.store.exchange(election, Exchange(swap=Swap(None, Record(1, 1, who.id, 600.0))))

    def told(self, **flags: object) -> list[Finding]:
        given = {"db-url": self.url, **flags}
        config = resolve(given, {"HOME": "/nowhere", "HEIRFLOW_RUN_DIR": "/nowhere"}, folder=Path("/nowhere"))
        return [each for each in examined(config) if each.topic == "airflow"]

    def levels(self, **flags: object) -> list[tuple[str, str, str]]:
        return [
            (each.level, each.facts.get("component", ""), each.facts.get("host", "")) for each in self.told(**flags)
        ]


@pytest.fixture(autouse=True)
def no_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """None on the PATH, whatever this machine has."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


@pytest.fixture(params=["psycopg", "psycopg2", "pymysql", "sqlite"])
def everywhere(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[Place]:
    yield from opened(new_database(request.param))


@pytest.fixture
def place(new_database: Callable[[str], str]) -> Iterator[Place]:
    yield from opened(new_database("sqlite"))


def opened(url: str) -> Iterator[Place]:
    made = Place(url)
    yield made
    made.store.close()
    made.engine.dispose()


def test_who_runs_beside_its_line_is_a_problem_by_name_and_host(everywhere: Place) -> None:
    everywhere.job(1, "SchedulerJob", "host-a")
    everywhere.job(2, "SchedulerJob", "host-b", ago_s=3)
    everywhere.leader("airflow-scheduler", "host-a", job=1)
    [told] = everywhere.told()
    assert (told.level, told.facts["component"], told.facts["host"], told.facts["job_id"]) == (
        "problem",
        "scheduler",
        "host-b",
        2,
    )
    assert 2 < told.facts["age_s"] < 20
    assert told.sentence.startswith("a scheduler runs on host-b without HeirFlow (job 2, last heartbeat ")
    assert "beside the line airflow-scheduler" in told.sentence


def test_what_is_not_running_now_is_not_told(everywhere: Place) -> None:
    everywhere.leader("airflow-scheduler", "host-a", job=1)
    everywhere.job(1, "SchedulerJob", "host-a")
    everywhere.job(2, "SchedulerJob", "host-b", ago_s=40)
    everywhere.job(3, "SchedulerJob", "host-b", state="failed")
    everywhere.job(4, "LocalTaskJob", "host-b")
    everywhere.sql("INSERT INTO job (id, state, job_type, hostname) VALUES (5, 'running', 'SchedulerJob', 'host-b')")
    [told] = everywhere.told()
    assert (told.level, told.sentence) == ("ok", "no scheduler, dag-processor or triggerer runs without HeirFlow")


def test_a_component_without_a_line_is_only_noted(place: Place) -> None:
    place.leader("airflow-scheduler", "host-a", job=1)
    place.job(1, "SchedulerJob", "host-a")
    place.job(2, "TriggererJob", "host-b")
    [told] = place.told()
    assert (told.level, told.facts["component"]) == ("note", "triggerer")
    assert told.sentence.endswith(", and there is no line for it here")


def test_before_the_first_member_whoever_asks_by_name_is_told(place: Place) -> None:
    place.job(1, "SchedulerJob", "host-a")
    place.job(2, "DagProcessorJob", "host-a")
    assert place.levels() == [("note", "scheduler", "host-a"), ("note", "dag-processor", "host-a")]
    assert place.levels(name="airflow-scheduler") == [("problem", "scheduler", "host-a")]
    assert place.levels(name="airflow-dag-processor/a") == [("problem", "dag-processor", "host-a")]
    assert place.levels(name="poller") == []


def test_a_line_with_a_given_name_is_known_by_what_its_leader_says(place: Place) -> None:
    place.leader("dags", "host-a", job=1, kind="DagProcessorJob")
    place.job(1, "DagProcessorJob", "host-a")
    place.job(2, "DagProcessorJob", "host-b")
    assert place.levels() == [("problem", "dag-processor", "host-b")]
    assert place.levels(name="dags") == [("problem", "dag-processor", "host-b")]


def test_partitions_each_have_their_row(place: Place) -> None:
    for number, name in ((1, "a"), (2, "b")):
        place.leader(f"airflow-dag-processor/{name}", f"host-{name}", job=number, kind="DagProcessorJob")
        place.job(number, "DagProcessorJob", f"host-{name}")
    assert [each.level for each in place.told()] == ["ok"]
    place.job(3, "DagProcessorJob", "host-c")
    [told] = place.told()
    assert (
        told.level == "problem" and "beside the lines airflow-dag-processor/a, airflow-dag-processor/b" in told.sentence
    )


def test_the_command_of_a_cold_leader_may_be_any_row_of_its_kind(place: Place) -> None:
    """It does not say which row is its own."""
    place.leader("airflow-scheduler", "host-a")
    place.job(1, "SchedulerJob", "host-a.example")
    [told] = place.told()
    assert (
        told.level == "note"
        and "may be the command of host-a-123456, which does not say which row is its own" in told.sentence
    )
    place.job(2, "SchedulerJob", "host-b")
    assert sorted(place.levels()) == [("note", "scheduler", "host-a.example"), ("problem", "scheduler", "host-b")]


def test_a_cold_leader_of_another_component_explains_nothing(place: Place) -> None:
    place.leader("airflow-triggerer", "host-a")
    place.job(1, "SchedulerJob", "host-a")
    assert place.levels() == [("note", "scheduler", "host-a")]
    assert place.levels(name="airflow-scheduler") == [("problem", "scheduler", "host-a")]


def test_who_leads_the_second_seat_is_a_member_that_leads(place: Place) -> None:
    """Warm, it knows its row, from its record where it has no row of its own in the line; cold, it may be any."""
    place.leader("airflow-scheduler", "host-a", job=1)
    place.job(1, "SchedulerJob", "host-a")
    place.job(2, "SchedulerJob", "host-b")
    assert place.levels() == [("problem", "scheduler", "host-b")]
    place.second_seat("airflow-scheduler", leads="host-b-123456", job=2)
    assert place.levels() == [("ok", "", "")]
    who = CheckIn("host-b-123456", "host-b", 1, ready=True, note=json.dumps({"settings": {"command": "airflow#1"}}))
    place.store.exchange("airflow-scheduler", Exchange(check_in=who, join=True))
    place.second_seat("airflow-scheduler", leads="host-b-123456", job=None)
    [told] = place.told()
    assert told.level == "note" and "it may be the command of host-b-123456" in told.sentence


def test_another_table_of_that_name_is_none_of_airflows(place: Place) -> None:
    place.sql("DROP TABLE job")
    assert place.told() == []
    place.sql("CREATE TABLE job (id INTEGER, title VARCHAR(10))")
    assert place.told() == []
    place.sql("DROP TABLE job")
    place.sql("CREATE TABLE job (id INTEGER, job_type TEXT, state TEXT, hostname TEXT, latest_heartbeat TEXT)")
    place.sql("INSERT INTO job VALUES (1, 'SchedulerJob', 'running', 'x', 'yesterday')")
    assert place.told() == []


class TestBesideAnInstalledAirflow:
    @pytest.fixture(autouse=True)
    def here(self, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = tmp_path / "lib" / "airflow"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("__version__ = '9.9'\n")
        (package / "configuration.py").write_text(CONFIGURATION)
        script = tmp_path / "bin" / "airflow"
        script.parent.mkdir()
        script.write_text(f"#!{sys.executable}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'lib'}:{os.environ.get('PYTHONPATH', '')}")
        for name, value in (("AIRFLOW_HOME", str(tmp_path)), ("FAKE_URL", place.url), ("FAKE_LOCKS", "False")):
            monkeypatch.setenv(name, value)

    def test_row_locks_that_are_off_are_told(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        place.leader("airflow-scheduler", "host-a", job=1)
        place.job(1, "SchedulerJob", "host-a")
        ok, locks = place.told()
        assert (ok.level, locks.level, locks.facts) == ("ok", "note", {"row_level_locking": False})
        assert locks.sentence.startswith(
            "[scheduler] use_row_level_locking is off on this host, so only one scheduler may run"
        )
        assert place.levels(name="airflow-triggerer") == [("ok", "", "")], "it concerns schedulers only"
        monkeypatch.setenv("FAKE_LOCKS", "True")
        assert [each.level for each in place.told()] == ["ok"]

    def test_two_schedulers_without_row_locks_are_a_problem(self, place: Place) -> None:
        place.leader("airflow-scheduler", "host-a", job=1)
        place.leader("more", "host-b", job=2)
        place.job(1, "SchedulerJob", "host-a")
        place.job(2, "SchedulerJob", "host-b")
        [_, locks] = place.told()
        assert locks.level == "problem"
        assert locks.sentence.endswith("and 2 run: on host-a, host-b")

    def test_several_lines_of_schedulers_judge_one_another_as_airflow_does(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAKE_LOCKS", "True")
        for number, name, host in ((1, "airflow-scheduler", "host-a"), (2, "more", "host-b")):
            place.leader(name, host, job=number)
            place.job(number, "SchedulerJob", host)
        [ok, late] = place.told()
        assert (ok.level, late.level, late.facts) == ("ok", "warning", {"late_after_s": 30.0, "looks_every_s": 300.0})
        assert late.sentence == (
            "[scheduler] scheduler_health_check_threshold is 30 by default, so another scheduler takes the tasks of one that is "
            "late by 30 s, though it lives; let all schedulers stand in one line with --seats, or set "
            "300 (as configured on this host)"
        )
        assert [each.level for each in place.told(name="airflow-triggerer")] == ["ok"]
        monkeypatch.setenv(SET, "600")
        monkeypatch.setenv("FAKE_LATE", "600")
        assert [each.level for each in place.told()] == ["ok"]

    def test_with_seats_only_what_somebody_has_set_is_told(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAKE_LOCKS", "True")
        place.leader("airflow-scheduler", "host-a", job=1)
        place.second_seat("airflow-scheduler", leads="host-b-123456", job=2)
        for number, host in ((1, "host-a"), (2, "host-b")):
            place.job(number, "SchedulerJob", host)
        assert [each.level for each in place.told()] == ["ok"], "its members set both, and know both rows"
        place.leader("airflow-scheduler", "host-c", seats=1)
        [_, late] = place.told()
        assert "is 30 by default, so another scheduler takes" in late.sentence, "one was started for one seat"
        place.store.exchange("airflow-scheduler", Exchange(forget=("host-c-123456",)))
        monkeypatch.setenv(SET, "30")
        [_, late] = place.told()
        assert late.level == "warning" and f"is 30 ({SET}), so another scheduler takes" in late.sentence

    def test_an_airflow_of_another_database_is_not_asked_for(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAKE_URL", "sqlite:////nowhere/else.db")
        place.job(1, "SchedulerJob", "host-a")
        assert place.levels() == [("note", "scheduler", "host-a")]

    def test_an_old_default_file_hides_nothing(
        self, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        old = tmp_path / ".local" / "state" / "heirflow" / "heirflow.db"
        old.parent.mkdir(parents=True)
        store = open_store(f"sqlite:///{old}", call_limit_s=5)
        store.open()
        store.close()
        place.leader("airflow-scheduler", "host-a", job=1)
        place.job(2, "SchedulerJob", "host-n")
        config = resolve({}, {"HOME": str(tmp_path), "HEIRFLOW_RUN_DIR": "/nowhere"}, folder=tmp_path)
        assert config.db_url == f"sqlite:///{old}"
        found = examined(config)
        assert [each.topic for each in found].count("store") == 2
        assert [each.level for each in found if each.topic == "airflow"] == ["problem", "note"]

    def test_as_people_ask(self, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Any) -> None:
        from heirflow.cli import main
        from tests.schemas import check_output

        for name in [name for name in os.environ if name.startswith(("HEIRFLOW_", "XDG_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        place.job(7, "SchedulerJob", "host-n")
        words = ("doctor", "--name", "airflow-scheduler", "--json")
        assert main(words) == 1
        out = capfd.readouterr().out
        check_output(words, out)
        found = [each for each in json.loads(out)["findings"] if each["topic"] == "airflow"]
        assert [each["level"] for each in found] == ["problem", "note"]
        assert found[0]["facts"]["host"] == "host-n"
        assert "before the first member of airflow-scheduler starts" in found[0]["sentence"]
        place.sql("DROP TABLE job")
        assert main(words) == 0
        [told] = [each for each in json.loads(capfd.readouterr().out)["findings"] if each["topic"] == "airflow"]
        assert told["level"] == "warning" and told["sentence"].startswith("Airflow's job table cannot be read, ")
