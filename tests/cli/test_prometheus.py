"""A real Prometheus reads what HeirFlow tells, and the board's queries find it there."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from heirflow.election.record import Event, Exchange, What
from heirflow.stores import Store
from tests.cli.conftest import until
from tests.cli.test_http import free_port, get
from tests.unit.test_mixin import AIRFLOW, QUERIES
from tools import mixin

AIRFLOWS = "".join(f"airflow_{name} 7\n" for name in sorted(AIRFLOW))


@contextmanager
def serving(texts: dict[str, str]) -> Iterator[int]:
    """What stands behind each path, as node_exporter and statsd_exporter have it."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(texts[self.path].encode())

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class Prometheus:
    """One that was started with this configuration."""

    def __init__(self, port: int) -> None:
        self._port = port

    def asked(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.asked("query", query=expr)["result"]
        return found


@contextmanager
def prometheus(folder: Path, jobs: dict[str, tuple[int, str]]) -> Iterator[Prometheus]:
    """`jobs`: a name, its port and its path."""
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus: tools/system_packages.sh installs Debian's")
    scraped = [
        {"job_name": job, "metrics_path": path, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        for job, (port, path) in jobs.items()
    ]
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "400ms", "evaluation_interval": "500ms"},
        "rule_files": [str(mixin.RULES)],
        "scrape_configs": scraped,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: get(port, "/-/ready")[0] == 200, "Prometheus is ready")
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(20)


def test_prometheus_reads_it_and_each_query_of_the_board_finds_something(
    heirflow: Callable, start: Callable, line: Callable, store: Store, tmp_path: Path
) -> None:
    """One election is seen in the store, as by `heirflow metrics`, and another one by its members' own doors only."""
    line("seen", "a", "b")
    took = Event(What.TOOK_CHARGE, 2, "a", "x", took_s=1.5)
    store.exchange("seen", Exchange(notes=(took, Event(What.RESTARTED, 2, "a", "x"))))
    told = heirflow("metrics", "seen").out
    port, other = free_port(), free_port()
    first = start("--host", "host-a", "--http", f"127.0.0.1:{other}", "--name", "own", "--", "sleep", "600")
    until(lambda: get(other, "/leader")[0] == 200, "leads")
    start("--host", "host-b", "--http", f"127.0.0.1:{port}", "--name", "own", "--", "sleep", "600")
    until(lambda: get(port, "/able")[0] == 200, "is the heir")
    first.process.kill()
    until(lambda: get(port, "/leader")[0] == 200, "the heir leads")
    with serving({"/node": told, "/statsd": AIRFLOWS}) as served:
        jobs = {"heirflow": (port, "/metrics"), "node": (served, "/node"), "airflow": (served, "/statsd")}
        with prometheus(tmp_path, jobs) as server:
            until(lambda: len(server.query("count_over_time(up[1m]) >= 4")) == 3, "everything is scraped")
            assert [each["value"][1] for each in server.query("up")] == ["1"] * 3
            assert server.query("heirflow_member_leader")[0]["metric"]["job"] == "heirflow"
            silent = []
            for title, expr in QUERIES:
                asked = expr.replace("> 0", ">= 0")  # nothing has changed since the first look
                for name, value in (("$__rate_interval", "5s"), ("$election", ".*"), ("$seat", ".*")):
                    asked = asked.replace(name, value)
                if not server.query(asked):
                    silent.append(f"{title}: {asked}")
            assert not silent, "\n".join(silent)
            groups = server.asked("rules")["groups"]
            assert len(groups[0]["rules"]) == 6 and {rule["health"] for rule in groups[0]["rules"]} == {"ok"}
            # The member that leads alone and the one that is dead: nobody else may follow it.
            pending = {
                (rule["name"], each["labels"]["election"]) for rule in groups[0]["rules"] for each in rule["alerts"]
            }
            assert pending == {("HeirflowNoHeir", "own")}
