"""The judge of the fault laboratory where a Patroni pair holds the record: in time, dead in time, and what may be forgotten."""

from __future__ import annotations

import pytest

from lab.campaign import report
from lab.campaign.judging import BACK_LIMIT_S, Verdict, judge
from lab.campaign.ledger import Run
from lab.campaign.plan import TTL_S
from lab.campaign.taking_over import TAKEOVER_S
from lab.campaign.world import Mark
from tests.lab.test_judge import ALL, mark, run

LOST_S = 10.1


def lost(kind: str = "primary killed", *, taken_over_s: float = 32.0) -> list[Mark]:
    """A primary that goes at 10, and a pair that takes writes again later; the old node is back 12 s after that."""
    story = [(10, "begin", False), (LOST_S, "lost", False), (taken_over_s, "struck", True)]
    story += [(taken_over_s + 2, "healing", True), (taken_over_s + 12, "end", True)]
    return [mark(at_s, phase, kind, host="db1", database=there, able=ALL) for at_s, phase, there in story]


def judged(marks: list[Mark], runs: list[Run], world: str = "patroni", **facts: object) -> Verdict:
    return judge(world, [*marks, mark(90, "standing", number=0)], runs, **facts)  # type: ignore[arg-type]


def promises(verdict: Verdict) -> list[str]:
    return [red.promise for red in verdict.red]


def test_a_pair_is_given_its_time_and_the_members_theirs_from_then_on() -> None:
    for taken_over_s, back_s, broken in (
        (32.0, 35.0, []),
        (32.0, 32.0 + BACK_LIMIT_S + 0.1, ["back in time"]),
        (10 + TAKEOVER_S + 0.1, 40.0, ["taken over in time"]),
    ):
        runs = [run(1, "ada", 0, 12), run(2, "ben", back_s, 90)]
        assert promises(judged(lost(taken_over_s=taken_over_s), runs)) == broken


def test_without_a_primary_the_command_is_dead_a_ttl_later() -> None:
    dead_s = LOST_S + TTL_S
    assert promises(judged(lost(), [run(1, "ada", 0, dead_s - 0.1), run(2, "ben", 35, 90)])) == []
    assert promises(judged(lost(), [run(1, "ada", 0, dead_s + 0.1), run(2, "ben", 35, 90)])) == ["dead in time"]
    assert judged(lost(), [run(1, "ada", 0, 12), run(2, "ben", 35, 90)]).silences == 1


@pytest.mark.parametrize(("world", "broken"), [("patroni", ["lost event"]), ("patroni-async", [])])
def test_only_an_asynchronous_pair_may_forget(world: str, broken: list[str]) -> None:
    """A term that began as the primary was lost, of which nobody knows now."""
    runs = [run(1, "ada", 0, 10.05), run(2, "ben", 10.06, 12), run(2, "cleo", 35, 90)]
    took = {(1, "ada-1", 1), (2, "cleo-1", 1)}
    assert promises(judged(lost(), runs, world, took=took)) == broken


def test_the_summary_tells_how_long_the_pair_took() -> None:
    facts = report.summary([judged(lost(), [run(1, "ada", 0, 12), run(2, "ben", 35, 90)])], [], seed=0)
    assert facts["takeovers"] == {"limit_s": TAKEOVER_S, "count": 1, "max_s": 22.0}
    assert "a Patroni pair took writes again 1 times, at the latest 22.00 s after the strike (of 28 s)" in report.text(
        facts
    )
