"""A member that is started with its standard input, output or error closed, as some daemons and service managers do it."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heirflow.errors import HeirflowError
from heirflow.member.door import ask
from tests.contract.drivers import POSTGRES
from tests.process.stage import SOURCE, wait_until

CLOSE = {0: "0<&-", 1: "1>&-", 2: "2>&-"}
ENTRANCES = {
    "python -m heirflow": [sys.executable, "-m", "heirflow"],
    "heirflow": [sys.executable, "-c", "import sys; from heirflow.cli import main; sys.exit(main())"],
}
EMBEDDED = """
import os, subprocess, sys
from pathlib import Path
from heirflow import Election
def work(lead):
    look = "import os; print([os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 1, 2)], file=open('child', 'w'))"
    subprocess.run([sys.executable, "-c", look], check=True)
    print("to standard output, such as it is")
    Path("own").write_text(str([os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)]))
sys.exit(Election("embedded", db_url=sys.argv[1], ttl_s=2).run(work, once=True))
"""
EMBEDDING = {"embedded": [sys.executable, "-c", EMBEDDED]}
OURS = ("pipe:", "socket:", "anon_inode:")


class Closed:
    """Command lines of ours without some of the standard descriptors; the others lead to files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, entrance: str, closed: tuple[int, ...], *words: str) -> subprocess.Popen[bytes]:
        close = " ".join(CLOSE[fd] for fd in closed)
        argv = ["sh", "-c", f'exec "$@" {close}', "sh", *(ENTRANCES | EMBEDDING)[entrance], *words]
        store = {"HEIRFLOW_DB_URL": f"sqlite:///{self.folder}/line.db", "HEIRFLOW_RUN_DIR": str(self.folder / "run")}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                argv,
                env={**os.environ, "PYTHONPATH": str(SOURCE), **store},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        self.started.append(process)
        return process

    def facts(self) -> dict[str, object]:
        try:
            return ask(self.folder / "run", None, 2.0)
        except HeirflowError:
            return {}


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Closed]:
    made = Closed(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


def standard(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)]


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("which", [(0,), (1,), (2,), (0, 1), (0, 1, 2)], ids=str)
def test_the_command_runs_and_nothing_of_ours_stands_in_their_place(
    closed: Closed, entrance: str, which: tuple[int, ...]
) -> None:
    member = closed.start(entrance, which, "run", "--ttl", "3s", "--", "sleep", "600")
    facts = wait_until(lambda: (now := closed.facts()).get("command_pid") and now, "a command", 20.0)
    assert facts["term"] == 1
    guard = int(str(facts["guard_pid"]))
    for pid in (member.pid, guard, int(str(facts["command_pid"]))):
        places = standard(pid)
        assert [places[fd] for fd in which] == [os.devnull] * len(which)
        assert not [place for place in places if place.startswith(OURS)]
    member.send_signal(signal.SIGTERM)
    assert member.wait(20) == 0, closed.log.read_text()
    assert "Traceback" not in closed.log.read_text()


@pytest.mark.parametrize("which", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_what_people_ask_is_answered_as_otherwise(closed: Closed, which: tuple[int, ...]) -> None:
    for words, code in ((("config",), 0), (("init",), 0), (("status", "nosuch"), 1), (("run", "--", "./absent"), 127)):
        assert closed.start("heirflow", which, *words).wait(20) == code, (words, closed.log.read_text())
    assert "Traceback" not in closed.log.read_text()


@pytest.mark.parametrize("driver", ["sqlite", POSTGRES[0]])
@pytest.mark.parametrize("which", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_an_embedded_callable_has_nothing_of_ours_there(
    closed: Closed, which: tuple[int, ...], driver: str, new_database: Callable[[str], str]
) -> None:
    assert closed.start("embedded", which, new_database(driver)).wait(20) == 0, closed.log.read_text()
    for told in ("own", "child"):
        places = ast.literal_eval((closed.folder / told).read_text())
        assert [places[fd] for fd in which] == [os.devnull] * len(which)
        assert not [place for place in places if place.startswith(OURS)]
    assert "Traceback" not in closed.log.read_text()
