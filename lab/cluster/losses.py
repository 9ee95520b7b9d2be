"""What a cluster may lose, how each is lost, and how it comes back.

A loss is a context manager: entering it loses the part, leaving it brings it back. What a service manager would start again at once
is held dead meanwhile, as when its host's disk or memory is gone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from lab.cluster.cluster import HOSTS, Cluster
from lab.cluster.parts import ProgramPart, cut_off, power_off, power_on
from lab.servers.server import ServerTrouble

QUEUE = "default"
"""Of Airflow's tasks."""
TTL_S = 20.0
"""Patroni's."""
HOLD_S = 8.0
LEASE_S = 10.0
"""Of a seat."""
Lost = Callable[[Cluster, random.Random], AbstractContextManager[str]]
"""Gives what was lost, in half a sentence."""


class NotNow(RuntimeError):
    """The cluster has nothing of that kind to lose."""


def _part(kind: str) -> Lost:
    """One of its kind, on any host, dies and stays dead for a while."""

    @contextmanager
    def lost(cluster: Cluster, chance: random.Random) -> Iterator[str]:
        hosts = cluster.having(kind)
        if len(hosts) < 2:
            raise NotNow(f"there is only one {kind}")
        with _dead(cluster, kind, chance.choice(hosts)) as what:
            yield what

    return lost


@contextmanager
def _dead(cluster: Cluster, kind: str, host: str) -> Iterator[str]:
    part = cluster.part(kind, host)
    part.lose()
    try:
        yield part.name
    finally:
        part.up()


def _database(cluster: Cluster) -> tuple[str, str]:
    """The hosts of primary and replica."""
    primary, replica = cluster.database.primary(), cluster.database.replica()
    if primary is None or replica is None:
        raise NotNow("there is no pair of PostgreSQL now")
    return primary.name, replica.name


@contextmanager
def _primary_killed(cluster: Cluster, _chance: random.Random) -> Iterator[str]:
    with _dead(cluster, "PostgreSQL", _database(cluster)[0]) as what:
        yield f"{what}, the primary"


@contextmanager
def _primary_frozen(cluster: Cluster, _chance: random.Random) -> Iterator[str]:
    part = cluster.part("PostgreSQL", _database(cluster)[0])
    part.freeze()
    try:
        yield f"{part.name}, the primary (frozen)"
    finally:
        part.thaw()


@contextmanager
def _replica(cluster: Cluster, _chance: random.Random) -> Iterator[str]:
    with _dead(cluster, "PostgreSQL", _database(cluster)[1]) as what:
        yield f"{what}, the replica"


@contextmanager
def _switchover(cluster: Cluster, _chance: random.Random) -> Iterator[str]:
    before, after = _database(cluster)
    cluster.database.switchover()
    yield f"the primary goes from {before} to {after}"


def _etcd(*, leader: bool) -> Lost:
    @contextmanager
    def lost(cluster: Cluster, chance: random.Random) -> Iterator[str]:
        hosts = [host for host, server in cluster.etcd.items() if server.leads is leader]
        if len(cluster.etcd) < 3 or not hosts:
            raise NotNow("there is no etcd to spare")
        with _dead(cluster, "etcd", chance.choice(hosts)) as what:
            yield what + (", its leader" if leader else "")

    return lost


@contextmanager
def _queue_leader(cluster: Cluster, _chance: random.Random) -> Iterator[str]:
    node = None if cluster.brokers is None else cluster.brokers.leader_of(QUEUE)
    if node is None or len(cluster.having("RabbitMQ")) < 3:
        raise NotNow("the queue of the tasks has no leader to spare")
    with _dead(cluster, "RabbitMQ", node.name) as what:
        yield f"{what}, the leader of the queue"


@contextmanager
def _entry(cluster: Cluster, _chance: random.Random) -> Iterator[str]:
    """The HAProxy that people's address leads to."""
    host = cluster.carrier()
    if host is None:
        raise NotNow("nobody carries the address")
    with _dead(cluster, "HAProxy", host) as what:
        yield f"{what}, behind the address"


def _leading(cluster: Cluster, chance: random.Random) -> str:
    leaders = cluster.leaders("scheduler")
    if not leaders:
        raise NotNow("no scheduler leads")
    return chance.choice(leaders)


@contextmanager
def _seat(cluster: Cluster, chance: random.Random) -> Iterator[str]:
    """The member of a leader dies; its guard ends the scheduler, proves that, and releases the seat."""
    part = cluster.part("scheduler", _leading(cluster, chance))
    assert isinstance(part, ProgramPart)
    part.behead()
    try:
        yield f"{part.name}, which leads a seat"
    finally:
        part.up()


