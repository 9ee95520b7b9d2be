"""Whether the wrapped command is one of Airflow's components, and what Airflow itself says about its database.

``heirflow run -- airflow scheduler`` needs no other flag: the election is named after the component, and the record goes
where Airflow's own tables are. Recognising is reading words; asking is one process of Airflow's own interpreter, because
only Airflow knows all the places its configuration can come from (file, environment, ``_CMD``, ``_SECRET``).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heirflow.errors import ConfigError

COMPONENTS = ("scheduler", "dag-processor", "triggerer")
"""What exactly one of may be wanted. Workers and API servers share their work by themselves."""
ELECTIONS = frozenset(f"airflow-{name}" for name in COMPONENTS)
"""What their lines are called where nobody named them."""
ORIGIN = "Airflow's own configuration"
NAME_IT = "name the database with --db-url or HEIRFLOW_DB_URL"

_HIDDEN = re.compile(rf"(^|[\s/;&|'\"])airflow['\"]?\s+({'|'.join(COMPONENTS)})\b")
_PYTHON = re.compile(r"(python|pypy)[0-9.]*(-intel64)?")
_TAKES_A_VALUE = {"-W", "-X", "--check-hash-based-pycs"}


@dataclass(frozen=True, slots=True)
class Component:
    """An Airflow component as somebody wrote it on a command line."""

    name: str
    """One of `COMPONENTS`."""
    interpreter: tuple[str, ...]
    """The Python that will run it, with its options; empty when it cannot be told."""
    program: str
    """What the command line starts with."""

    @property
    def election(self) -> str:
        return f"airflow-{self.name}"

    def again_s(self, stop_timeout_s: float) -> float:
        """When, counted from the first TERM of an orderly stop, a second one follows.

        A scheduler with LocalExecutor answers the first by waiting for its tasks, as long as they take, and breaks that off
        at the second. So the tasks get most of the time before the KILL, and Airflow the rest to write down how they ended.
        """
        return max(stop_timeout_s - 5.0, stop_timeout_s * 2 / 3)


@dataclass(frozen=True, slots=True)
class Database:
    """Where Airflow keeps its tables."""

    url: str = field(repr=False)
    schema: str | None
    connect_args: Mapping[str, Any] = field(repr=False)
    version: str
    """Of Airflow."""
    origin: str = ORIGIN
    files: Mapping[str, str] = field(default_factory=dict)
    """What its processes read once, at their start: name for people -> path."""


def recognise(argv: Sequence[str], environ: Mapping[str, str]) -> Component | None:
    """The component that this command line starts, or None. Starts nothing.

    Raises `ConfigError` for ``--daemon``: the command would leave its wrapper at once.
    """
    if not argv:
        return None
    base = Path(argv[0]).name
    if base == "airflow":
        words, interpreter = argv[1:], _interpreter_of(argv[0], environ)
    elif _PYTHON.fullmatch(base):
        options, words = after_module(argv)
        interpreter = (argv[0], *options)
    else:
        return None
    if not words or words[0] not in COMPONENTS:
        return None
    if any(word == "--daemon" or re.fullmatch(r"-[dvh]*D[dvhD]*", word) for word in words[1:]):
        raise ConfigError(
            f"airflow {words[0]} --daemon leaves its wrapper; run it without --daemon, and heirflow in the background"
        )
    return Component(words[0], interpreter, argv[0])


def hidden(argv: Sequence[str]) -> str | None:
    """The component of Airflow's that this command line probably starts behind something else: a shell, ``env``, ``nice``."""
    found = _HIDDEN.search(" ".join(argv))
    return found[2] if found else None


def find_database(component: Component, environ: Mapping[str, str], *, limit_s: float = 30.0) -> Database:
    """Ask Airflow where its tables are. Raises `ConfigError` with a sentence that says what to do instead."""
    if not component.interpreter:
        raise ConfigError(f"cannot tell which Python runs {component.program}, so Airflow cannot be asked; {NAME_IT}")
    return _ask(component.interpreter, environ, limit_s)


def find_on_path(environ: Mapping[str, str], *, limit_s: float = 30.0) -> Database | None:
    """The database of the Airflow on the PATH, for those who ask without a command line; None when there is no such Airflow."""
    if not shutil.which("airflow", path=environ.get("PATH", os.defpath)):
        return None
    interpreter = _interpreter_of("airflow", environ)
    return _ask(interpreter, environ, limit_s) if interpreter else None


def _ask(interpreter: tuple[str, ...], environ: Mapping[str, str], limit_s: float) -> Database:
    from heirflow.programs.airflow.ask import ask  # most members never ask

    answer = ask(interpreter, environ, limit_s=limit_s)
    if answer.problem:
        raise ConfigError(f"{answer.problem}; {NAME_IT}")
    return Database(answer.url, answer.schema or None, answer.connect_args, answer.version, files=answer.files)


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
