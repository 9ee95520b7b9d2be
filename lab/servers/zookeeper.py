"""Real ZooKeepers for tests and demonstrations: Debian's, private, on loopback, in folders of their own, gone afterwards.

    with zookeeper_ensemble(3) as ensemble:
        store = open_store(ensemble.url, call_limit_s=1.5)
        ensemble.leader().crash()

They are started straight with java, without Debian's scripts: the system's own ZooKeeper is neither met nor disturbed.
"""

from __future__ import annotations

import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lab.servers.server import START_LIMIT_S, Place, Server, ServerTrouble
from lab.servers.servers import free_port, own, private_folder
from lab.servers.spaces import inside

JAR = Path("/usr/share/java/zookeeper.jar")
"""It names what else it needs, except what its log and TLS need."""
MORE_JARS = ("slf4j-simple", "netty-codec", "netty-resolver", "netty-transport-native-unix-common")
SETTINGS = {
    "tickTime": "500",
    "initLimit": "20",
    "syncLimit": "6",
    "clientPortAddress": "127.0.0.1",
    "4lw.commands.whitelist": "srvr,mntr,ruok,stat",
    "admin.enableServer": "false",
    "maxClientCnxns": "0",
}


@dataclass(frozen=True)
class Ensemble:
    """Servers that are one ZooKeeper: one, or several."""

    servers: tuple[Server, ...]

    @property
    def url(self) -> str:
        """Of a folder that all tests share."""
        return self.url_of("heirflow")

    def url_of(self, folder: str, *, user: str = "", query: str = "", hosts: str = "") -> str:
        """Of that folder. `user`: with its password, ``anna:secret``. `hosts`: others than all."""
        hosts = hosts or ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"zookeeper://{user + '@' if user else ''}{hosts}/{folder}{'?' + query if query else ''}"

    @property
    def server(self) -> Server:
        """The only one, or the first."""
        return self.servers[0]

    def start(self) -> None:
        """Start all that do not run, and wait until the ensemble serves. Raises `ServerTrouble`."""
        with ThreadPoolExecutor(len(self.servers)) as pool:
            list(pool.map(Server.start, self.servers))
        limit = time.monotonic() + START_LIMIT_S
        while not all(mode(server) for server in self.servers):
            if time.monotonic() > limit:
                raise ServerTrouble(
                    "\n".join(["the ensemble does not serve", *(each.log_end() for each in self.servers)])
                )
            time.sleep(0.05)

    def leader(self) -> Server:
        """The one that leads, or is alone."""
        return next(server for server in self.servers if mode(server) in {"leader", "standalone"})


def zookeeper_missing() -> str | None:
    """What keeps a ZooKeeper from working here, as a sentence; None when it works."""
    if shutil.which("java") is None or not JAR.exists():
        return (
            "no ZooKeeper is installed here; on Debian and Ubuntu: `apt-get install --no-install-recommends zookeeper`"
        )
    return None


@contextmanager
def zookeeper_server(*, settings: Mapping[str, str] | None = None) -> Iterator[Ensemble]:
    """One server, alone. `settings`: as in zoo.cfg."""
    with zookeeper_ensemble(1, settings=settings) as ensemble:
        yield ensemble


@contextmanager
def zookeeper_ensemble(
    count: int = 3,
    *,
    settings: Mapping[str, str] | None = None,
    places: Sequence[Place] = (),
    envs: Sequence[Mapping[str, str]] = (),
    syncs: bool = False,
) -> Iterator[Ensemble]:
    """So many servers that agree with each other. Raises `ServerTrouble`.

    `places`, `envs`: one for each; peers meet it at the two ports after that of its clients. `syncs`: survive a power cut.
    """
    if (missing := zookeeper_missing()) is not None:
        raise ServerTrouble(missing)
    with ExitStack() as undo:
        stands: Sequence[Place | None] = places or [None] * count
        ports = [
            (free_port(), free_port(), free_port()) if each is None else (each.port, each.port + 1, each.port + 2)
            for each in stands
        ]
        between = {
            f"server.{number}": f"{'127.0.0.1' if place is None else place.address}:{quorum}:{election}"
            for number, (place, (_, quorum, election)) in enumerate(zip(stands, ports, strict=True), 1)
        }
        servers = []
        for number, (place, (port, *_)) in enumerate(zip(stands, ports, strict=True), 1):
            folder, user = undo.enter_context(private_folder("heirflow-zookeeper-"))
            given = {**SETTINGS, **(between if count > 1 else {}), "clientPort": str(port), **(settings or {})}
            if place is not None:
                given["clientPortAddress"] = place.address
            env = envs[number - 1] if envs else {}
            servers.append(_server(folder, user, port, number, given, place=place, env=env, syncs=syncs))
            undo.callback(servers[-1].crash)
        ensemble = Ensemble(tuple(servers))
        ensemble.start()
        yield ensemble


def mode(server: Server) -> str:
    """``leader``, ``follower``, ``standalone``; empty: it does not serve."""
    for line in word(server, "srvr").splitlines():
        if line.startswith("Mode: "):
            return line.removeprefix("Mode: ")
    return ""


def word(server: Server, letters: str) -> str:
    """What it answers to one of its four-letter words; empty: nothing."""
    host = server.place.address if server.place else "127.0.0.1"
    return inside(server.place.netns if server.place else None, lambda: _ask(host, server.port, letters.encode()))


def _server(
    folder: Path,
    user: str | None,
    port: int,
    number: int,
    settings: Mapping[str, str],
    *,
    place: Place | None,
    env: Mapping[str, str],
    syncs: bool,
) -> Server:
    (folder / "data" / "myid").write_text(f"{number}\n")
    file = folder / "zoo.cfg"
    file.write_text("".join(f"{key}={value}\n" for key, value in {"dataDir": str(folder / "data"), **settings}.items()))
    for path in (folder / "data" / "myid", file):
        own(path, user)
    jars = [JAR, *(JAR.with_name(f"{name}.jar") for name in MORE_JARS)]
    return Server(
        folder,
        port=port,
        password="",
        command=[
            str(shutil.which("java")), "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
            f"-Dzookeeper.forceSync={'yes' if syncs else 'no'}", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dzookeeper.jmx.log4j.disable=true",
            f"-Djava.io.tmpdir={folder / 'temporary'}",
            "-cp", ":".join(str(jar) for jar in jars if jar.exists()),
            "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(file),
        ],
        user=user,
        ready=lambda server: word(server, "ruok") == "imok",
        client=_no_client,
        client_environment={},
        schemes={"": "zookeeper"},
        superuser="",
        stop_signal=signal.SIGTERM,
        read_only_sql={},
        place=place,
        env=env,
    )  # fmt: skip


def _no_client(_server: Server, statement: str, _database: str) -> list[str]:
    raise ServerTrouble(f"a ZooKeeper takes no SQL: {statement!r}")


def _ask(host: str, port: int, letters: bytes) -> str:
    parts = []
    with suppress(OSError), socket.create_connection((host, port), 1.0) as link:
        link.sendall(letters)
        while part := link.recv(65536):
            parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")
