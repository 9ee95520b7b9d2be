"""What the README shows works: its Python runs, its commands and files exist."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from heirflow.cli import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_python_in_it_leads(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    program, count = re.subn(r"postgresql://[^\"]*", f"sqlite:///{tmp_path / 'line.db'}", program)
    assert count == 1
    with subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"I am the one, in term 1\n"
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()
    with closing(sqlite3.connect(tmp_path / "line.db")) as conn:
        assert conn.execute("SELECT leader, term FROM heirflow_election").fetchall() == [(None, 1)], "it was released"


def test_its_commands_exist() -> None:
    named = set(re.findall(r"heirflow (\w+)", " ".join(re.findall(r"`[^`]*`|```.*?```", README, re.DOTALL))))
    assert {"run", "status", "history"} <= named
    assert named <= set(COMMANDS) | {"import"}


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
