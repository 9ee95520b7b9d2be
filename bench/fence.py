"""What fencing keeps out, and what it costs.

    python bench/fence.py                 all parts, few tries
    python bench/fence.py --tries 100     the thaw: a whole host frozen past its lease, 100 times for each way of fencing
    python bench/fence.py --only logins   only the cost of a login

Each part is measured on a server of its own, on this machine. In the thaw the frozen command is thawed *first*, then its
guard and member, and it writes rows as fast as it can; late is a row that was written after the heir had taken charge. With
the fence the guard waits, in every second try, until the command has been refused twice: otherwise it mostly comes first.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import sqlalchemy as sa

from heirflow.election.record import Exchange
from heirflow.stores import open_store
from heirflow.stores.sql import fence_login
from heirflow.stores.sql.schema import tables
from heirflow.testing.store_tools import take, who
from lab.rig.thaw import ThawScene
from lab.servers.servers import Server, mariadb_server, postgres_server

WAYS = {
    "lease only": "sessions that HeirFlow cannot tell (another name)",
    "sessions ended": "sessions named by PGAPPNAME, no login trigger",
    "fenced": "the same with `heirflow fence install`",
    "MariaDB, lease only": "nobody can tell sessions there",
    "MariaDB, holds": "each transaction ends with `Lead.hold`",
}
ALONE = {"fenced", "MariaDB, holds"}
"""Ways in which every second try leaves the guard stopped until the command has been refused twice."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--ttl", type=float, default=3.0)
    parser.add_argument("--logins", type=int, default=400)
    parser.add_argument("--renewals", type=int, default=2000)
    parser.add_argument("--only", choices=["logins", "renewals", "ending", "thaw"])
    parser.add_argument("--way", choices=list(WAYS), help="of the thaw: only this one")
    given = parser.parse_args()
    parts: dict[str, Callable[[Server, argparse.Namespace], None]] = {
        "logins": logins,
        "renewals": renewals,
        "ending": ending,
        "thaw": thaw,
    }
    with postgres_server(settings={"autovacuum": "off"}) as server:
        for name, part in parts.items():
            if given.only in {None, name}:
                part(server, given)


def fenced(server: Server, *, on: bool) -> None:
    address = sa.engine.make_url(server.url("psycopg")).set(username="postgres", password=server.password)
    engine = sa.create_engine(address, future=True)
    with engine.begin() as conn:
        if on:
            fence_login.install(conn, tables(None))
        else:
            fence_login.remove(conn)
    engine.dispose()


