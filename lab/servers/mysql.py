"""A real MySQL for tests: the one that ``tools/real_mysql.sh`` has unpacked beside the system, with libraries of its own."""

from __future__ import annotations

import secrets
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lab.servers.server import NAME, Server, ServerTrouble
from lab.servers.servers import _answers, _run, _running, free_port, private_folder

HOMES = (Path("/opt/heirflow-lab/mysql"), Path(__file__).parents[2] / "build" / "mysql")
CLIENT = """
import sys, pymysql
link, database, statement = sys.argv[1:]
flags = pymysql.constants.CLIENT.MULTI_STATEMENTS
with pymysql.connect(unix_socket=link, user="root", database=database, client_flag=flags, autocommit=True) as conn:
    with conn.cursor() as cursor:
        cursor.execute(statement)
        while True:
            for row in cursor.fetchall():
                print(*row, sep="\\t")
            if not cursor.nextset():
                break
"""


def _home() -> Path | None:
    return next((home for home in HOMES if (home / "usr" / "sbin" / "mysqld").is_file()), None)


def mysql_missing() -> str | None:
    """What keeps `mysql_server` from working here, as a sentence; None when it works."""
    return None if _home() else "no real MySQL is here; tools/real_mysql.sh fetches one (MariaDB stands for it)"


@contextmanager
def mysql_server(*, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """That MySQL, whose users log in by ``caching_sha2_password``. `settings`: as in my.cnf."""
    home = _home()
    if home is None:
        raise ServerTrouble(str(mysql_missing()))
    with private_folder("heirflow-mysql-") as (folder, user):
        password, port, link = secrets.token_urlsafe(12), free_port(), folder / "socket"
        libraries = home / "usr" / "lib" / "x86_64-linux-gnu"
        share = home / "usr" / "share" / "mysql"
        program = [str(home / "usr" / "lib64" / "ld-linux-x86-64.so.2"), "--library-path", str(libraries),
                   str(home / "usr" / "sbin" / "mysqld"), "--no-defaults", f"--datadir={folder / 'data'}",
                   f"--lc-messages-dir={share}", f"--character-sets-dir={share / 'charsets'}",
                   f"--tmpdir={folder / 'temporary'}"]  # fmt: skip
        _run([*program, "--initialize-insecure"], user, folder)
        given = {
            "bind-address": "127.0.0.1", "port": str(port), "socket": str(link), "mysqlx": "OFF", "pid-file": str(folder / "pid"),
            "innodb-buffer-pool-size": "32M", "innodb-flush-log-at-trx-commit": "2", "max-connections": "100",
            "secure-file-priv": "NULL", **(settings or {}),
        }  # fmt: skip
        server = Server(
            folder,
            port=port,
            password=password,
            command=[*program, *(f"--{key}={value}" for key, value in given.items())],
            user=user,
            ready=lambda _: _answers(link),
            client=lambda _, statement, database: [sys.executable, "-c", CLIENT, str(link), database, statement],
            client_environment={},
            schemes={name: f"mysql+{name}" for name in ("pymysql", "mysqldb")} | {"": "mysql"},
            superuser="root",
            stop_signal=signal.SIGTERM,
            read_only_sql={on: f"SET GLOBAL read_only = {int(on)}" for on in (True, False)},
        )
        with _running(server):
            server.sql(f"CREATE DATABASE {NAME} CHARACTER SET utf8mb4", database="mysql")
            for origin in ("127.0.0.1", "localhost"):
                server.sql(
                    f"CREATE USER {NAME}@'{origin}' IDENTIFIED WITH caching_sha2_password BY '{password}';"
                    f"GRANT ALL ON {NAME}.* TO {NAME}@'{origin}'",
                    database="mysql",
                )
            yield server
