"""A task every six seconds that frees its slot and waits two seconds in the triggerer: what a triggerer is for."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

try:
    from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
    from airflow.sdk import BaseOperator, dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag
    from airflow.models import BaseOperator
    from airflow.triggers.temporal import TimeDeltaTrigger


class Wait(BaseOperator):
    """Deferred at once, finished two seconds later."""

    def execute(self, context) -> None:
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=2)), method_name="finish")

    def finish(self, context, event=None) -> str:
        return datetime.now(timezone.utc).isoformat()


@dag(
    schedule=timedelta(seconds=6),
    start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=4,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=1)},
    tags=["example"],
)
def deferring():
    Wait(task_id="wait")


deferring()
