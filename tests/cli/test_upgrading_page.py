"""What docs/upgrading.md says is so: the versions of its table, and its statements for backup, restore and uninstall."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from heirflow import __version__
from heirflow.stores.sql import schema
from tests.cli.conftest import Started, until
from tests.cli.test_members import state_of

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "upgrading.md").read_text("utf-8")
STATEMENTS = [
    re.sub(r"^ +", "", text, flags=re.MULTILINE)
    for text in re.findall(r"^ *```sql\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
]
(BACKUP,) = re.findall(r"^python3 -c .*$", PAGE, re.MULTILINE)


def value(database: Path, question: str) -> object:
    with closing(sqlite3.connect(database)) as conn:
        return conn.execute(question).fetchone()[0]


def leads(start: Callable[..., Started]) -> Started:
    member = start("--host", "here", "--name", "beat", "--", "sleep", "600")
    until(lambda: state_of(member.process.pid) == "leader", "it leads")
    return member


def stop(member: Started) -> None:
    member.process.send_signal(signal.SIGTERM)
    assert member.process.wait(20) == 0


def test_the_table_names_this_version_and_its_tables() -> None:
    rows = re.findall(r"^\| (\d+\.\d+\.\d+) \| (\d+) \| (\d+) \|", PAGE, re.MULTILINE)
    assert rows[0] == (__version__, str(schema.VERSION), str(schema.READABLE_FROM)), "a new version needs a row"


def test_a_line_goes_on_from_a_backup_in_terms_above_all_that_were_given(home: Path, start: Callable) -> None:
    member = leads(start)
    words = shlex.split(BACKUP)
    assert words[0] == "python3"
    done = subprocess.run([sys.executable, *words[1:]], cwd=home, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), "also while a member leads"
    stop(member)
    stop(leads(start))
    given = value(home / "line.db", "SELECT term FROM heirflow_election")
    assert value(home / "copy.db", "SELECT term FROM heirflow_election") == 1
    assert given == 2

    for name in ("line.db", "line.db-wal", "line.db-shm"):
        (home / name).unlink(missing_ok=True)
    os.rename(home / "copy.db", home / "line.db")
    (rise,) = (text for text in STATEMENTS if text.startswith("UPDATE"))
    with closing(sqlite3.connect(home / "line.db")) as conn:
        conn.executescript(rise)
    member = leads(start)
    # And 1,000 more where the copy is seen as another file (a fail-over that forgets): its number may come again.
    assert value(home / "line.db", "SELECT term FROM heirflow_election") in {1002, 2002}
    stop(member)
    assert "Traceback" not in member.told


def test_the_statements_for_an_uninstall_leave_no_table(home: Path, store: object) -> None:
    there = "SELECT count(*) FROM sqlite_master WHERE name LIKE 'heirflow%'"
    assert value(home / "line.db", there)
    (drop,) = (text for text in STATEMENTS if text.startswith("DROP"))
    with closing(sqlite3.connect(home / "line.db")) as conn:
        conn.executescript(drop)
    assert value(home / "line.db", there) == 0


def test_a_line_without_its_tables_makes_new_ones_and_begins_with_term_1(home: Path, start: Callable) -> None:
    stop(leads(start))
    for name in ("line.db", "line.db-wal", "line.db-shm"):
        (home / name).unlink(missing_ok=True)
    stop(leads(start))
    assert value(home / "line.db", "SELECT term FROM heirflow_election") == 1
