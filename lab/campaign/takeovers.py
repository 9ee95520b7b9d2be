"""Faults of a Patroni pair and of its etcd.

Most of them last until the pair takes writes again, be it that the other node has taken over. From the phase ``lost`` on nobody can
renew. The primary is *parted* when it is cut from etcd and its replica while members reach it still: the likeliest way to two
primaries, so it must have stepped down before the other one leads. *Deaf* hears nobody and is heard, *mute* the reverse.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from lab.campaign.coordinators import SERVERS
from lab.campaign.ensembles import _cut, _first, _follower, _frozen, _killed, _on, _severed, _two
from lab.campaign.failovers import _leads, _place
from lab.campaign.pair import Pair
from lab.campaign.plan import Fault
from lab.campaign.stage import Stage, Strike
from lab.servers.server import ServerTrouble

Way = Callable[[Stage, Fault, str], contextlib.AbstractContextManager[None]]
"""Strikes a node of the pair, by its host, and heals it."""


def _primary(way: Way, *, lost: bool = True, taken_over: bool = True) -> Strike:
    """`lost`: at once. `taken_over`: by the other node, else the same one may come back."""

    @contextlib.contextmanager
    def struck(stage: Stage, fault: Fault, _host: str) -> Iterator[None]:
        pair, host = stage.pair, stage.pair.host
        old = pair.nodes[host]
        with way(stage, fault, host):
            if lost:
                stage.phase("lost", fault, host)
            pair.takes_writes(but_not=old if taken_over else None)
            if taken_over and old.role() == "primary":
                raise ServerTrouble(f"both are primaries:\n{old.log_end()}")
            yield

    return struck


def _replica(way: Way) -> Strike:
    """A primary whose synchronous replica is gone confirms nothing, until Patroni lets it go on alone."""

    @contextlib.contextmanager
    def struck(stage: Stage, fault: Fault, _host: str) -> Iterator[None]:
        with way(stage, fault, stage.pair.standby_host):
            stage.pair.takes_writes()
            yield

    return struck


@contextlib.contextmanager
def _patroni_gone(stage: Stage, fault: Fault, host: str) -> Iterator[None]:
    """The other node takes over, and this one's PostgreSQL lives on. The leader keeps to it, and the others reach the new one only.

    A synchronous one confirms nothing any more. An asynchronous one does: two databases, of which no member can see both.
    """
    pair, old = stage.pair, stage.pair.primary
    others = [one for one in stage.ground.cables if _place(stage, one) is not None and not _leads(stage, one)]
    with _patroni_killed(stage, fault, host), _severed(stage, {(one, pair.host) for one in others}):
        pair.takes_writes(but_not=old)
        yield


def _etcd_away(strike: Strike) -> Strike:
    """Without most of etcd there can be no primary: after a while there is none."""

    @contextlib.contextmanager
    def struck(stage: Stage, fault: Fault, host: str) -> Iterator[None]:
        with strike(stage, fault, host):
            stage.pair.nobody_is_primary()
            stage.phase("lost", fault, host)
            yield

    return struck


# ---- ways -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _node_killed(stage: Stage, _fault: Fault, host: str) -> Iterator[None]:
    node = stage.pair.nodes[host]
    node.freeze()  # all of it before any can react
    node.crash()
    try:
        yield
    finally:
        node.start()


@contextlib.contextmanager
def _node_frozen(stage: Stage, _fault: Fault, host: str) -> Iterator[None]:
    node = stage.pair.nodes[host]
    node.freeze()
    try:
        yield
    finally:
        node.thaw()


@contextlib.contextmanager
def _node_stopped(stage: Stage, _fault: Fault, host: str) -> Iterator[None]:
    node = stage.pair.nodes[host]
    node.stop()
    try:
        yield
    finally:
        node.start()


@contextlib.contextmanager
def _postgres_killed(stage: Stage, _fault: Fault, host: str) -> Iterator[None]:
    stage.pair.nodes[host].crash_postgres()
    yield


@contextlib.contextmanager
def _patroni_killed(stage: Stage, _fault: Fault, _host: str) -> Iterator[None]:
    node = stage.pair.primary
    node.crash_patroni()
    try:
        yield
    finally:
        node.start()


def _host_cut(*, sent: bool = True, received: bool = True) -> Way:
    cut = _cut(sent=sent, received=received)
    return lambda stage, fault, host: cut(stage, fault, [host])


def _without_etcd(stage: Stage, _fault: Fault, host: str) -> contextlib.AbstractContextManager[None]:
    return _severed(stage, {(host, server) for server in SERVERS})


def _parted(stage: Stage, _fault: Fault, host: str) -> contextlib.AbstractContextManager[None]:
    pair: Pair = stage.pair
    return _severed(stage, {(host, other) for other in (*SERVERS, *pair.nodes) if other != host})


@contextlib.contextmanager
def _handed_over(stage: Stage, _fault: Fault, _host: str) -> Iterator[None]:
    stage.pair.cluster.switchover()
    yield


TAKEOVERS: dict[str, Strike] = {
    "primary killed": _primary(_node_killed),
    "primary frozen": _primary(_node_frozen),
    "primary stopped": _primary(_node_stopped),
    "primary cut off": _primary(_host_cut()),
    "primary deaf": _primary(_host_cut(sent=False)),
    "primary mute": _primary(_host_cut(received=False)),
    "primary without etcd": _primary(_without_etcd, lost=False),
    "primary parted": _primary(_parted, lost=False),
    "primary handed over": _primary(_handed_over, lost=False),
    "postgres killed": _primary(_postgres_killed, lost=False, taken_over=False),
    "patroni killed": _patroni_killed,
    "patroni gone": _patroni_gone,
    "replica killed": _replica(_node_killed),
    "replica frozen": _replica(_node_frozen),
    "replica cut off": _replica(_host_cut()),
    "etcd killed": _on(_follower, _killed),
    "etcd frozen": _on(_follower, _frozen),
    "first etcd killed": _on(_first, _killed),
    "first etcd frozen": _on(_first, _frozen),
    "first etcd cut off": _on(_first, _cut()),
    "two etcd killed": _etcd_away(_on(_two, _killed)),
    "two etcd frozen": _etcd_away(_on(_two, _frozen)),
    "two etcd cut off": _etcd_away(_on(_two, _cut())),
}
