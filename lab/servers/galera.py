"""A real Galera cluster of MariaDB for tests: several nodes on loopback, each of which takes writes.

Not at idle priority (``chrt -i``): Galera's threads refuse to start there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab.servers.server import Server, ServerTrouble
from lab.servers.servers import free_port, mariadb_missing, mariadb_server

PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")


def galera_missing() -> str | None:
    """What keeps `galera_cluster` from working here, as a sentence; None when it works."""
    if (missing := mariadb_missing()) is not None:
        return missing
    if not PROVIDER.exists():
        return "no Galera is installed here (Debian: galera-4)"
    return None if shutil.which("rsync") else "no rsync is installed here, by which a node of Galera copies another one"


@contextmanager
def galera_cluster(
    count: int = 3, *, name: str = "three", settings: Mapping[str, str] | None = None
) -> Iterator[list[Server]]:
    """So many nodes. `settings`: as in my.cnf, for each. Raises `ServerTrouble`."""
    if (missing := galera_missing()) is not None:
        raise ServerTrouble(missing)
    ports = [free_port() for _ in range(count)]
    with ExitStack() as undo:
        nodes: list[Server] = []
        for number, port in enumerate(ports):
            given = {**_settings(name, ports[:number], port), **(settings or {})}
            secret = nodes[0].password if nodes else None
            nodes.append(undo.enter_context(mariadb_server(settings=given, password=secret, joins=bool(nodes))))
        yield nodes


def _settings(name: str, others: list[int], port: int) -> dict[str, str]:
    here = "127.0.0.1"
    options = {
        "base_port": port, "gmcast.listen_addr": f"tcp://{here}:{port}", "ist.recv_addr": f"{here}:{free_port()}",
        "gcache.size": "1M",
    }  # fmt: skip
    return {
        "wsrep-on": "ON", "wsrep-provider": str(PROVIDER), "wsrep-cluster-name": name, "binlog-format": "ROW",
        "wsrep-cluster-address": "gcomm://" + ",".join(f"{here}:{other}" for other in others),
        "wsrep-node-address": f"{here}:{port}", "wsrep-node-name": f"n{port}", "innodb-autoinc-lock-mode": "2",
        "wsrep-sst-method": "rsync", "wsrep-sst-receive-address": f"{here}:{free_port()}",
        "wsrep-provider-options": ";".join(f"{key}={value}" for key, value in options.items()),
    }  # fmt: skip
