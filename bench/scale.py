"""Many lines on one server: how late check-ins begin, how long they take, and what they cost, as members become more.

    python bench/scale.py                              100, 300, 1,000 and 2,000 members on PostgreSQL, half a minute each
    python bench/scale.py --members 300 --seconds 60   one size, for longer
    python bench/scale.py --store mysql --json
    python bench/scale.py --pooler transaction         members behind a PgBouncer with 20 sessions

Three members an election: one renews its record, two check in, each every 2 s (the pace of ttl 10 s). Server and members share
this machine. A member is a thread with a store and a connection of its own, which does what a real member's store thread does;
125 share a process. Left out are the members' other threads, their guards and commands, and the news that no idle line has.
A member whose check-in took too long begins the next one late, and catches up. What came before is a warm-up and is not counted.

Lateness is the time from when a check-in was due to when it began (or to the end, if it never did), latency from there to its
answer. Unanswered are those that failed or never began. Processor time is what the scheduler counted for all processes of the
server (and the pooler's) and all of the members. Memory is PSS, in which what processes share counts once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import multiprocessing
import os
import platform
import resource
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any

from heirflow.election.record import Exchange
from heirflow.guard.processes import descendants
from heirflow.stores import Store, StoreUnavailable, open_store
from heirflow.testing.store_tools import join, take, who
from lab.rig.memory import memory_mb
from lab.servers.pooler import pooler
from lab.servers.server import NAME, Server, ServerTrouble
from lab.servers.servers import mariadb_server, postgres_server

SIZES = [100, 300, 1000, 2000]
EVERY_S = 2.0
IN_ONE_PROCESS = 125
JOINING_AT_ONCE = 4
WARM_UP_S = 6.0
CALL_LIMIT_S = 10.0
WANTED_MEMBERS, WANTED_MS = 1000, 100.0
SPARE_CONNECTIONS = 20
POOL = 20
"""Sessions of a pooler that shares them."""


Row = tuple[float, float, float | None]
"""When a check-in was due, how late it began, and how long it took; None: it failed, or never began."""


class Member(threading.Thread):
    """One of three in its line. The first leads."""

    def __init__(self, url: str, number: int) -> None:
        super().__init__(daemon=True)
        self.number, self.election, self.id = number, f"line-{number // 3}", f"member-{number}"
        self.store: Store = open_store(url, call_limit_s=CALL_LIMIT_S)
        self.version = 0
        self.over = threading.Event()
        self.rows: list[Row] = []

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
            began, took = time.monotonic(), None
            with contextlib.suppress(StoreUnavailable):
                reading = self.store.exchange(self.election, self.next())
                took = None if reading.swapped is False else time.monotonic() - began
                if self.version and reading.record:
                    self.version = reading.record.version
            self.rows.append((due, began - due, took))
            due += EVERY_S
        end = time.monotonic()
        while due < end:
            self.rows.append((due, end - due, None))
            due += EVERY_S
        self.store.close()


def members(url: str, numbers: range, pipe: Connection, joining: Semaphore) -> None:
    """A process of members: each stands in line and checks in from then on, until the other end says that it is over."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other end ends us
    threading.stack_size(512 * 1024)
    line: list[Member] = []
    try:
        for number in numbers:
            line.append(Member(url, number))
            with joining:
                line[-1].stand_in_line()
            line[-1].start()
            pipe.send(1)
    except (StoreUnavailable, OSError, RuntimeError) as error:  # to be told where people see it
        pipe.send(f"{type(error).__name__}: {error}")
        return
    try:
        pipe.recv()
    except EOFError:  # interrupted
        return
    for member in line:
        member.over.set()
    for member in line:
        member.join()
    pipe.send([row for member in line for row in member.rows])


def poolers() -> list[int]:
    return [pid for pid in descendants(os.getpid()) if Path(f"/proc/{pid}/comm").read_text() == "pgbouncer\n"]


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


