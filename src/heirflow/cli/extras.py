"""What `heirflow run` adds to a member beyond the line itself: a warm standby, adoption, and a look at the command's health."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heirflow.config.resolve import Config
from heirflow.errors import ConfigError
from heirflow.member.health import Check, CommandCheck, Lookout, Patience, UrlCheck
from heirflow.programs.airflow.detect import Component, Database
from heirflow.programs.plain import preloaded

if TYPE_CHECKING:
    from heirflow.stores import OnTaken
    from heirflow.stores.sql.store import SqlStore

LEAST_HEALTH_TIMEOUT_S = 1.0
_WITHOUT = "; so the predecessor's tasks are adopted only after up to 5 minutes, and Airflow's row does not tell whether it is well"


@dataclass(slots=True)
class Extras:
    """Filled in by `extras_for`."""

    standby_argv: list[str] | None = None
    on_taken: OnTaken | None = None
    lookout: Lookout | None = None
    children: set[int] = field(default_factory=set)
    """Processes of this one that checks start."""
    sentences: list[str] = field(default_factory=list)
    """What a person should be told once."""


def extras_for(
    command: Sequence[str],
    component: Component | None,
    found: Database | None,
    config: Config,
    side_store: Callable[[], SqlStore],
) -> Extras:
    """Everything that the command and the settings allow. Raises `ConfigError`.

    `found`: what Airflow said about its database, when the record lives there too. `side_store`: for a look beside the line.
    """
    extras = Extras()
    for one, other in (("no-health", "health-cmd"), ("no-health", "health-url"), ("health-cmd", "health-url")):
        _refuse_both(config, one, other)
    if config["health-timeout"] < LEAST_HEALTH_TIMEOUT_S:
        raise ConfigError(
            f"--health-timeout must be at least {LEAST_HEALTH_TIMEOUT_S:g} s; --no-health turns the looks off"
        )
    if component is None:
        if config["preload"] and config["cold"]:
            extras.sentences.append(f"heirs are cold ({config.settings['cold'].origin}), and nothing is preloaded")
        elif config["preload"]:
            extras.standby_argv = preloaded(command, config["preload"])
    elif config["preload"]:
        raise ConfigError(
            "--preload is for other Python programs; heirs of Airflow's components are warm by themselves"
        )
    elif config["cold"]:
        extras.sentences.append(f"heirs are cold ({config.settings['cold'].origin}){_WITHOUT}")
    else:
        _warm_airflow(extras, command)
    if component is not None and found is None:
        extras.sentences.append(
            f"the database was named by {config.settings['db-url'].origin}, so Airflow's job table is left alone{_WITHOUT}, and a "
            "standby is not renewed when Airflow changes"
        )
    in_airflow = found is not None and extras.standby_argv is not None
    if in_airflow and not config["no-adopt"]:
        from heirflow.programs.airflow.adopt import Adoption

        assert found is not None
        extras.on_taken = Adoption(found.schema)
    extras.lookout = Lookout(
        check=None if config["no-health"] else _check(extras, config, found if in_airflow else None, side_store),
        patience=Patience(timeout_s=config["health-timeout"], start_s=config["health-start"]),
        # The lease bounds how long a host that is frozen whole can hold up the rest; a frozen command needs no more.
        standstill_s=config["ttl"] / 2,
        fingerprint=_fingerprint(found, side_store) if in_airflow else None,
    )
    return extras


def _refuse_both(config: Config, one: str, other: str) -> None:
    """Raises `ConfigError`, unless `one` turns something off that was asked for farther from the command."""
    origin, its = config.settings[one].origin, config.settings[other].origin
    farther = one == "no-health" and not its.startswith("flag") and not (
        its.startswith("environment") and origin.startswith("file")
    )  # fmt: skip
    if config[one] and config[other] and not farther:
        raise ConfigError(f"--{one} ({origin}) and --{other} ({its}) contradict each other; give one of them")


def _warm_airflow(extras: Extras, command: Sequence[str]) -> None:
    from heirflow.programs.airflow.warm import Cold, standby_argv

    try:
        extras.standby_argv = standby_argv(command, os.environ)
    except Cold as error:
        extras.sentences.append(f"heirs are cold: {error}{_WITHOUT}")


def _check(extras: Extras, config: Config, found: Database | None, side_store: Callable[[], SqlStore]) -> Check | None:
    if config["health-cmd"]:
        return CommandCheck(config["health-cmd"], extras.children)
    if config["health-url"]:
        return UrlCheck(config["health-url"])
    if found is None:
        return None
    from heirflow.programs.airflow.row import RowCheck

    return RowCheck(side_store, found.schema)


def _fingerprint(found: Database | None, side_store: Callable[[], SqlStore]) -> Callable[[], dict[str, Any]]:
    from heirflow.programs.airflow.row import Fingerprint

    assert found is not None
    return Fingerprint(found.files, side_store, found.schema)
