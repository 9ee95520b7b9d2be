"""Airflow's components with their line in etcd, and their tasks in the metadata database beside it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from heirflow.cli import doctor as doctors
from heirflow.cli.doctor import examined, reach_beside
from heirflow.config.resolve import resolve
from heirflow.demo.stage import Stage, clean_environment
from heirflow.election.record import Exchange
from heirflow.stores import Finding, open_store
from lab.airflow.environment import ensure
from lab.servers.etcd import etcd_missing, etcd_server
from lab.servers.servers import Server
from tests.airflow.rig import Rig, kill, tree
from tests.airflow.test_beside import CONFIGURATION, Place, opened

pytestmark = pytest.mark.skipif(etcd_missing() is not None, reason=str(etcd_missing()))


@pytest.fixture(scope="module")
def etcd() -> Iterator[str]:
    with etcd_server() as running:
        yield running.store_url


# ---- real Airflow ----


class Line:
    """Two members of the scheduler's line, each as on a host of its own."""

    def __init__(self, rig: Rig, etcd: str) -> None:
        self.rig, self.etcd = rig, etcd
        flags = ("--stop-timeout", "10s", "--ttl", "6s")
        self.members = {host: rig.member(host, "scheduler", *flags, HEIRFLOW_DB_URL=etcd) for host in "ab"}

    def facts(self, host: str) -> dict[str, Any]:
        try:
            return self.rig.facts(host, "scheduler")
        except Exception:  # its door is not there yet
            return {}

    def wait_for(self, done: Callable[[], Any], what: str) -> Any:
        return self.rig.wait_for(done, what, *self.members.values(), every_s=0.05)

    def leader_with_a_warm_heir(self) -> tuple[str, str]:
        """Their hosts."""
        leader = self.wait_for(lambda: next((host for host in "ab" if self.facts(host).get("leader")), ""), "no leader")
        [heir] = {*"ab"} - {leader}
        self.wait_for(lambda: self.facts(heir).get("ready"), "no warm heir")
        return leader, heir

    def is_told(self, sentence: str) -> bool:
        words = [self.rig.airflow.program("heirflow"), "history", "airflow-scheduler", "--json"]
        env = {**self.rig.env, "HEIRFLOW_DB_URL": self.etcd}
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return any(re.search(sentence, each["because"]) for each in json.loads(done.stdout)["events"])

    def sessions(self, host: str) -> list[str]:
        """Of this host's command."""
        ask = f"SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'heirflow/{host}-%'"
        return [name for (name,) in self.rig.ask(ask)]

    def everything_of(self, host: str) -> set[int]:
        """Member, guard and command."""
        facts = self.facts(host)
        roots = (self.members[host].pid, facts["guard_pid"], facts["command_pid"])
        return {pid for root in roots for pid in tree(int(root))}


@pytest.mark.timeout(300)
def test_the_heir_of_a_killed_scheduler_and_of_a_frozen_host_adopts_and_ends_its_sessions(
    server: Server, stage: Stage, etcd: str
) -> None:
    rig = Rig(ensure("3.3"), server, stage, "line_in_etcd", SCHEDULER__SCHEDULER_HEARTBEAT_SEC="1")
    line = Line(rig, etcd)
    both = [*line.members.values()]
    first = rig.at_work("scheduler", *both)
    leader, heir = line.leader_with_a_warm_heir()
    assert rig.ask("SELECT to_regclass('heirflow_member') IS NULL") == [["t"]], "the line is elsewhere"
    kill(int(line.facts(leader)["command_pid"]))
    line.wait_for(lambda: len(rig.jobs("scheduler")) == 2, "nobody took charge")
    second = rig.at_work("scheduler", *both)
    assert rig.jobs("scheduler") == [(first, "failed"), (second, "running")]
    assert line.facts(heir)["leader"] and not line.facts(leader)["leader"]
    line.wait_for(lambda: line.is_told(f"marked job {first} of the predecessor failed"), "the history does not tell it")

    # The whole host stands still: nothing dies there, and its sessions are open.
    assert line.leader_with_a_warm_heir() == (heir, leader)
    line.wait_for(lambda: line.sessions(heir), "its command has no session")
    frozen = line.everything_of(heir)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        line.wait_for(lambda: len(rig.jobs("scheduler")) == 3, "nobody took charge")
        third = rig.at_work("scheduler", line.members[leader])
        assert rig.jobs("scheduler") == [(first, "failed"), (second, "failed"), (third, "running")]
        assert line.sessions(heir) == []
        line.wait_for(
            lambda: line.is_told(f"ended [0-9]+ sessions? of {heir}-.*, which led before; marked job {second}"),
            "not told",
        )
    finally:
        for pid in frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    for member in both:
        rig.stage.signal(member, signal.SIGTERM)
    for member in both:
        assert rig.stage.wait(member, 60.0) == 0, member.log_end()


