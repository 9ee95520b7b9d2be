"""Every safety line has a mutant that the simulation catches within 300 worlds. A surviving mutant fails the build."""

from __future__ import annotations

import pytest

from heirflow.election import line
from heirflow.testing.mutants import MUTANTS, DoesNotApply, Mutant, Patch, hunt, patched

WORLDS_AT_MOST = 300


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulation_catches_every_mutant(mutant: Mutant) -> None:
    caught = hunt(mutant, WORLDS_AT_MOST)
    assert caught is not None, f"{mutant.name}: survived {WORLDS_AT_MOST} worlds"
    count, verdict = caught
    print(f"caught in world {count}: {verdict.promise}: {verdict.sentence}")


def test_a_mutant_whose_words_are_gone_fails_loudly() -> None:
    with pytest.raises(DoesNotApply, match="0 times"), patched([Patch(line, "turn_at", "no such words", "")]):
        pass


def test_a_mutant_leaves_nothing_behind() -> None:
    healthy = line.turn_at
    with patched([Patch(line, "turn_at", "state.watch_since + ttl_s", "0.0")]):
        assert line.turn_at is not healthy
    assert line.turn_at is healthy
