"""Every safety line has a mutant that the simulation catches within 300 worlds. A surviving mutant fails the build."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heirflow.election import line
from lab.sim.hunting import DoesNotApply, Mutant, Patch, hunt, patched
from lab.sim.mutants import MUTANTS
from lab.sim.promises import PROMISES

WORLDS_AT_MOST = 300


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulation_catches_every_mutant(mutant: Mutant) -> None:
    hunted = hunt(mutant, WORLDS_AT_MOST)
    assert hunted.caught is not None, f"{mutant.name}: {hunted}"
    print(hunted)


def test_a_mutant_that_breaks_something_else_is_not_caught_and_told() -> None:
    hasty = next(mutant for mutant in MUTANTS if mutant.name == "an heir waits 0.6 ttl")
    hunted = hunt(replace(hasty, breaks="explains itself"), 30)
    assert hunted.caught is None
    assert "broke 'a silent leader has its whole lease' instead, the first with seed" in str(hunted)


WITHOUT_A_MUTANT = {
    "a leader's end comes first": "clocks beyond the budget break it: test_worlds",
    "time passes": "an assertion of the agenda: what spins is caught by a judge before",
    "no broken rule": "an assertion of the rules, which no judge made",
}


def test_every_promise_has_a_mutant_that_breaks_it() -> None:
    broken: set[str] = set()
    for mutant in MUTANTS:
        broken.update([mutant.breaks] if isinstance(mutant.breaks, str) else mutant.breaks)
    assert set(PROMISES) - broken == set(WITHOUT_A_MUTANT)


def test_a_mutant_whose_words_are_gone_fails_loudly() -> None:
    with pytest.raises(DoesNotApply, match="0 times"), patched([Patch(line, "over_at", "no such words", "")]):
        pass


def test_a_mutant_leaves_nothing_behind() -> None:
    healthy = line.over_at
    with patched([Patch(line, "over_at", "seat.watch_since + ttl_s", "0.0")]):
        assert line.over_at is not healthy
    assert line.over_at is healthy