@pytest.mark.timeout(300)
def test_a_database_that_is_away_costs_no_warm_heir(server: Server, stage: Stage, etcd: str) -> None:
    """A command waits for it, and a standby gets warm without it: else all would have to begin when it is there again."""
    rig = Rig(ensure("3.3"), server, stage, "away_in_etcd", SCHEDULER__SCHEDULER_HEARTBEAT_SEC="1")
    line = Line(rig, etcd)
    both = [*line.members.values()]
    rig.at_work("scheduler", *both)
    leader, heir = line.leader_with_a_warm_heir()
    standby = line.wait_for(lambda: line.facts(heir).get("standby_pid"), "no standby")
    server.crash()
    try:
        kill(int(line.facts(leader)["command_pid"]))
        line.wait_for(lambda: line.facts(heir).get("leader"), "nobody took charge")
        line.wait_for(lambda: line.facts(leader).get("ready"), "no standby became warm without the database")
        time.sleep(2.0)
        assert line.facts(heir)["command_pid"] == standby
    finally:
        server.start()
    back_at = time.time()
    line.wait_for(lambda: len(rig.jobs("scheduler")) == 2, "the command did not go on")
    assert time.time() - back_at < 8.0
    rig.at_work("scheduler", *both)
    assert line.facts(heir)["command_pid"] == standby
    for member in both:
        rig.stage.signal(member, signal.SIGTERM)
    for member in both:
        assert rig.stage.wait(member, 60.0) == 0, member.log_end()


# ---- what doctor tells, with an Airflow that only says where its database is ----


@pytest.fixture
def place(
    new_database: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, etcd: str
) -> Iterator[Place]:
    """Airflow's tables in SQLite, its lines in etcd, and an Airflow on the PATH."""
    airflow_in(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'lib'}:{os.environ.get('PYTHONPATH', '')}")
    for made in opened(new_database("sqlite")):
        for name, value in (("AIRFLOW_HOME", str(tmp_path)), ("FAKE_URL", made.url), ("FAKE_LOCKS", "True")):
            monkeypatch.setenv(name, value)
        made.store.close()
        made.store = open_store(folder_in(etcd, tmp_path), call_limit_s=5)
        yield made


def airflow_in(folder: Path, *, script: str = "") -> None:
    package = folder / "lib" / "airflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '9.9'\n")
    (package / "configuration.py").write_text(CONFIGURATION)
    program = folder / "bin" / "airflow"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{script}")
    program.chmod(0o755)


def folder_in(etcd: str, tmp_path: Path) -> str:
    """Lines of this test alone."""
    return f"{etcd}/{tmp_path.name}"


def doctor(url: str, topic: str = "airflow", **flags: object) -> list[Finding]:
    config = resolve(
        {"db-url": url, **flags}, {"HOME": "/nowhere", "HEIRFLOW_RUN_DIR": "/nowhere"}, folder=Path("/nowhere")
    )
    return [each for each in examined(config) if each.topic == topic]


def test_doctor_tells_what_runs_without_heirflow(place: Place, etcd: str, tmp_path: Path) -> None:
    url = folder_in(etcd, tmp_path)
    place.leader("airflow-scheduler", "host-a", job=1)
    place.job(1, "SchedulerJob", "host-a")
    [ok] = doctor(url)
    assert (ok.level, ok.sentence) == ("ok", "no scheduler, dag-processor or triggerer runs without HeirFlow")
    place.job(2, "SchedulerJob", "host-b")
    told = doctor(url)
    assert [(each.level, each.facts.get("host")) for each in told][:1] == [("problem", "host-b")]
    assert "beside the line airflow-scheduler" in told[0].sentence


