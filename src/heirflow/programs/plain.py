"""What a command must be before a member stands for election with it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from heirflow.errors import CommandNotFound, CommandNotRunnable, ConfigError


def check_runnable(argv: Sequence[str], cwd: str, env: Mapping[str, str]) -> str:
    """The path of the program that `argv` would run in `cwd` with `env`.

    Raises `CommandNotFound` or `CommandNotRunnable` with a plain sentence. Asked before taking the lead: a member whose
    command cannot run must not hold up those behind it.
    """
    if not argv or not argv[0]:
        raise CommandNotFound("no command was given")
    if not Path(cwd).is_dir():
        raise CommandNotRunnable(f"the working directory {cwd} does not exist")
    name = argv[0]
    if "/" in name:
        path = Path(cwd, name)
    else:
        found = _search(name, cwd, env.get("PATH", os.defpath))
        if found is None:
            raise CommandNotFound(f"{name} was not found in PATH")
        path = found
    if not path.exists():
        raise CommandNotFound(f"{name} does not exist")
    if path.is_dir():
        raise CommandNotRunnable(f"{name} is a directory, not a program")
    if not os.access(path, os.X_OK):
        raise CommandNotRunnable(f"{name} is not executable: chmod +x {path}")
    _check_interpreter(name, path, cwd)
    return str(path)


def _search(name: str, cwd: str, search_path: str) -> Path | None:
    """As exec does it: the first executable one; otherwise the first of that name, to say why it cannot run."""
    places = [Path(cwd, place or ".") / name for place in search_path.split(os.pathsep)]
    named = [place for place in places if place.is_file()]
    return next((place for place in named if os.access(place, os.X_OK)), named[0] if named else None)


def _check_interpreter(name: str, path: Path, cwd: str) -> None:
    try:
        with path.open("rb") as file:
            first = file.readline(256)
    except OSError:  # executable and not readable is fine for a binary
        return
    if first[:2] != b"#!":
        return
    words = os.fsdecode(first[2:]).split()
    if not words:
        raise CommandNotRunnable(f"{name} begins with #! and names no interpreter")
    interpreter = Path(cwd, words[0])
    if not interpreter.is_file():
        raise CommandNotFound(f"{name} asks for the interpreter {words[0]}, which does not exist")
    if not os.access(interpreter, os.X_OK):
        raise CommandNotRunnable(f"{name} asks for the interpreter {words[0]}, which is not executable")
    if interpreter.name == "env" and len(words) == 2 and "=" not in words[1] and shutil.which(words[1]) is None:
        raise CommandNotFound(f"{name} asks for the interpreter {words[1]}, which was not found in PATH")


def preloaded(argv: Sequence[str], modules: str) -> list[str]:
    """The standby of ``python … -m PROGRAM ARGUMENT…`` that imports `modules` and waits at its gate.

    Raises `ConfigError` for a command of another form: only there it is known what importing ahead leaves as it was.
    """
    gate = str(Path(__file__).parents[1] / "alone" / "gate.py")
    python = re.fullmatch(r"(python|pypy)[0-9.]*", Path(argv[0]).name)
    index = 1
    while python and index < len(argv) and argv[index].startswith("-") and argv[index] not in {"-m", "-c", "-"}:
        index += 2 if argv[index] in {"-W", "-X"} else 1
    if not python or index + 1 >= len(argv) or argv[index] != "-m":
        raise ConfigError(f"--preload works with a command `python -m PROGRAM`, not with `{' '.join(argv[:2])}`")
    return [*argv[:index], gate, modules, *argv[index:]]
