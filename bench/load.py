"""What a line costs that has nothing to do: transactions per check-in, processor time, WAL, and memory.

    python bench/load.py [--seconds 30] [--ttl 10] [--store postgres|mysql|sqlite] [--calls 300] [--json]

One leader and two heirs on this machine against a real server on this machine. The database counts: on PostgreSQL, what each
member's session sends stands in the server's own log, and the total of `pg_stat_database` beside it; MariaDB tells the total of
Com_commit and Com_rollback only. RSS counts what processes share once for each of them; PSS divides it among them, so that only
PSS may be summed.

Then what one exchange costs, beside a bare UPDATE of a member's row in the same run: the processor time of the server's process
or thread for this session and of the caller, by the scheduler's own count, and the time that the call took. They take turns, a
moment apart, as a call after an idle moment costs more than one of many in a row; the slowest tenth is left out. The bare UPDATE
is prepared and commits by itself; PyMySQL and SQLite prepare nothing at the server.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from heirflow.election.record import Exchange
from heirflow.election.timings import Timings
from heirflow.stores import open_store
from heirflow.testing.store_tools import join, take, who
from lab.rig.memory import memory_mb
from lab.rig.rig import Rig
from lab.servers.server import Server
from lab.servers.servers import mariadb_server, postgres_server

HOSTS = ("ada", "ben", "cleo")
TRANSACTIONS_AT_MOST = 1.0
RSS_AT_MOST_MB = 75.0
STATEMENTS = re.compile(r"heirflow-member/(\S+) LOG:  (?:statement|execute [^:]*): (\S+)")
WANTED = {"check-in": 2.0, "renewal": 3.0}
"""Times the bare UPDATE, at most, in the server's processor time."""
WAL_AT_MOST = 250
PAUSE_S = 0.004


def total(server: Server, store: str) -> int:
    """Transactions that the server has ended so far, by its own count."""
    if store == "postgres":
        # A session counts itself in at most once a second, and when it ends.
        return int(
            server.sql(
                "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'heirflow'",
                database="postgres",
            )
        )
    words = server.sql("SHOW GLOBAL STATUS WHERE variable_name IN ('Com_commit', 'Com_rollback')").split()
    return sum(int(word) for word in words if word.isdigit())


def from_log(server: Server, start: int) -> tuple[Counter[str], Counter[str]]:
    """Transactions and statements in the log from there on, by member. A statement outside of BEGIN is a transaction."""
    transactions, statements, within = Counter[str](), Counter[str](), set[str]()
    with server.log.open(errors="replace") as log:
        log.seek(start)
        for found in filter(None, map(STATEMENTS.search, log)):
            member, word = found[1], found[2].strip(";").upper()
            statements[member] += 1
            if word == "BEGIN":
                within.add(member)
                continue
            ends = word in {"COMMIT", "END", "ROLLBACK"}
            transactions[member] += ends or member not in within
            if ends:
                within.discard(member)
    return transactions, statements


def measure(server: Server, store: str, seconds: float, ttl_s: float) -> dict[str, Any]:
    check_ins = seconds / Timings.of(ttl_s).check_in_s
    with (
        tempfile.TemporaryDirectory() as folder,
        Rig(server.url("psycopg" if store == "postgres" else "pymysql"), Path(folder), ttl_s=ttl_s) as rig,
    ):
        for host in HOSTS:
            rig.add(host)
        rig.wait_for_line(len(HOSTS), 60)
        time.sleep(3 * Timings.of(ttl_s).check_in_s)  # what joining cost is not part of it
        leader = rig.wait_for_line(len(HOSTS), 60)
        before, start = total(server, store), server.log.stat().st_size
        time.sleep(seconds)
        transactions, statements = from_log(server, start)
        members = {}
        for host, member in rig.members.items():
            facts = member.ask(2.0) or {}
            sizes = {part: kb / 1024 for part, kb in member.rss_kb().items() if part != "command"}
            members[host] = {
                "role": "leader" if member is leader else "heir",
                "transactions_per_check_in": transactions[facts["member"]] / check_ins if store == "postgres" else None,
                "statements_per_check_in": statements[facts["member"]] / check_ins if store == "postgres" else None,
                "rss_mb": {part: round(mb, 1) for part, mb in sizes.items()},
                "member_and_guard_mb": round(sizes.get("member", 0) + sizes.get("guard", 0), 1),
                "pss_of_all_mb": round(
                    sum(memory_mb(pid, "Pss") for part, pid in member.seen.items() if part != "command"), 1
                ),
            }
        spent = total(server, store) - before
    return {
        "store": store,
        "seconds": seconds,
        "check_in_s": Timings.of(ttl_s).check_in_s,
        "members": members,
        "transactions_per_member_and_check_in": round(spent / check_ins / len(HOSTS), 2),
    }