def test_a_line_with_a_given_name_and_one_that_is_yet_to_begin_are_known_too(
    place: Place, etcd: str, tmp_path: Path
) -> None:
    url = folder_in(etcd, tmp_path)
    place.job(2, "DagProcessorJob", "host-b")
    [before] = doctor(url, name="airflow-dag-processor")
    assert (before.level, before.facts["host"]) == ("problem", "host-b")
    assert doctor(url) == [], "nothing here is of Airflow's"
    place.leader("dags", "host-a", job=1, kind="DagProcessorJob")
    place.job(1, "DagProcessorJob", "host-a")
    for flags in ({}, {"name": "dags"}):
        [told] = doctor(url, **flags)
        assert (told.level, told.facts["host"]) == ("problem", "host-b")


@pytest.mark.parametrize("harm", ["cannot be asked", "its database is away"])
def test_doctor_tells_once_what_it_cannot_see_and_all_the_rest(
    harm: str, place: Place, etcd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.leader("airflow-scheduler", "host-a", job=1)
    if harm == "cannot be asked":
        monkeypatch.delenv("FAKE_URL")
    else:
        monkeypatch.setenv("FAKE_URL", "postgresql://nobody:x@127.0.0.1:1/airflow")
    url = folder_in(etcd, tmp_path)
    [told] = doctor(url)
    assert told.level == "warning" and "without HeirFlow is not seen" in told.sentence
    assert [each.level for each in doctor(url, "store")] == ["ok"]


def test_a_metadata_database_that_is_far_is_told(
    place: Place, etcd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve({"db-url": place.url, "ttl": "10s"}, {"HOME": "/nowhere"}, folder=Path("/nowhere"))
    assert reach_beside(config, 0.022) is None
    far = reach_beside(config, 0.024)
    assert far is not None and (far.level, far.facts["limit_s"]) == ("warning", 0.75)
    place.leader("airflow-scheduler", "host-a", job=1)
    url = folder_in(etcd, tmp_path)
    assert doctor(url, "distance") == []
    monkeypatch.setattr(doctors, "TRIPS_BESIDE", 10**6)
    [told] = doctor(url, "distance")
    assert "what was left in " in told.sentence and place.url.partition("///")[2] in told.sentence


# ---- a member whose Airflow cannot be asked ----

WORKS = "import pathlib, sys, time\npathlib.Path(sys.argv[0] + '.works').touch()\ntime.sleep(600)\n"


def test_a_line_works_though_airflow_cannot_be_asked(stage: Stage, etcd: str, tmp_path: Path) -> None:
    airflow_in(tmp_path, script=WORKS)
    env = clean_environment(
        PATH=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        PYTHONPATH=f"{tmp_path / 'lib'}:{os.environ.get('PYTHONPATH', '')}",
        AIRFLOW_HOME=str(tmp_path),
        HEIRFLOW_DB_URL=folder_in(etcd, tmp_path),
        HEIRFLOW_RUN_DIR=str(tmp_path / "run"),
    )
    words = [sys.executable, "-m", "heirflow", "run", "--cold", "--host", "a", "--", "airflow", "scheduler"]
    member = stage.start("member", words, env)
    limit = time.monotonic() + 30
    while not (tmp_path / "bin" / "airflow.works").exists():
        assert time.monotonic() < limit and stage.status(member) is None, member.log_end(30)
        time.sleep(0.05)
    with closing(open_store(folder_in(etcd, tmp_path), call_limit_s=5)) as store:
        record = store.exchange("airflow-scheduler", Exchange()).record
        assert record is not None and str(record.leader).startswith("a-")
    log = member.log.read_text()
    assert log.count("FAKE_URL") == 1, log
    assert "the predecessor's tasks wait up to 5 minutes" in log
    stage.signal(member, signal.SIGTERM)
    assert stage.wait(member, 30.0) == 0, member.log_end()
