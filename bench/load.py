"""What a line costs that has nothing to do: transactions per check-in, and memory.

    python bench/load.py [--seconds 30] [--ttl 10] [--store postgres|mysql] [--json]

One leader and two heirs on this machine against a real server on this machine. The database counts: on PostgreSQL, what each
member's session sends stands in the server's own log (transactions are its COMMIT and ROLLBACK), and the total of
`pg_stat_database` beside it; MariaDB tells the total of Com_commit and Com_rollback only. RSS counts what processes share once
for each of them; PSS divides it among them, so that only PSS may be summed.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from heirflow.election.timings import Timings
from lab.rig.rig import Rig
from lab.servers.server import Server
from lab.servers.servers import mariadb_server, postgres_server

HOSTS = ("ada", "ben", "cleo")
TRANSACTIONS_AT_MOST = 1.0
RSS_AT_MOST_MB = 75.0
ENDS = re.compile(r"heirflow-member/(\S+) LOG:  (?:statement|execute [^:]*): (COMMIT|END|ROLLBACK)", re.IGNORECASE)
STATEMENTS = re.compile(r"heirflow-member/(\S+) LOG:  (?:statement|execute [^:]*): ", re.IGNORECASE)


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


def from_log(server: Server, start: int, pattern: re.Pattern[str]) -> Counter[str]:
    """How many lines of the log from there on match, by member."""
    with server.log.open(errors="replace") as log:
        log.seek(start)
        return Counter(found[1] for line in log if (found := pattern.search(line)))


def pss_mb(pid: int) -> float:
    """Resident memory of a process, shared pages divided among those that share them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


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
        ends, statements = from_log(server, start, ENDS), from_log(server, start, STATEMENTS)
        members = {}
        for host, member in rig.members.items():
            facts = member.ask(2.0) or {}
            sizes = {part: kb / 1024 for part, kb in member.rss_kb().items() if part != "command"}
            members[host] = {
                "role": "leader" if member is leader else "heir",
                "transactions_per_check_in": ends[facts["member"]] / check_ins if store == "postgres" else None,
                "statements_per_check_in": statements[facts["member"]] / check_ins if store == "postgres" else None,
                "rss_mb": {part: round(mb, 1) for part, mb in sizes.items()},
                "member_and_guard_mb": round(sizes.get("member", 0) + sizes.get("guard", 0), 1),
                "pss_of_all_mb": round(sum(pss_mb(pid) for part, pid in member.seen.items() if part != "command"), 1),
            }
        spent = total(server, store) - before
    return {
        "store": store,
        "seconds": seconds,
        "check_in_s": Timings.of(ttl_s).check_in_s,
        "members": members,
        "transactions_per_member_and_check_in": round(spent / check_ins / len(HOSTS), 2),
    }


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
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--ttl", type=float, default=10.0)
    parser.add_argument("--store", choices=["postgres", "mysql"], default="postgres")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    started = postgres_server(settings={"log_statement": "all"}) if options.store == "postgres" else mariadb_server()
    with started as server:
        result = measure(server, options.store, options.seconds, options.ttl)
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
