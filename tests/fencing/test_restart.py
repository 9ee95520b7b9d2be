"""A command that is started again in place does not wait for what its own earlier sessions hold."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.rig.rig import Rig
from lab.servers.servers import Server

COMMAND = """
import os, pathlib, sys, threading, time
import psycopg
link = psycopg.connect(sys.argv[1], autocommit=True)
link.execute("CREATE TABLE IF NOT EXISTS busy (x int)")
link.autocommit = False
link.execute("LOCK TABLE busy")
name = link.execute("SHOW application_name").fetchone()[0]
pathlib.Path("locked").open("a").write(name + "\\n")
if name.endswith("/1"):
    threading.Thread(target=lambda: link.execute("SELECT pg_sleep(60)"), daemon=True).start()
    time.sleep(0.5)
    os._exit(3)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_start_in_place_does_not_wait_for_the_locks_of_the_one_before(tmp_path: Path, postgres: Server) -> None:
    (tmp_path / "busy.py").write_text(COMMAND)
    postgres.sql("DROP TABLE IF EXISTS busy")
    command = [sys.executable, str(tmp_path / "busy.py"), postgres.url("")]
    with Rig(postgres.url("psycopg"), tmp_path, command=command, options=["--name", "busy"]) as rig:
        rig.add("ada")
        locked = tmp_path / "locked"
        rig.wait_for(
            lambda: locked.exists() and len(locked.read_text().splitlines()) == 2, "the second start's lock", 10
        )
        assert [name.rpartition("/")[2] for name in locked.read_text().splitlines()] == ["1", "2"]
