"""Guides of docs/guides carried out by their own commands, with members in place of what systemd would start."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.process.stage import SOURCE, wait_until
from tests.process.test_recipes import LIMIT_S, Hosts, several_hosts

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
SHELL = re.compile(r"^( *)```sh\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
WORK = 'echo "works"; exec sleep 1000'


def lines(page: str) -> list[str]:
    """The commands of a guide, without comments."""
    text = (GUIDES / page).read_text("utf-8")
    found = [line.partition(" #")[0].strip() for _, block in SHELL.findall(text) for line in block.splitlines()]
    return [line for line in found if line and not line.startswith("#")]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with several_hosts(tmp_path) as made:
        shim = tmp_path / "heirflow"
        shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m heirflow "$@"\n', "utf-8")
        shim.chmod(0o755)
        yield made


def shell(hosts: Hosts, command: str) -> str:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("HEIRFLOW_")}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=hosts.folder,
        env={
            **kept,
            "PATH": f"{hosts.folder}:{os.environ['PATH']}",
            "PYTHONPATH": str(SOURCE),
            "HEIRFLOW_DB_URL_FILE": str(hosts.folder / "db-url"),
        },
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def start(hosts: Hosts, host: str, line: str) -> Callable[[], bool]:
    hosts.start(host, ["heirflow", "run", "--name", line, "--ttl", "3s", "--", "sh", "-c", WORK])
    return lambda: f"{host}-" in shell(hosts, f"heirflow status {line} || true")


def leaders(file: Path) -> list[str]:
    """The hosts that took charge, in this order."""
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("SELECT member FROM heirflow_event WHERE what = 'took charge' ORDER BY id").fetchall()
    return [str(member).rpartition("-")[0] for (member,) in rows]


def test_a_rolling_restart_costs_one_change_of_leadership(hosts: Hosts) -> None:
    page = lines("rolling-restart.md")
    assert page[0] == "heirflow status airflow-scheduler"
    assert page[-1] == "heirflow status --check airflow-scheduler"
    for host in ("host-a", "host-b", "host-c"):
        wait_until(start(hosts, host, "airflow-scheduler"), hosts.log(host), LIMIT_S)
    for host in ("host-c", "host-b", "host-a"):
        for line in page[1:-1]:
            if line.startswith("systemctl restart "):
                hosts.running[host].terminate()
                assert hosts.running[host].wait(LIMIT_S) == 0
                start(hosts, host, "airflow-scheduler")
                continue
            as_user = f"env HEIRFLOW_RUN_DIR={hosts.sockets / host} "
            shell(hosts, re.sub(r"runuser -u airflow -- env \S+ ", as_user, line).replace("host-c", host))
    wait_until(lambda: "OK" in shell(hosts, f"{page[-1]} || true"), "the line is whole", LIMIT_S)
    assert leaders(hosts.folder / "line.db") == ["host-a", "host-c"], "one change, to the first that was restarted"


def test_a_line_moves_to_another_database_and_never_leads_in_both(hosts: Hosts) -> None:
    page = [line.replace("/etc/heirflow", str(hosts.folder)) for line in lines("another-database.md")]
    new = hosts.folder / "new.db"
    (hosts.folder / "new-db-url").write_text(f"sqlite:///{new}", "utf-8")
    (hosts.folder / "old-db-url").write_text(hosts.url, "utf-8")
    for host in ("host-a", "host-b"):
        wait_until(start(hosts, host, "poller"), hosts.log(host), LIMIT_S)
    told = []
    for line in page:
        if line.startswith("systemctl stop "):
            for process in reversed(hosts.running.values()):
                process.terminate()
                assert process.wait(LIMIT_S) == 0
        elif line.startswith("systemctl start "):
            for host in ("host-a", "host-b"):
                wait_until(start(hosts, host, "poller"), hosts.log(host), LIMIT_S)
        elif line == "heirflow status poller":
            told.append(shell(hosts, line))
        else:
            shell(hosts, line if " forget " in line or " init" in line or line.startswith("mv ") else f"{line} || true")
    before, stopped, after = told
    assert "led by host-a-" in before and "led by host-a-" in after and "led by " not in stopped
    with closing(sqlite3.connect(hosts.folder / "line.db")) as old:
        assert old.execute("SELECT count(*) FROM heirflow_election").fetchone() == (0,), "it was forgotten there"
    assert leaders(new) == ["host-a"]
