"""Which part of Airflow's work a command line is for: bundles or a folder of a dag-processor, queues and the team of a triggerer.

Two members in one line must be for the same part: only one of them runs, and nobody would do the other's. So a part has a line of
its own, and its name says which (``airflow-dag-processor/a``). The words are read by rules of argparse, as Airflow reads them. All
of it stands on the command line: neither Airflow 2.11 nor 3.3 takes any of it from the environment or its configuration.
"""

from __future__ import annotations

import argparse
import hashlib
import posixpath
import shlex
from collections.abc import Sequence
from typing import Any, NoReturn
from urllib.parse import quote

from heirflow.errors import ConfigError
from heirflow.member.partition import Partition

NAME_LIMIT, TOLD_LIMIT = 100, 200
"""Characters: of an election's name, which is a key in the store's tables, and of what each check-in says of the partition."""
_Options = tuple[tuple[tuple[str, ...], dict[str, Any]], ...]
PARTED = frozenset({"dag-processor", "triggerer"})
"""Components of which several may be wanted, each for its own part of the work."""

_ALL: _Options = (
    (("-D", "--daemon"), {"action": "store_true"}),
    (("-d", "--dev"), {"action": "store_true"}),
    (("-v", "--verbose"), {"action": "store_true"}),
    (("-l", "--log-file"), {}),
    (("--pid",), {"nargs": "?"}),
    (("--stdout",), {}),
    (("--stderr",), {}),
)
_OWN: dict[str, _Options] = {
    "dag-processor": (
        (("-B", "--bundle-name"), {"action": "append"}),  # 3.x
        (("-S", "--subdir"), {}),  # 2.x, and the next one
        (("-p", "--do-pickle"), {"action": "store_true"}),
        (("-n", "--num-runs"), {}),
    ),
    "triggerer": (
        (("--queues",), {}),  # 3.x
        (("--team-name",), {}),  # 3.3
        (("--capacity",), {}),
        (("-s", "--skip-serve-logs"), {"action": "store_true"}),
    ),
}
"""Every option of `airflow COMPONENT`, by any version: one that takes a value may be followed by what looks like another one."""


class _Refused(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Refused(message)


def partition_of(component: str, words: Sequence[str]) -> Partition | None:
    """The part that ``airflow COMPONENT WORD…`` is for; None for a component that is never parted.

    Raises `ConfigError` for words that Airflow would refuse too.
    """
    if component not in PARTED:
        return None
    parser = _Parser(add_help=False)
    for flags, how in (*_ALL, *_OWN[component]):
        parser.add_argument(*flags, **how)
    try:
        said, _ = parser.parse_known_args(list(words))
    except _Refused as error:
        raise ConfigError(f"airflow {component}: {error}") from None
    whole = f"airflow-{component}"
    told, tail = _bundles(said) if component == "dag-processor" else _queues(said)
    return Partition(told=_short(told, TOLD_LIMIT), line=_short(whole + tail, NAME_LIMIT), earlier=whole)


def _bundles(said: argparse.Namespace) -> tuple[str, str]:
    """What is told of it, and the end of the line's name."""
    names = sorted(set(said.bundle_name or ()))
    told, tail = [f"--bundle-name {shlex.quote(name)}" for name in names], _tail(names)
    if said.subdir:
        folder = posixpath.normpath(said.subdir)
        told.append(f"--subdir {shlex.quote(folder)}")
        tail += f"/{quote(folder.lstrip('/'), safe='/@+')}"
    return " ".join(told), tail


def _queues(said: argparse.Namespace) -> tuple[str, str]:
    queues = sorted({name.strip() for name in (said.queues or "").split(",")} - {""})
    told = [f"--team-name {shlex.quote(said.team_name)}"] if said.team_name else []
    told += [f"--queues {shlex.quote(','.join(queues))}"] if queues else []
    team = f"/team:{_plain(said.team_name)}" if said.team_name else ""
    return " ".join(told), team + _tail(queues)


def _tail(names: Sequence[str]) -> str:
    return f"/{','.join(map(_plain, names))}" if names else ""


def _plain(name: str) -> str:
    """The name with all that means something in the name of a line, or that not every database can hold, written as %XX."""
    return quote(name, safe="@+", errors="surrogateescape")


def _short(text: str, limit: int) -> str:
    """The same text, or its beginning and a number made of the whole: texts that differ stay different."""
    if len(text) <= limit:
        return text
    return f"{text[: limit - 9]}-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
