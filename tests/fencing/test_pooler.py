"""Behind a real pgbouncer in transaction mode: it is noticed, what is lost is said, and the line stays safe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from heirflow.election.record import Told
from heirflow.stores import open_store
from heirflow.testing.store_tools import charge, new_election
from lab.rig import written
from lab.rig.rig import Rig, now_s
from lab.rig.spans import overlaps
from lab.servers.pooler import pgbouncer_missing, pooler
from tests.contract.drivers import POSTGRES
from tests.promises import broken
from tests.schemas import check_output


@pytest.fixture
def direct(new_database: Callable[[str], str]) -> str:
    return new_database(POSTGRES[0])


@pytest.fixture
def pooled(direct: str) -> Iterator[str]:
    if (missing := pgbouncer_missing()) is not None:
        pytest.skip(missing)
    with pooler(direct) as url:
        yield url


def test_it_is_noticed_and_said_and_no_session_is_ended(direct: str, pooled: str) -> None:
    election = new_election()
    store = open_store(pooled, call_limit_s=3)
    try:
        store.open()
        assert store.exchange(election, charge("a-1", 1)).swapped
        plain = sa.engine.make_url(direct).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, application_name="heirflow/a-1", autocommit=True) as session:
            reading = store.exchange(election, charge("b-2", 2))
            assert reading.swapped
            assert len(reading.told) == 1 and reading.told[0].failed
            assert reading.told[0].sentence.startswith("lease only: the connection goes through a pooler")
            session.execute("SELECT 1")
        assert store.news_fd() is None
        found = {finding.topic: finding for finding in store.examine()}
        assert (found["session"].level, found["fence"].level) == ("warning", "warning")
        assert found["fence"].facts["state"] == store.fence().facts["state"] == "lease only"
        assert store.events(election, 1)[0].because == f"b-2 took charge; {reading.told[0].sentence}"
    finally:
        store.close()


@pytest.mark.parametrize(("query", "spared"), [("", False), ("?application_name=mine", True)])
def test_the_name_stays_with_a_shared_session_unless_the_commands_url_gives_another(
    query: str, spared: bool, direct: str, pooled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The members connect directly, their commands do not: what docs/fencing.md warns of, and its way out."""
    plain = sa.engine.make_url(pooled).set(drivername="postgresql").render_as_string(hide_password=False)
    store, election = open_store(direct, call_limit_s=3), new_election()
    try:
        store.open()
        assert store.exchange(election, charge("a-1", 1)).swapped
        with monkeypatch.context() as command:
            command.setenv("PGAPPNAME", "heirflow/a-1")
            with psycopg.connect(plain + query) as session:
                session.execute("SELECT 1")
        with psycopg.connect(plain) as somebody:
            somebody.execute("SELECT 1")
            told = store.exchange(election, charge("b-2", 2)).told
            assert told == (() if spared else (Told("ended 1 session of a-1, which led before"),))
            if spared:
                somebody.execute("SELECT 1")
            else:
                with pytest.raises(psycopg.OperationalError):
                    somebody.execute("SELECT 1")
    finally:
        store.close()


def test_the_command_line_says_so(pooled: str) -> None:
    env = {**os.environ, "HEIRFLOW_DB_URL": pooled}

    def heirflow(*words: str) -> subprocess.CompletedProcess[str]:
        said = subprocess.run([sys.executable, "-m", "heirflow", *words], capture_output=True, text=True, env=env)
        check_output(words, said.stdout)
        return said

    assert heirflow("init").returncode == 0
    answer = heirflow("fence", "status", "--json")
    assert (answer.returncode, json.loads(answer.stdout)["state"]) == (1, "lease only")
    assert json.loads(heirflow("status", "--json").stdout)["fence"]["state"] == "lease only"
    assert "goes through a pooler" in heirflow("doctor").stdout


@pytest.mark.slow
def test_the_line_is_safe_behind_it(pooled: str, tmp_path: Path) -> None:
    with Rig(pooled, tmp_path, ttl_s=3) as rig:
        for host in ("ada", "ben", "cleo"):
            rig.add(host)
        for size, fault in ((3, ("member", "guard", "backstop")), (2, ("command",))):
            leader = rig.wait_for_line(size, 40)
            rig.wait_for_start(0, 10)
            at_s = now_s()
            leader.kill(*fault)
            rig.wait_for_start(at_s, 40)
        found = overlaps(written.starts_in(rig.ticks))
        assert not found, broken(found)
        assert len(written.starts_in(rig.ticks)) == 3
