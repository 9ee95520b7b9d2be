"""The will's helper: releases the record of a member that died, once its command is proved gone.

A program of its own, started by the guard (``python -I -S -E will_helper.py``). It reads two lines from its standard input: what
to do, as JSON, and later the word ``go``. Between the two it imports the bare database driver and connects, so that the
wait for the command's end is not lost; end of file instead of ``go`` means that nobody proved anything, and it ends without
a change. Nothing secret is on its command line or in its environment.

All statements run in one transaction; when the first changes no row, the record has moved on and nothing is done. Only when
they are committed and told are the heirs woken, and that may fail: it makes things faster, and decides nothing. A
database that does not answer is asked again until ``give_up_at``, a moment of the clock whose number the order names.
"""

# ruff: noqa: PERF203 -- trying again is what its loop is for
from __future__ import annotations

import ctypes
import sys

if __name__ == "__main__" and sys.platform == "linux":
    # As `guard.processes.close_to_others`: what it reads holds a password. Before all else, and without loading a file more.
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE

import contextlib
import os
import time
from typing import Any

RETRY_S = 0.2


class Lines:
    """Lines of a descriptor, read without taking more of it than Python's own buffering would hide from `select`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.buffer = b""

    def next(self) -> bytes:
        """The next line without its end; empty at end of file."""
        while b"\n" not in self.buffer:
            data = os.read(self.fd, 65536)
            if not data:
                return b""
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line


def connect(driver: Any, payload: dict[str, Any]) -> Any:
    """A connection whose statements wait for `commit`, whatever the member's own connection was set to."""
    connection = driver.connect(*payload["connect_args"], **payload["connect_kwargs"])
    if payload["module"] == "sqlite3":
        connection.isolation_level = "IMMEDIATE"
    elif getattr(connection, "autocommit", False) is True:
        connection.autocommit = False
    return connection


def carry_out(connection: Any, statements: list[tuple[str, Any]]) -> bool:
    """Run them in one transaction; False when the first one changed nothing, and then nothing is changed."""
    cursor = connection.cursor()
    for index, (sql, bound) in enumerate(statements):
        if bound:
            cursor.execute(sql, tuple(bound) if isinstance(bound, list) else bound)
        else:
            cursor.execute(sql)
        if index == 0 and cursor.rowcount < 1:
            connection.rollback()
            return False
    connection.commit()
    return True


def tell(connection: Any, news: list[tuple[str, Any]]) -> None:
    """Wake those who wait, each in a transaction of its own. Whatever goes wrong: they look by themselves a little later."""
    with contextlib.suppress(Exception):
        for sql, bound in news:
            connection.autocommit = True
            connection.cursor().execute(sql, bound)


def main() -> int:
    """Returns the exit code; 0 also when there was nothing to do."""
    import json

    lines = Lines(0)
    first = lines.next()
    if not first:
        return 0
    payload = json.loads(first)
    sys.path[:] = payload.get("sys_path") or sys.path
    os.environ.update(payload.get("environment") or {})  # what the driver's library reads from it, such as PGSSLMODE
    driver = __import__(payload["module"])
    for part in payload["module"].split(".")[1:]:
        driver = getattr(driver, part)
    connection, told = None, False
    while True:
        try:
            if connection is None:
                connection = connect(driver, payload)
            if not told and lines.next() != b"go":
                return 0
            told = True
            released = carry_out(connection, payload["statements"])
            with contextlib.suppress(OSError):  # nobody hears it any more
                os.write(1, b"released\n" if released else b"nothing to release\n")
            if released:
                tell(connection, payload.get("news") or [])
            return 0
        except driver.Error:
            if time.clock_gettime(payload["clock"]) + RETRY_S > payload["give_up_at"]:
                os.write(1, b"gave up\n")
                return 1
            connection = None
            time.sleep(RETRY_S)


if __name__ == "__main__":
    code = main()
    os._exit(code)  # at once: tearing down an interpreter full of drivers would only cost time