def measure(
    server: Server | None, store: str, url: str, count: int, seconds: float, say: Callable[[str], None]
) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    joining = context.Semaphore(JOINING_AT_ONCE)
    pipes, processes = [], []
    try:
        for first in range(0, count, IN_ONE_PROCESS):
            ours, theirs = context.Pipe()
            numbers = range(first, min(count, first + IN_ONE_PROCESS))
            process = context.Process(target=members, args=(url, numbers, theirs, joining), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        stand = 0
        while stand < count:
            for pipe in wait(pipes):
                told = pipe.recv()  # type: ignore[union-attr]
                if told != 1:
                    raise Trouble(told)
                stand += 1
                if stand % 100 == 0:
                    say(f"{count} members: {stand} stand in line")
        begin = time.monotonic() + min(WARM_UP_S, seconds / 2)
        until = begin + seconds
        ours_too = [process.pid for process in processes if process.pid]
        main = None if server is None else server.pid
        theirs_too = [] if main is None else [main, *descendants(main), *poolers()]
        time.sleep(max(0.0, begin - time.monotonic()))
        say(f"{count} members: measuring for {seconds:g} s")
        wal = wal_bytes(server, store)
        before, at = (ran_s(ours_too), ran_s(theirs_too)), time.monotonic()
        time.sleep(max(0.0, until - time.monotonic()))
        after, lasted = (ran_s(ours_too), ran_s(theirs_too)), time.monotonic() - at
        wal_after = wal_bytes(server, store)
        memory, connections = (pss_mb(theirs_too), pss_mb(ours_too)), connected(server, store)
        for pipe in pipes:
            pipe.send("over")
        rows: list[Row] = [row for pipe in pipes for row in pipe.recv()]
    except (EOFError, ConnectionError):
        for process in processes:
            process.join(timeout=0.1)
        codes = [process.exitcode for process in processes if process.exitcode is not None]
        raise Trouble(f"processes of members ended with {codes}") from None
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
    counted = [(late, took) for due, late, took in rows if begin <= due < until]
    late = [1000 * each for each, _ in counted]
    latency = [1000 * each for _, each in counted if each is not None]
    if not latency:
        raise Trouble("no check-in came through")
    came, cores = len(latency), os.cpu_count() or 1
    clients, serving = after[0] - before[0], after[1] - before[1]
    return {
        "members": count,
        "wanted_per_s": count / EVERY_S,
        "check_ins_per_s": round(came / lasted, 1),
        "unanswered": len(counted) - came,
        "latency_ms": {"median": round(statistics.median(latency), 2), "p99": round(quantile(latency, 0.99), 1)},
        "lateness_ms": {"median": round(statistics.median(late), 2), "p99": round(quantile(late, 0.99), 1)},
        "server_percent": round(100 * serving / lasted / cores, 1),
        "members_percent": round(100 * clients / lasted / cores, 1),
        "server_ms_per_check_in": round(1000 * serving / came, 3),
        "member_ms_per_check_in": round(1000 * clients / came, 3),
        "connections": connections,
        "server_mb": round(memory[0]),
        "members_mb": round(memory[1]),
        "wal_bytes_per_check_in": None if wal is None or wal_after is None else round((wal_after - wal) / came),
    }


def wal_bytes(server: Server | None, store: str) -> int | None:
    if server is None or store != "postgres":
        return None
    return int(server.sql("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))


def connected(server: Server | None, store: str) -> int | None:
    """Sessions of members, or of the pooler in their place."""
    if server is None:
        return None
    place = "pg_stat_activity WHERE usename" if store == "postgres" else "information_schema.processlist WHERE user"
    return int(server.sql(f"SELECT count(*) FROM {place} = '{NAME}'"))


def machine() -> str:
    told = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in told if line.startswith("model name")), platform.machine())


HEAD = (
    "members    check-ins/s    latency ms       lateness ms     processors, %   ms a check-in   memory, MB      sessions    WAL\n"
    "                         median    p99    median    p99   server members  server  member   server members           bytes"
)


def line(it: dict[str, Any]) -> str:
    latency, lateness = it["latency_ms"], it["lateness_ms"]
    return (
        f"{it['members']:7}  {it['check_ins_per_s']:6.1f} of {it['wanted_per_s']:<5.0f}"
        f"{latency['median']:7.2f} {latency['p99']:6.1f}   {lateness['median']:7.2f} {lateness['p99']:6.1f}"
        f"   {it['server_percent']:6.1f} {it['members_percent']:7.1f}"
        f"  {it['server_ms_per_check_in']:6.2f}  {it['member_ms_per_check_in']:6.2f}"
        f"   {it['server_mb']:6} {it['members_mb']:7}"
        f"   {it['connections'] or '-':>7} {it['wal_bytes_per_check_in'] or '-':>7}"
        + (f"   {it['unanswered']} unanswered" if it["unanswered"] else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=SIZES)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--store", choices=["postgres", "mysql", "sqlite"], default="postgres")
    parser.add_argument(
        "--fsync", action="store_true", help="PostgreSQL waits for the disk at each commit, as in production"
    )
    parser.add_argument(
        "--pooler", choices=["transaction", "session"], help="members reach PostgreSQL through PgBouncer"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.pooler and options.store != "postgres":
        parser.error("--pooler goes with --store postgres only")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 65536), hard))

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    about = {
        "machine": machine(), "processors": os.cpu_count(), "load": round(os.getloadavg()[0], 1),
        "store": options.store, "pooler": options.pooler, "every_s": EVERY_S,
    }  # fmt: skip
    say("; ".join(f"{name} {value}" for name, value in about.items() if value))
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
                if options.pooler:
                    size = POOL if options.pooler == "transaction" else limit
                    more = {"pool_mode": options.pooler, "default_pool_size": str(size), "max_client_conn": limit}
                    url = stack.enter_context(pooler(url, **more))
            elif options.store == "mysql":
                server = stack.enter_context(mariadb_server(settings={"max-connections": limit}))
                url = server.url("pymysql")
            else:
                url = f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/line.db"
            try:
                found.append(measure(server, options.store, url, count, options.seconds, say))
            except (Trouble, ServerTrouble, OSError) as error:
                say(f"{count} members could not be measured: {error}")
                continue
        if not options.json:
            print(line(found[-1]), flush=True)
    if options.json:
        print(json.dumps({**about, "sizes": found}))
    else:
        for it in (it for it in found if it["members"] == WANTED_MEMBERS):
            worst = max(it["latency_ms"]["p99"], it["lateness_ms"]["p99"])
            told = "yes" if worst < WANTED_MS and not it["unanswered"] else "NO"
            print(f"{WANTED_MEMBERS} members with p99 of latency and of lateness under {WANTED_MS:g} ms: {told}")
    raise SystemExit(0 if len(found) == len(options.members) else 1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
