"""What HeirFlow knows of the program that it runs: every question about it, answered in one place.

The words of the command enter here, once, as `recognise`. A program that HeirFlow knows is one module below this folder (or a
folder, where it needs more) and one line in `KNOWN`. It offers what `Known` lists.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from heirflow.config.resolve import Config
    from heirflow.member.health import Lookout
    from heirflow.member.partition import Partition
    from heirflow.stores import Finding, OnTaken
    from heirflow.stores.sql.store import SqlStore

KNOWN = {"airflow": "airflow.component"}
"""A word that stands in every command that starts the program -> the module below this folder that knows it.

A command without the word does not pay for the module.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """How a member handles one program, beyond the election itself."""

    config: Config
    """The settings. Where no database was given, they name the program's own if it has one."""
    lookout: Lookout
    """Who watches the health of the command, and whether its standby is still up to date."""
    children: set[int]
    """Processes of the member that the lookout starts: the guard must leave them alone."""
    standby_argv: Sequence[str] | None = None
    """Starts a warm heir, which waits at a gate. None: heirs start cold."""
    beside: Config | None = None
    """The same with the program's own database, where the record is in a coordinator."""
    on_taken: OnTaken | None = None
    """What to do in the database when this member takes charge: adopt what the predecessor left."""
    again_s: float | None = None
    """In an orderly stop: when a second TERM follows, counted from the first. None: never."""
    warnings: list[str] = field(default_factory=list)
    """What a person should be told once."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the command finds in its environment, beside what this process has there."""
    told: str = ""
    """Why, as a sentence; empty where there is nothing of that."""
    statsd: tuple[str, str] | None = None
    """Where the program sends its own metrics by StatsD, ``HOST:PORT``, and what their names begin with; None: nowhere."""
    partition: Partition | None = None
    """The part of the program's work that this command is for; None where it has no parts."""


SideStore = Callable[["Config"], "SqlStore"]
"""Makes a store for a look beside the election: where these settings say, with a limit of its own."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A member that is heard, as `heirflow doctor` sees it."""

    election: str
    member: str
    host: str
    leads: bool
    """Any seat of its line."""
    note: str
    """What it says of itself, and its command said."""
    command: str
    """The name of the command, and a number made of its arguments; empty where it is of an older version."""
    seats: int = 1
    """How many may lead in its line."""
    started_for: int = 1
    """For how many seats it was started, as far as it tells."""


class Program(Protocol):
    """One command, and what HeirFlow knows of the program behind it."""

    @property
    def election(self) -> str:
        """The election's name where nobody gave one."""

    def check(self, config: Config) -> list[str]:
        """Look at the election's name and the database as they were given. Returns what a person should be warned of.

        Raises `ConfigError` where two programs would share one election, so that one of them never runs, or where every host
        would lead. Starts nothing.
        """

    def handling(self, config: Config, side_store: SideStore) -> Handling:
        """Everything that the program and the settings allow. May ask the program for its database. Raises `ConfigError`."""


class Known(Protocol):
    """A module that knows a program."""

    ELECTIONS: frozenset[str]
    """The names that its elections have where nobody gave one. With a slash and more behind it, a name is a partition's line."""

    def recognise(self, argv: Sequence[str], environ: Mapping[str, str]) -> Program | None:
        """The program that this command starts, or None. Starts nothing. Raises `ConfigError` for what cannot be run."""

    def located(self, config: Config, environ: Mapping[str, str]) -> Config:
        """The settings with the database of the program that is installed here; unchanged without one. Raises `ConfigError`."""

    def environment(self, config: Config, environ: Mapping[str, str]) -> Mapping[str, str]:
        """What `Handling.environment` would have for the election that is named, or the usual one, on this host.

        Raises `ConfigError` where the program cannot be asked.
        """

    def examine(
        self, config: Config, environ: Mapping[str, str], seen: Sequence[Seen], store: SqlStore
    ) -> list[Finding]:
        """What `heirflow doctor` tells of the program beside these members of its lines, all that stand in this store.

        Nothing where the store is not in the program's own database. Changes nothing.
        """


def recognise(argv: Sequence[str], environ: Mapping[str, str]) -> Program:
    """What is known of the program that this command starts. Raises `ConfigError`."""
    words = " ".join(argv)
    for known in (_module(name) for word, name in KNOWN.items() if word in words):
        program = known.recognise(argv, environ)
        if program is not None:
            return program

    from heirflow.programs.plain import Plain

    return Plain(tuple(argv))


def located(config: Config, environ: Mapping[str, str]) -> Config:
    """For those who ask without a command: the settings with the database of a known program that is installed on this host.

    Unchanged where there is none. Raises `ConfigError` where the program cannot be asked.
    """
    every = [_module(name) for name in KNOWN.values()]
    for known in [known for known in every if _has(known, config["name"])] or every:
        found = known.located(config, environ)
        if found is not config:
            return found
    return config


def environment(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """For those who ask without a command: what a known program's command would find in its environment. Raises `ConfigError`."""
    name = config["name"]
    every = [_module(each) for each in KNOWN.values()]
    knows = [known for known in every if name is None or _has(known, name)]
    return {key: value for known in knows for key, value in known.environment(config, environ).items()}


def examined(config: Config, environ: Mapping[str, str], seen: Sequence[Seen], store: SqlStore) -> list[Finding]:
    """What there is to tell of every program that HeirFlow knows, beside its lines."""
    return [told for name in KNOWN.values() for told in _module(name).examine(config, environ, seen, store)]


def is_known(election: str) -> bool:
    """Whether the election of a known program has this name where nobody gave one."""
    return any(_has(_module(name), election) for name in KNOWN.values())


def concerned(name: str | None, seen: Sequence[Seen]) -> bool:
    """Whether a known program stands in one of these lines, or is asked for by this name."""
    said = any(word in each.command for word in KNOWN for each in seen)
    return said or any(is_known(each) for each in (name or "", *(one.election for one in seen)))


def _has(known: Known, election: str | None) -> bool:
    return election is not None and election.partition("/")[0] in known.ELECTIONS


def _module(name: str) -> Known:
    return cast("Known", importlib.import_module(f"heirflow.programs.{name}"))
