"""`heirflow run --statsd`: real members tell a real UDP socket, and a real statsd_exporter where one is named."""

from __future__ import annotations

import os
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from heirflow.election.cause import Cause
from tests.cli.conftest import until
from tests.cli.test_http import free_port
from tests.unit.test_statsd import MAPPINGS, Collector

EXPORTER = os.environ.get("HEIRFLOW_TEST_STATSD_EXPORTER")
"""A statsd_exporter of Prometheus, which neither Debian nor a wheel has."""
CHARTS = {"match": "airflow.pool.open_slots.*", "name": "airflow_pool_open_slots", "labels": {"pool": "$1"}}
"""One of the mappings that stand before ours in the chart."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.socket.close()


def test_a_leader_its_end_and_its_heir(start: Callable, collector: Collector) -> None:
    members = []
    for host in ("host-a", "host-b.example"):
        words = ("--host", host, "--statsd", collector.place, "--name", "beat", "--", "sleep", "600")
        members.append(start(*words))
        shown = host.replace(".", "_")
        wanted = ("is_leader.beat.1" if host == "host-a" else "able.beat", shown)
        collector.until(lambda wanted=wanted: collector.latest.get("heirflow.{}.{}".format(*wanted)) == 1)
    collector.until(lambda: collector.latest["heirflow.heirs.beat.host-a"] == 1)
    assert collector.latest["heirflow.is_leader.beat.1.host-b_example"] == 0
    assert collector.latest["heirflow.term.beat.host-a"] == 1
    assert "heirflow.term.beat.host-b_example" not in collector.latest
    assert collector.counted["heirflow.takeovers.beat.first.host-a"] == 1
    members[0].process.terminate()
    collector.until(lambda: collector.latest["heirflow.is_leader.beat.1.host-b_example"] == 1)
    assert members[0].process.wait(10) == 0
    assert collector.latest["heirflow.is_leader.beat.1.host-a"] == 0  # its last word
    collector.until(lambda: collector.counted["heirflow.takeovers.beat.released.host-b_example"] == 1)
    collector.until(lambda: "heirflow.last_gap_seconds.beat.host-b_example" in collector.latest)
    assert 0 <= collector.latest["heirflow.last_gap_seconds.beat.host-b_example"] < 3
    took = collector.timed["heirflow.check_in.beat.host-a"]
    assert len(took) >= 1 and all(0 < each < 3000 for each in took)
    assert sum(collector.counted[f"heirflow.takeovers.beat.{cause.value}.host-a"] for cause in Cause) == 1


def test_nobody_who_listens_and_nobody_of_that_name_matter_to_no_member(start: Callable, heirflow: Callable) -> None:
    for number, place in enumerate(("127.0.0.1:1", "no-such-host.invalid:8125", "192.0.2.1:8125")):
        member = start("--statsd", place, "--name", f"beat-{number}", "--", "sleep", "600")
        pid = str(member.process.pid)
        until(lambda pid=pid: heirflow("probe", "leader", "--pid", pid).code == 0, f"leads beside {place}")
        member.process.terminate()
        assert member.process.wait(10) == 0 and "Traceback" not in member.told


def test_the_settings_name_it_and_the_prefix(start: Callable, collector: Collector, home: Path) -> None:
    (home / "heirflow.toml").write_text(f'statsd = "{collector.place}"\nstatsd-prefix = "team.ha"\n')
    start("--host", "h", "--name", "beat", "--", "sleep", "600")
    collector.until(lambda: collector.latest.get("team.ha.is_leader.beat.1.h") == 1)
    collector.socket.settimeout(0.5)
    member = start("--host", "other", "--statsd", "off", "--name", "loud", "--", "sleep", "600")
    until(lambda: "took charge" in member.told, "leads")
    collector.until(lambda: len(collector.timed["team.ha.check_in.beat.h"]) >= 3)
    assert not any("loud" in name for name in collector.latest)


def test_the_command_has_nothing_of_it(start: Callable, collector: Collector, home: Path) -> None:
    words = (
        "--statsd",
        collector.place,
        "--name",
        "beat",
        "--",
        "sh",
        "-c",
        "ls -l /proc/self/fd > fds; exec sleep 600",
    )
    start(*words)
    collector.until(lambda: (home / "fds").exists() and (home / "fds").stat().st_size)
    assert "socket:" not in (home / "fds").read_text()


def test_once_tells_nobody(heirflow: Callable) -> None:
    answer = heirflow("once", "--statsd", "127.0.0.1:8125", "--name", "x", "--", "true")
    assert answer.code == 2 and "No such option" in answer.err


if EXPORTER:

    def test_a_real_statsd_exporter_makes_labels_of_the_names(start: Callable, tmp_path: Path) -> None:
        """With the snippet of deploy/helm behind a mapping of the chart's, as the chart puts them together."""
        config = tmp_path / "mappings.yml"
        config.write_text(yaml.safe_dump({"mappings": [CHARTS, *MAPPINGS]}))
        web = free_port()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            udp = probe.getsockname()[1]
        command = [
            str(EXPORTER), f"--statsd.mapping-config={config}", f"--web.listen-address=127.0.0.1:{web}",
            f"--statsd.listen-udp=127.0.0.1:{udp}", "--statsd.listen-tcp=",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

            def look() -> float | None:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{web}/metrics", timeout=5) as answer:
                        text = answer.read().decode()
                except OSError:
                    return None
                found.clear()
                for family in text_string_to_metric_families(text):
                    for sample in family.samples:
                        if "heirflow" in sample.name:
                            found[sample.name, frozenset(sample.labels.items())] = sample.value
                return found.get(("airflow_heirflow_is_leader", labels(seat="1")))

            def labels(**more: str) -> frozenset[tuple[str, str]]:
                return frozenset({"election": "airflow-dag-processor/teams/a", "host": "host-a", **more}.items())

            until(lambda: look() is not None or found or _answers(web), "the exporter answers")
            start(
                "--host", "host-a", "--statsd", f"127.0.0.1:{udp}", "--statsd-prefix", "airflow.heirflow",
                "--name", "airflow-dag-processor/teams/a", "--", "sleep", "600",
            )  # fmt: skip
            until(lambda: look() == 1, "it is the leader")
            until(lambda: look() == 1 and ("airflow_heirflow_check_in_seconds_count", labels()) in found, "it is timed")
            assert found["airflow_heirflow_takeovers_total", labels(cause="first")] == 1
            assert found["airflow_heirflow_takeovers_total", labels(cause="released")] == 0
            assert found["airflow_heirflow_ttl_seconds", labels()] == 3
            count, total_s = (found[f"airflow_heirflow_check_in_seconds_{end}", labels()] for end in ("count", "sum"))
            assert 0 < total_s / count < 1.0  # seconds, though they are told in milliseconds
            assert found["airflow_heirflow_term", labels()] == 1
            assert {dict(each).get("election") for _, each in found} == {"airflow-dag-processor/teams/a"}
        finally:
            process.terminate()
            process.wait(10)

    def _answers(web: int) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", web), timeout=1):
                return True
        except OSError:
            return False
