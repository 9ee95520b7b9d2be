"""Faults of an ensemble of three servers: one of them, its leader ("the first"), two of three, all, and their disks.

*Parted* is the stale leader of a minority: the other two do not hear it and it does not hear them, and members reach it still.
*Deaf* hears nobody and is heard, *mute* the reverse.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from lab.campaign.coordinators import SERVERS
from lab.campaign.plan import ONE_IN_REACH, Fault
from lab.campaign.stage import NotNow, Stage, Strike

Choice = Callable[[Stage, Fault], Sequence[str]]
Way = Callable[[Stage, Fault, Sequence[str]], contextlib.AbstractContextManager[None]]


def _leader(stage: Stage) -> str:
    found = stage.coordinator.leader()
    if found is None:
        raise NotNow("the ensemble has no leader now")
    return found


def _follower(stage: Stage, fault: Fault) -> Sequence[str]:
    leader = _leader(stage)
    followers = [host for host in SERVERS if host != leader]
    return [followers[abs(fault.amount) % 2]]


def _first(stage: Stage, _fault: Fault) -> Sequence[str]:
    return [_leader(stage)]


def _two(_stage: Stage, fault: Fault) -> Sequence[str]:
    return [host for number, host in enumerate(SERVERS) if number != abs(fault.amount) % 3]


def _all(_stage: Stage, _fault: Fault) -> Sequence[str]:
    return SERVERS


def _on(
    choice: Choice, way: Callable[[Stage, Fault, Sequence[str]], contextlib.AbstractContextManager[None]]
) -> Strike:
    @contextlib.contextmanager
    def struck(stage: Stage, fault: Fault, _host: str) -> Iterator[None]:
        hosts = choice(stage, fault)
        stage.tell(f"{fault.kind.name}: {', '.join(hosts)}")
        with way(stage, fault, hosts):
            yield

    return struck


@contextlib.contextmanager
def _killed(stage: Stage, _fault: Fault, hosts: Sequence[str]) -> Iterator[None]:
    servers = [stage.coordinator.servers[host] for host in hosts]
    for server in servers:
        server.freeze()  # all of them before any can react
    for server in servers:
        server.crash()
    yield
    stage.coordinator.start(hosts)


@contextlib.contextmanager
def _frozen(stage: Stage, _fault: Fault, hosts: Sequence[str]) -> Iterator[None]:
    servers = [stage.coordinator.servers[host] for host in hosts]
    for server in servers:
        server.freeze()
    try:
        yield
    finally:
        for server in servers:
            server.thaw()


def _cut(*, sent: bool = True, received: bool = True) -> Way:
    @contextlib.contextmanager
    def cut(stage: Stage, _fault: Fault, hosts: Sequence[str]) -> Iterator[None]:
        cables = [stage.ground.cables[host] for host in hosts]
        for cable in cables:
            cable.drop_from, cable.drop_to = sent, received
        stage.ground.apply()
        try:
            yield
        finally:
            for cable in cables:
                cable.drop_from = cable.drop_to = False
            stage.ground.apply()

    return cut


@contextlib.contextmanager
def _severed(stage: Stage, pairs: set[tuple[str, str]]) -> Iterator[None]:
    both = pairs | {(there, here) for here, there in pairs}
    stage.ground.severed |= both
    stage.ground.apply()
    try:
        yield
    finally:
        stage.ground.severed -= both
        stage.ground.apply()


def _parted(stage: Stage, _fault: Fault, hosts: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    return _severed(stage, {(host, other) for host in hosts for other in SERVERS if other not in hosts})


def _one_in_reach(stage: Stage, fault: Fault, host: str) -> contextlib.AbstractContextManager[None]:
    """A member's host reaches one of the servers only, and desks and other members as before."""
    reached = SERVERS[abs(fault.amount) % 3]
    stage.tell(f"{host} reaches {reached} only")
    return _severed(stage, {(host, server) for server in SERVERS if server != reached})


@contextlib.contextmanager
def _in_turn(stage: Stage, _fault: Fault, hosts: Sequence[str]) -> Iterator[None]:
    """As when a new version is rolled out: each is stopped in good order and started, and then the next."""
    for host in hosts:
        stage.coordinator.servers[host].stop()
        stage.coordinator.start([host])
        stage.coordinator.whole()
    yield


@contextlib.contextmanager
def _slow_disk(stage: Stage, fault: Fault, hosts: Sequence[str]) -> Iterator[None]:
    disks = stage.coordinator.disks
    if disks.program is None:
        raise NotNow("there is no C compiler or no seccomp here, which slow disks need")
    delay_ms = 20 + abs(fault.amount) % 600
    for host in hosts:
        disks.slow(host, delay_ms)
    try:
        yield
    finally:
        for host in hosts:
            disks.slow(host, 0)


@contextlib.contextmanager
def _jump(stage: Stage, fault: Fault, hosts: Sequence[str]) -> Iterator[None]:
    if stage.clocks.library is None:
        raise NotNow("there is no C compiler here, which clocks that jump need")
    for host in hosts:
        stage.clocks.jump(host, fault.amount)
    try:
        yield
    finally:
        for host in hosts:
            stage.clocks.jump(host, 0)


ENSEMBLES: dict[str, Strike] = {
    "server killed": _on(_follower, _killed),
    "server frozen": _on(_follower, _frozen),
    "server cut off": _on(_follower, _cut()),
    "first server killed": _on(_first, _killed),
    "first server frozen": _on(_first, _frozen),
    "first server cut off": _on(_first, _cut()),
    "first server deaf": _on(_first, _cut(sent=False)),
    "first server mute": _on(_first, _cut(received=False)),
    "first server parted": _on(_first, _parted),
    "two servers killed": _on(_two, _killed),
    "two servers frozen": _on(_two, _frozen),
    "two servers cut off": _on(_two, _cut()),
    "all servers killed": _on(_all, _killed),
    "servers in turn": _on(_all, _in_turn),
    "slow disk": _on(_follower, _slow_disk),
    "slow disk of the first": _on(_first, _slow_disk),
    "slow disks": _on(_all, _slow_disk),
    ONE_IN_REACH: _one_in_reach,
    "clock of the first server": _on(_first, _jump),
}
