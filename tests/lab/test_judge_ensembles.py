"""The judge of the fault laboratory where an ensemble holds the record: dead in time without a majority, and time to elect."""

from __future__ import annotations

from lab.campaign import report
from lab.campaign.judging import BACK_LIMIT_S, ELECTION_S, Verdict, judge
from lab.campaign.ledger import Run
from lab.campaign.plan import TTL_S
from lab.campaign.world import Mark
from tests.lab.test_judge import ALL, mark, run


def judged(marks: list[Mark], runs: list[Run], world: str = "etcd") -> Verdict:
    return judge(world, [*marks, mark(60, "standing", number=0)], runs)


def away(kind: str = "two servers frozen", *, until_s: float = 15.0) -> list[Mark]:
    """Most servers go at 10, are let go from `until_s` on, and serve a second later."""
    story = [(10, "begin", False), (10.1, "struck", False), (until_s, "healing", False), (until_s + 1, "end", True)]
    return [mark(at_s, phase, kind, host="ensemble", database=there, able=ALL) for at_s, phase, there in story]


def lives_until(to_s: float, marks: list[Mark]) -> list[str]:
    again_s = max(to_s, marks[-1].at_s) + 0.5
    verdict = judged(marks, [run(1, "ada", 0, to_s), run(2, "ben", again_s, 60)])
    return [red.promise for red in verdict.red]


def test_without_a_majority_the_command_is_dead_a_ttl_later() -> None:
    assert lives_until(10.1 + TTL_S - 0.2, away()) == []
    assert lives_until(10.1 + TTL_S + 0.1, away()) == ["dead in time"]
    assert lives_until(14.9, away("all servers killed")) == ["dead in time"]
    assert lives_until(14.9, away("server frozen")) == [], "the other two confirm renewals"


def test_what_comes_back_before_the_lease_is_over_leaves_the_command_alone() -> None:
    assert lives_until(60, away(until_s=12)) == []
    assert judged(away(until_s=12), [run(1, "ada", 0, 60)]).silences == 0
    assert judged(away(), [run(1, "ada", 0, 12), run(2, "ben", 16.5, 60)]).silences == 1


def test_who_leads_while_the_majority_comes_back_is_no_survivor() -> None:
    """The healing takes a while, and ends only when all three serve again."""
    verdict = judged(away(), [run(1, "ada", 0, 12), run(2, "ben", 15.3, 60)])
    assert not verdict.red


def test_a_host_that_stood_still_and_wakes_without_a_majority_has_a_moment_to_look_at_its_clock() -> None:
    froze = [mark(10.5, "begin", "freeze host", number=2, able=("ben", "cleo"), database=False)]
    froze += [mark(14, "end", "freeze host", number=2, able=("ben", "cleo"), database=False)]
    marks = sorted([*away(), *froze], key=lambda each: each.at_s)
    back = run(2, "ben", 16.5, 60)
    assert not judged(marks, [run(1, "ada", 0, 10.5), run(1, "ada", 14, 14.05), back]).red
    assert [red.promise for red in judged(marks, [run(1, "ada", 0, 10.5), run(1, "ada", 14, 14.6), back]).red] == [
        "dead in time"
    ]


def test_an_ensemble_is_given_the_time_of_an_election_and_no_other_fault_is() -> None:
    for world, election_s in ELECTION_S.items():
        for kind, late_s, promises in (
            ("first server killed", BACK_LIMIT_S + election_s - 0.1, []),
            ("first server killed", BACK_LIMIT_S + election_s + 0.1, ["back in time"]),
            ("kill host", BACK_LIMIT_S + 0.1, ["back in time"]),
        ):
            marks = [mark(10, phase, kind) for phase in ("begin", "struck")]
            runs = [run(1, "ada", 0, 10), run(2, "ben", 10 + late_s, 60)]
            assert [red.promise for red in judged(marks, runs, world).red] == promises, (world, kind, late_s)


def test_a_fault_beside_an_election_has_its_time_too_and_one_after_it_has_not() -> None:
    def late(at_s: float) -> list[str]:
        marks = [mark(10, "struck", "first server killed"), mark(at_s, "struck", "kill host", number=2)]
        return [red.promise for red in judged(marks, [run(1, "ada", 0, at_s), run(2, "ben", at_s + 6, 60)]).red]

    assert late(10.4) == []
    assert late(12) == ["back in time"]


def test_the_summary_tells_how_often_there_was_no_majority() -> None:
    verdict = judged(away(), [run(1, "ada", 0, 14.9), run(2, "ben", 16.5, 60)])
    facts = report.summary([verdict], [], seed=1)
    assert facts["without_a_majority"] == {"longer_than_a_ttl": 1, "alive_after_it": 1}
    said = report.text(facts)
    assert "without most of its servers for longer than a ttl 1 times; commands alive then: 1" in said
    assert "write no rows" in said and "and 1 s for an election in etcd" in said and "--world etcd" in said
