"""Recipes of docs/recipes.md whose programs are here: carried out as they stand on the page, with a killed leader."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.process.stage import SOURCE, wait_until

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text("utf-8")
LIMIT_S = 60.0


def section(title: str) -> str:
    (text,) = re.findall(rf"^## (?i:{re.escape(title)})\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return text


def block(title: str, language: str) -> str:
    text: str = re.findall(rf"^```{language}\n(.*?)^```", section(title), re.DOTALL | re.MULTILINE)[0]
    return text.replace("\\\n", " ")


class Hosts:
    """Several hosts in one folder, each a member with its own name, log and settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder / 'line.db'}"
        (folder / "db-url").write_text(self.url, "utf-8")
        (folder / "db-url").chmod(0o600)
        self.programs: dict[str, str] = {}
        """Where a program is that the page names."""
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.sockets = Path(tempfile.mkdtemp(prefix="hf-line-"))
        """The name of a socket must be short."""

    def start(self, host: str, words: list[str], **more: str) -> subprocess.Popen[bytes]:
        """`heirflow …`, as it stands on the page, on this host."""
        assert words[0] == "heirflow"
        programs = {"python": sys.executable, **self.programs}
        kept = {name: text for name, text in os.environ.items() if not name.startswith("HEIRFLOW_")}
        with (self.folder / f"{host}.log").open("ab") as log:
            self.running[host] = subprocess.Popen(
                [sys.executable, "-m", "heirflow", *(programs.get(word, word) for word in words[1:])],
                cwd=self.folder,
                env={
                    **kept,
                    "PYTHONPATH": str(SOURCE),
                    "HEIRFLOW_DB_URL_FILE": str(self.folder / "db-url"),
                    "HEIRFLOW_RUN_DIR": str(self.sockets / host),
                    "HEIRFLOW_HOST": host,
                    **more,
                },
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        return self.running[host]

    def log(self, host: str) -> str:
        return (self.folder / f"{host}.log").read_text("utf-8", "replace")

    def stop(self) -> None:
        for process in self.running.values():
            if process.poll() is None:
                process.terminate()
        for process in self.running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.sockets)

    def wait_until_joined(self, number: int) -> None:
        def joined() -> int:
            with closing(sqlite3.connect(self.folder / "line.db", timeout=5)) as connection:
                return int(connection.execute("SELECT count(*) FROM heirflow_member").fetchone()[0])

        wait_until(lambda: joined() == number, "".join(map(self.log, self.running)), LIMIT_S)


@contextmanager
def several_hosts(folder: Path) -> Iterator[Hosts]:
    made = Hosts(folder)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with several_hosts(tmp_path) as made:
        yield made


INTERVAL_S = 8.0


def test_a_job_of_apscheduler_keeps_its_time_over_a_takeover(hosts: Hosts) -> None:
    program, count = re.subn(r"minutes=30", f"seconds={INTERVAL_S:g}", block("APScheduler", "python"))
    assert count == 1
    (hosts.folder / "jobs.py").write_text(
        program.replace('print("report", ', 'print("report", __import__("time").time(), ')
    )
    words = shlex.split(block("APScheduler", "sh"))
    jobs = {"JOBS_URL": f"sqlite:///{hosts.folder / 'jobs.db'}"}

    def reports(host: str) -> list[float]:
        return [float(at) for at in re.findall(r"^report (\S+) ", hosts.log(host), re.MULTILINE)]

    first = hosts.start("ada", words, **jobs)
    wait_until(lambda: reports("ada"), hosts.log("ada"), LIMIT_S)
    hosts.start("ben", words, **jobs)
    hosts.wait_until_joined(2)
    seen = len(reports("ada"))
    wait_until(lambda: len(reports("ada")) > seen, hosts.log("ada"), LIMIT_S)
    last = reports("ada")[-1]
    wait_until(lambda: time.time() > last + INTERVAL_S / 2, "half of the interval")
    first.kill()
    wait_until(lambda: reports("ben"), hosts.log("ben"), LIMIT_S)
    # An interval that began anew would end half an interval later, and the start of the program on top.
    assert reports("ben")[0] - last < INTERVAL_S * 1.45, hosts.log("ben")
    hosts.running["ben"].terminate()
    assert hosts.running["ben"].wait(20) == 0


def test_a_line_of_cron_runs_on_one_host_for_each_due_time(hosts: Hosts) -> None:
    (line,) = block("cron", "crontab").splitlines()
    *when, rest = line.split(maxsplit=5)
    assert len(when) == 5, "a line of a crontab"
    setting, *words = shlex.split(rest)
    assert setting == "HEIRFLOW_DB_URL_FILE=/etc/heirflow/db-url"
    backup = hosts.folder / "backup"
    backup.write_text('#!/bin/sh\necho "backup by $HEIRFLOW_MEMBER"\n', "utf-8")
    backup.chmod(0o755)
    assert words[-1] == "/opt/backup/run"
    for host in ("ada", "ben", "cleo"):
        hosts.start(host, [*words[:-1], str(backup)])
    codes = [process.wait(LIMIT_S) for process in hosts.running.values()]
    assert codes == [0, 0, 0]
    said = "".join(map(hosts.log, hosts.running))
    assert said.count("backup by ") == 1 and len(said.splitlines()) == 1, "nothing else is said, so cron sends one mail"


def test_the_bot_is_the_example_that_runs() -> None:
    assert "../examples/python/polling_bot.py" in section("A bot that polls")
    assert "../examples/python/fastapi_jobs.py" in section("APScheduler")


def test_every_recipe_says_what_must_be_known() -> None:
    titles = re.findall(r"^\| \[([^\]]+)\]\(#", PAGE, re.MULTILINE)
    assert len(titles) == 8
    for title in titles:
        assert "heirflow " in section(title) and "- **State:**" in section(title), title


def test_keepalived_asks_a_probe_that_exists() -> None:
    conf = block("Two hosts and a floating address", "conf")
    (script,) = re.findall(r'script "([^"]+)"', conf)
    assert script.endswith("/heirflow probe leader") and conf.count("{") == conf.count("}")
    asked = subprocess.run(
        [sys.executable, "-m", "heirflow", "probe", "leader"],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "HEIRFLOW_RUN_DIR": "/nowhere"},
        capture_output=True,
    )
    assert asked.returncode == 1, "nobody is there: keepalived's state is FAULT"
