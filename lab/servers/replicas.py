"""Servers that follow another one, for fail-overs: PostgreSQL's hot standby, and MariaDB's replica."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab.servers.server import NAME, Place, Server, ServerTrouble
from lab.servers.servers import _postgres, _postgres_programs, _program, _run, own, private_folder

CATCH_UP_LIMIT_S = 10


@contextmanager
def postgres_replica(
    primary: Server,
    address: str,
    *,
    settings: Mapping[str, str],
    place: Place | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A hot standby that follows the server at this address. Call `follow` when it shall follow another one."""
    with private_folder("heirflow-postgres-") as (folder, user):
        programs = _postgres_programs(folder, user)
        server = _postgres(folder, user, programs, primary.password, {"fsync": "off", **settings}, place, env)
        with ExitStack() as undo:
            undo.callback(server.stop)
            follow(server, primary, address)
            yield server


def follow(standby: Server, primary: Server, address: str) -> None:
    """Make a server, which does not run, a fresh copy of the primary that goes on following it."""
    user, programs = standby.user, Path(standby.program).parent
    shutil.rmtree(standby.data, ignore_errors=True)
    standby.data.mkdir(mode=0o700)
    own(standby.data, user)
    _run(
        [str(programs / "pg_basebackup"), "-h", str(primary.folder) if primary.place else "127.0.0.1",
         "-p", str(primary.port), "-U", "postgres", "-D", str(standby.data), "-X", "stream", "-c", "fast", "--no-sync"],
        user, standby.folder, {"PGPASSWORD": primary.password},
    )  # fmt: skip
    told = f"host={address} port={primary.port} user=postgres password={primary.password} application_name=standby"
    with (standby.data / "postgresql.auto.conf").open("w") as lines:
        lines.write(f"primary_conninfo = '{told} connect_timeout=2'\n")
    (standby.data / "standby.signal").touch()
    own(standby.data / "standby.signal", user)
    standby.start()


def replicating(number: int) -> dict[str, str]:
    """Settings of a MariaDB that may be a primary or a replica."""
    return {"server-id": str(number), "log-bin": "log", "log-slave-updates": "ON", "slave-net-timeout": "4"}


def follow_mariadb(replica: Server, primary: Server, address: str) -> None:
    """Make a MariaDB, running or not, a fresh copy of the primary's database that goes on following it. Raises `ServerTrouble`."""
    replica.start()
    replica.sql("STOP SLAVE; RESET SLAVE ALL; RESET MASTER; SET GLOBAL read_only = 1", database="mysql")
    secret = primary.password
    primary.sql(
        f"SET sql_log_bin = 0; CREATE USER IF NOT EXISTS replica@'%' IDENTIFIED BY '{secret}';"
        "GRANT REPLICATION SLAVE ON *.* TO replica@'%'",
        database="mysql",
    )
    words = ["--no-defaults", "-u", "root"]
    dump = [str(_program("mariadb-dump")), *words, f"--socket={primary.folder / 'socket'}", "--single-transaction",
            "--master-data=1", "--gtid", "--add-drop-database", "--databases", NAME]  # fmt: skip
    taken = subprocess.run(dump, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=60)
    if taken.returncode != 0:
        raise ServerTrouble(f"mariadb-dump failed: {taken.stderr.decode(errors='replace').strip()}")
    load = [str(_program("mariadb")), *words, f"--socket={replica.folder / 'socket'}"]
    text = b"SET sql_log_bin = 0;" + taken.stdout
    loaded = subprocess.run(load, input=text, capture_output=True, check=False, timeout=60)
    if loaded.returncode != 0:
        raise ServerTrouble(f"the copy could not be loaded: {loaded.stderr.decode(errors='replace').strip()}")
    replica.sql(
        f"CHANGE MASTER TO MASTER_HOST = '{address}', MASTER_PORT = {primary.port}, MASTER_USER = 'replica',"
        f"MASTER_PASSWORD = '{secret}', MASTER_CONNECT_RETRY = 1; START SLAVE"
    )
    if not caught_up(replica, primary):
        raise ServerTrouble(f"the replica does not follow:\n{replica.sql('SHOW SLAVE STATUS')}\n{replica.log_end()}")


def caught_up(replica: Server, primary: Server) -> bool:
    """Whether a replica of MariaDB's comes to have all that its primary has confirmed by now, in time."""
    there = primary.sql("SELECT @@gtid_binlog_pos")
    return replica.sql(f"SELECT MASTER_GTID_WAIT('{there}', {CATCH_UP_LIMIT_S})") == "0"
