"""From flags, environment and ``heirflow.toml`` to settings, each with its origin.

The order is flag > environment > file > default. In the file, a table ``[election.NAME]`` goes before the top level.
Passwords stay out of every message: whatever shows a value goes through `Setting.shown`.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any

from heirflow.config.address import Address
from heirflow.config.options import BY_NAME, ENVIRONMENT_PREFIX, NOT_SETTINGS, OPTIONS
from heirflow.config.places import default_run_dir, default_url, home_of
from heirflow.election.timings import Timings, UnsafeTimings
from heirflow.errors import ConfigError
from heirflow.ownership import stranger
from heirflow.text import masked_url


class Source(IntEnum):
    """Where a value can come from. The lower number goes first: it was given closer to the command."""

    ARGUMENT = 0
    """Of a Python call."""
    FLAG = 1
    ENVIRONMENT = 2
    ELECTION_TABLE = 3
    """``[election.NAME]`` in heirflow.toml."""
    FILE = 4
    """The top level of heirflow.toml."""
    COMMAND = 5
    """The words of the command that HeirFlow runs."""
    PROGRAM = 6
    """The program behind these words, which was asked."""
    DEFAULT = 7


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from. Code acts on `source`; the words, which `str` gives, are for people."""

    source: Source
    words: str

    def __str__(self) -> str:
        return self.words


BY_DEFAULT = Origin(Source.DEFAULT, "default")


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it came from."""

    name: str
    value: Any
    origin: Origin

    @property
    def shown(self) -> Any:
        """The value as it may be shown to anybody."""
        return masked_url(self.value) if BY_NAME[self.name].secret and self.value else self.value


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting, resolved. ``config["ttl"]`` is a value."""

    settings: Mapping[str, Setting]
    file: Path | None
    """The heirflow.toml that was read."""
    warnings: tuple[str, ...] = ()
    """Sentences that a person should see once."""
    connect_args: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """For the driver, beside what the URL says; only from who named the URL."""
    address: Address | None = field(default=None, compare=False, repr=False)
    """How the URL is learnt anew, where it can change."""
    schema: str | None = None
    """Where the tables are, if not where a connection looks by itself."""
    called: bool = False
    """Whether a Python call wants it: then what is said names parameters, and no flags."""

    def __getitem__(self, name: str) -> Any:
        return self.settings[name].value

    @property
    def db_url(self) -> str:
        """Where the record lives, with its password."""
        url: str = self["db-url"]
        return url

    @property
    def db_url_is_default(self) -> bool:
        """Whether no database was given."""
        return self.settings["db-url"].origin.source is Source.DEFAULT

    @property
    def seats(self) -> int:
        """How many members may lead at once, as far as these settings say."""
        return self["seats"] or 1

    @property
    def not_shared(self) -> tuple[str, ...]:
        """A sentence that warns of a database that only this host sees, because none was given."""
        sentence = (
            f"no database was given, so the record is in {self.settings['db-url'].shown}: members on other hosts do not see "
            "it, and one of them would lead too. For several hosts, name a database with "
            f"{'db_url, db_url_file' if self.called else '--db-url-file'} or HEIRFLOW_DB_URL"
        )
        return (sentence,) if self.db_url_is_default else ()

    def placed(
        self,
        url: str,
        origin: Origin,
        *,
        connect_args: Mapping[str, Any] | None = None,
        schema: str | None = None,
        ask: Callable[[], str] | None = None,
    ) -> Config:
        """The same with another place for the record, found by who knows the command."""
        settings = {**self.settings, "db-url": Setting("db-url", url, origin)}
        address = Address(url, ask=ask)
        return replace(self, settings=settings, connect_args=connect_args or {}, schema=schema, address=address)

    def timings(self) -> Timings:
        """The numbers of the election, checked. Raises `UnsafeTimings` that shows the sum, and who else gave a part of it."""
        given = [self["ttl"], self["check-in"], self["margin"], self["stop-timeout"]]
        try:
            return Timings.of(
                given[0], check_in_s=given[1], margin_s=given[2], stop_timeout_s=given[3], flags=not self.called
            )
        except UnsafeTimings as error:
            elsewhere = [
                f"{BY_NAME[name].parameter if self.called else name} is from {self.settings[name].origin}"
                for name in ("ttl", "check-in", "margin")
                if Source.ENVIRONMENT <= self.settings[name].origin.source <= Source.FILE
            ]
            raise UnsafeTimings(f"{error} ({'; '.join(elsewhere)})" if elsewhere else str(error)) from None


