"""The judge of the fault laboratory where two lead at once: each seat for itself, one seat a member, as many led as can be."""

from __future__ import annotations

from pathlib import Path

from lab.campaign.judging import BACK_LIMIT_S, Verdict, judge
from lab.campaign.ledger import Ledger, Run, runs_of
from lab.campaign.plan import kinds_of
from lab.campaign.world import Mark
from tests.lab.test_judge import mark

ALL = ("ada", "ben", "cleo", "dora")


def run(seat: int, term: int, host: str, from_s: float, to_s: float) -> Run:
    return Run(term, f"{host}-1", 100 + 10 * seat + term, from_s, to_s, seat)


def judged(marks: list[Mark], runs: list[Run], **facts: object) -> Verdict:
    return judge("seats", [*marks, mark(60, "standing", number=0)], runs, seats=2, **facts)  # type: ignore[arg-type]


def promises(marks: list[Mark], runs: list[Run], **facts: object) -> list[str]:
    return [red.promise for red in judged(marks, runs, **facts).red]


def killed(*able: str) -> list[Mark]:
    """The leader of the first seat is killed at 10; these are able."""
    return [mark(at_s, phase, able=able) for at_s, phase in ((10, "begin"), (10.005, "struck"), (10.01, "end"))]


STAYS = run(2, 1, "ben", 0, 60)
TAKEN = [run(1, 1, "ada", 0, 10), run(1, 2, "cleo", 13, 60), STAYS]


def test_two_of_two_seats_are_right_and_the_one_that_was_empty_is_a_gap() -> None:
    verdict = judged(killed("ben", "cleo", "dora"), TAKEN)
    assert not verdict.red
    assert [(gap.from_s, gap.to_s, cause) for gap, cause in verdict.gaps] == [(10, 13, "kill host")]
    assert 2.9 < max(back.after_s for back in verdict.backs) <= 3.0


def test_two_of_one_seat_are_red_though_there_are_two_seats() -> None:
    runs = [run(1, 1, "ada", 0, 10), run(1, 2, "cleo", 9.99, 60), STAYS]
    assert promises(killed("ben", "cleo", "dora"), runs) == ["overlap"]
    assert promises(killed("ben", "cleo", "dora"), [run(2, 1, "ada", 0, 10), run(2, 1, "cleo", 9, 60)])[0] == "overlap"


def test_a_member_has_one_seat_and_there_are_two() -> None:
    runs = [run(1, 1, "ada", 0, 10), run(1, 2, "ben", 13, 60), STAYS]
    assert promises(killed("ben", "cleo", "dora"), runs) == ["one seat each"]
    assert promises(killed("ben", "cleo", "dora"), [*TAKEN, run(3, 1, "dora", 20, 30)]) == ["no such seat"]


def test_as_many_are_led_as_can_be_and_no_more_is_asked() -> None:
    late = [run(1, 1, "ada", 0, 10), run(1, 2, "cleo", 10 + BACK_LIMIT_S + 0.5, 60), STAYS]
    found = judged(killed("ben", "cleo", "dora"), late).red
    assert {red.promise for red in found} == {"back in time"} and "without 2 commands" in found[0].sentence
    assert promises(killed("ben"), late) == [], "one is able, and leads the other seat"
    nobody = [run(1, 1, "ada", 0, 10), run(2, 1, "ben", 0, 10), run(1, 2, "cleo", 17, 60), run(2, 2, "dora", 12, 60)]
    assert promises(killed("cleo"), nobody) == [], "one is able, and one leads in time"
    assert set(promises(killed("cleo", "dora"), nobody)) == {"back in time"}


def test_a_seat_that_is_never_led_again_is_late() -> None:
    runs = [run(1, 1, "ada", 0, 10), STAYS]
    assert set(promises(killed("ben", "cleo", "dora"), runs)) == {"back in time"}
    assert set(promises(killed("ben", "cleo", "dora"), [])) == {"back in time"}


def test_a_seats_terms_are_its_own() -> None:
    took = {(1, "ada-1", 1), (2, "cleo-1", 1), (1, "ben-1", 2)}
    assert promises(killed("ben", "cleo"), TAKEN, took=took) == []
    assert promises(killed("ben", "cleo"), TAKEN, took=took - {(1, "ben-1", 2)} | {(1, "ben-1", 1)}) == ["lost event"]
    late = [(1, "ben-1", "deposed", 7, 14_000_000_000, 14_100_000_000, 2)]
    assert promises(killed("ben", "cleo"), TAKEN, late=late) == ["deposed write"]


def test_terms_of_one_seat_only_grow() -> None:
    runs = [run(1, 3, "ada", 0, 10), run(1, 2, "cleo", 13, 60), STAYS]
    assert promises(killed("ben", "cleo"), runs) == ["terms only grow"]
    assert promises(killed("ben", "cleo"), [run(1, 3, "ada", 0, 10), run(1, 4, "cleo", 13, 60), STAYS]) == []


def test_the_ledger_knows_the_seat_by_the_folder(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "2"):
        folder.mkdir(exist_ok=True)
        (folder / "3.ada-1.77.ticks").write_text("".join(f"{int(at * 1e9)} 77 3 ada-1\n" for at in (1.0, 1.1)))
    assert [each.seat for each in runs_of(tmp_path / "2" / "3.ada-1.77.ticks")] == [2]
    ledger = Ledger(tmp_path)
    ledger.absorb()
    assert sorted(each.lead for each in ledger.runs()) == [(3, "ada-1", 1), (3, "ada-1", 2)]


def test_the_plan_for_seats_has_no_story_of_a_single_leader() -> None:
    names = [kind.name for kind in kinds_of("seats", None)]
    assert "promote synchronous" in names and "kill host" in names
    assert not [name for name in names if name.startswith("forgetful")]
