"""A real pgbouncer in transaction mode before a PostgreSQL of ours: sessions there are shared, so HeirFlow must notice."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from lab.servers.server import ServerTrouble
from lab.servers.servers import free_port

SETTINGS = """
[databases]
* = host=127.0.0.1 port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 4
server_reset_query_always = 0
logfile = {folder}/log
pidfile = {folder}/pid
"""


def pgbouncer_missing() -> str | None:
    """What keeps `pooler` from working here, as a sentence."""
    return None if _program() else "no pgbouncer is installed here (Debian: pgbouncer)"


@contextmanager
def pooler(url: str, **more: str) -> Iterator[str]:
    """The same database by way of a pooler. `more`: as in pgbouncer.ini."""
    program, address = _program(), sa.engine.make_url(url)
    if program is None:
        raise ServerTrouble(str(pgbouncer_missing()))
    folder, port = Path(tempfile.mkdtemp(prefix="heirflow-pgbouncer-")), free_port()
    (folder / "users").write_text(f'"{address.username}" "{address.password}"\n')
    settings = folder / "pgbouncer.ini"
    lines = [f"{name} = {value}\n" for name, value in more.items()]
    settings.write_text(SETTINGS.format(server_port=address.port, port=port, folder=folder) + "".join(lines))
    command = [program, str(settings)]
    if os.geteuid() == 0:  # it refuses to run as root
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "nobody")
        command[1:1] = ["-u", "nobody"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process, folder / "log")
        yield address.set(port=port).render_as_string(hide_password=False)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < limit:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise ServerTrouble(f"pgbouncer did not start: {log.read_text() if log.exists() else ''}")


def _program() -> str | None:
    return shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
