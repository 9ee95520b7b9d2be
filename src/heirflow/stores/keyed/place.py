"""Where a coordinator is, and as whom it is used: a URL of several hosts, ``etcd://user:password@h1:2379,h2:2379/folder?ca=…``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from heirflow.errors import ConfigError, HeirflowError
from heirflow.stores.base import Address, StoreRefuses

PORTS = {"zookeeper": (2181, 2281), "etcd": (2379, 2379), "consul": (8500, 8501)}
"""Kinds of coordinator, with the port without and with TLS."""
OPTIONS = {
    "zookeeper": {"ca", "cert", "key", "password-file", "acl"},
    "etcd": {"ca", "cert", "key", "password-file"},
    "consul": {"ca", "cert", "key", "token-file", "namespace", "partition", "dc"},
}
"""What may stand behind the ``?``."""
FOLDER = "heirflow"
"""Where the keys are when the URL names no folder."""
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:@/\[\]]+)(?::(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL says."""

    kind: str
    """One of `PORTS`."""
    secure: bool
    """Whether TLS is used."""
    hosts: tuple[tuple[str, int], ...]
    folder: str
    """All keys begin with it and a slash."""
    user: str = ""
    password: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """For people."""
        return f"{','.join(f'{host}:{port}' for host, port in self.hosts)}/{self.folder}"

    def secret(self) -> str:
        """The password or token as it is now: from its file where one is named. Raises `StoreRefuses`."""
        file = self.options.get("password-file") or self.options.get("token-file")
        if file is None:
            return self.password
        try:
            return Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise StoreRefuses(f"cannot read the password in {file}: {why}") from None


def kind_of(url: str) -> str | None:
    """The kind of coordinator that a URL names; None: it is none that HeirFlow knows."""
    scheme = url.partition(":")[0]
    return next((kind for kind in PORTS if scheme in {kind, f"{kind}s"}), None)


def parsed(url: str) -> Place:
    """Raises `ConfigError`, which never shows the URL: a password may stand in it."""
    scheme, _, rest = url.partition("://")
    kind = kind_of(url)
    if kind is None:
        raise ConfigError(f"no kind of coordinator that HeirFlow knows: it knows {', '.join(PORTS)}")
    body, _, query = rest.partition("?")
    authority, _, path = body.partition("/")
    who, at, hosts = authority.rpartition("@")
    if "@" in who or "@" in path:
        raise ConfigError(f"the {kind} URL has an @ too many; in a password, write %40 for it")
    user, _, password = who.partition(":") if at else ("", "", "")
    secure = scheme != kind
    return Place(
        kind,
        secure,
        tuple(_host(each, kind, PORTS[kind][secure]) for each in hosts.split(",")),
        _folder(path, kind),
        unquote(user),
        unquote(password),
        _options(query, kind),
    )


def _host(text: str, kind: str, port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    number = int(found[2] or port) if found else 0
    if found is None or not 0 < number < 65536:
        raise ConfigError(
            f"the {kind} URL must name hosts like h1:{port},h2:{port}, each with a port of 1 to 65535 or none"
        )
    return found[1].strip("[]"), number


def _folder(path: str, kind: str) -> str:
    folder = unquote(path).strip("/") or FOLDER
    if any(part in {"", ".", ".."} or "\0" in part for part in folder.split("/")):
        raise ConfigError(f"the {kind} URL names a folder that cannot be: {folder!r}")
    return folder


def _options(query: str, kind: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if strange := sorted(options.keys() - OPTIONS[kind]):
        raise ConfigError(
            f"the {kind} URL has an option that is unknown: {strange[0]!r}; there are {', '.join(sorted(OPTIONS[kind]))}"
        )
    if "key" in options and "cert" not in options:
        raise ConfigError(f"the {kind} URL names a key without a cert")
    return options


class Where:
    """The place as it is now: a password that has changed counts at the next connection."""

    def __init__(self, url: str | Address) -> None:
        """Raises `ConfigError`."""
        self._address = None if isinstance(url, str) else url
        self._url = url if isinstance(url, str) else url.now()
        self._place = parsed(self._url)

    @property
    def url(self) -> str:
        """As it was learnt last."""
        return self._url

    def now(self) -> Place:
        """For a new connection. Another place is not taken: who leads there may not know of who leads here."""
        if self._address is not None:
            self._take(self._address.now())
        return self._place

    def refused(self) -> bool:
        """The last place refused its user; whether another user or password is known now. It may take a while."""
        if self._address is None or not self._address.refused(self._url):
            return False
        self._take(self._address.now())
        return True

    def accepted(self) -> None:
        """A connection was made."""
        if self._address is not None:
            self._address.accepted()

    def _take(self, url: str) -> None:
        try:
            found = parsed(url)
        except HeirflowError:
            return
        if (found.kind, found.folder) == (self._place.kind, self._place.folder) and {*found.hosts} & {
            *self._place.hosts
        }:
            self._url, self._place = url, found
