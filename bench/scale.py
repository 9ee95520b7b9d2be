"""Many lines on one server: how late check-ins begin, how long they take, and what they cost, as members become more.

    python bench/scale.py                              100, 300, 1,000 and 2,000 members on PostgreSQL, half a minute each
    python bench/scale.py --members 300 --seconds 60   one size, for longer
    python bench/scale.py --store mysql --json

Three members an election: one renews its record, two check in, each every 2 s (the pace of ttl 10 s). Server and members share
this machine. A member is a thread with a store and a connection of its own, which does what a real member's store thread does;
125 share a process. Left out are the members' other threads, their guards and commands, and the news that no idle line has.
A member whose check-in took too long begins the next one late, and catches up.

Lateness is the time from when a check-in was due to when it began, latency from there to its answer. Processor time is what the
scheduler counted for all processes of the server and all of the members. Memory is PSS, in which what processes share counts once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from heirflow.election.record import Exchange
from heirflow.guard.processes import descendants
from heirflow.stores import Store, StoreUnavailable, open_store
from heirflow.testing.store_tools import join, take, who
from lab.rig.memory import memory_mb
from lab.servers.server import Server
from lab.servers.servers import mariadb_server, postgres_server

SIZES = [100, 300, 1000, 2000]
EVERY_S = 2.0
IN_ONE_PROCESS = 125
WARM_UP_S = 6.0
CALL_LIMIT_S = 10.0
WANTED_MS = 100.0
SPARE_CONNECTIONS = 20


class Member(threading.Thread):
    """One of three in its line. The first leads."""

    def __init__(self, url: str, number: int) -> None:
        super().__init__(daemon=True)
        self.number, self.election, self.id = number, f"line-{number // 3}", f"member-{number}"
        self.store: Store = open_store(url, call_limit_s=CALL_LIMIT_S)
        self.version = 0
        self.over = threading.Event()
        self.rows: list[tuple[float, float, float]] = []
        """When it was due, how late it began, how long it took."""
        self.failed = 0

    def stand_in_line(self) -> None:
        self.store.open()
        join(self.store, self.election, self.id)
        if self.number % 3 == 0:
            self.version = 1
            self.store.exchange(self.election, Exchange(who(self.id), swap=take(self.id, 1, 1, expected=None)))

    def next(self) -> Exchange:
        if not self.version:
            return Exchange(who(self.id))
        swap = take(self.id, 1, self.version + 1, expected=self.version, news=False)
        return Exchange(who(self.id), swap=dataclasses.replace(swap, event=None))

    def run(self) -> None:
        due = time.monotonic() + EVERY_S
        while not self.over.wait(max(0.0, due - time.monotonic())):
            began = time.monotonic()
            try:
                swapped = self.store.exchange(self.election, self.next()).swapped
                self.version += bool(swapped)
                self.failed += swapped is False
                self.rows.append((due, began - due, time.monotonic() - began))
            except StoreUnavailable:
                self.failed += 1
            due += EVERY_S
        self.store.close()


def members(url: str, numbers: range, pipe: Connection) -> None:
    """A process of members: each stands in line and checks in from then on, until the other end says that it is over."""
    threading.stack_size(512 * 1024)
    line: list[Member] = []
    try:
        for number in numbers:
            line.append(Member(url, number))
            line[-1].stand_in_line()
            line[-1].start()
            pipe.send(1)
    except (StoreUnavailable, OSError, RuntimeError) as error:  # to be told where people see it
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.recv()
    for member in line:
        member.over.set()
    for member in line:
        member.join()
    pipe.send(([row for member in line for row in member.rows], sum(member.failed for member in line)))


def ran_s(pids: list[int]) -> float:
    """Processor time of these processes so far."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def pss_mb(pids: list[int]) -> float:
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += memory_mb(pid, "Pss")
    return total


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


class Trouble(Exception):
    """A size that could not be measured, and why."""


