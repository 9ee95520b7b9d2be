"""The simulation itself: a thousand worlds are clean, the same seed is the same world, and what must be red is red."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from lab.sim import acts, scenes, sim
from lab.sim.faults import KINDS
from lab.sim.shrink import shrink
from lab.sim.sim import Tally, explain, play, play_many
from lab.sim.world import Verdict, World

WORLDS = int(os.environ.get("HEIRFLOW_TEST_WORLDS", "1000"))


@pytest.mark.slow
@pytest.mark.timeout(900)  # 20 s on two idle processors; other tests and builds may share them
def test_a_thousand_worlds_keep_every_promise() -> None:
    tally = Tally()
    for verdict in play_many(range(WORLDS)):
        tally.add(verdict)
    print(tally)
    assert not tally.red, "\n\n".join(explain(verdict.seed) for verdict in tally.red[:2])
    # A world in which nothing happens proves nothing.
    assert tally.changes > 2 * WORLDS
    assert tally.void > 0
    assert not tally.idle, tally


def test_a_run_in_which_nobody_had_to_lead_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    idle, busy = (Verdict(0, None, "", 0, 5, False, 60.0, unjudged=why) for why in ("nobody is able to lead", ""))
    monkeypatch.setattr(sim, "play_many", lambda seeds, **_: [idle] * 60 + [busy] * (len(seeds) - 60))
    assert sim.main(["--worlds", "600"]) == 1
    assert "60 ended with nobody who had to lead" in capsys.readouterr().out
    assert sim.main(["--worlds", "2000"]) == 0


@pytest.mark.parametrize("seed", range(60))
def test_in_quiet_worlds_the_line_is_in_order(seed: int) -> None:
    verdict = scenes.quiet(seed)
    assert verdict.promise is None, f"{verdict.promise}: {verdict.sentence}"


@pytest.mark.parametrize("seed", range(20))
def test_an_order_outlives_a_leader_that_is_killed_before_it_obeys(seed: int) -> None:
    verdict = scenes.order_outlives_its_leader(seed)
    assert verdict.promise is None, f"{verdict.promise}: {verdict.sentence}"


@pytest.mark.parametrize("seed", range(20))
def test_an_heir_that_checks_in_rarely_is_handed_the_lead(seed: int) -> None:
    verdict = scenes.a_quick_leader_has_a_slow_heir(seed)
    assert verdict.promise is None, f"{verdict.promise}: {verdict.sentence}"


def test_every_kind_of_fault_happens_within_a_thousand_worlds() -> None:
    met = Counter(fault.kind for seed in range(300) for fault in World(seed).faults)
    assert not [kind for kind in KINDS if met[kind] < 20]


@pytest.mark.parametrize(
    ("seed", "wrong_verdict"),
    [
        (102292, "an operator ordered twelve switchovers within half a second, and that was called a hot loop"),
        (102901, "a thawed leader, paused, stopped its unwell command whose lease was over: called a change of place"),
        (102988, "the same, of a probe that failed"),
        (
            105937,
            "an heir that checks in half as often is stale to the leader at times: only the leader's view was asked",
        ),
        (108910, "the same, with two members"),
    ],
)
def test_what_the_judge_once_got_wrong(seed: int, wrong_verdict: str) -> None:
    assert play(seed).promise is None, wrong_verdict


def test_the_same_seed_is_the_same_world() -> None:
    one, other = World(7), World(7)
    assert acts.run(one) == acts.run(other)
    assert one.transcript == other.transcript


def test_clocks_beyond_the_budget_turn_red() -> None:
    promises = set()
    for seed in range(120):
        verdict = play(seed, drift=4.0)
        promises.add(verdict.promise)
        if verdict.promise in {"never two", "a leader's end comes first"}:
            break
    assert promises & {"never two", "a leader's end comes first"}


def test_a_red_world_becomes_a_short_story_that_can_be_played_again() -> None:
    seed = next(seed for seed in range(200) if play(seed, drift=4.0).promise == "a leader's end comes first")
    whole = World(seed, drift=4.0)

    def make(keep: object, hosts: int | None) -> World:
        return World(seed, drift=4.0, keep=keep, hosts=hosts)  # type: ignore[arg-type]

    world, verdict = shrink(make, "a leader's end comes first")
    assert verdict.promise == "a leader's end comes first"
    assert len(world.faults) < len(whole.faults)
    kept = [fault.number for fault in world.faults]
    again = World(seed, drift=4.0, keep=kept, hosts=world.standing)
    assert acts.run(again).promise == verdict.promise
    told = explain(seed, drift=4.0)
    assert f"make sim WORLDS=1 SEED={seed}" in told
    assert "took charge for term" in told
