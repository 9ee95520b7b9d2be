"""From the command line of `heirflow generate` to a `Plan`: every check that `heirflow run` makes at its start, and then some."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heirflow.cli.common import warn
from heirflow.config.options import BY_NAME, OPTIONS
from heirflow.config.resolve import BY_DEFAULT, Config, Origin, Setting, Source
from heirflow.errors import ConfigError
from heirflow.generate.plan import Plan
from heirflow.generate.words import Raw, check_command, check_word

INSTANCE = "%i"
OWN = ("config", "name", "db-url-file", "stop-timeout", "run-dir")
"""Settings that need a place of their own in a file."""
CARRIED = tuple(option.name for option in OPTIONS if option.name not in {"db-url", "host"})
"""The URL is a secret, and the same file serves every host."""


def plan_of(
    kind: str,
    command: tuple[str, ...],
    given: dict[str, Any],
    own: dict[str, Any],
    *,
    default_file: str | None,
    known: bool = True,
    run_dir: bool = False,
    in_image: bool = False,
) -> Plan:
    """Check everything that `heirflow run` would check at its start, and refuse what must not stand in a file.

    `default_file`: where the URL of the database is if nobody says, and no program has one of its own. `known`: the command's
    words say what it runs. `run_dir`: the member's folder is an ordinary flag. Raises `ConfigError`.
    """
    from heirflow.programs.plain import Plain, lookout_for
    from heirflow.programs.program import recognise

    flags = {name: given[BY_NAME[name].key] for name in CARRIED}
    check_command(command)
    for name, text in {**own, **flags, "directory": given["directory"], "heirflow": given["heirflow"]}.items():
        if isinstance(text, str):
            check_word(text, f"the value of --{name}")
    for name in ("config", "run-dir"):
        whole_path(f"--{name}", flags[name])
    whole_path("--directory", given["directory"])
    program = recognise(command, {}) if known else Plain(command)
    of_airflow = not isinstance(program, Plain)
    if flags["db-url-file"] is None and flags["config"] is None and not of_airflow:
        flags["db-url-file"] = default_file
    config = _only_given(flags, program.election)
    for sentence in program.check(config) if known else ():
        warn(sentence)
    lookout_for(config, set())
    config.timings()
    heirflow = _words(given["heirflow"], in_image=in_image, of_airflow=of_airflow)
    place = {"config": flags["config"], "run-dir": flags["run-dir"] if run_dir else None}
    return Plan(
        name=config["name"],
        command=command,
        heirflow=heirflow,
        place=tuple(_as_flags(place)),
        flags=tuple(_as_flags({name: flags[name] for name in CARRIED if name not in OWN})),
        stop_timeout_s=config["stop-timeout"],
        start_timeout_s=config["start-timeout"],
        db_url_file=one_line("--db-url-file", flags["db-url-file"]),
        of_airflow=of_airflow,
        made_by=_made_by(kind, command, given, own),
    )


def _only_given(flags: dict[str, Any], fallback_name: str) -> Config:
    """The settings of this command line alone."""
    found = {}
    for option in OPTIONS:
        raw, origin = flags.get(option.name), Origin(Source.FLAG, f"flag {option.flag}")
        found[option.name] = (
            Setting(option.name, option.default, BY_DEFAULT)
            if raw is None
            else Setting(option.name, option.read(raw, origin), origin)
        )
    if found["name"].value is None:
        found["name"] = Setting("name", fallback_name, Origin(Source.COMMAND, "the command's name"))
    if flags["db-url-file"] is not None or flags["config"] is not None:
        found["db-url"] = Setting("db-url", None, Origin(Source.FLAG, "flag --db-url-file"))
    return Config(found, None)


def _as_flags(values: dict[str, Any]) -> list[str]:
    """Of one command line, without those that are not given."""
    words: list[str] = []
    for name, value in values.items():
        if value is True:
            words.append(f"--{name}")
        elif value:
            words += [f"--{name}", value.strip()]
    return words


def _made_by(kind: str, command: Sequence[str], given: dict[str, Any], own: dict[str, Any]) -> str:
    """The command line that makes the same text again: without where it is written."""
    more = {"heirflow": given["heirflow"], "directory": given["directory"]}
    carried = {name: given[BY_NAME[name].key] for name in CARRIED}
    behind = ["--", *command]
    if any(isinstance(word, Raw) for word in command):
        behind = []
    if own.get("template") and given["name"] == INSTANCE:
        carried["name"] = None
    return shlex.join(["heirflow", "generate", kind, *_as_flags({**own, **more, **carried}), *behind])


def _words(given: str | None, *, in_image: bool, of_airflow: bool) -> tuple[str, ...]:
    """How HeirFlow is started there: as it was said; in an image by its name, which Airflow's one needs Python for; or as here."""
    if given is not None:
        try:
            words = tuple(shlex.split(given))
        except ValueError:
            words = ()
        if not words:
            raise ConfigError("--heirflow must be words as in a shell, like /opt/heirflow/bin/heirflow")
        return words
    if in_image:
        return ("python", "-m", "heirflow") if of_airflow else ("heirflow",)
    script = Path(sys.argv[0])
    if script.name == "heirflow" and script.is_file():
        return (str(script.absolute()),)
    # -P: what lies in the working directory is not imported.
    return (sys.executable, *(["-P"] if sys.version_info >= (3, 11) else []), "-m", "heirflow")


def one_line(flag: str, value: str | None) -> Any:
    """The same value. Raises `ConfigError` where a file could not hold it on a line."""
    if value is not None and (not value.strip() or not value.isprintable() or value.endswith("\\")):
        raise ConfigError(f"{flag} must be one printable line that does not end in a backslash")
    return value


def whole_path(flag: str, value: str | None) -> None:
    """Raises `ConfigError` for a path that would be another one elsewhere, or that systemd would ignore."""
    if value is None:
        return
    if not one_line(flag, value).startswith("/"):
        raise ConfigError(f"{flag} must be a whole path, which begins with /, because the service starts elsewhere")
    if "//" in value or {".", ".."} & set(value.split("/")):
        raise ConfigError(f"{flag} must be a plain path, without //, . or .. in it")


def matches(flag: str, value: str | None, pattern: re.Pattern[str], meant: str) -> None:
    """Raises `ConfigError` for what is not `meant`."""
    if value is not None and not pattern.fullmatch(value):
        raise ConfigError(f"{flag} must be {meant}, not {value!r}")
