"""A Python program that is stopped says in the history by which signal, as `heirflow run` does, whoever handles the signal."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.process.stage import SOURCE, wait_until

HEAD = """
import asyncio, signal, sys, threading
from heirflow import Election, aio
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a script ignores it
own = dict(db_url=sys.argv[1], ttl_s=5, host="a")
def work(lead):
    print("leads", flush=True)
    lead.stopping.wait()
async def work_too(lead):
    print("leads", flush=True)
    await asyncio.Event().wait()
over = threading.Event()
"""
AIO_MEMBER = """
async def program():
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    {handle}
    async with aio.Election("x", **own).member(work_too):
        await over.wait()
asyncio.run(program())
"""
PROGRAMS = {
    "run": 'Election("x", **own).run(work)',
    "aio run": 'asyncio.run(aio.Election("x", **own).run(work_too))',
    "an event ends the block": """
signal.signal(signal.SIGTERM, lambda *_: over.set())
with Election("x", **own).member(work):
    over.wait()
""",
    "an exception ends the block": """
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
with Election("x", **own).member(work):
    over.wait()
""",
    "Ctrl-C ends the block": """
with Election("x", **own).member(work):
    over.wait()
""",
    "as a web server": AIO_MEMBER.format(
        handle="signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(over.set))"
    ),
    "asyncio's handler": AIO_MEMBER.format(handle="loop.add_signal_handler(signal.SIGTERM, over.set)"),
    "asyncio's Ctrl-C": AIO_MEMBER.format(handle="pass"),
    "a task that is cancelled": """
async def program():
    task = asyncio.create_task(aio.Election("x", **own).run(work_too))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await asyncio.wait([task])
asyncio.run(program())
""",
}
CASES = [
    *((name, "SIGTERM") for name in PROGRAMS if "Ctrl-C" not in name),
    ("run", "SIGINT"),
    ("aio run", "SIGINT"),
    ("Ctrl-C ends the block", "SIGINT"),
    *([("asyncio's Ctrl-C", "SIGINT")] if sys.version_info >= (3, 11) else []),  # asyncio 3.10 had no handler of it
]


def last_because(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "line.db")) as conn:
        ((what, because),) = conn.execute(
            "SELECT what, because FROM heirflow_event ORDER BY id DESC LIMIT 1"
        ).fetchall()
    assert what == "released"
    return str(because).partition(" left the line: ")[2]


def stopped(folder: Path, words: list[str], number: int) -> str:
    """What the history says of a program that leads and gets this signal."""
    (folder / "out").touch()
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = subprocess.Popen(
            words, stdout=out, stderr=err, env={"PYTHONPATH": SOURCE, "PATH": "/usr/bin:/bin"}, cwd=folder
        )
    try:
        wait_until(lambda: "leads" in (folder / "out").read_text() or process.poll() is not None, "it leads")
        process.send_signal(number)
        process.wait(20)
    finally:
        process.kill()
        process.wait()
    return last_because(folder)


@pytest.mark.parametrize(("name", "number"), CASES)
def test_the_history_names_the_signal(tmp_path: Path, name: str, number: str) -> None:
    words = [sys.executable, "-c", HEAD + PROGRAMS[name], f"sqlite:///{tmp_path / 'line.db'}"]
    assert stopped(tmp_path, words, signal.Signals[number]) == f"stopped by {number}"


def test_the_words_are_those_of_the_command(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "heirflow", "run", "--name", "x", "--db-url", f"sqlite:///{tmp_path / 'line.db'}"]
    assert (
        stopped(tmp_path, [*words, "--", "sh", "-c", "echo leads; exec sleep 60"], signal.SIGTERM)
        == "stopped by SIGTERM"
    )


def test_a_program_that_leaves_by_itself_says_so(tmp_path: Path) -> None:
    program = """
signal.signal(signal.SIGTERM, handler := lambda *_: None)
started = threading.Event()
with Election("x", **own).member(lambda lead: (started.set(), lead.stopping.wait())):
    started.wait()
with Election("y", **own).member(work):
    with Election("z", **own).member(work):
        pass
assert signal.getsignal(signal.SIGTERM) is handler, "it has its own handler back"
"""
    words = [sys.executable, "-c", HEAD + program, f"sqlite:///{tmp_path / 'line.db'}"]
    done = subprocess.run(words, env={"PYTHONPATH": SOURCE}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "line.db")) as conn:
        said = conn.execute("SELECT because FROM heirflow_event WHERE election = 'x' AND what = 'released'").fetchall()
    assert [because.partition(" left the line: ")[2] for (because,) in said] == ["the program leaves the line"]


def test_leaving_twice_is_leaving_once(tmp_path: Path) -> None:
    program = """
import time
def slow(lead):
    print("leads", flush=True)
    lead.stopping.wait()
    time.sleep(1)
    print("ended", flush=True)
with Election("x", **own).member(slow) as member:
    while member.term is None:
        time.sleep(0.01)
    member.leave()
    time.sleep(0.2)
"""
    words = [sys.executable, "-c", HEAD + program, f"sqlite:///{tmp_path / 'line.db'}"]
    done = subprocess.run(words, env={"PYTHONPATH": SOURCE}, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "leads\nended\n"), done.stderr