def bare(url: sa.engine.URL, election: str, member: str) -> tuple[Callable[[], object], sa.engine.Connection]:
    """A bare UPDATE of this member's row, prepared where the driver can."""
    conn = sa.create_engine(url, poolclass=sa.pool.NullPool, isolation_level="AUTOCOMMIT").connect()
    driver: Any = conn.connection.dbapi_connection
    postgres, lite = url.get_backend_name() == "postgresql", url.get_backend_name() == "sqlite"
    now = {
        "postgresql": "extract(epoch FROM clock_timestamp())",
        "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    }.get(url.get_backend_name(), "(TO_SECONDS(UTC_TIMESTAMP(6)) - 62167219200)")
    mark = "?" if lite else "%s"
    # Names and marks are ours.
    text = f"UPDATE heirflow_member SET checked_in_at = {now} WHERE election = {mark} AND id = {mark}"
    cursor = driver.cursor()
    more = {"prepare": True} if postgres else {}
    return lambda: cursor.execute(text, (election, member), **more), conn


def own_process(url: sa.engine.URL, conn: sa.engine.Connection) -> str | None:
    """Where the kernel counts what the server's process or thread for this session has run; None: it runs in the caller's."""
    if url.get_backend_name() == "sqlite":
        return None
    postgres = url.get_backend_name() == "postgresql"
    asked = "pg_backend_pid()" if postgres else "tid FROM information_schema.processlist WHERE id = CONNECTION_ID()"
    number = conn.exec_driver_sql(f"SELECT {asked}").scalar()
    conn.rollback()
    [found] = Path("/proc").glob(f"{number}/schedstat" if postgres else f"[0-9]*/task/{number}/schedstat")
    return str(found)


def ran_ms(schedstat: str | None) -> float:
    return 0.0 if schedstat is None else int(Path(schedstat).read_text().split()[0]) / 1e6


def trimmed(values: list[float]) -> float:
    """The mean without the slowest tenth."""
    return statistics.fmean(sorted(values)[: max(1, len(values) * 9 // 10)])


@contextlib.contextmanager
def exchanges(url: sa.engine.URL, calls: int) -> Iterator[dict[str, tuple[Callable[[], object], str | None]]]:
    """What is measured, by name, each on a session of its own, and where the server's processor time stands."""
    election = "load"
    stores = [open_store(url.render_as_string(hide_password=False), call_limit_s=4.0) for _ in range(3)]
    leader, heir, _ = stores
    for store in stores:
        store.open()
    for id_, store in zip("abc", stores, strict=True):
        join(store, election, id_)
    leader.exchange(election, Exchange(who("a"), swap=take("a", 1, 1, expected=None)))
    version = iter(range(1, 10 * calls))

    def renew() -> None:
        seen = next(version)
        swap = take("a", 1, seen + 1, expected=seen, news=False)
        assert leader.exchange(election, Exchange(who("a"), swap=dataclasses.replace(swap, event=None))).swapped

    update, conn = bare(url, election, "c")
    try:
        yield {
            "bare UPDATE": (update, own_process(url, conn)),
            "check-in": (lambda: heir.exchange(election, Exchange(who("b"))), own_process(url, heir._link.conn)),  # type: ignore[attr-defined]
            "renewal": (renew, own_process(url, leader._link.conn)),  # type: ignore[attr-defined]
        }
    finally:
        conn.close()
        for store in stores:
            store.close()


def costs(server: Server | None, url: sa.engine.URL, calls: int) -> dict[str, Any]:
    """Processor time of one call of each kind, of server and caller, and on PostgreSQL the WAL of a check-in."""
    with exchanges(url, calls) as kinds:
        spent: dict[str, dict[str, list[float]]] = {
            name: {"server_ms": [], "client_ms": [], "took_ms": []} for name in kinds
        }
        for turn in range(calls + 20):
            for name, (call, schedstat) in kinds.items():
                before, thread, at = ran_ms(schedstat), time.thread_time(), time.perf_counter()
                call()
                took, own = time.perf_counter() - at, time.thread_time() - thread
                time.sleep(PAUSE_S)
                if turn >= 20:  # warm by now
                    spent[name]["server_ms"].append(ran_ms(schedstat) - before)
                    spent[name]["client_ms"].append(1000 * own)
                    spent[name]["took_ms"].append(1000 * took)
        wal = None
        if server is not None and url.get_backend_name() == "postgresql":
            call = kinds["check-in"][0]
            before_b = int(server.sql("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))
            for _ in range(calls):
                call()
            wal = round((int(server.sql("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")) - before_b) / calls)
    means: dict[str, dict[str, Any]] = {
        name: {what: round(trimmed(each), 4) for what, each in its.items()} for name, its in spent.items()
    }
    base = means["bare UPDATE"]["server_ms"] or None
    for its in means.values():
        its["times_the_bare_update"] = None if base is None else round(its["server_ms"] / base, 2)
    prepared = url.get_backend_name() == "postgresql"
    return {"calls": calls, "prepared": prepared, "costs": means, "wal_bytes_per_check_in": wal}


def show_costs(result: dict[str, Any]) -> None:
    print(f"processor time of one call, {result['calls']} of each in turns, the slowest tenth left out")
    for name, its in result["costs"].items():
        times = its["times_the_bare_update"]
        ratio = "" if times is None else f"{times:5.2f} times the bare UPDATE"
        wanted = f", wanted at most {WANTED[name]:g}" if result["prepared"] and name in WANTED else ""
        print(
            f"  {name:12} server {its['server_ms']:6.3f} ms   caller {its['client_ms']:6.3f} ms   took {its['took_ms']:6.3f} ms"
            f"   {ratio}{wanted}"
        )
    if result["wal_bytes_per_check_in"] is not None:
        print(f"  WAL per check-in: {result['wal_bytes_per_check_in']} bytes, wanted at most {WAL_AT_MOST}", flush=True)


def show(result: dict[str, Any]) -> None:
    print(f"{result['store']}, {result['seconds']:g} s, a check-in every {result['check_in_s']:g} s")
    for host, facts in result["members"].items():
        parts = "   ".join(f"{part} {mb:.0f}" for part, mb in facts["rss_mb"].items())
        told = facts["transactions_per_check_in"]
        talk = (
            ""
            if told is None
            else f"{told:.2f} transactions, {facts['statements_per_check_in']:.1f} statements per check-in"
        )
        print(
            f"  {host:5} {facts['role']:7} {talk:52} RSS in MB: {parts}   member+guard {facts['member_and_guard_mb']:.0f}"
            f"   PSS of all {facts['pss_of_all_mb']:.0f}"
        )
    each = result["transactions_per_member_and_check_in"]
    print(f"  all together, by the server's count: {each:.2f} transactions per member and check-in")
    print(
        f"  wanted: at most {TRANSACTIONS_AT_MOST:g} transaction per check-in, and {RSS_AT_MOST_MB:g} MB for member + guard",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="how long to watch the line; 0: only what a call costs"
    )
    parser.add_argument("--ttl", type=float, default=10.0)
    parser.add_argument("--store", choices=["postgres", "mysql", "sqlite"], default="postgres")
    parser.add_argument("--calls", type=int, default=300, help="of each kind, for what a call costs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result: dict[str, Any] = {}
    if options.seconds and options.store != "sqlite":
        started = (
            postgres_server(settings={"log_statement": "all"}) if options.store == "postgres" else mariadb_server()
        )
        with started as server:
            result = measure(server, options.store, options.seconds, options.ttl)
            if not options.json:
                show(result)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if options.store == "sqlite":
            of_a_call = costs(None, sa.engine.make_url(f"sqlite:///{folder}/line.db"), options.calls)
        else:
            server = stack.enter_context(postgres_server() if options.store == "postgres" else mariadb_server())
            url = server.url("psycopg" if options.store == "postgres" else "pymysql")
            of_a_call = costs(server, sa.engine.make_url(url), options.calls)
    if options.json:
        print(json.dumps({**result, **of_a_call}))
    else:
        show_costs(of_a_call)


if __name__ == "__main__":
    main()
