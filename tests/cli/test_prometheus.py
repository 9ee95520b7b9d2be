"""A real Prometheus reads two members, and its alert fires when both are killed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import until
from tests.cli.test_http import free_port, get

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"


def test_the_alert_fires_when_both_members_are_killed(start: Callable, home: Path) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus: tools/system_packages.sh installs it")
    ports = [free_port(), free_port()]
    members = [
        start("--host", f"host-{port}", "--http", f"127.0.0.1:{port}", "--name", "beat", "--", "sleep", "600")
        for port in ports
    ]
    until(lambda: all(get(port, "/able")[0] == 200 for port in ports), "leader and heir")
    # The files as they are shipped, but for the targets and the patience.
    rules = re.sub(r"\bfor: \w+", "for: 2s", (FOLDER / "heirflow.rules.yml").read_text("utf-8"))
    (home / "heirflow.rules.yml").write_text(rules)
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (job,) = (each for each in config["scrape_configs"] if each["job_name"] == "heirflow")
    job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
    config["scrape_configs"] = [job]
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    own = free_port()
    words = [
        program, f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data",
        f"--web.listen-address=127.0.0.1:{own}",
    ]  # fmt: skip

    def asked(path: str) -> dict[str, Any]:
        status, text = get(own, path)
        return dict(json.loads(text)["data"]) if status == 200 else {}

    def value(query: str) -> list[str]:
        found = asked(f"/api/v1/query?query={urllib.parse.quote(query)}").get("result", [])
        return [each["value"][1] for each in found]

    def alerts() -> set[str]:
        found = asked("/api/v1/alerts").get("alerts", [])
        return {each["labels"]["alertname"] for each in found if each["state"] == "firing"}

    with (
        (home / "prometheus.log").open("wb") as log,
        subprocess.Popen(words, stdout=log, stderr=log, cwd=home) as server,
    ):
        try:
            until(lambda: value("sum by (election) (heirflow_member_leader)") == ["1"], "Prometheus has read them")
            until(lambda: value("max(heirflow_member_check_in_seconds_count) > 4"), "and again")
            assert alerts() == set()
            for member in members:
                member.process.kill()
            until(lambda: "HeirflowNoLeader" in alerts(), "the alert")
            assert "HeirflowTwoLeaders" not in alerts()
        finally:
            server.terminate()
