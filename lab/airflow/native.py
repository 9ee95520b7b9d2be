"""Airflow's schedulers without HeirFlow, beside which its figures are shown; and what a scheduler costs the database."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from heirflow.demo.stage import Process, Stage
from heirflow.demo.warden import descendants
from heirflow.guard import processes
from lab.airflow.site import WATCHER, Site
from lab.rig.memory import memory_mb

START_LIMIT_S = 120.0
HELD = """
SELECT s.pid, s.state_change FROM pg_locks a JOIN pg_locks p USING (pid) JOIN pg_class c ON c.oid = p.relation
JOIN pg_stat_activity s USING (pid)
WHERE a.locktype = 'advisory' AND a.granted AND p.granted AND c.relname = 'slot_pool' AND p.mode = 'RowShareLock'
AND s.state = 'idle in transaction'
"""
"""Sessions that hold the advisory lock of Airflow's critical section and rows of its pools, and wait for their client."""
STATEMENT = re.compile(
    r"^\S+ \S+ \S+ \[\d+\] (?P<who>\S*) LOG:  (?:statement|execute [^:]*): (?P<what>\w+)", re.MULTILINE
)


class Natives:
    """Schedulers as Airflow runs them: active-active, each on a host of its own."""

    def __init__(self, site: Site, stage: Stage) -> None:
        self.site, self.stage = site, stage
        self.processes: dict[str, Process] = {}

    def start(self, *hosts: str) -> None:
        """Start them, and wait until each has its row."""
        began = time.time()
        for host in hosts:
            self.processes[host] = self.site.start_alone(f"{host}-native", host, ["airflow", "scheduler"])
        limit = time.monotonic() + START_LIMIT_S
        while not all(self.job(host, began) for host in hosts):
            if time.monotonic() > limit:
                raise TimeoutError(f"not every scheduler of {', '.join(hosts)} has begun")
            time.sleep(0.1)

    def job(self, host: str, since: float = 0.0) -> int | None:
        """Its newest row in Airflow's `job`."""
        rows = self.site.ask(
            "SELECT id FROM job WHERE job_type = 'SchedulerJob' AND hostname = :host AND state = 'running' "
            "AND start_date > to_timestamp(:since) ORDER BY id DESC",
            host=host,
            since=since,
        )
        return int(rows[0][0]) if rows else None

    def kill(self, host: str) -> float:
        """The whole tree with -9, as the loss of its host would; returns when."""
        pid = self.processes[host].pid
        at = time.time()
        processes.send([pid, *descendants(pid)], signal.SIGKILL)
        self.stage.wait(self.processes.pop(host), 10.0)
        return at


def catch(site: Site, pid: int, *, limit_s: float = 300.0) -> tuple[float, int]:
    """Stop that scheduler (SIGSTOP) again and again until it stands with both locks in its hands.

    Returns when, and the number of tries. Raises `TimeoutError`, with the process running.
    """
    limit, tries = time.monotonic() + limit_s, 0
    while time.monotonic() < limit:
        tries += 1
        at = time.time()
        os.kill(pid, signal.SIGSTOP)
        # What it had sent is carried out meanwhile. A session that waits for its client since the same moment, look after look,
        # is the stopped one's: another scheduler's would go on.
        looks = [_held(site) for _ in range(4)]
        if looks[0] and all(look == looks[0] for look in looks):
            return at, tries
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05 + 0.11 * (tries % 5))
    raise TimeoutError(f"{tries} stops in {limit_s:.0f} s found no scheduler with both locks")


def _held(site: Site) -> list[Any]:
    time.sleep(0.04)
    return [tuple(row) for row in site.ask(HELD)]


@dataclass(frozen=True, slots=True)
class Cost:
    """What ran for a while cost, per second where nothing else is said."""

    statements: dict[str, float]
    """By whose session it was: ``airflow`` or ``heirflow``."""
    transactions: float
    sessions: float
    """Open ones, on average."""
    rss_mb: float
    pss_mb: float
    """Shared memory is counted once here."""


def cost(site: Site, pids: Sequence[int], *, for_s: float) -> Cost:
    """Watch the metadata database for a while; `pids` are the heads of the process trees whose memory is wanted."""
    site.server.sql("ALTER SYSTEM SET log_statement = 'all'")
    site.server.sql("SELECT pg_reload_conf()")
    time.sleep(1.0)
    begun, before = time.monotonic(), _transactions(site)
    position = site.server.log.stat().st_size
    sessions: list[int] = []
    while time.monotonic() - begun < for_s:
        time.sleep(5.0)
        own = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'heirflow' AND pid <> pg_backend_pid()"
        sessions.append(int(site.ask(own)[0][0]))
    with site.server.log.open("rb") as log:
        log.seek(position)
        text = log.read().decode("utf-8", "replace")
    took_s, after = time.monotonic() - begun, _transactions(site)
    site.server.sql("ALTER SYSTEM SET log_statement = 'none'")
    site.server.sql("SELECT pg_reload_conf()")
    counted = {"airflow": 0, "heirflow": 0}
    for found in STATEMENT.finditer(text):
        who = found["who"]
        if who in {"psql", WATCHER}:
            continue
        counted["heirflow" if who.startswith("heirflow-") else "airflow"] += 1
    trees = [each for pid in pids for each in (pid, *descendants(pid))]
    return Cost(
        {who: count / took_s for who, count in counted.items()},
        (after - before - len(sessions)) / took_s,
        sum(sessions) / len(sessions),
        sum(_memory(pid, "Rss") for pid in trees),
        sum(_memory(pid, "Pss") for pid in trees),
    )


def _transactions(site: Site) -> int:
    time.sleep(1.5)  # the server gathers its statistics at most once a second
    rows: Any = site.ask("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'heirflow'")
    return int(rows[0][0])


def _memory(pid: int, what: str) -> float:
    with suppress(OSError):
        return memory_mb(pid, what)
    return 0.0
