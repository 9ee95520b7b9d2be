"""The play without Airflow: a program of a few lines in the line, on a database of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from heirflow.clock import boottime
from heirflow.demo import ticker
from heirflow.demo.database import database
from heirflow.demo.screen import Screen
from heirflow.demo.stage import Process, Stage, Trouble, clean_environment
from heirflow.demo.story import Cast
from heirflow.demo.watch import Start
from heirflow.stores import Store, open_store

ORDER_LIMIT_S = 60.0
SUBJECT = "three members in line for a plain program; the leader will die"
Database = Callable[[Stage, Screen, ExitStack], str]
"""Gives the URL of a database that ends with the `ExitStack`."""


def plain_cast(where: Database = database) -> Cast:
    """The one play, in whatever database."""
    return Cast(SUBJECT, lambda stage, screen, undo: [PlainPlay(stage, where(stage, screen, undo))])


class PlainPlay:
    """See `watch.Play`."""

    election = "ticker"
    noun, verb = "ticks", "written"
    hosts: tuple[str, ...] = ("ada", "ben", "cleo")
    command = "ticker"
    pause_s = 1.5
    warm_up_s = 20.0

    def __init__(self, stage: Stage, url: str) -> None:
        self._stage, self._url = stage, url
        self._read_to = 0
        self._starts: list[Start] = []
        self._file = stage.folder / "ticks.txt"
        self._file.touch()
        self._env = member_environment(stage, url)

    def open_store(self) -> Store:
        store = open_store(self._url, call_limit_s=2.0, application_name="demo")
        store.open()
        return store

    def called(self, host: str) -> str:
        return host

    def start_member(self, host: str) -> Process:
        program = [sys.executable, "-I", "-S", ticker.__file__, str(self._file)]
        wrapped = ["-m", "heirflow", "run", "--name", self.election, "--host", host, "--", *program]
        return self._stage.start(host, [sys.executable, *wrapped], self._env, cwd=own_folder(self._stage, host))

    def starts(self, after: float) -> Sequence[Start]:
        self._read_on()
        return [start for start in self._starts if start.at > after]

    def in_loop_at(self, after: float) -> float | None:
        # This program works from its first moment on.
        self._read_on()
        return next((start.at for start in self._starts if start.at > after), None)

    def _read_on(self) -> None:
        """Take in the lines that are new and whole. People and databases count since 1970, and the ticker since the boot."""
        with self._file.open("rb") as file:
            file.seek(self._read_to)
            new, newline, _ = file.read().rpartition(b"\n")
        self._read_to += len(new + newline)
        boot_at = time.time() - boottime()
        for line in new.decode().splitlines():
            nanoseconds, pid, term, member = line.split()
            host = member.rpartition("-")[0]
            self._starts.append(Start(boot_at + int(nanoseconds) / 1e9, host, f"term {term}, pid {pid}"))

    def order(self, *words: str) -> str:
        return heirflow([sys.executable, "-m", "heirflow"], words, self._env)

    def start_page(self, place: str) -> Process:
        return self._stage.start("page", [sys.executable, "-m", "heirflow", "serve", "--http", place], self._env)

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
