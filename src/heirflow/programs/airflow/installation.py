"""An installed Airflow: which Python runs it, and where it says that its database is.

Asking is one process of Airflow's own interpreter, because only Airflow knows all the places its configuration can come
from (file, environment, ``_CMD``, ``_SECRET``).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heirflow.config.resolve import Config, Origin, Source
from heirflow.errors import ConfigError

if TYPE_CHECKING:
    from heirflow.programs.airflow.ask import Given

ORIGIN = Origin(Source.PROGRAM, "Airflow's own configuration")
AGAIN_LIMIT_S = 10.0
"""Of a question that the thread of a store waits for, after a connection was refused."""
NAME_IT = "name the database with --db-url-file or HEIRFLOW_DB_URL"

_PYTHON = re.compile(r"(python|pypy)[0-9.]*(-intel64)?")
_TAKES_A_VALUE = {"-W", "-X", "--check-hash-based-pycs"}


@dataclass(frozen=True, slots=True)
class Database:
    """Where Airflow keeps its tables."""

    url: str = field(repr=False)
    schema: str | None
    connect_args: Mapping[str, Any] = field(repr=False)
    version: str
    """Of Airflow."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What its processes read once, at their start: name for people -> path."""
    row_locks: bool = True
    """Whether schedulers lock rows, so that several of them can work side by side."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """Of its configuration: see `ask.NUMBERS`."""
    given: Mapping[str, Given] = field(default_factory=dict)
    """Of its configuration: see `ask.LATENESS`."""
    statsd: tuple[str, str] | None = None
    """Of its configuration: see `ask.Answer`."""
    again: Callable[[set[int]], str] | None = field(default=None, repr=False, compare=False)
    """Ask for the URL once more. Raises `ConfigError`."""

    def place(self, config: Config, children: set[int] | None = None) -> Config:
        """The settings with the record in this database. `children`: see `ask`."""
        again, known = self.again, set[int]() if children is None else children
        ask = None if again is None else partial(again, known)
        return config.placed(self.url, ORIGIN, connect_args=self.connect_args, schema=self.schema, ask=ask)


def on_path(environ: Mapping[str, str], *, limit_s: float = 30.0) -> Database | None:
    """The database of the Airflow on the PATH; None when there is no such Airflow. Raises like `database`."""
    if not shutil.which("airflow", path=environ.get("PATH", os.defpath)):
        return None
    interpreter = _interpreter_of("airflow", environ)
    return database(interpreter, environ, limit_s=limit_s) if interpreter else None


def database(interpreter: Sequence[str], environ: Mapping[str, str], *, limit_s: float) -> Database:
    """Ask the Airflow of this Python where its tables are. Raises `ConfigError` with a sentence that says what to do instead."""
    from heirflow.programs.airflow.ask import ask  # most members never ask

    answer = ask(interpreter, environ, limit_s=limit_s)
    if answer.problem:
        raise ConfigError(f"{answer.problem}; {NAME_IT}")

    def again(children: set[int]) -> str:
        found = ask(interpreter, environ, limit_s=AGAIN_LIMIT_S, children=children)
        if found.problem:
            raise ConfigError(found.problem)
        return found.url

    return Database(
        answer.url,
        answer.schema or None,
        answer.connect_args,
        answer.version,
        answer.files,
        answer.row_locks,
        answer.numbers,
        answer.given,
        answer.statsd,
        again,
    )


def split(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[tuple[str, ...], Sequence[str]]:
    """The Python that a command line runs Airflow by, and Airflow's own words; no words where it does not start Airflow.

    No Python where it cannot be told.
    """
    base = Path(argv[0]).name if argv else ""
    if base == "airflow":
        return _interpreter_of(argv[0], environ), argv[1:]
    if _PYTHON.fullmatch(base):
        options, words = after_module(argv)
        return (argv[0], *options), words
    return (), ()


def after_module(argv: Sequence[str]) -> tuple[tuple[str, ...], Sequence[str]]:
    """Python's own options and the words after ``-m airflow``, or nothing where something else is run."""
    index = 1
    while index < len(argv):
        word = argv[index]
        if word in _TAKES_A_VALUE:
            index += 2
        elif word == "-m":
            found = index + 1 < len(argv) and argv[index + 1] in {"airflow", "airflow.__main__"}
            return (tuple(argv[1:index]), argv[index + 2 :]) if found else ((), ())
        elif word == "-mairflow":
            return tuple(argv[1:index]), argv[index + 1 :]
        elif word.startswith("-") and word not in {"-", "--", "-c"}:
            index += 1
        else:
            break
    if index < len(argv) and Path(argv[index]).name == "airflow":  # python /path/bin/airflow scheduler
        return tuple(argv[1:index]), argv[index + 1 :]
    return (), ()


def _interpreter_of(program: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The Python that the script names in its first lines, or the one beside it, or our own if it has Airflow."""
    path = shutil.which(program, path=environ.get("PATH", os.defpath))
    if path:
        named = shebang(Path(path), environ)
        if named:
            return named
        beside = [Path(path).resolve().parent / name for name in ("python", "python3")]
        for python in beside:
            if os.access(python, os.X_OK) and _has_airflow(python):
                return (str(python),)
    return (sys.executable,) if _our_own_has_airflow() else ()


def shebang(script: Path, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The Python, with its options, that a script's first lines name; nothing when it is no script of Python's."""
    try:
        with script.open("rb") as file:
            head = file.read(1024).decode("utf-8", "replace").splitlines()
    except OSError:
        return ()
    if not head or not head[0].startswith("#!"):
        return ()
    words = head[0][2:].split()
    # Long or odd paths do not fit a first line: installers write a shell script that is also Python,
    # with the interpreter as the first word after exec.
    if words and Path(words[0]).name == "sh" and len(head) > 1 and (match := re.match(r"'''exec'?\s+(.*)", head[1])):
        import shlex  # seldom needed

        words = shlex.split(match[1].lstrip("' "))[:1]
    if words and Path(words[0]).name == "env":
        found = shutil.which(words[-1], path=environ.get("PATH", os.defpath))
        words = [found] if found else []
    return tuple(words) if words and _PYTHON.fullmatch(Path(words[0]).name) else ()


def _has_airflow(python: Path) -> bool:
    """Whether the environment around this Python has Airflow: a look at its folders, without starting it."""
    return any(python.parent.parent.glob("lib/python3*/site-packages/airflow/__init__.py"))


def _our_own_has_airflow() -> bool:
    import importlib.util  # seldom needed

    found = importlib.util.find_spec("airflow")
    return found is not None and found.origin is not None
