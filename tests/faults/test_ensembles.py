"""Ensembles of three: the same faults of processes, and servers that are gone: one, the one that leads, and most of them.

While most of the servers live nobody's command ends. When they do not, nobody can renew: the command is dead in time, and the line
is whole again once they are back.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab.rig.rig import now_s
from lab.servers import outages
from lab.servers.etcd import etcd_ensemble, url_of
from lab.servers.zookeeper import zookeeper_ensemble
from tests.faults.campaign import Campaign, Case, Run
from tests.faults.conftest import OWN, SHARED
from tests.faults.scene import Scene, scene
from tests.faults.test_outages import Stage, lasting
from tests.faults.test_processes import ALL_KILLED, FROZEN, KILLED, ORDERLY, Fault, carry_out

TTL_S = 10.0
"""Long enough for an ensemble to choose another leader meanwhile."""
MEMBER_KILLED = Fault(("member",))


def a_server_is_gone(stage: Stage, *, leader: bool, frozen: bool = False) -> Run:
    """Nobody's command ends; and with one server less a fault of a process is what it is with all."""
    play, servers, run = stage.play, list(stage.database), Run()
    play.fill()
    _, before = play.whole()
    leads = outages.wait_for_leading(servers)
    victim = leads if leader else next(each for each in servers if each is not leads)
    at = now_s()
    victim.freeze() if frozen else victim.crash()
    left = [each for each in servers if each is not victim]
    outages.wait_for_leading(left)
    chosen_s = now_s() - at
    play.wait_until(at + play.timings.trust_s + play.timings.check_in_s)
    _, now = play.whole()
    # As in `test_outages.passing`: a machine that is too busy to choose another leader in time is no fault of ours.
    survived_s = play.timings.trust_s - 2 * play.timings.check_in_s - play.timings.call_limit_s
    if now.path != before.path and chosen_s <= survived_s:
        run.wrong.append(
            f"a server that is gone, and a leader of the others after {chosen_s:.2f} s, ended {before.path.name}\n{play.story()}"
        )
    play.judge(now, run)
    heir = carry_out(play, MEMBER_KILLED)
    run.gap_s, run.late = heir.gap_s, heir.late
    run.overlaps += heir.overlaps
    run.orphans += heir.orphans
    run.wrong += heir.wrong
    victim.thaw() if frozen else victim.start()
    outages.wait_for_leading(servers)
    return run


# ---- the lanes ------------------------------------------------------------------------------------------------------

_numbers = itertools.count()


@contextlib.contextmanager
def open_stage(kind: str) -> Iterator[Stage]:
    """An ensemble of its own, and three members."""
    folder = Path(SHARED["folder"], f"three-{next(_numbers)}")
    if kind == "etcd":
        with etcd_ensemble(3) as servers, opened(url_of(servers), folder) as play:
            yield Stage(play, tuple(servers))
    else:
        with zookeeper_ensemble(3) as ensemble, opened(ensemble.url, folder) as play:
            yield Stage(play, ensemble.servers)


def opened(url: str, folder: Path) -> contextlib.AbstractContextManager[Scene]:
    return scene(url, folder, ttl_s=TTL_S)


def of_a_process(fault: Fault) -> Callable[[Any], Run]:
    return lambda stage: carry_out(stage.play, fault)


FAULTS: dict[str, Callable[[Any], Run]] = {
    **{str(fault): of_a_process(fault) for fault in (KILLED[0], KILLED[4], KILLED[6], *ORDERLY)},
    "a server killed": partial(a_server_is_gone, leader=False),
    "the ensemble's leader killed": partial(a_server_is_gone, leader=True),
    "the ensemble's leader frozen": partial(a_server_is_gone, leader=True, frozen=True),
    "two of three servers killed": partial(lasting, outage=outages.most_killed),
    **{str(fault): of_a_process(fault) for fault in (ALL_KILLED, FROZEN[-1])},
}


def cases() -> Iterator[Case]:
    for kind in OWN:
        for fault, run in FAULTS.items():
            yield Case(f"three-{kind}", fault, partial(open_stage, kind), run)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_an_ensemble(case: Case, campaign: Campaign) -> None:
    campaign.result(case, 7000)
