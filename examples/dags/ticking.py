"""A task every two seconds: a gap in the scheduling is easy to see in the list of its runs."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task


@dag(
    schedule=timedelta(seconds=2),
    start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    # Runs that a scheduler left behind when it died must not keep the next ones from starting.
    max_active_runs=6,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=1)},
    tags=["example"],
)
def ticking():
    @task
    def tick() -> str:
        return datetime.now(timezone.utc).isoformat()

    tick()


ticking()
