"""`heirflow status --check` of an election with several seats: the worst of them decides, and the sentence says which."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heirflow.election.record import Event, What
from heirflow.status import Snapshot
from heirflow.status.check import FLAPS, Level, judged
from tests.unit.test_status_seats import FIRST, LINE, NEVER, NOW, SECOND, look, noted, place

VACANT = replace(SECOND, leader=None)


def starts(count: int, seat: int) -> list[Event]:
    return [Event(What.TOOK_CHARGE, number, "b", "", at=NOW - 60, seat=seat) for number in range(count)]


@pytest.mark.parametrize(
    ("seen", "level", "state", "sentence"),
    [
        (look(), Level.OK, "led", "led by a and b, heir c"),
        (look(members=LINE[:2]), Level.WARNING, "no heir", "led by a and b, and no heir is ready"),
        (
            look(replace(SECOND, paused=True), first=replace(FIRST, paused=True)),
            Level.WARNING, "paused", "led by a and b, and paused: nobody takes their places until `heirflow resume`",
        ),
        (
            look(members=(LINE[0], replace(LINE[1], silent_s=7.0), *LINE[2:])),
            Level.WARNING, "silent", "led by a and b, but b on seat 2 is silent for 7.0 s; heir c takes the first seat",
        ),
        (
            look(members=noted("b", runs=True, because="the command has ended 4 times")),
            Level.WARNING, "flapping", "led by a and b, and b: the command has ended 4 times",
        ),
        (look(SECOND, NEVER, seats=3, members=LINE[:2]), Level.CRITICAL, "seat not led", "seat 3 is vacant, and nobody"),
        (look(VACANT), Level.CRITICAL, "seat not led", "seat 2 is vacant, and b takes it at once"),
        (look(place(SECOND, 14)), Level.CRITICAL, "seat not led", "seat 2: b has been silent for 14 s, and c takes it now"),
        (
            look(VACANT, first=replace(FIRST, leader=None)),
            Level.CRITICAL, "nobody leads", "nobody leads: seat 1 is vacant, and a takes it at once; seat 2",
        ),
        (
            look(members=noted("b", runs=False, because="it is killed")),
            Level.CRITICAL, "runs nothing", "b leads seat 2, runs nothing, because it is killed; heir c",
        ),
        (
            look(NEVER, members=noted("a", runs=False, because="it is killed")),
            Level.CRITICAL, "seat not led", "a leads seat 1, runs nothing, because it is killed; seat 2 is vacant, and",
        ),
        (look(SECOND, seats=1), Level.OK, "led", "led by a, heir c"),
        (look(place(SECOND, 14), seats=1), Level.OK, "led", "led by a, heir c"),
    ],
)  # fmt: skip
def test_each_state(seen: Snapshot, level: Level, state: str, sentence: str) -> None:
    verdict = judged(seen, [])
    assert (verdict.level, verdict.state) == (level, state)
    assert verdict.sentence.startswith(f"beat: {sentence}"), verdict.sentence


def test_odd_rows_are_a_warning() -> None:
    verdict = judged(replace(look(), odd=("a row is odd",)), [])
    assert (verdict.state, verdict.sentence) == ("odd rows", "beat: led by a and b, heir c, but a row is odd")


def test_each_seat_counts_its_own_starts() -> None:
    verdict = judged(look(), starts(FLAPS, 2))
    assert (verdict.level, verdict.state) == (Level.WARNING, "flapping")
    assert verdict.sentence == "beat: led by a and b, but seat 2 was started 4 times within 10 min 00 s"
    assert judged(look(), starts(FLAPS - 1, 1) + starts(FLAPS - 1, 2)).state == "led"
