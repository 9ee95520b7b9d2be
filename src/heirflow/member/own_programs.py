"""How a member starts programs of ours that run alone: the guard, and the helper that carries out a will."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""The whole environment of guard and helper: whatever else the member knows, such as a password, is not theirs."""
FOR_DRIVERS = ("PG", "MYSQL", "MARIADB", "SSL_", "KRB5")
"""What database libraries read from the environment; handed to the helper in the payload, never in its environment."""


def words(name: str) -> list[str]:
    """How to run one of our files without the environment, the working directory and the installed packages."""
    return [sys.executable, "-I", "-S", "-E", str(Path(__file__).parents[1] / name)]


def environment() -> dict[str, str]:
    """The whole environment of such a program."""
    return {name: os.environ[name] for name in KEPT if name in os.environ}


def for_drivers() -> dict[str, Any]:
    """What a helper needs so that a database library works in it as it does here."""
    known = {name: value for name, value in os.environ.items() if name.startswith(FOR_DRIVERS)}
    return {"sys_path": [entry for entry in sys.path if entry], "environment": known}


def plain(text: str) -> str:
    """Any bytes as text that JSON carries unchanged: one character per byte."""
    return os.fsencode(text).decode("latin-1")


def described(argv: Sequence[str], env: Mapping[str, str], cwd: str) -> dict[str, Any]:
    """A command as the guard is told of it."""
    return {
        "argv": [plain(word) for word in argv],
        "env": {plain(key): plain(value) for key, value in env.items()},
        "cwd": plain(str(Path(cwd).absolute())),
    }
