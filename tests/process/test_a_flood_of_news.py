"""Any role that may connect can send notifications without end: a line neither grows nor works much more for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from lab.rig.rig import Rig
from lab.servers.servers import Server

FLOOD_S = 4.0
STRANGE = 100_000
"""Notifications about no election at all."""
GROWS_AT_MOST_KB = 60_000
"""They took more than 100 MB before they were dropped; usually it is 7 MB, and on a starved machine 36 MB were seen."""
EXCHANGES_A_SECOND = 10
"""By one member: five that news causes, its check-ins (ttl 3 s: every 0.6 s), and what a busy machine may add."""


def test_a_stranger_with_notifications_costs_a_line_little(
    new_database: Callable[[str], str], postgres: Server, tmp_path: Path
) -> None:
    url = new_database("psycopg")
    database, role = url.rpartition("/")[2], "stranger_of_the_news"
    postgres.sql(f"CREATE ROLE {role} LOGIN PASSWORD '{postgres.password}'")
    place = postgres.url("", user=role, database=database)
    with Rig(url, tmp_path) as rig, psycopg.connect(place, autocommit=True) as stranger:
        members = [rig.add("ada"), rig.add("ben")]
        leader = rig.wait_for_line(2)
        before, checked_in = [member.rss_kb()["member"] for member in members], updates(postgres, database)
        began_at, sent = time.monotonic(), 0
        ends_at = began_at + FLOOD_S
        while time.monotonic() < ends_at:  # their own election, two hundred times a second
            stranger.execute("SELECT pg_notify('heirflow', %s)", [rig.election])
            time.sleep(0.005)
        for _ in range(STRANGE // 1000):
            sent += 1000
            stranger.execute(
                f"SELECT count(pg_notify('heirflow', repeat('x', 900) || n)) FROM generate_series({sent}, {sent + 999}) n"
            )
        time.sleep(2)  # the server counts late
        did, lasted_s = updates(postgres, database) - checked_in, time.monotonic() - began_at
        grown = [member.rss_kb()["member"] - kb for member, kb in zip(members, before, strict=True)]
        print(f"{sent} notifications, {did} check-ins, grown by {grown} kB")
        assert max(grown) < GROWS_AT_MOST_KB
        assert did < len(members) * EXCHANGES_A_SECOND * lasted_s
        assert leader.ask() and leader.ask()["leader"], "the line has not changed"


def updates(server: Server, database: str) -> int:
    """How often check-ins have written, by the server's own count."""
    found = server.sql("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'heirflow_member'", database=database)
    return int(found or 0)
