"""The will's helper: releases the record of a member that died, once its command is proved gone.

A program of its own, started by the guard (``python -I -S -E will_helper.py``). It reads two lines from its standard input: what
to do, as JSON, and later the word ``go``. Between the two it imports the bare database driver and connects, so that the
wait for the command's end is not lost; end of file instead of ``go`` means that nobody proved anything, and it ends without
a change. Nothing secret is on its command line or in its environment.

Several hosts, and all addresses of their names, are tried at the same time, as a dead one says nothing for seconds. A server that
only repeats another refuses the statements, and the next connection is taken.

All statements run in one transaction; when the first changes no row, the record has moved on and nothing is done. Only when
they are committed and told are the heirs woken, and that may fail: it makes things faster, and decides nothing. A
database that does not answer is asked again until ``give_up_at``, a moment of the clock whose number the order names.
"""

from __future__ import annotations

import ctypes
import sys

if __name__ == "__main__" and sys.platform == "linux":
    # As `guard.processes.close_to_others`: what it reads holds a password. Before all else, and without loading a file more.
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE

import contextlib
import os
import time
from collections.abc import Iterator
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


def connect(driver: Any, payload: dict[str, Any], **host: str) -> Any:
    """A connection whose statements wait for `commit`, whatever the member's own connection was set to."""
    named = {**payload["connect_kwargs"], **host}
    named = {word: value for word, value in named.items() if word not in host or value}
    connection = driver.connect(*payload["connect_args"], **named)
    if payload["module"] == "sqlite3":
        connection.isolation_level = "IMMEDIATE"
    elif getattr(connection, "autocommit", False) is True:
        connection.autocommit = False
    return connection


def connections(driver: Any, payload: dict[str, Any]) -> Iterator[Any]:
    """A connection to each host that has one, as they come. Raises what the last one said that had none."""
    hosts: list[dict[str, str]] = payload.get("hosts") or []
    if not hosts:
        yield connect(driver, payload)
        return
    import queue
    import socket
    import threading

    told: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def attempt(host: dict[str, str]) -> None:
        name = host["host"]
        try:
            if host["hostaddr"] or not name or name[0] in "/@":
                told.put(connect(driver, payload, **host))
            else:
                found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
                told.put(
                    [{**host, "hostaddr": address} for address in dict.fromkeys(str(each[4][0]) for each in found)]
                )
        except Exception as error:
            told.put(error)

    waiting, failed = list(hosts), None
    under_way = 0
    while waiting or under_way:
        while waiting:
            threading.Thread(target=attempt, args=(waiting.pop(0),), daemon=True).start()
            under_way += 1
        answer = told.get()
        under_way -= 1
        if isinstance(answer, list):
            waiting += answer
        elif isinstance(answer, Exception):
            failed = answer
        else:
            yield answer
    if failed is not None:
        raise failed


def naming(bound: Any, payload: dict[str, Any]) -> Any:
    """The bound values, with whoever has the proof named in the sentence that explains the release."""
    because = payload.get("because", "")  # a guard or a member of before an upgrade says nothing of either
    told = {because: because.replace("{prover}", payload.get("prover", "its guard"))}
    if isinstance(bound, dict):
        return {word: told.get(value, value) for word, value in bound.items()}
    return [told.get(value, value) for value in bound or ()]


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


def ask_coordinator(will: Any, payload: dict[str, Any], lines: Lines) -> int:
    """The record is in no database: `will` is the module that knows how to ask for it. As `main`."""
    told: list[bool] = []

    def go() -> bool:
        if not told:
            told.append(lines.next() == b"go")
        return told[0]

    while True:
        try:
            released = will.carry_out(payload, go)
            if released is not None:
                with contextlib.suppress(OSError):
                    os.write(1, b"released\n" if released else b"nothing to release\n")
            return 0
        except (will.StoreUnavailable, OSError):
            again = True
        except will.StoreMisfit:  # an upgrade has taken the client away under a member that ran: no try will be better
            again = False
        if not again or time.clock_gettime(payload["clock"]) + RETRY_S > payload["give_up_at"]:
            with contextlib.suppress(OSError):
                os.write(1, b"gave up\n")
            return 1
        time.sleep(RETRY_S)


def main() -> int:
    """Returns the exit code; 0 also when there was nothing to do."""
    import json
    from importlib import import_module

    lines = Lines(0)
    first = lines.next()
    if not first:
        return 0
    payload = json.loads(first)
    sys.path[:] = payload.get("sys_path") or sys.path
    os.environ.update(payload.get("environment") or {})  # what the driver's library reads from it, such as PGSSLMODE
    driver = import_module(payload["module"])
    if "statements" not in payload:
        return ask_coordinator(driver, payload, lines)
    statements = [(sql, naming(bound, payload)) for sql, bound in payload["statements"]]
    told = False
    while True:
        with contextlib.suppress(driver.Error, OSError):
            for connection in connections(driver, payload):
                if not told and lines.next() != b"go":
                    return 0
                told = True
                try:
                    released = carry_out(connection, statements)
                except driver.Error:
                    continue
                with contextlib.suppress(OSError):  # nobody hears it any more
                    os.write(1, b"released\n" if released else b"nothing to release\n")
                if released:
                    tell(connection, payload.get("news") or [])
                return 0
        if time.clock_gettime(payload["clock"]) + RETRY_S > payload["give_up_at"]:
            os.write(1, b"gave up\n")
            return 1
        time.sleep(RETRY_S)


if __name__ == "__main__":
    code = main()
    os._exit(code)  # at once: tearing down an interpreter full of drivers would only cost time
