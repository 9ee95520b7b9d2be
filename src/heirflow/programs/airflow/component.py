"""Airflow's components as programs that HeirFlow runs: how a command is recognised, and what the member must do for it.

``heirflow run -- airflow scheduler`` needs no other flag: the election is named after the component, and the record goes
where Airflow's own tables are. Recognising is reading words and starts nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heirflow.config.resolve import Config, Source
from heirflow.errors import ConfigError
from heirflow.member.asker import Check
from heirflow.programs.airflow import installation
from heirflow.programs.airflow.partition import partition_of
from heirflow.programs.plain import Plain, lookout_for
from heirflow.programs.program import Handling, SideStore
from heirflow.stores import is_coordinator

if TYPE_CHECKING:  # mypy sees whether this module offers what it must
    from heirflow.member.partition import Partition
    from heirflow.programs.airflow import component as itself  # noqa: PLW0406  that is the point
    from heirflow.programs.airflow.lateness import SeatSettings
    from heirflow.programs.program import Known, Seen
    from heirflow.stores import Finding
    from heirflow.stores.sql.store import SqlStore

    _: Known = itself

COMPONENTS = ("scheduler", "dag-processor", "triggerer")
"""What exactly one of may be wanted. Workers and API servers share their work by themselves."""
ELECTIONS = frozenset(f"airflow-{name}" for name in COMPONENTS)
"""What their elections are called where nobody named them."""

_SHARED = "its copies share their work, so run it on every host without HeirFlow; if only one may run all the same, give --name"
OTHERS = {
    "celery worker": _SHARED,
    "webserver": _SHARED,
    "api-server": _SHARED,
    "kerberos": "it renews the ticket of its own host, so run it on every host that needs one, without HeirFlow",
    "standalone": "it is all of Airflow on one host, to try it out; give each component a line of its own instead "
    f"({', '.join(f'heirflow run -- airflow {name}' for name in COMPONENTS)}), and run the rest without HeirFlow",
}
"""Airflow's other long-lived commands, and what to do with them."""

_HIDDEN = re.compile(rf"(^|[\s/;&|'\"])airflow['\"]?\s+({'|'.join(COMPONENTS)})\b")
_DAEMON = re.compile(r"--daemon|-[dvh]*D[dvhD]*")
_WITHOUT = "the predecessor's tasks wait up to 5 minutes until they are adopted, and health is not judged by Airflow's job table"


@dataclass(frozen=True, slots=True)
class Component:
    """A `Program`: one of Airflow's components, as somebody wrote it on a command line."""

    name: str
    """One of `COMPONENTS`."""
    interpreter: tuple[str, ...]
    """The Python that will run it, with its options; empty when it cannot be told."""
    argv: tuple[str, ...]
    partition: Partition | None = None
    """Which part of the component's work it is for."""

    @property
    def election(self) -> str:
        return f"airflow-{self.name}" if self.partition is None else self.partition.line

    def check(self, config: Config) -> list[str]:
        """See `Program.check`."""
        name, origin = config["name"], config.settings["name"].origin
        if name == self.election:
            return []
        whole, _, other = name.partition("/")
        if whole in ELECTIONS and whole != f"airflow-{self.name}":
            raise ConfigError(
                f"{name} is the election of another Airflow component, and this {self.name} would become its heir ({origin}); "
                f"leave the name out to get {self.election}"
            )
        if whole in ELECTIONS and other:
            part = "" if self.partition is None else f" ({self.partition.shown})"
            raise ConfigError(
                f"{name} is the line of another partition, and this {self.name}{part} would stand in it; "
                f"leave the name out to get {self.election}"
            )
        if origin.source is Source.FLAG:
            return []
        warning = (
            f"this {self.name} stands for the election {name!r} ({origin}); everything that is started with the same setting "
            "shares this election, and only one of it runs"
        )
        return [warning]

    def handling(self, config: Config, side_store: SideStore) -> Handling:
        """See `Program.handling`. Airflow itself is asked only where no database was given."""
        children: set[int] = set()
        database, beside = None, None
        doubts: list[str] = []
        if config.db_url_is_default:
            database = self.database(os.environ)
            config = database.place(config, children)
        elif is_coordinator(config.db_url):
            try:
                database = self.database(os.environ)
            except ConfigError as error:
                doubts.append(f"{error.args[0].partition(';')[0]}: {_WITHOUT}")
            else:
                beside = database.place(config, children)
        own = beside or config
        if config["preload"]:
            raise ConfigError(
                "--preload is for other programs written in Python; heirs of Airflow's components are warm without it"
            )
        standby_argv, warnings = self._standby(config)
        warnings += doubts
        if database is None and not doubts:
            warnings.append(
                f"the database was given ({config.settings['db-url'].origin}), so HeirFlow leaves Airflow's job table alone: "
                f"{_WITHOUT}; a standby is not renewed when Airflow changes"
            )
        progress = None if database is None else self._progress(own, database, side_store)
        if config["health"] and progress is None:
            warnings.append(
                f"health by progress needs Airflow's own database, and is not looked at ({config.settings['health'].origin})"
            )
        if database is None or standby_argv is None:
            lookout, on_taken = lookout_for(config, children, progress=progress), None
        else:
            from heirflow.programs.airflow.adopt import Adoption
            from heirflow.programs.airflow.row import Fingerprint, RowCheck

            schema = database.schema
            check = RowCheck(lambda: side_store(own), schema)
            fingerprint = Fingerprint(database.files, lambda: side_store(own), schema)
            lookout = lookout_for(config, children, check=check, fingerprint=fingerprint, progress=progress)
            on_taken = None if config["no-adopt"] else Adoption(schema)
        seated = None
        if self.name == "scheduler" and database is not None and on_taken is not None:
            seated = _seated(config, database)
            warnings += seated.doubts if seated else ()
        return Handling(
            config=config,
            beside=beside,
            lookout=lookout,
            children=children,
            standby_argv=standby_argv,
            on_taken=on_taken,
            again_s=again_s(config["stop-timeout"]),
            warnings=warnings,
            environment=seated.environment if seated else {},
            told=seated.told if seated else "",
            partition=self.partition,
            statsd=None if database is None else database.statsd,
        )

    def _progress(
        self, config: Config, database: installation.Database, side_store: SideStore
    ) -> tuple[Check, float] | None:
        """What it should move, and the least time for it."""
        if not config["health"]:
            return None
        from heirflow.programs.airflow.progress import Limits, least_limit_s, progress_of

        limits = Limits.of(database.numbers)
        check = progress_of(self.name, self.argv, limits, database.version, lambda: side_store(config), database.schema)
        return check, least_limit_s(self.name, limits)

    def database(self, environ: Mapping[str, str], *, limit_s: float = 30.0) -> installation.Database:
        """Ask Airflow where its tables are. Raises `ConfigError` with a sentence that says what to do instead."""
        if not self.interpreter:
            raise ConfigError(
                f"cannot tell which Python runs {self.argv[0]}, so Airflow cannot be asked for its database; "
                f"{installation.NAME_IT}"
            )
        return installation.database(self.interpreter, environ, limit_s=limit_s)

    def _standby(self, config: Config) -> tuple[list[str] | None, list[str]]:
        """The command line of a warm heir, or why heirs start cold."""
        if config["cold"]:
            return None, [f"heirs start cold ({config.settings['cold'].origin}): {_WITHOUT}"]
        from heirflow.programs.airflow.warm import Cold, standby_argv

        try:
            return standby_argv(self.argv, os.environ), []
        except Cold as error:
            return None, [f"heirs start cold, because {error}: {_WITHOUT}"]