def logins(server: Server, given: argparse.Namespace) -> None:
    """With and without the trigger in turns, so that a noisy machine is equally unkind to both."""
    store = open_store(server.url("psycopg"), call_limit_s=5)
    store.open()
    store.exchange("e", Exchange(swap=take("a-1", 1, 1, expected=None, takes_over="")))
    store.exchange("e", Exchange(swap=take("b-2", 2, 2, expected=1, takes_over="")))
    store.close()
    took: dict[tuple[str, bool], list[float]] = {}
    cpu: dict[tuple[str, bool], float] = {}
    names = {"psql": "an ordinary login", "heirflow/b-2": "a login of the leader's command"}
    for turn in range(8):
        fenced(server, on=(on := turn % 2 == 1))
        for name in names:
            before_s = sessions_cpu_s(server)
            for _ in range(given.logins // 8):
                start = time.perf_counter()
                psycopg.connect(server.url(""), application_name=name).close()
                took.setdefault((name, on), []).append(time.perf_counter() - start)
            time.sleep(0.2)  # until the last session has ended
            cpu[name, on] = cpu.get((name, on), 0) + sessions_cpu_s(server) - before_s
    refused = []
    for _ in range(given.logins // 8):
        start = time.perf_counter()
        try:
            psycopg.connect(server.url(""), application_name="heirflow/a-1").close()
        except psycopg.OperationalError:
            refused.append(time.perf_counter() - start)
    print(f"logins over TCP with a password, {given.logins // 2} each way, in ms")
    for name, words in names.items():
        without, with_it = ms(took[name, False]), ms(took[name, True])
        print(f"  {words}: without {without:.2f}, with the trigger {with_it:.2f}: {with_it - without:+.2f} (medians)")
        used = [1000 * cpu[name, on] / (given.logins // 2) for on in (False, True)]
        print(f"    CPU of the server's process: {used[0]:.2f} and {used[1]:.2f}: {used[1] - used[0]:+.2f} (means)")
    print(
        f"  a login of an earlier leader: refused {len(refused)} of {given.logins // 8}, after {ms(refused):.2f} (median)"
    )
    fenced(server, on=False)


def renewals(server: Server, given: argparse.Namespace) -> None:
    """A leader's exchange with and without the look at sessions, in turns; 30 sessions are open."""
    url = server.url("psycopg")
    store = open_store(url, call_limit_s=5, application_name="member/b-2")
    store.open()
    others = [psycopg.connect(server.url(""), application_name="heirflow/b-2") for _ in range(30)]
    flavour = store._flavour  # type: ignore[attr-defined]
    look = flavour.fence
    took: dict[bool, list[float]] = {True: [], False: []}
    for number in range(given.renewals):
        on = number % 2 == 1
        flavour.fence = look if on else lambda *_, **__: ()
        swap = dataclasses.replace(take("b-2", 1, number + 1, expected=number or None, news=False), event=None)
        start = time.perf_counter()
        assert store.exchange("r", Exchange(who("b-2"), swap=swap)).swapped
        took[on].append(time.perf_counter() - start)
    store.close()
    for link in others:
        link.close()
    print(f"a renewal with 30 sessions open, {given.renewals // 2} each way, in ms (medians)")
    print(
        f"  without the look {ms(took[False]):.2f}, with it {ms(took[True]):.2f}: {ms(took[True]) - ms(took[False]):+.2f}"
    )


def ending(server: Server, _given: argparse.Namespace) -> None:
    """Taking charge while the predecessor has 10 sessions, against none."""
    store = open_store(server.url("psycopg"), call_limit_s=5)
    store.open()
    took: dict[int, list[float]] = {0: [], 10: []}
    for number in range(40):
        count = 10 * (number % 2)
        before, leader = f"m-{number}", f"m-{number + 1}"
        links = [psycopg.connect(server.url(""), application_name=f"heirflow/{before}") for _ in range(count)]
        swap = take(leader, number + 1, number + 1, expected=number or None, takes_over="")
        start = time.perf_counter()
        reading = store.exchange("t", Exchange(who(leader), swap=swap))
        took[count].append(time.perf_counter() - start)
        assert number == 0 or bool(reading.told) == bool(count), reading.told
        for link in links:
            link.close()
    store.close()
    print("taking charge, 20 each way, in ms (medians)")
    print(f"  nobody's sessions to end {ms(took[0]):.2f}; ten to end, and waited for: {ms(took[10]):.2f}")


def thaw(server: Server, given: argparse.Namespace) -> None:
    """The whole host frozen past its lease, and thawed."""
    print(f"a whole host frozen past its lease ({given.ttl:g} s) and thawed, {given.tries} tries each")
    for number, (way, words) in enumerate(WAYS.items()):
        if given.way not in {None, way}:
            continue
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as undo:
            if way.startswith("MariaDB"):
                url = undo.enter_context(mariadb_server()).url("pymysql")
            else:
                server.sql(f"CREATE DATABASE thaw_{number} OWNER heirflow")
                url = server.url("psycopg", database=f"thaw_{number}")
            untagged, holds = "somebody" if way == "lease only" else None, way == "MariaDB, holds"
            with ThawScene(url, Path(folder), name=untagged, holds=holds, ttl_s=given.ttl) as scene:
                scene.rig.wait_for_line(2, 40)
                if way == "fenced":
                    address = sa.engine.make_url(url).set(username="postgres", password=server.password)
                    with sa.create_engine(address, future=True).begin() as conn:
                        fence_login.install(conn, tables(None))
                tries = [
                    scene.once(random.Random(each), alone=way in ALONE and each % 2 == 0) for each in range(given.tries)
                ]
        late = [each for each in tries if each.late_rows]
        instants = [each.instant_s for each in (tries[1::2] if way in ALONE else tries)]
        print(
            f"  {way} ({words}): late writes in {len(late)} of {len(tries)} tries, {sum(each.late_rows for each in late)} rows"
            f" of {sum(each.rows for each in tries)}; the thawed command lived for {ms(instants):.1f} ms (median), "
            f"{1000 * max(instants, default=0):.0f} at most, beside its guard; it tried in vain in "
            f"{sum(each.failures > 0 for each in tries)} tries",
            flush=True,
        )


def sessions_cpu_s(server: Server) -> float:
    """What the ended sessions of a server have used."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def ms(seconds: list[float]) -> float:
    return 1000 * statistics.median(seconds) if seconds else float("nan")


if __name__ == "__main__":
    main()
