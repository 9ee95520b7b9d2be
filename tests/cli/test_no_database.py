"""A database URL that names something else than an SQLite database is a fault of configuration, whoever finds it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heirflow import Election, StoreMisfit, StoreUnavailable, aio
from heirflow.election.record import Exchange
from heirflow.stores import open_store
from tests.cli.conftest import Answer

MEMBERS = ("run ", "once ")
CONFIG, PROBLEM, UNKNOWN = 78, 1, 3
PLACES = {
    "text": "is not an SQLite database",
    "bytes": "is not an SQLite database",
    "folder": "is not a file",
    "text/line.db": "is not a folder",
    "text/below/line.db": "is not a folder",
}
COMMANDS = {
    "run --name x -- true": CONFIG,
    "once --name x --every 1h -- true": CONFIG,
    "status": CONFIG,
    "status --json": CONFIG,
    "status --check": UNKNOWN,
    "history": CONFIG,
    "history --follow": CONFIG,
    "doctor": PROBLEM,
    "init": CONFIG,
    "switchover x": CONFIG,
    "drill x --yes": CONFIG,
    "pause x": CONFIG,
    "resume x": CONFIG,
    "drain x": CONFIG,
    "forget x": CONFIG,
    "fence status": CONFIG,
    "metrics": CONFIG,
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the URL names, which is no database."""
    (home / "text").write_text("this is a text\n" * 100)
    (home / "bytes").write_bytes(bytes(range(256)) * 16)
    (home / "folder").mkdir()
    monkeypatch.setenv("HEIRFLOW_DB_URL", f"sqlite:///{home}/{request.param}")
    return str(request.param)


def alone(command: str) -> Answer:
    """A member leaves nothing below its process, so it needs one of its own: this one has the servers of other tests below it."""
    words = [sys.executable, "-m", "heirflow", *command.split()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_is_there_and_what_to_do(heirflow: Callable, place: str, command: str) -> None:
    answer = alone(command) if command.startswith(MEMBERS) else heirflow(*command.split())
    said = next(line for line in reversed((answer.out + answer.err).splitlines()) if "cannot be the database" in line)
    assert answer.code == COMMANDS[command], said
    assert PLACES[place] in said
    assert "name another file in the URL, or move that one away" in said
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("library", ["threads", "asyncio"])
def test_so_does_the_python_api(place: str, library: str) -> None:
    def work(lead: object) -> None:
        raise AssertionError("it leads")

    async def work_too(lead: object) -> None:
        raise AssertionError("it leads")

    def stand() -> None:
        if library == "threads":
            Election("x").run(work)
        else:
            asyncio.run(aio.Election("x").run(work_too))

    with pytest.raises(StoreMisfit, match=PLACES[place]):
        stand()


def test_a_database_that_was_there_may_come_back(tmp_path: Path) -> None:
    file = tmp_path / "line.db"
    store = open_store(f"sqlite:///{file}", call_limit_s=5.0)
    store.open()
    store.close()  # which takes its log of writes along; the next call connects again
    kept = tmp_path / "kept.db"
    file.rename(kept)
    file.write_text("half of a copy\n" * 100)
    with pytest.raises(StoreUnavailable, match="is not an SQLite database"):
        store.exchange("x", Exchange())
    file.unlink()
    file.mkdir()
    with pytest.raises(StoreUnavailable, match="is not a file"):
        store.exchange("x", Exchange())
    file.rmdir()
    kept.rename(file)
    store.exchange("x", Exchange())
    store.close()


def test_it_is_told_with_the_exit_code_in_json(place: str) -> None:
    answer = alone("run --name x --log-format json -- true")
    assert answer.code == CONFIG
    assert json.loads(answer.err.splitlines()[-1])["event"] == "gave_up"
