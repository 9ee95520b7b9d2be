"""Partitions of Airflow's components as real members: a line for each, and nobody in the line of another one.

The Airflow here is a script that waits; the partition stands in the words of the command.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heirflow.election.record import CheckIn, Exchange
from heirflow.stores import Store
from tests.cli.conftest import until
from tests.cli.test_members import state_of

WAITS = f"#!{sys.executable}\nimport time\ntime.sleep(600)\n"


@pytest.fixture
def airflow(home: Path) -> str:
    script = home / "bin" / "airflow"
    script.parent.mkdir()
    script.write_text(WAITS)
    script.chmod(0o755)
    return str(script)


@pytest.fixture(autouse=True)
def doors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The path of a socket must be short."""
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:
        monkeypatch.setenv("HEIRFLOW_RUN_DIR", folder)
        yield


def lines(heirflow: Callable) -> dict[str, list[str]]:
    """Who stands in each line, by host."""
    found = json.loads(heirflow("status", "--json").out)["elections"]
    return {each["election"]: [row["host"] for row in each["succession"]] for each in found}


def test_each_partition_has_a_leader(heirflow: Callable, start: Callable, airflow: str) -> None:
    first = start("--host", "host-a", "--", airflow, "dag-processor", "-B", "a")
    other = start("--host", "host-b", "--", airflow, "dag-processor", "-B", "b")
    queues = start("--host", "host-c", "--", airflow, "triggerer", "--queues", "q2,q1")
    for member in (first, other, queues):
        until(lambda m=member: state_of(m.process.pid) == "leader", "it leads its own line")
    assert lines(heirflow) == {
        "airflow-dag-processor/a": ["host-a"],
        "airflow-dag-processor/b": ["host-b"],
        "airflow-triggerer/q1,q2": ["host-c"],
    }
    heir = start("--host", "host-d", "--", airflow, "dag-processor", "--bundle-name=a")
    until(lambda: state_of(heir.process.pid) == "heir", "the heir of its partition")
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(20) == 0
    until(lambda: state_of(heir.process.pid) == "leader", "it takes over")
    assert heirflow("status", "airflow-dag-processor/a").code == 0


def test_another_partition_under_one_name_is_refused(heirflow: Callable, start: Callable, airflow: str) -> None:
    first = start("--host", "host-a", "--name", "dags", "--", airflow, "dag-processor", "-B", "a")
    until(lambda: state_of(first.process.pid) == "leader", "it leads")
    second = start("--host", "host-b", "--name", "dags", "--", airflow, "dag-processor", "-B", "b")
    assert second.process.wait(30) == 78
    [told] = [line for line in second.told.splitlines() if "gives up" in line]
    assert "leads 'dags' for --bundle-name a, and this member is for --bundle-name b" in told
    assert "leave out the name to get the line airflow-dag-processor/b" in told
    third = start("--host", "host-c", "--name", "dags", "--", airflow, "dag-processor", "--bundle-name", "a")
    until(lambda: state_of(third.process.pid) == "heir", "who fits stands in it")
    assert lines(heirflow) == {"dags": ["host-a", "host-c"]}
    assert state_of(first.process.pid) == "leader"
    assert "Traceback" not in first.told + second.told


def test_an_heir_that_finds_another_partition_too_late_leaves(
    start: Callable, airflow: str, store: Store, line: Callable
) -> None:
    """As of two that came at the same moment; the leader is a row of the test."""
    line("dags", "fake")
    heir = start("--host", "host-b", "--name", "dags", "--", airflow, "dag-processor", "-B", "b")
    until(lambda: state_of(heir.process.pid) == "heir", "it stands in line behind who tells no partition")
    note = json.dumps({"settings": {"partition": "--bundle-name a"}})
    store.exchange("dags", Exchange(check_in=CheckIn("fake", "host-fake", 4242, ready=True, note=note)))
    assert heir.process.wait(30) == 78
    assert "fake leads 'dags' for --bundle-name a, and this member is for --bundle-name b" in heir.told
    assert [row.id for row in store.exchange("dags", Exchange()).members] == ["fake"]
    assert "Traceback" not in heir.told


def test_members_of_an_older_version_are_stopped_before_their_line_is_parted(
    start: Callable, airflow: str, line: Callable
) -> None:
    line("airflow-dag-processor", "old")
    first = start("--host", "host-a", "--", airflow, "dag-processor", "-B", "a")
    assert first.process.wait(30) == 78
    assert "stop the members there first, or stand in that line with --name airflow-dag-processor" in first.told
