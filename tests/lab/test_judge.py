"""The judge of the fault laboratory, on stories that are made up: it must see what is wrong, and excuse only what is excused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from heirflow.clock import boottime
from lab.campaign import report
from lab.campaign.judging import BACK_LIMIT_S, judge
from lab.campaign.ledger import Run, runs_of
from lab.campaign.machine import Machine
from lab.campaign.picture import draw
from lab.campaign.world import Mark
from lab.rig.spans import gaps, overlaps

ALL = ("ada", "ben", "cleo")


def mark(
    at_s: float,
    phase: str,
    kind: str = "kill host",
    *,
    number: int = 1,
    host: str = "ada",
    database: bool = True,
    able: tuple[str, ...] = ("ben", "cleo"),
    excused: str = "",
) -> Mark:
    return Mark(at_s, phase, number, kind, "leader", host, database, able, excused)


def run(term: int, host: str, from_s: float, to_s: float) -> Run:
    return Run(term, f"{host}-1", 100 + term, from_s, to_s)


def promises(marks: list[Mark], runs: list[Run], **facts: object) -> list[str]:
    verdict = judge("postgres", [*marks, mark(60, "standing", number=0)], runs, **facts)  # type: ignore[arg-type]
    return [red.promise for red in verdict.red]


KILLED = [mark(10, "begin"), mark(10.005, "struck"), mark(10.01, "end")]
TAKEN = [run(1, "ada", 0, 10), run(2, "ben", 13, 60)]


def test_a_clean_take_over_is_not_red() -> None:
    verdict = judge("postgres", [*KILLED, mark(60, "standing")], TAKEN)
    assert not verdict.red
    assert [(round(gap.lasted_s, 3), cause) for gap, cause in verdict.gaps] == [(3.0, "kill host")]
    assert 2.9 < max(back.after_s for back in verdict.backs) <= 3.0


def test_two_at_once_are_red_whoever_they_are() -> None:
    assert promises(KILLED, [run(1, "ada", 0, 10), run(2, "ben", 9.99, 60)]) == ["overlap"]
    assert promises(KILLED, [Run(1, "ada-1", 1, 0, 10), Run(1, "ada-1", 2, 9, 60)]) == ["overlap"]


def thaw(kind: str, woke_s: float, slept_s: float) -> list[str]:
    marks = [mark(10, "begin", kind), mark(14, "end", kind)]
    return promises(marks, [run(1, "ada", 0, 10), run(1, "ada", woke_s, slept_s), run(2, "ben", 13, 60)])


def test_only_a_whole_host_that_wakes_may_meet_its_successor_and_only_for_a_moment() -> None:
    assert thaw("freeze host", 14, 14.05) == []
    assert thaw("stop host", 14, 14.05) == []
    assert thaw("stop member", 14, 14.05) == ["overlap"]
    assert thaw("freeze host", 14, 14.5) == ["overlap"]
    assert thaw("freeze host", 20, 20.1) == ["overlap"]
    assert thaw("freeze host", 13.1, 13.4) == ["overlap"]  # not let go yet: then it had not stood still


def test_a_host_that_stood_still_for_less_than_its_lease_may_meet_nobody() -> None:
    short = [mark(12, "begin", "stop host"), mark(13.5, "end", "stop host")]
    runs = [run(1, "ada", 0, 12), run(1, "ada", 13.5, 13.55), run(2, "ben", 13.4, 60)]
    assert promises(short, runs) == ["overlap"]
    assert promises([mark(11, "begin", "cut both", number=2), *short], runs) == [], (
        "its lease ran on while it was cut off"
    )
    outage = mark(11, "begin", "stand still", number=2, host="db1", database=False, able=ALL)
    assert promises([outage, *short], runs) == []


def test_only_the_start_that_stood_still_may_wake_beside_its_successor() -> None:
    marks = [mark(10, "begin", "freeze host"), mark(14, "end", "freeze host")]
    another = Run(1, "ada-1", 999, 14.02, 14.1)
    assert promises(marks, [run(1, "ada", 0, 10), another, run(2, "ben", 13, 60)]) == ["overlap"]


@pytest.mark.parametrize(
    "kind", ["promote asynchronous", "forgetful reached", "promote cut off", "promote synchronous"]
)
def test_no_fail_over_excuses_an_overlap_not_even_one_that_forgets(kind: str) -> None:
    marks = [mark(10, "begin", kind, database=False), mark(11.9, "struck", kind), mark(12, "end", kind)]
    assert promises(marks, [run(1, "ada", 0, 14), run(2, "ben", 13, 60)]) == ["overlap"]
    assert promises(marks, [run(1, "ada", 0, 12), run(2, "ben", 11, 60)]) == ["overlap"]


def test_nobody_for_too_long_is_red_only_if_somebody_was_able() -> None:
    late = [run(1, "ada", 0, 10), run(2, "ben", 10 + BACK_LIMIT_S + 0.5, 60)]
    assert promises(KILLED, late) == ["back in time"]
    assert promises([mark(10, "begin", able=()), mark(10.01, "end", able=())], late) == []
    assert promises([mark(10, "begin", database=False), mark(12, "end")], late) == []
    stopped = [mark(10, "begin", "stop command", excused="stop command"), mark(14, "end", "stop command")]
    assert promises(stopped, late) == []


def test_what_the_machine_took_away_is_counted_and_excuses_no_overlap() -> None:
    class Slow(Machine):
        def lost_s(self, from_s: float, to_s: float) -> float:
            return (to_s - from_s) / 2

    late = [run(1, "ada", 0, 10), run(2, "ben", 10 + BACK_LIMIT_S + 0.5, 60)]
    verdict = judge("postgres", [*KILLED, mark(60, "standing")], late, machine=Slow())
    assert not verdict.red and [back.late for back in verdict.backs] == [True]
    assert report.summary([verdict], [], seed=1)["back"]["late_with_the_machine"] == 1
    assert promises(KILLED, [run(1, "ada", 0, 10), run(2, "ben", 60, 61)], machine=Slow()) == ["back in time"]
    assert promises(KILLED, [run(1, "ada", 0, 10), run(2, "ben", 9.99, 60)], machine=Slow()) == ["overlap"]


def test_a_pulse_counts_what_a_hypervisor_steals_and_how_late_a_sleep_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = "[10.0, 0.01, 5.0, []]\\n[10.2, 0.02, 5.1, []]\\n[10.4, 0.35, 5.1, [0.35]]\\n"
    monkeypatch.setattr("lab.campaign.machine.WORDS", ["printf", heard])
    with Machine() as machine:
        machine._thread.join(10)
    assert machine.lost_s(10.0, 10.3) == pytest.approx(0.1)
    assert machine.lost_s(10.3, 11.0) == pytest.approx(0.35)
    assert machine.stolen_s == pytest.approx(0.1) and machine.standstills_s == [0.35]


def test_a_pulse_counts_what_is_late() -> None:
    began = boottime()
    with Machine() as machine:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            pass  # the judge's own work is not the machine's
        assert machine._at and boottime() - machine._at[-1] < 0.5
    assert 0 <= machine.lost_s(began, boottime()) < (boottime() - began) / 2
    assert machine.lost_s(began - 20, began - 10) == 0


def test_struck_again_before_the_time_was_over_stays_unjudged() -> None:
    again = [*KILLED, mark(12, "begin", number=2), mark(12.01, "end", number=2)]
    runs = [run(1, "ada", 0, 10), run(2, "ben", 16.5, 60)]
    verdict = judge("postgres", [*again, mark(60, "standing")], runs)
    assert not verdict.red
    assert [back.mark.number for back in verdict.backs] == [2] and verdict.unjudged == 1
    # A fault that came too late to be an excuse is none.
    late = [*KILLED, mark(20, "begin", number=2), mark(20.01, "end", number=2)]
    assert promises(late, [run(1, "ada", 0, 10), run(2, "ben", 21, 60)]) == ["back in time"]


def test_nobody_at_all_until_the_end_is_red() -> None:
    assert promises(KILLED, [run(1, "ada", 0, 10)]) == ["back in time"]


def test_what_the_database_took_from_a_deposed_term_is_red_where_there_is_a_fence() -> None:
    late = [(1, "ada-1", "deposed", 7, 14_000_000_000, 14_100_000_000, 1)]
    assert promises(KILLED, TAKEN, late=late) == ["deposed write"]
    assert promises(KILLED, TAKEN, late=late, fenced=False) == []


def test_a_row_or_two_may_be_on_their_way_when_a_term_is_released() -> None:
    def released(count: int) -> list[str]:
        return promises(KILLED, TAKEN, late=[(1, "ada-1", "released", count, 10, 10, 1)], fenced=False)

    assert released(2) == []
    assert released(20) == ["outlived"]


def test_two_leaders_of_one_term_are_red_without_a_fence_too() -> None:
    late = [(1, "ada-1", "doubled", 1, 14_000_000_000, 14_000_000_000, 1)]
    assert promises(KILLED, TAKEN, late=late, fenced=False) == ["two of one term"]


def test_a_term_is_of_the_time_of_its_first_start_in_whatever_order_the_starts_were_read() -> None:
    """Files are read in no order. A leader of a forgotten term may start its command again before it knows."""
    forgets = [mark(10, "begin", "forgetful asynchronous"), mark(12, "struck", "forgetful asynchronous")]
    again = [run(1, "ada", 12.5, 13), run(1, "ada", 11, 12)]
    runs = [*again, run(2, "ben", 14, 60)]
    assert promises(forgets, runs, took={(2, "ben-1", 1)}) == []


def test_a_term_without_history_and_an_orphan_are_red() -> None:
    assert promises(KILLED, TAKEN, took={(1, "ada-1", 1), (2, "ben-1", 1)}) == []
    assert promises(KILLED, TAKEN, took={(1, "ada-1", 1)}) == ["lost event"]
    assert promises([*KILLED, mark(14, "orphan", "", number=0)], TAKEN) == ["orphan"]
    frozen = [mark(10, "begin", "stop host"), mark(13.5, "orphan", "", number=0), mark(14, "end", "stop host")]
    assert promises(frozen, TAKEN) == []
    assert promises([*frozen, mark(16, "orphan", "", number=0)], TAKEN) == ["orphan"]


def test_a_fault_that_was_not_carried_out_is_no_fault() -> None:
    verdict = judge("postgres", [mark(10, "begin"), mark(10.1, "skipped"), mark(60, "standing")], TAKEN)
    assert not verdict.faults and not verdict.backs
    once = [mark(5, "begin"), mark(5.1, "end"), mark(10, "begin"), mark(10.1, "skipped"), mark(10.2, "skipped")]
    verdict = judge("postgres", [*once, mark(60, "standing")], TAKEN)
    assert verdict.faults == {"kill host": 1} and [back.mark.at_s for back in verdict.backs] == [5.1], "played again"


def test_stretches_are_read_from_what_commands_wrote(tmp_path: Path) -> None:
    path = tmp_path / "3.ada-1.77.ticks"
    path.write_text("".join(f"{int(at * 1e9)} 77 3 ada-1\n" for at in (1.0, 1.1, 1.3, 2.0, 2.1)) + "21")
    found = runs_of(path)
    assert [(r.from_s, r.to_s) for r in found] == [(1.0, 1.3), (2.0, 2.1)]
    assert found[0].start == (3, "ada-1", 77, 1) and found[0].host == "ada"
    assert not overlaps(found)
    assert [round(gap.lasted_s, 2) for gap in gaps(found)] == [0.7]


def test_the_picture_and_the_summary_of_a_red_run() -> None:
    verdict = judge("postgres", [*KILLED, mark(700, "standing")], [run(1, "ada", 0, 10), run(2, "ben", 16, 700)])
    drawn = draw([verdict], title="a <title>")
    assert drawn.startswith("<svg") and "a &lt;title&gt;" in drawn and "back in time" in drawn
    facts = report.summary([verdict], [], seed=7)
    assert facts["back"]["late"] == 1 and facts["faults"] == 1
    said = report.text(facts)
    assert "RED back in time" in said and "--seed 7 --first 1" in said and "kill host" in said
