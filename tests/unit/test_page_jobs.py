"""Which row of Airflow's job table the page shows beside a member."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa

from heirflow.election.record import MemberRow, Reading, Record
from heirflow.programs.airflow.adopt import job_table
from heirflow.status import Snapshot
from heirflow.status.seen import Shown
from heirflow.web.airflow.jobs import JobRows

WARM = '{"job_id": %d, "job_type": "SchedulerJob", "runs": true}'


def shown(*notes: str, host: str = "host-a") -> Shown:
    """A line of members by these notes; the first one leads."""
    members = tuple(
        MemberRow(f"m{place}", place, host, 10 + place, ready=True, note=note) for place, note in enumerate(notes)
    )
    reading = Reading(Record(3, 1, "m0", 10.0), members, written_at=99.0, since=50.0, db_now=100.0)
    return Shown(Snapshot.of("airflow-scheduler", reading), 0, "led")


class Table:
    """Airflow's, with what it was asked."""

    def __init__(self) -> None:
        self.engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
        self.job = job_table(None)
        self.job.create(self.engine)
        self.asked = 0

    def has(self, number: int, age_s: float, host: str = "host-a", state: str = "running") -> None:
        latest = datetime.now(timezone.utc) - timedelta(seconds=age_s)
        values = {"id": number, "job_type": "SchedulerJob", "state": state, "hostname": host}
        with self.engine.begin() as connection:
            connection.execute(self.job.insert().values(latest_heartbeat=latest, **values))

    def ask(self, statement: Any) -> Sequence[Any]:
        self.asked += 1
        with self.engine.connect() as connection:
            return list(connection.execute(statement))


@pytest.fixture
def table() -> Table:
    return Table()


def rows_of(table: Table) -> JobRows:
    return JobRows(table.ask, "sqlite://", None)


def test_a_warm_member_is_shown_with_its_row(table):
    table.has(17, 3.0)
    found = rows_of(table)(shown(WARM % 17, ""))
    assert found is not None and found.title == "Airflow's job"
    assert list(found.of) == ["m0"]
    assert found.of["m0"].startswith("17: running, heartbeat 3")


def test_a_host_is_named_where_airflow_calls_it_otherwise(table):
    table.has(17, 3.0, host="pod-7", state="failed")
    found = rows_of(table)(shown(WARM % 17))
    assert found is not None and found.of["m0"].startswith("17 on pod-7: failed")


def test_a_row_that_is_gone_is_told_where_others_are_there(table):
    table.has(17, 3.0)
    found = rows_of(table)(shown(WARM % 17, WARM % 18))
    assert found is not None and found.of["m1"] == "18: there is no such SchedulerJob"


@pytest.mark.parametrize(
    "note", ["", "{}", '{"job_id": -1, "job_type": "SchedulerJob"}', '{"job_id": 1, "job_type": "x"}']
)
def test_a_member_that_tells_of_no_row_costs_no_query(table, note):
    assert rows_of(table)(shown(note)) is None
    assert table.asked == 0


def test_all_who_look_share_one_query(table):
    table.has(17, 3.0)
    rows = rows_of(table)
    for _ in range(20):
        assert rows(shown(WARM % 17)) is not None
    assert table.asked == 1


def test_a_table_that_cannot_be_read_leaves_the_page_as_it_is(table):
    table.job.drop(table.engine)
    rows = rows_of(table)
    assert rows(shown(WARM % 17)) is None and rows(shown(WARM % 17)) is None
    assert table.asked == 1
