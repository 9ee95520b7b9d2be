"""The demonstration with a plain program as a person runs it: in a pipe, on a terminal, interrupted, killed. Nothing may be left.

The product's own (`heirflow demo`) and the laboratory's (`make demo ARGS=--no-airflow`) differ in their database only: as root
the product uses SQLite, and the laboratory an embedded PostgreSQL.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from heirflow.demo.stage import Stage, Trouble, clean_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the demonstration is for Linux")

LIMIT_S = 120.0
OURS = [sys.executable, "-m", "heirflow", "demo"]
LAB = [sys.executable, "-m", "lab.airflow", "--no-airflow"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder for temporary files that is ours alone; a database's user must be able to enter it."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    folder = tmp_path / "temporary"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    for pid in processes_of(folder):
        os.kill(pid, signal.SIGKILL)


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(place), "HEIRFLOW_DB_URL": "postgresql://nobody@127.0.0.1:9/must-not-be-used"}


def processes_of(place: Path) -> list[int]:
    """Every process whose temporary files go there, or below: all that the demonstration started inherits that."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"\0TMPDIR={place}".encode() in b"\0" + entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def wait_for(done: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    limit = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < limit, what
        time.sleep(0.05)


def nothing_is_left(place: Path) -> None:
    wait_for(lambda: not processes_of(place), "processes are left", 20)
    wait_for(lambda: not list(place.iterdir()), f"files are left: {list(place.iterdir())}", 20)


class Performance:
    """A demonstration under way, its output collected."""

    def __init__(self, place: Path, demo: list[str], *more: str, output: int = subprocess.PIPE) -> None:
        self.process = subprocess.Popen(
            [*demo, "--pause", "300ms", *more],
            env=environment(place),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        self.said = ""
        if self.process.stdout is not None:
            self.collect(self.process.stdout.fileno())

    def collect(self, descriptor: int) -> None:
        def read() -> None:
            try:
                while data := os.read(descriptor, 65536):
                    self.said += data.decode("utf-8", "replace")
            except OSError:  # the other end of a terminal is gone
                return

        self.reader = threading.Thread(target=read)
        self.reader.start()

    def wait(self) -> int:
        code = self.process.wait(LIMIT_S)
        self.reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return code


@pytest.mark.parametrize("demo", [OURS, LAB], ids=["heirflow demo", "make demo"])
def test_in_a_pipe_it_tells_the_whole_story(place: Path, demo: list[str]) -> None:
    performance = Performance(place, demo)
    assert performance.wait() == 0, performance.said
    said = performance.said
    assert "\x1b" not in said
    for sentence in (
        "ada, the leader",
        "See it in a browser, as long as this runs: http://127.0.0.1:",
        "in charge after",
        "ada comes back",
        "heirflow switchover",
        "the heir was in charge after",
    ):
        assert sentence in said
    assert re.search(r"ada-\w+ was killed, and its guard proved that the command is gone", said)
    assert re.search(r"3 +took charge +(ben|cleo)-", said), "the history shows the switchover to the third in line"
    assert not re.search(r"Traceback|was killed, it did not end in time", said)
    nothing_is_left(place)


def test_on_a_terminal_it_draws_the_line_and_a_folder_of_ones_own_stays(place: Path, tmp_path: Path) -> None:
    outer, inner = pty.openpty()
    performance = Performance(place, OURS, "--kill", "command", "--dir", str(tmp_path / "own"), output=inner)
    os.close(inner)
    performance.collect(outer)
    assert performance.wait() == 0, performance.said
    os.close(outer)
    assert "╭" in performance.said
    assert "in line" in performance.said
    assert "\x1b[?25h" in performance.said, "the cursor is shown again"
    assert {"ada.log", "ben.log", "cleo.log"} <= {file.name for file in (tmp_path / "own" / "logs").iterdir()}
    nothing_is_left(place)


@pytest.mark.parametrize(
    ("demo", "moment"),
    [(LAB, "starting an embedded"), (LAB, "kill -9"), (OURS, "kill -9"), (OURS, "Stopping")],
    ids=["LAB, starting", "LAB, kill -9", "OURS, kill -9", "OURS, stopping"],
)
def test_after_ctrl_c_at_any_moment_nothing_is_left(place: Path, demo: list[str], moment: str) -> None:
    performance = Performance(place, demo)
    wait_for(lambda: moment in performance.said or performance.process.poll() is not None, f"never told: {moment}")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(performance.process.pid, signal.SIGINT)
    # A busy machine may bring the signal when it has just ended by itself.
    assert performance.wait() in ({0, 130} if moment == "Stopping" else {130}), performance.said
    assert "Traceback" not in performance.said
    nothing_is_left(place)


@pytest.mark.parametrize("demo", [OURS, LAB], ids=["heirflow demo", "make demo"])
def test_after_a_kill_of_the_demonstration_itself_nothing_is_left(place: Path, demo: list[str]) -> None:
    performance, moment = Performance(place, demo), "is in charge after"
    wait_for(lambda: moment in performance.said or performance.process.poll() is not None, f"never told: {moment}")
    performance.process.kill()
    performance.process.wait(LIMIT_S)
    nothing_is_left(place)
    performance.wait()


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        ([*LAB, "--executor", "local"], 2, "--executor belongs to --cluster"),
        ([*LAB, "--executor", "kubernetes"], 2, "is not one of"),
        ([*LAB, "--cluster"], 2, "leave out --no-airflow"),
        ([*LAB, "--pause", "soon"], 2, "Invalid value for '--pause'"),
    ],
    ids=lambda part: part if isinstance(part, str) else None,
)
def test_the_laboratory_says_what_cannot_be_shown_as_the_product_does(
    command: list[str], code: int, sentence: str
) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.returncode == code
    assert sentence in done.stderr
    assert done.stderr.startswith("heirflow: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_the_warden_ends_what_tries_to_get_away(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(place))
    runaway = "import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(600)\ntime.sleep(600)"
    with Stage(place / "stage") as stage:
        process = stage.start("runaway", [sys.executable, "-c", runaway], clean_environment())
        wait_for(lambda: len(processes_of(place)) >= 4, "it did not start")
        assert stage.status(process) is None
    wait_for(lambda: [pid for pid in processes_of(place) if pid != os.getpid()] == [], "it got away", 10)


def test_the_warden_says_what_cannot_be_started_and_how_things_end(place: Path) -> None:
    with Stage(place / "stage") as stage:
        with pytest.raises(Trouble, match="absent cannot be started: No such file or directory"):
            stage.start("absent", ["/nowhere/program"], {})
        process = stage.start(
            "short", [sys.executable, "-c", "print('hello'); raise SystemExit(3)"], clean_environment()
        )
        assert stage.wait(process, 20) == 3
        assert process.log_end() == "hello"
        stage.signal(process, signal.SIGKILL)
        killed = stage.start("killed", [sys.executable, "-c", "import time; time.sleep(600)"], clean_environment())
        stage.signal(killed, signal.SIGKILL)
        assert stage.wait(killed, 20) == -signal.SIGKILL


def test_a_stage_serves_many_threads_at_once(tmp_path: Path) -> None:
    """Each thread gets the answer to its own request; one that got another's would wait for ever."""
    with Stage(tmp_path / "stage") as stage, ThreadPoolExecutor(8) as pool:

        def play(number: int) -> tuple[int, str]:
            process = stage.start(f"p{number}", ["sh", "-c", f"echo {number}"], dict(os.environ))
            assert stage.wait(process, 20.0) == 0
            return number, process.log.read_text().strip()

        for number, said in pool.map(play, range(80)):
            assert said == str(number)