def measure(server: Server | None, url: str, count: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for first in range(0, count, IN_ONE_PROCESS):
        ours, theirs = context.Pipe()
        numbers = range(first, min(count, first + IN_ONE_PROCESS))
        process = context.Process(target=members, args=(url, numbers, theirs), daemon=True)
        process.start()
        theirs.close()
        pipes.append((ours, len(numbers)))
        processes.append(process)
    try:
        stand = 0
        for pipe, each in pipes:
            for _ in range(each):
                told = pipe.recv()
                if told != 1:
                    raise Trouble(told)
                stand += 1
                if stand % 100 == 0:
                    say(f"{count} members: {stand} stand in line")
        begin = time.monotonic() + WARM_UP_S
        until = begin + seconds
        ours_too = [process.pid for process in processes if process.pid]
        main = None if server is None else server.pid
        theirs_too = [] if main is None else [main, *descendants(main)]
        time.sleep(max(0.0, begin - time.monotonic()))
        say(f"{count} members: measuring for {seconds:g} s")
        wal = wal_bytes(server)
        before, at = (ran_s(ours_too), ran_s(theirs_too)), time.monotonic()
        time.sleep(max(0.0, until - time.monotonic()))
        after, lasted = (ran_s(ours_too), ran_s(theirs_too)), time.monotonic() - at
        wal_after = wal_bytes(server)
        memory = pss_mb(theirs_too), pss_mb(ours_too)
        for pipe, _ in pipes:
            pipe.send("over")
        rows: list[tuple[float, float, float]] = []
        failed = 0
        for pipe, _ in pipes:
            some, lost = pipe.recv()
            rows += some
            failed += lost
    finally:
        for process in processes:
            process.join(timeout=5)
            process.kill()
    counted = [(late, took) for due, late, took in rows if begin <= due < until]
    if not counted:
        raise Trouble("no check-in came through")
    late, took = [1000 * each for each, _ in counted], [1000 * each for _, each in counted]
    rate, cores = len(counted) / lasted, os.cpu_count() or 1
    clients, serving = after[0] - before[0], after[1] - before[1]
    return {
        "members": count,
        "wanted_per_s": count / EVERY_S,
        "check_ins_per_s": round(rate, 1),
        "failed": failed,
        "latency_ms": {"median": round(statistics.median(took), 2), "p99": round(quantile(took, 0.99), 1)},
        "lateness_ms": {"median": round(statistics.median(late), 2), "p99": round(quantile(late, 0.99), 1)},
        "server_percent": round(100 * serving / lasted / cores, 1),
        "members_percent": round(100 * clients / lasted / cores, 1),
        "server_ms_per_check_in": round(1000 * serving / len(counted), 3),
        "member_ms_per_check_in": round(1000 * clients / len(counted), 3),
        "connections": count,
        "server_mb": round(memory[0]),
        "members_mb": round(memory[1]),
        "wal_bytes_per_check_in": None if wal is None else round((wal_after - wal) / len(counted)),  # type: ignore[operator]
    }


def wal_bytes(server: Server | None) -> int | None:
    if server is None or "postgres" not in server.url("psycopg"):
        return None
    return int(server.sql("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))


HEAD = (
    "members   check-ins/s   latency ms       lateness ms      processors: server  members   ms a check-in    memory MB       WAL\n"
    "                        median    p99    median    p99                                  server  member   server members  bytes"
)


def line(it: dict[str, Any]) -> str:
    latency, lateness = it["latency_ms"], it["lateness_ms"]
    return (
        f"{it['members']:7}   {it['check_ins_per_s']:6.1f} of {it['wanted_per_s']:<5.0f}"
        f"{latency['median']:6.2f} {latency['p99']:6.1f}    {lateness['median']:6.2f} {lateness['p99']:6.1f}"
        f"               {it['server_percent']:4.0f} %  {it['members_percent']:5.0f} %"
        f"   {it['server_ms_per_check_in']:6.2f}  {it['member_ms_per_check_in']:6.2f}"
        f"   {it['server_mb']:6} {it['members_mb']:7}  {it['wal_bytes_per_check_in'] or '-':>5}"
        + (f"   {it['failed']} failed" if it["failed"] else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=SIZES)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--store", choices=["postgres", "mysql", "sqlite"], default="postgres")
    parser.add_argument(
        "--fsync", action="store_true", help="PostgreSQL waits for the disk at each commit, as in production"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 65536), hard))

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    say(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; {options.store}, a check-in every {EVERY_S:g} s")
    if not options.json:
        print(HEAD)
    found: list[dict[str, Any]] = []
    limit = str(max(options.members) + SPARE_CONNECTIONS)
    for count in options.members:
        with contextlib.ExitStack() as stack:
            server: Server | None = None
            if options.store == "postgres":
                settings = {"max_connections": limit}
                server = stack.enter_context(postgres_server(fsync=options.fsync, settings=settings))
                url = server.url("psycopg")
            elif options.store == "mysql":
                server = stack.enter_context(mariadb_server(settings={"max-connections": limit}))
                url = server.url("pymysql")
            else:
                url = f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/line.db"
            try:
                found.append(measure(server, url, count, options.seconds, say))
            except (Trouble, EOFError) as error:
                say(f"{count} members could not be measured: {error}")
                continue
        if not options.json:
            print(line(found[-1]), flush=True)
    if options.json:
        print(json.dumps({"processors": os.cpu_count(), "store": options.store, "every_s": EVERY_S, "sizes": found}))
    else:
        print(f"wanted: at 1000 members p99 of latency and of lateness under {WANTED_MS:g} ms on 2 processors")
    raise SystemExit(0 if len(found) == len(options.members) else 1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
