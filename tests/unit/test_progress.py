"""Health by progress: how long is too long, what is told of it, and that nothing is stopped unless that was asked for."""

from __future__ import annotations

import os
import time

import pytest

from heirflow.election.steps import CommandGone, Doubted, StopCommand
from heirflow.member.asker import CannotTell, Found
from heirflow.member.health import Blind, Lookout, Unwell
from heirflow.member.progress import Doubt, Progress
from heirflow.member.telling import tell_of_health
from tests.unit.election import leader
from tests.unit.test_rules_health import Always, wait_for_finding
from tests.unit.test_told import Lines, told
from tests.unit.test_work import facts, said

WAITS = "3 tasks wait"


def progress(*, acts: bool = False, limit_s: float = 60.0) -> Progress:
    made = Progress(Always(WAITS), limit_s, acts=acts)
    made.command(0.0)
    return made


def test_only_what_stood_still_at_each_look_is_told_and_once() -> None:
    looks = progress()
    assert looks.hear(Found(1, WAITS), 59.0) is None
    assert looks.hear(Found(1, ""), 60.0) is None
    assert looks.hear(Found(1, WAITS), 119.0) is None
    assert looks.hear(Found(1, None), 119.5) is None, "who cannot tell waits again from the start"
    assert looks.hear(Found(1, WAITS), 179.0) is None
    assert looks.hear(Found(1, WAITS), 180.0) == Doubt("it has moved nothing for 60 s: 3 tasks wait")
    assert looks.hear(Found(1, WAITS), 400.0) is None
    assert looks.hear(Found(1, None), 500.0) is None
    assert looks.hear(Found(1, ""), 600.0) == Doubt("its work goes on, after 100 s", over=True)
    assert looks.hear(Found(1, ""), 700.0) is None


def test_another_run_begins_from_the_start() -> None:
    looks = progress()
    assert looks.hear(Found(1, WAITS), 60.0) is not None
    looks.command(100.0)
    assert looks.hear(Found(2, WAITS), 159.0) is None
    assert looks.hear(Found(2, WAITS), 160.0) is not None


def lookout(check: Always, **options: object) -> tuple[Lookout, list[int]]:
    wakes: list[int] = []
    made = Lookout(progress=Progress(check, 0.5, **options))  # type: ignore[arg-type]
    made.begin(lambda: wakes.append(1))
    made.command(os.getpid())
    made.note("job 17")
    return made, wakes


def test_it_is_told_and_taken_back() -> None:
    check = Always(WAITS)
    looks, wakes = lookout(check, acts=False)
    found = wait_for_finding(looks, wakes)
    assert isinstance(found, Doubt) and WAITS in found.because and not found.over
    assert check.notes[-1] == "job 17"
    time.sleep(1.0)
    assert looks.take() == [], "once"
    check.answer = ""
    assert getattr(wait_for_finding(looks, wakes), "over", False)
    looks.close()


def test_where_it_may_act_the_command_is_given_up() -> None:
    looks, wakes = lookout(Always(WAITS), acts=True)
    found = wait_for_finding(looks, wakes)
    looks.close()
    assert isinstance(found, Unwell) and WAITS in found.because and not found.still


def test_one_that_cannot_tell_says_so() -> None:
    looks, wakes = lookout(Always("?"), acts=True)
    found = wait_for_finding(looks, wakes)
    looks.close()
    assert isinstance(found, Blind) and found.because.startswith("the look at its progress has not been able to tell")


class Dead(Always):
    def look(self, note: str, limit_s: float) -> str:
        time.sleep(60.0)
        raise CannotTell


def test_one_that_hangs_holds_up_nothing_and_stops_nothing() -> None:
    looks, wakes = lookout(Dead(""), acts=True)
    found = wait_for_finding(looks, wakes)
    looks.close()
    assert isinstance(found, Blind) and "has not answered for" in found.because


def test_a_doubt_is_in_the_journal_and_in_every_check_in_and_stops_nothing() -> None:
    b = leader()
    doubt = Doubted("it has moved nothing for 600 s: 3 tasks wait")
    assert told(b, 1.0, doubt) == [("work_stands_still", 1)]
    assert b.warned and b.did_not(StopCommand)
    assert facts(b)["sentence"] == f"leads term 1; {doubt.because}"
    assert [facts(b)[word] for word in ("leader", "runs", "ready")] == [True, True, True]
    assert said(b) == {"runs": True, "because": doubt.because}
    assert told(b, b.now + 0.1, Doubted("its work goes on, after 700 s", over=True)) == [("work_goes_on", 1)]
    assert not b.warned and b.state.doubt == ""


def test_a_doubt_ends_with_the_command() -> None:
    b = leader()
    b.at(1.0, Doubted("it has moved nothing"))
    b.at(2.0, CommandGone(1, "the command exited with 1"))
    assert b.state.doubt == ""
    b.at(2.1, Doubted("it has moved nothing"))
    assert b.state.doubt == "", "nothing runs"


@pytest.mark.parametrize("found", [Doubt("a"), Doubt("b", over=True)])
def test_the_rules_hear_of_it(found: Doubt) -> None:
    lines = Lines()
    assert tell_of_health(lines, found) == (Doubted(found.because, found.over),)
    assert lines.told == []
