"""What holds for any program: it can be started, its name says what it runs, and the settings say how its health is judged."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from heirflow.config.resolve import Config, Source
from heirflow.errors import ConfigError
from heirflow.member.asker import Check
from heirflow.member.file_check import FileCheck
from heirflow.member.health import CommandCheck, Lookout, Patience
from heirflow.member.progress import Progress
from heirflow.member.url_check import UrlCheck
from heirflow.member.witness import Witness
from heirflow.programs.program import Handling, SideStore

LEAST_HEALTH_TIMEOUT_S = 1.0
ACTS = "progress=act"
"""The value of ``health`` with which a command that moves nothing is stopped."""
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
    instead: str = ""
    """What to do instead of standing in a line whose name nobody gave; empty where nothing is known."""

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
                self.instead
                or f"an election named {name!r} would be shared by everything that {name} runs, and only one of it would run; "
                "give --name, and name the election after what this command does"
            )
        return []

    def handling(self, config: Config, side_store: SideStore) -> Handling:
        """See `Program.handling`."""
        warnings = [*config.not_shared]
        if config["health"]:
            warnings.append(
                f"HeirFlow does not know what this program should move, so its progress is not looked at "
                f"({config.settings['health'].origin}); see --health-cmd, --health-url and --health-file"
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
    progress: tuple[Check, float] | None = None,
) -> Lookout:
    """Who watches the command's health. `check`: the program's own, where the settings ask for no other.

    `children`: processes that a check of the settings, or the witness, starts. `fingerprint`: see `Lookout`.
    `progress`: how a program that is known looks at its progress, and the least time that its settings must leave it. Raises
    `ConfigError`.
    """
    for one, other in combinations(("no-health", "health-cmd", "health-url", "health-file"), 2):
        _refuse_both(config, one, other)
    _refuse_both(config, "no-health", "health")
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
    elif config["health-file"]:
        check = FileCheck(config["health-file"])
    return Lookout(
        check=check,
        patience=Patience(timeout_s=config["health-timeout"], start_s=config["health-start"]),
        # The lease bounds how long a host that is frozen whole can hold up the rest; a frozen command needs no more.
        standstill_s=config["ttl"] / 2,
        fingerprint=fingerprint,
        witness=Witness(children),
        progress=_progress(config, *progress) if progress and config["health"] and not config["no-health"] else None,
    )


def _progress(config: Config, check: Check, least_s: float) -> Progress:
    return Progress(check, max(config["progress-timeout"], least_s), acts=config["health"] == ACTS)


def _refuse_both(config: Config, one: str, other: str) -> None:
    """Raises `ConfigError` for two settings that contradict each other.

    ``no-health`` may turn off a check that was asked for farther from the command, or in the same place.
    """
    origin, its = config.settings[one].origin, config.settings[other].origin
    nearer = its.source is Source.FLAG or its.source is Source.ENVIRONMENT < origin.source
    if config[one] and config[other] and (nearer or one != "no-health"):
        raise ConfigError(f"--{one} ({origin}) and --{other} ({its}) contradict each other; give one of them")