@contextmanager
def _seat_and_guard(cluster: Cluster, chance: random.Random) -> Iterator[str]:
    """Nobody is left who could prove anything: the seat is free when its lease is over."""
    with _dead(cluster, "scheduler", _leading(cluster, chance)) as what:
        yield f"{what}, which leads a seat, and its guard"


@contextmanager
def _host(cluster: Cluster, chance: random.Random) -> Iterator[str]:
    host = cluster.hosts[chance.choice(HOSTS)]
    what = f"{host.name} with all its {len(host.parts)} parts{_weight(cluster, host.name)}"
    power_off(cluster.ground, host)
    try:
        yield what
    finally:
        power_on(cluster.ground, host)


@contextmanager
def _cut(cluster: Cluster, chance: random.Random) -> Iterator[str]:
    host = cluster.hosts[chance.choice(HOSTS)]
    what = f"{host.name} is cut off, and lives{_weight(cluster, host.name)}"
    with cut_off(cluster.ground, host):
        yield what


def _weight(cluster: Cluster, host: str) -> str:
    primary = cluster.database.primary()
    return " (the primary is there)" if primary is not None and primary.name == host else ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of loss."""

    name: str
    lost: Lost
    limit_s: float
    """Within which tasks start again, and people's address answers."""
    needs: str = ""
    """Of `cluster.PARTS`, what must be there more than once; empty: nothing."""
    takes: frozenset[str] = frozenset()
    """What must not be lost beside it: two of one kind."""
    hold_s: float = HOLD_S
    """How long it stays lost; longer than it takes the others to notice."""


def _kind(name: str, lost: Lost, limit_s: float, needs: str, takes: str, hold_s: float = HOLD_S) -> Kind:
    return Kind(name, lost, limit_s, needs, frozenset(takes.split()), hold_s)


KINDS = (
    _kind("scheduler's seat", _seat, 1.0, "", "scheduler"),
    _kind("seat and guard", _seat_and_guard, LEASE_S + 2, "", "scheduler", LEASE_S + 5),
    _kind("primary killed", _primary_killed, TTL_S + 5, "patroni", "database etcd", TTL_S + 10),
    _kind("primary frozen", _primary_frozen, TTL_S + 5, "patroni", "database etcd", TTL_S + 10),
    _kind("replica lost", _replica, 5.0, "patroni", "database"),
    _kind("database switchover", _switchover, 8.0, "patroni", "database etcd"),
    _kind("etcd", _etcd(leader=False), 5.0, "patroni", "etcd"),
    _kind("etcd's leader", _etcd(leader=True), 5.0, "patroni", "etcd database"),
    _kind("queue's leader", _queue_leader, 15.0, "rabbitmq", "broker"),
    _kind("API server", _part("API server"), 5.0, "api", "api"),
    _kind("people's entry", _entry, 5.0, "", "api"),
    _kind("worker", _part("worker"), 5.0, "workers", "worker"),
    _kind("host cut off", _cut, TTL_S + 10, "patroni", "database etcd broker api worker scheduler", TTL_S + 10),
    _kind("host lost", _host, TTL_S + 10, "patroni", "database etcd broker api worker scheduler", TTL_S + 10),
)  # fmt: skip


def plan(
    seed: int, count: int, parts: Sequence[str], *, only: str | None = None, twice: bool = True
) -> list[tuple[Kind, ...]]:
    """So many losses: every kind as often as the others, in an order that the seed decides; at the end some two at once.

    `only`: the beginning of a kind's name, or several by commas. `twice`: whether there are such that come two at once.
    """
    chance = random.Random(seed)
    wanted = only.split(",") if only else [""]
    kinds = [
        kind for kind in KINDS
        if (not kind.needs or kind.needs in parts) and any(kind.name.startswith(each) for each in wanted)
    ]  # fmt: skip
    if not kinds:
        return []
    both = [(one, other) for one in kinds for other in kinds if one.name < other.name and not one.takes & other.takes]
    pairs = count // 6 if twice and both and not only else 0
    singles = [kinds[number % len(kinds)] for number in range(count - pairs)]
    chance.shuffle(singles)
    return [(kind,) for kind in singles] + [chance.choice(both) for _ in range(pairs)]


@contextmanager
def inflict(cluster: Cluster, kinds: Sequence[Kind], chance: random.Random) -> Iterator[str]:
    """Lose all of them at once. Raises `NotNow` before anything is lost, or `ServerTrouble`."""
    with ExitStack() as undo:
        try:
            told = [undo.enter_context(kind.lost(cluster, chance)) for kind in kinds]
        except ServerTrouble as error:
            raise NotNow(str(error).splitlines()[0]) from error
        yield "; ".join(told)
