"""What holds for any program: it can be started, its name says what it runs, and the settings say how its health is judged."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heirflow.config.resolve import Config, Source
from heirflow.errors import CommandNotFound, CommandNotRunnable, ConfigError
from heirflow.member.asker import Check
from heirflow.member.health import CommandCheck, Lookout, Patience
from heirflow.member.url_check import UrlCheck
from heirflow.programs.program import Handling, SideStore

LEAST_HEALTH_TIMEOUT_S = 1.0
RUNS_OTHERS = re.compile(
    r"(python|pypy|perl|ruby|php|lua)[0-9.]*|node|deno|bun|java|mono|dotnet|(|ba|da|k|z|fi|a)sh|busybox"
    r"|env|nice|ionice|chrt|taskset|nohup|setsid|stdbuf|timeout|sudo|su|runuser|setpriv|flock|tini|dumb-init"
    r"|uv|uvx|pipx|poetry|pipenv|nodejs|npm|npx|bundle|docker|podman|gosu|su-exec|airflow|celery|manage\.py"
)
"""Programs whose name says nothing about what they run: everything that they run would share one election."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A `Program` that HeirFlow does not know."""

    argv: tuple[str, ...]
    needs_database: str = ""
    """Why it must not use the default database; empty where it may."""

    @property
    def election(self) -> str:
        return Path(self.argv[0]).name

    def check(self, config: Config) -> list[str]:
        """See `Program.check`."""
        if self.needs_database and config.db_url_is_default:
            raise ConfigError(self.needs_database)
        name, origin = config["name"], config.settings["name"].origin
        if origin.source is Source.COMMAND and RUNS_OTHERS.fullmatch(name):
            raise ConfigError(
                f"an election named {name!r} would be shared by everything that {name} runs, and only one of it would run; "
                "give --name, and name the election after what this command does"
            )
        return []

    def handling(self, config: Config, side_store: SideStore) -> Handling:
        """See `Program.handling`."""
        warnings = []
        if config.db_url_is_default:
            warnings.append(
                f"no database was given, so the record is in {config.settings['db-url'].shown}: members on other hosts do not see "
                "it, and one of them would lead too. For several hosts, name a database with --db-url-file or HEIRFLOW_DB_URL"
            )
        children: set[int] = set()
        lookout = lookout_for(config, children)
        standby_argv = None
        if config["preload"] and config["cold"]:
            warnings.append(f"heirs start cold ({config.settings['cold'].origin}), so nothing is preloaded")
        elif config["preload"]:
            from heirflow.programs.preload import preloaded

            standby_argv = preloaded(self.argv, config["preload"])
        return Handling(config=config, lookout=lookout, children=children, standby_argv=standby_argv, warnings=warnings)


def lookout_for(
    config: Config,
    children: set[int],
    *,
    check: Check | None = None,
    fingerprint: Callable[[], dict[str, Any]] | None = None,
) -> Lookout:
    """Who watches the command's health. `check`: the program's own, where the settings ask for no other.

    `children`: processes that a check of the settings starts. `fingerprint`: see `Lookout`. Raises `ConfigError`.
    """
    for one, other in (("no-health", "health-cmd"), ("no-health", "health-url"), ("health-cmd", "health-url")):
        _refuse_both(config, one, other)
    if config["health-timeout"] < LEAST_HEALTH_TIMEOUT_S:
        raise ConfigError(
            f"--health-timeout must be at least {LEAST_HEALTH_TIMEOUT_S:g} s; --no-health turns checks off"
        )
    if config["no-health"]:
        check = None
    elif config["health-cmd"]:
        check = CommandCheck(config["health-cmd"], children)
    elif config["health-url"]:
        check = UrlCheck(config["health-url"])
    return Lookout(
        check=check,
        patience=Patience(timeout_s=config["health-timeout"], start_s=config["health-start"]),
        # The lease bounds how long a host that is frozen whole can hold up the rest; a frozen command needs no more.
        standstill_s=config["ttl"] / 2,
        fingerprint=fingerprint,
    )


def _refuse_both(config: Config, one: str, other: str) -> None:
    """Raises `ConfigError` for two settings that contradict each other.

    ``no-health`` may turn off a check that was asked for farther from the command, or in the same place.
    """
    origin, its = config.settings[one].origin, config.settings[other].origin
    nearer = its.source is Source.FLAG or its.source is Source.ENVIRONMENT < origin.source
    if config[one] and config[other] and (nearer or one != "no-health"):
        raise ConfigError(f"--{one} ({origin}) and --{other} ({its}) contradict each other; give one of them")


def check_runnable(argv: Sequence[str], cwd: str, env: Mapping[str, str]) -> str:
    """The path of the program that `argv` would run in `cwd` with `env`.

    Raises `CommandNotFound` or `CommandNotRunnable` with a plain sentence. Asked before taking the lead: a member whose
    command cannot run must not hold up those behind it.
    """
    if not argv or not argv[0]:
        raise CommandNotFound("no command was given")
    try:
        os.stat(f"{cwd}/.")  # noqa: PTH116  Path leaves the dot out, which asks whether it may be entered
    except PermissionError:
        raise CommandNotRunnable(
            f"the working directory {cwd} may not be entered by this user; change to another one"
        ) from None
    except OSError:
        raise CommandNotRunnable(f"the working directory {cwd} does not exist") from None
    name = argv[0]
    if "/" in name:
        path = Path(cwd, name)
    else:
        found = _search(name, cwd, env.get("PATH", os.defpath))
        if found is None:
            raise CommandNotFound(f"{name} was not found in PATH")
        path = found
    if not os.path.exists(path):  # noqa: PTH110  unlike Path's, it takes what may not be looked at for absent
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
    named = [place for place in places if os.path.isfile(place)]  # noqa: PTH113
    return next((place for place in named if os.access(place, os.X_OK)), named[0] if named else None)


def _check_interpreter(name: str, path: Path, cwd: str) -> None:
    try:
        with path.open("rb") as file:
            first = file.readline(256)
    except OSError:  # executable and not readable is fine for a binary
        return
    if not first:
        raise CommandNotRunnable(f"{name} is empty")
    if first[:2] != b"#!":
        if b"\0" not in first and first.endswith(b"\n") and first.isascii():
            raise CommandNotRunnable(f"{name} is a text whose first line names no interpreter; a script begins with #!")
        return
    words = os.fsdecode(first[2:]).split()
    if first.endswith(b"\r\n") and (len(words) == 1 or (len(words) == 2 and Path(words[0]).name == "env")):
        raise CommandNotFound(
            f"{name} has the line ends of Windows, so its interpreter is not found; write it with those of Unix"
        )
    if not words:
        raise CommandNotRunnable(f"{name} begins with #! but names no interpreter")
    interpreter = Path(cwd, words[0])
    if not os.path.isfile(interpreter):  # noqa: PTH113
        raise CommandNotFound(f"{name} asks for the interpreter {words[0]}, which does not exist")
    if not os.access(interpreter, os.X_OK):
        raise CommandNotRunnable(f"{name} asks for the interpreter {words[0]}, which is not executable")
    if interpreter.name == "env" and len(words) == 2 and "=" not in words[1] and shutil.which(words[1]) is None:
        raise CommandNotFound(f"{name} asks for the interpreter {words[1]}, which was not found in PATH")