def resolve(
    flags: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    arguments: Mapping[str, object] | None = None,
    fallback_name: str | None = None,
    folder: Path | None = None,
) -> Config:
    """Settle every setting. Raises `ConfigError` with one sentence.

    `flags` holds what was given on the command line, by option name, None where nothing was; `arguments` the same of a Python call,
    where nothing is read with ``ps``. `fallback_name` is the
    election's name when nobody gave one. `folder` is where ``./heirflow.toml`` is looked for.
    """
    given, called = flags or {}, arguments or {}
    env = os.environ if environment is None else environment
    warnings: list[str] = []
    settings: dict[str, Setting] = {}

    def settle(name: str, *tables: tuple[Origin, Mapping[str, object]]) -> Setting:
        option = BY_NAME[name]
        variable = env.get(option.environment)
        if not variable and not option.is_switch:  # an empty word is a switch that is off
            variable = None
        for origin, raw in (
            (Origin(Source.ARGUMENT, f"argument {option.parameter}"), called.get(name)),
            (Origin(Source.FLAG, f"flag {option.flag}"), given.get(name)),
            (Origin(Source.ENVIRONMENT, f"environment {option.environment}"), variable),
            *((origin, table.get(name)) for origin, table in tables),
        ):
            if raw is not None:
                return Setting(name, option.read(raw, origin, called=origin.source is Source.ARGUMENT), origin)
        return Setting(name, option.default, BY_DEFAULT)

    chosen = settle("config")
    file = _find_file(
        chosen, env, folder or Path(), BY_NAME["config"].environment if arguments is not None else "--config"
    )
    top, elections = _read_file(file) if file else ({}, {})
    at_top = (Origin(Source.FILE, f"file {file}"), top)
    name = settle("name", at_top)
    if name.value is None and fallback_name:
        name = Setting("name", fallback_name, Origin(Source.COMMAND, "the command's name"))
    own = (Origin(Source.ELECTION_TABLE, f"file {file} [election.{name.value}]"), elections.get(str(name.value), {}))

    for option in OPTIONS:
        settings[option.name] = settle(option.name, own, at_top)
    settings["config"], settings["name"] = chosen, name
    settings["db-url"], read = _settle_url(settings, env, warnings, file)
    address = Address(settings["db-url"].value, read=read)
    if settings["host"].value is None:
        settings["host"] = Setting("host", socket.gethostname() or "localhost", BY_DEFAULT)
    if settings["run-dir"].value is None:
        settings["run-dir"] = Setting("run-dir", str(default_run_dir(env)), BY_DEFAULT)

    warnings += _file_warnings(file, top, elections)
    for variable in _strange_variables(env):
        close = nearest(variable, [option.environment for option in OPTIONS])
        warnings.append(f"{variable} is not a setting of HeirFlow{f'; did you mean {close}?' if close else ''}")
    return Config(settings, file, tuple(warnings), address=address, called=arguments is not None)


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The one of `words` that was probably meant."""
    import difflib  # only where somebody mistyped

    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return close[0] if close else None


def _find_file(chosen: Setting, env: Mapping[str, str], folder: Path, by: str) -> Path | None:
    """The first that is there. `by`: how another one can be named."""
    if chosen.value is not None:
        file = _expanded(chosen)
        try:
            if file.is_file():
                return _believed(file, by)
        except OSError as error:
            raise ConfigError(f"cannot read {file}: {error.strerror} ({chosen.origin})") from None
        raise ConfigError(f"there is no configuration file {file} ({chosen.origin})")
    config_home = env.get("XDG_CONFIG_HOME", "")
    own = Path(config_home) if config_home.startswith("/") else home_of(env) / ".config"
    for place in (folder, own / "heirflow", Path("/etc/heirflow")):
        file = place / "heirflow.toml"
        try:
            if file.is_file():
                return _believed(file, by)
            there = os.path.lexists(file)
        except OSError:  # a folder that we may not look into holds nothing for us
            continue
        if there:
            raise ConfigError(
                f"{file.absolute()} is not a file, or a link to none; remove it, or name another with {by}"
            )
    return None


def _believed(file: Path, by: str) -> Path:
    """The same. Raises `ConfigError` where somebody else could have written it: it names programs to run."""
    if why := stranger(file.absolute()):
        raise ConfigError(
            f"{file.absolute()} is not used, because {why}; a configuration file and its folders must belong to this user or root, "
            f"and nobody else may write there (chmod go-w); change that, or name another file with {by}"
        )
    return file


def _expanded(setting: Setting) -> Path:
    """The path that a setting names, with ``~`` for a home."""
    try:
        return Path(setting.value).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{setting.value}: {error} ({setting.origin})") from None


def _read_file(file: Path) -> tuple[dict[str, object], dict[str, dict[str, object]]]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text") from None
    except RecursionError:
        raise ConfigError(f"{file} is nested too deeply") from None
    except ValueError as error:  # also of a number with thousands of digits
        raise ConfigError(f"{file} is not TOML: {error}") from None
    elections = data.pop("election", {})
    if not isinstance(elections, dict) or not all(isinstance(table, dict) for table in elections.values()):
        raise ConfigError(f"{file}: election must be tables like [election.airflow-scheduler]")
    known = [option.name for option in OPTIONS if option.in_file]
    top = _known_keys(data, [*known, "election"], f"{file}")
    tables = {
        name: _known_keys(table, [key for key in known if key != "name"], f"{file} [election.{name}]")
        for name, table in elections.items()
    }
    return top, tables


def _known_keys(table: Mapping[str, object], known: list[str], where: str) -> dict[str, object]:
    result = {}
    for key, value in table.items():
        name = key.replace("_", "-")
        if name not in known:
            close = nearest(name, known)
            raise ConfigError(f"{where}: there is no setting {key!r}{f'; did you mean {close!r}?' if close else ''}")
        result[name] = value
    return result


def _settle_url(
    settings: Mapping[str, Setting], env: Mapping[str, str], warnings: list[str], own_file: Path | None
) -> tuple[Setting, Callable[[], str] | None]:
    """The URL itself, or what stands in the file that holds it, and how to read it again; whichever was given closer."""
    direct, by_file = settings["db-url"], settings["db-url-file"]
    if direct.value is None and by_file.value is None:
        return Setting("db-url", default_url(env), BY_DEFAULT), None
    if direct.value is not None and by_file.value is not None and direct.origin.source is by_file.origin.source:
        names = _said("db-url", direct.origin), _said("db-url-file", by_file.origin)
        raise ConfigError(f"both {' and '.join(names)} are given ({direct.origin}, {by_file.origin}); give one")
    read = None
    if direct.origin.source < by_file.origin.source:
        setting = direct
        if own_file is not None and direct.origin.source in {Source.ELECTION_TABLE, Source.FILE}:
            setting = replace(direct, value=based(direct.value, own_file))
        if direct.origin.source is Source.FLAG and masked_url(direct.value) != direct.value:
            warnings.append(
                "everybody on this host can read the password in --db-url with ps; use --db-url-file or HEIRFLOW_DB_URL"
            )
    else:
        file = _expanded(by_file)
        setting = Setting(
            "db-url",
            _read_url(file, by_file.origin),
            replace(by_file.origin, words=f"{by_file.origin}: {file}"),
        )
        read = partial(_read_url, file.absolute(), by_file.origin)
        if others_may_read(file):
            warnings.append(f"other users may read {file}, which holds the URL of the database; run chmod 600 {file}")
        if why := stranger(file):
            warnings.append(f"somebody else could choose the database, because {why} ({by_file.origin})")
    if "://" not in setting.value:
        raise ConfigError(
            f"{_said('db-url', setting.origin)} must be a URL like postgresql://user@host/database ({setting.origin})"
        )
    return setting, read


def _said(name: str, origin: Origin) -> str:
    """The name of a setting, in the words of whoever gave it."""
    return BY_NAME[name].parameter if origin.source is Source.ARGUMENT else name


def based(url: str, file: Path) -> str:
    """The URL of a SQLite file whose path is relative counts from the file in which it stands, wherever one is started."""
    head, separator, path = url.partition(":///")
    if (
        not separator
        or head.partition("+")[0] != "sqlite"
        or not path
        or path[0] == "/"
        or path.startswith((":", "file:"))
    ):
        return url
    return f"{head}:///{file.absolute().parent / path}"


def _read_url(file: Path, origin: Origin) -> str:
    try:
        text = file.read_text("utf-8").strip()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror} ({origin})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text ({origin})") from None
    if not text or len(text.splitlines()) != 1:
        raise ConfigError(f"{file} must hold one line, the URL of the database ({origin})")
    return based(text, file)


def others_may_read(file: Path) -> bool:
    """Whether anybody but this user may do something with this file. Root gives a service its own by the right of a group."""
    try:
        state = file.stat()
    except OSError:
        return False
    # The mask of an access list, as for systemd's credentials, stands where the group's rights do.
    given = state.st_uid == 0 != os.geteuid()
    return bool(state.st_mode & (0o037 if given else 0o077))


def _file_warnings(
    file: Path | None, top: Mapping[str, object], elections: Mapping[str, Mapping[str, object]]
) -> list[str]:
    urls = [table["db-url"] for table in (top, *elections.values()) if isinstance(table.get("db-url"), str)]
    if file and any(masked_url(str(url)) != url for url in urls) and others_may_read(file):
        return [f"other users may read {file}, which holds a password; run chmod 600 {file}"]
    return []


def _strange_variables(env: Mapping[str, str]) -> list[str]:
    known = {option.environment for option in OPTIONS} | NOT_SETTINGS
    return sorted(
        name
        for name in env
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known and not name.startswith("HEIRFLOW_TEST_")
    )
