"""What docs/python.md shows works, and what its table of stops says is so."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from heirflow.clock import boottime
from tests.contract.drivers import POSTGRES
from tests.process import embedded
from tests.process.embedded import line
from tests.process.stage import SOURCE, wait_until

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text("utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_each_program_on_the_page_leads_and_ends_in_order(number: int, tmp_path: Path) -> None:
    program, count = re.subn(r"postgresql://[^\"]*", f"sqlite:///{tmp_path / 'line.db'}", PROGRAMS[number])
    assert count == 1
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    ) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            assert said
            if said.startswith(b"I am the one"):
                process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
    with closing(sqlite3.connect(tmp_path / "line.db")) as conn:
        assert conn.execute("SELECT leader, term FROM heirflow_election").fetchall() == [(None, 1)], "it was released"


def test_a_deaf_callable_whose_record_names_another_leader_ends_its_process(
    new_database: Callable[[str], str], tmp_path: Path
) -> None:
    """As `heirflow run` kills its command: by the record somebody else leads already."""
    with line(embedded.deaf(12, 60), new_database(POSTGRES[0]), tmp_path) as scene:
        first = scene.add("ada")
        scene.wait_for_start_of(first)
        engine = sa.create_engine(scene.url, future=True)
        with engine.begin() as conn:
            conn.execute(
                sa.text("UPDATE heirflow_election SET leader = 'eve-1', term = term + 1, version = version + 1")
            )
        engine.dispose()
        changed_at = boottime()
        assert first.wait(20) == 75, scene.story()
        assert boottime() - changed_at < 9, "it did not use up its lease"


@pytest.mark.parametrize("program", [embedded.SYNC, embedded.AIO], ids=["sync", "aio"])
def test_a_switchover_hands_over_in_order_and_the_member_stays(
    program: str, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    with line(program.replace("ttl_s=2", "ttl_s=12"), new_database(POSTGRES[0]), tmp_path) as scene:
        first = scene.add("ada")
        scene.wait_for_start_of(first)
        second = scene.add("ben")
        scene.wait_until_joined(2)
        for terms, process in ((1, second), (2, first)):
            subprocess.run(
                [sys.executable, "-m", "heirflow", "switchover", "embedded"],
                env={**os.environ, "PYTHONPATH": str(SOURCE), "HEIRFLOW_DB_URL": scene.url},
                check=True,
                capture_output=True,
            )
            scene.wait_for_start_of(process, terms=terms)
        assert (first.poll(), second.poll()) == (None, None)
        scene.judge()


def test_who_chose_to_overrun_goes_on_after_its_lease_and_the_next_one_overlaps(
    new_database: Callable[[str], str], tmp_path: Path
) -> None:
    program = embedded.deaf(2, 1, overrun="warn")
    with line(program, new_database(POSTGRES[0]), tmp_path) as scene:
        first = scene.add("ada")
        scene.wait_for_start_of(first)
        first.send_signal(signal.SIGTERM)
        time.sleep(2)
        assert first.poll() is None
        size = scene.ticks.stat().st_size
        wait_until(lambda: scene.ticks.stat().st_size > size, "it goes on")
        assert scene.leader() is not None, "and is not released"
