"""What the board shows beside HeirFlow's own: the installed Airflow really sends it, by the name that the board makes of it."""

from __future__ import annotations

import re
from pathlib import Path

from lab.airflow.environment import AirflowEnvironment
from tests.unit.test_mixin import AIRFLOW

ONLY_IN_3 = {"dag_processor_heartbeat"}


def sent(folder: Path) -> set[str]:
    """Every text in Airflow's code that could be the name of a metric, as statsd_exporter writes it."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        text = path.read_text("utf-8", errors="replace")
        found |= {match.replace(".", "_") for match in re.findall(r"""["']([a-z_]+(?:\.[a-z_]+)*)["']""", text)}
    return found


def test_airflow_sends_what_the_board_shows(airflow: AirflowEnvironment) -> None:
    [folder] = airflow.folder.glob("lib/python3*/site-packages/airflow")
    missing = AIRFLOW - sent(folder)
    assert missing == (set() if airflow.version.startswith("3.") else ONLY_IN_3)