def recognise(argv: Sequence[str], environ: Mapping[str, str]) -> Component | Plain | None:
    """See `Known.recognise`. A component that something else starts is a plain program, for which a database must be given.

    Raises `ConfigError` for ``--daemon``: the command would leave its wrapper at once.
    """
    interpreter, words = installation.split(argv, environ)
    said = " ".join(words)
    for name, instead in OTHERS.items():
        if said == name or said.startswith(f"{name} "):
            return Plain(tuple(argv), instead=f"airflow {name} needs no line: {instead}")
    if not words or words[0] not in COMPONENTS:
        hidden = _HIDDEN.search(" ".join(argv))
        return Plain(tuple(argv), needs_database=_hidden(hidden[2], argv)) if hidden else None
    if any(_DAEMON.fullmatch(word) for word in words[1:]):
        raise ConfigError(
            f"airflow {words[0]} --daemon would leave heirflow at once; leave out --daemon, and run heirflow in the background"
        )
    return Component(words[0], interpreter, tuple(argv), partition_of(words[0], words[1:]))


def _hidden(component: str, argv: Sequence[str]) -> str:
    return (
        f"this looks like Airflow's {component} started by {Path(argv[0]).name}, so Airflow cannot be asked for its database, and "
        f"every host would lead; start airflow itself (heirflow run -- airflow {component}), or give --name and --db-url-file"
    )


def located(config: Config, environ: Mapping[str, str]) -> Config:
    """See `Known.located`: the Airflow on the PATH."""
    found = installation.on_path(environ)
    return config if found is None else found.place(config)


def environment(config: Config, environ: Mapping[str, str]) -> Mapping[str, str]:
    """See `Known.environment`: a scheduler's, by the Airflow on the PATH."""
    if config.seats <= 1 or config["cold"] or config["no-adopt"] or config["name"] not in {None, "airflow-scheduler"}:
        return {}
    located = config.settings["db-url"].origin.source is Source.PROGRAM
    found = installation.on_path(environ) if located else None
    seated = None if found is None else _seated(config, found)
    return seated.environment if seated else {}


def _seated(config: Config, database: installation.Database) -> SeatSettings | None:
    """What one scheduler of several is told, whose row its successor will mark."""
    if config.seats <= 1:
        return None
    from heirflow.programs.airflow.lateness import patience_s, seat_settings

    return seat_settings(config.seats, database.given, patience_s(config))


def examine(config: Config, environ: Mapping[str, str], seen: Sequence[Seen], store: SqlStore) -> list[Finding]:
    """See `Known.examine`."""
    from heirflow.programs.airflow.beside import examine as beside  # for `heirflow doctor` only

    return beside(config, environ, seen, store)


def again_s(stop_timeout_s: float) -> float:
    """When a second TERM follows in an orderly stop, counted from the first.

    A scheduler with LocalExecutor answers the first one by waiting for its tasks, as long as they take, and stops waiting
    at the second. So the tasks get most of the time before the KILL, and Airflow the rest to write down how they ended.
    """
    return max(stop_timeout_s - 5.0, stop_timeout_s * 2 / 3)
