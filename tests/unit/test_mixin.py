"""The board and the alerts of deploy/mixin: what is rendered is what the source says, and asks for what is really told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from heirflow.status.figures import MEANINGS
from tests.unit.test_alerts import members_own, promtool
from tools import mixin

BOARD: dict[str, Any] = json.loads(mixin.BOARD.read_text("utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
AIRFLOW = {
    "scheduler_heartbeat", "dag_processor_heartbeat", "triggerer_heartbeat", "scheduler_orphaned_tasks_adopted",
    "scheduler_orphaned_tasks_cleared", "scheduler_critical_section_busy", "scheduler_tasks_starving",
    "executor_queued_tasks",
}  # fmt: skip
"""Airflow's own, by the names that the chart's statsd_exporter makes of them, without its prefix."""
WORDS = {"or", "and", "unless", "bool", "sum", "max", "min", "count"}


def names_in(expr: str) -> set[str]:
    """The metrics that a query asks for."""
    plain = re.sub(r'"[^"]*"', "", expr)
    plain = re.sub(r"\b(by|on) \([^)]*\)|\{[^}]*\}|\[[^]]*\]|\b\w+(?= ?\()", "", plain)
    return set(re.findall(r"\b[a-z_]\w+", plain)) - WORDS


def test_the_files_are_what_the_source_says() -> None:
    for path, text in mixin.rendered().items():
        assert path.read_text("utf-8") == text, f"{path.name}: run `make mixin`"


def test_who_imports_it_changes_what_is_below_config() -> None:
    found = mixin.evaluated("_config+:: { runbookPage: 'https://x.example/o.html', airflowPrefix: 'flow' }")
    rule = found["alerts"]["groups"][0]["rules"][0]
    assert rule["annotations"]["runbook_url"] == "https://x.example/o.html#heirflownoleader"
    board = json.dumps(found["boards"])
    assert "flow_scheduler_heartbeat[" in board and "airflow_" not in board


def test_the_board_has_what_somebody_looks_for() -> None:
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Who leads now", "Leadership", "Time", "Changes", "Store", "Airflow's own"]
    titles = {panel["title"]: panel["type"] for panel in PANELS}
    assert titles["Who led"] == "state-timeline" and titles["Leaders"] == "stat"
    assert not {"Gap", "Lease remaining", "Check-in p99", "Heirs", "Takeovers by cause", "Restarts", "Store up"} - set(
        titles
    )
    assert [each["name"] for each in BOARD["templating"]["list"]] == ["datasource", "election", "seat"]
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    for panel in PANELS:
        assert panel["description"].endswith(".") and panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])


def test_no_panel_stands_on_another_and_each_row_is_full() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert len(taken) == 24 * height


@pytest.mark.parametrize(("title", "expr"), QUERIES)
def test_each_query_asks_for_what_is_told(title: str, expr: str) -> None:
    used = names_in(expr)
    ours = {name for name in used if not name.startswith("airflow_")}
    assert used and not ours - set(MEANINGS) - members_own()
    assert {name.removeprefix("airflow_") for name in used - ours} <= AIRFLOW
    assert bool(ours) == (title not in {"Beats", "Orphaned tasks", "Critical section busy", "Tasks that wait"})


def test_names_are_found_in_a_query() -> None:
    expr = 'sum by (le, seat) (rate(heirflow_a_total{x=~"heirflow_b"}[5m])) unless on (election) heirflow_c == bool 0'
    assert names_in(expr) == {"heirflow_a_total", "heirflow_c"}


def test_promtool_can_read_each_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"board:{number}", "expr": expr.replace("$__rate_interval", "5m")}
        for number, (_, expr) in enumerate(QUERIES)
    ]
    (tmp_path / "board.yml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    code, said = promtool("check", "rules", str(tmp_path / "board.yml"))
    assert code == 0 and f"{len(QUERIES)} rules found" in said, said
    rules[0]["expr"] += ")"
    (tmp_path / "board.yml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    assert promtool("check", "rules", str(tmp_path / "board.yml"))[0] != 0
