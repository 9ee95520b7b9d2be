"""The database goes away and comes back. The command is dead before its lease ends; the line is whole again without help."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab.rig import written
from lab.rig.rig import Member, now_s
from lab.rig.written import Start
from lab.servers import outages
from lab.servers.consul_double import consul_double
from lab.servers.etcd import etcd_server
from lab.servers.mysql import mysql_missing, mysql_server
from lab.servers.outages import Outage
from lab.servers.servers import Server, mariadb_server, postgres_server
from lab.servers.zookeeper import zookeeper_server
from tests.faults.campaign import Campaign, Case, Run
from tests.faults.conftest import COORDINATORS, SHARED
from tests.faults.scene import NOISE_S, Scene, scene
from tests.promises import broken

TROUBLE = "cannot use the store"
SENTENCES_AT_MOST = {"leader": 6, "heir": 2}
"""How much a member may say while the database is out, however long that is."""


@dataclass(frozen=True)
class Stage:
    """Members, and the database that they use and nobody else does."""

    play: Scene
    database: Any
    """A `Server`, the servers of an ensemble, or the path of an SQLite file."""


def lasting(stage: Stage, *, outage: Outage, leader_dies: bool = False, for_all: bool = True) -> Run:
    """Out for longer than the lease. `for_all`: heirs cannot even look, and tell it."""
    play, timings, run = stage.play, stage.play.timings, Run()
    play.fill()
    leader, before = play.whole()
    whole = sizes(play)
    with outage(stage.database):
        out_at, out = now_s(), sizes(play)
        if leader_dies:
            leader.kill("member", "guard", "backstop")
            leader.process.wait()
        play.wait_for(lambda: not play.processes(before), broken("the command's end in time"), timings.ttl_s + NOISE_S)
        play.wait_until(out_at + timings.ttl_s + timings.check_in_s)
        if for_all:
            judge_sentences(play, leader, whole, out, run)
    back_at = now_s()
    promised_s = timings.ttl_s + 2 * timings.check_in_s
    size = 2 if leader_dies else 3
    _, after = play.whole(promised_s + 2 * NOISE_S, size=size)
    whole_s = now_s() - back_at
    run.late = whole_s > promised_s
    if whole_s > promised_s + NOISE_S:
        run.wrong.append(
            f"the line was whole {whole_s:.2f} s after the database's return, promised are {promised_s:.2f} s"
        )
    judge(play, before, after, out_at, run)
    return run


def passing(stage: Stage, *, outage: Outage, held_s: float = 0.0) -> Run:
    """Out for a shorter time than the leader's trust: nobody's command ends."""
    play, timings, run = stage.play, stage.play.timings, Run()
    _, before = play.whole()
    out_at = now_s()
    with outage(stage.database):
        play.wait_until(out_at + held_s)
    out_s = now_s() - out_at
    # One more trust: what began before the outage would have run out by then.
    play.wait_until(now_s() + timings.trust_s)
    _, now = play.whole()
    # Before it the last renewal may be a check-in old, and after it the next try may be as far away, and take a whole call.
    # A server that a busy machine restarts slowly may be out for longer: then its end is no fault.
    survived_s = timings.trust_s - 2 * timings.check_in_s - timings.call_limit_s
    if now.path != before.path and out_s <= survived_s:
        run.wrong.append(f"an outage of {out_s:.2f} s ended {before.path.name}; now there is {now.path.name}")
    run.gap_s = 0.0
    play.judge(now, run)
    return run


def judge(play: Scene, before: Start, after: Start, out_at: float, run: Run) -> None:
    """What the commands wrote, and who is left."""
    old = written.start_of(before.path)
    assert old is not None
    run.gap_s = after.from_s - old.to_s
    if old.to_s > out_at + play.timings.ttl_s:
        run.wrong.append(broken(f"the command wrote until {old.to_s - out_at:.2f} s after the database had gone"))
    play.judge(after, run)


def sizes(play: Scene) -> dict[str, int]:
    """How long each journal is."""
    return {host: member.log.stat().st_size for host, member in play.rig.members.items()}


def sentences(member: Member, read_from: int) -> list[str]:
    """What a member has said since its journal was that long."""
    lines = member.log.read_bytes()[read_from:].decode(errors="replace").splitlines()
    return [json.loads(line)["sentence"] for line in lines if line.startswith("{")]


def judge_sentences(play: Scene, leader: Member, whole: dict[str, int], out: dict[str, int], run: Run) -> None:
    """Each member has told the trouble, and from when the database was out not again, and little else."""
    for host, member in play.rig.members.items():
        if member.process.poll() is not None:
            continue
        said = sentences(member, out[host])
        troubles = [sentence for sentence in said if sentence.startswith(TROUBLE)]
        told = any(sentence.startswith(TROUBLE) for sentence in sentences(member, whole[host]))
        most = SENTENCES_AT_MOST["leader" if member is leader else "heir"]
        if not told or len(troubles) > 1 or len(said) > most:
            run.wrong.append(f"{host} told its trouble {len(troubles)} times, in {len(said)} sentences: {said}")


# ---- the lanes ------------------------------------------------------------------------------------------------------

_numbers = itertools.count()


SERVERS: dict[str, tuple[Callable[..., AbstractContextManager[Server]], str, str]] = {
    "postgres": (postgres_server, "max_connections", "psycopg"),
    "mariadb": (mariadb_server, "max-connections", "pymysql"),
    "mysql": (mysql_server, "max-connections", "pymysql"),
}
"""How each is made, its name for the limit of connections, and the driver that members use."""


def opener(kind: str, ttl_s: float) -> Callable[[], AbstractContextManager[Stage]]:
    """A database of its own, and three members."""

    @contextlib.contextmanager
    def open_stage() -> Iterator[Stage]:
        folder = Path(SHARED["folder"], f"outage-{next(_numbers)}")
        if kind == "sqlite":
            path = folder.with_suffix(".db")
            with scene(f"sqlite:///{path}", folder, ttl_s=ttl_s) as play:
                yield Stage(play, path)
            return
        if kind == "etcd":
            with etcd_server() as server, scene(server.store_url, folder, ttl_s=ttl_s) as play:
                yield Stage(play, server)
            return
        if kind == "zookeeper":
            with zookeeper_server() as ensemble, scene(ensemble.url, folder, ttl_s=ttl_s) as play:
                yield Stage(play, ensemble.server)
            return
        if kind == "consul":
            with consul_double() as double, scene(double.url, folder, ttl_s=ttl_s) as play:
                yield Stage(play, double)
            return
        making, setting, driver = SERVERS[kind]
        with making(settings={setting: "20"}) as server, scene(server.url(driver), folder, ttl_s=ttl_s) as play:
            yield Stage(play, server)

    return open_stage


LASTING: dict[str, Callable[[Any], Run]] = {
    "database down": partial(lasting, outage=outages.down),
    "database crashed": partial(lasting, outage=outages.crashed),
    "database frozen": partial(lasting, outage=outages.frozen),
    "database read-only": partial(lasting, outage=outages.read_only),
    "connections exhausted": partial(lasting, outage=outages.connections_exhausted),
    "record locked": partial(lasting, outage=outages.record_locked, for_all=False),
    "disk full": partial(lasting, outage=outages.disk_full),
    "database down and leader killed": partial(lasting, outage=outages.down, leader_dies=True),
}
PASSING: dict[str, Callable[[Any], Run]] = {
    "one slow call": partial(passing, outage=outages.frozen, held_s=3.6),
    "database restarted": partial(passing, outage=outages.restarted),
    "sessions ended": partial(passing, outage=outages.sessions_ended),
    "database crashed and back": partial(passing, outage=outages.crashed),
}
ON_A_FILE: dict[str, Callable[[Any], Run]] = {
    "file locked": partial(lasting, outage=outages.file_locked),
    "file away": partial(lasting, outage=outages.file_away),
}
BRIEFLY_ON_A_FILE = {"file locked briefly": partial(passing, outage=outages.file_locked, held_s=3.6)}
ON_A_REAL_MYSQL = ("database down", "database crashed", "database frozen", "database down and leader killed")
ON_A_COORDINATOR = ("database crashed", "database frozen", "database down and leader killed")
BRIEFLY_ON_A_COORDINATOR = ("one slow call", "database restarted", "database crashed and back")
LANES: list[tuple[str, float, dict[str, Callable[[Any], Run]]]] = [
    *((kind, 3.0, LASTING) for kind in ("postgres", "mariadb")),
    *((kind, 10.0, PASSING) for kind in ("postgres", "mariadb")),
    ("sqlite", 3.0, ON_A_FILE),
    ("sqlite", 10.0, BRIEFLY_ON_A_FILE),
    *((kind, 3.0, {name: LASTING[name] for name in ON_A_COORDINATOR}) for kind in COORDINATORS),
    *((kind, 10.0, {name: PASSING[name] for name in BRIEFLY_ON_A_COORDINATOR}) for kind in COORDINATORS),
    # Where there is none, these are not in the list; pytest's header says so.
    *([] if mysql_missing() else [("mysql", 3.0, {name: LASTING[name] for name in ON_A_REAL_MYSQL})]),
    *(
        []
        if mysql_missing()
        else [("mysql", 10.0, {name: PASSING[name] for name in ("one slow call", "database restarted")})]
    ),
]


def cases() -> Iterator[Case]:
    for kind, ttl_s, faults in LANES:
        open_stage = opener(kind, ttl_s)
        for fault, run in faults.items():
            yield Case(f"{kind}-{ttl_s:g}s", fault, open_stage, run)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_an_outage(case: Case, campaign: Campaign) -> None:
    campaign.result(case, 7000)
