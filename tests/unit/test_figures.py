"""What Prometheus is told of an election: names, bounded labels, causes from kinds of events, and nothing that is not known."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from heirflow.election.cause import Cause
from heirflow.election.record import Event, Place, Record, What
from heirflow.status import Snapshot
from heirflow.status.counts import restarts, takeovers
from heirflow.status.figures import EVENTS, MEANINGS, figures_of
from tests.unit.test_status import LINE, NOW, RECORD, reading, row

HISTORY = (
    Event(What.TOOK_CHARGE, 1, "a", "x", at=NOW - 5000),
    Event(What.RELEASED, 1, "a", "x", at=NOW - 3000),
    Event(What.TOOK_CHARGE, 2, "b", "x", took_s=0.2, at=NOW - 2999),
    Event(What.TOOK_CHARGE, 3, "a", "x", took_s=10.5, at=NOW - 2000),
    Event(What.LOST, 2, "b", "x", at=NOW - 1999),
    Event(What.RELEASED, 3, "c", "vacated by another", at=NOW - 1500),
    Event(What.TOOK_CHARGE, 4, "c", "x", took_s=12.0, at=NOW - 1400),
    Event(What.RESTARTED, 4, "c", "x", times=1, at=NOW - 1300),
    Event(What.RESTARTED, 4, "c", "x", times=4, at=NOW - 1200),
)


def told(line: Snapshot, events: tuple[Event, ...] = ()) -> dict[tuple[str, ...], float]:
    """Each figure by its name and the values of its labels without the election's."""
    found = {}
    for name, labels, value in figures_of(line, events):
        assert labels["election"] == "beat"
        key = (name.removeprefix("heirflow_"), *(text for label, text in labels.items() if label != "election"))
        assert key not in found
        found[key] = value
    return found


def test_a_healthy_line() -> None:
    found = told(Snapshot.of("beat", reading()))
    assert found["leader_up", "1"] == 1 and found["leader_info", "1", "host-a"] == 1 and found["term", "1"] == 7
    assert found["lease_seconds", "1"] == 10 and found["lease_remaining_seconds", "1"] == 9
    assert (found["heirs",], found["members",], found["seats",], found["paused",]) == (3, 4, 1, 0)
    assert found["check_in_age_seconds", "host-b"] == 1
    assert found["takeovers_past_hour", "lease_ended"] == 0  # the history is whole, and empty
    assert ("leader_runs", "1") not in found  # it does not say
    assert ("last_gap_seconds", "1") not in found


def test_a_lease_that_has_ended_and_nobody_at_all() -> None:
    over = told(Snapshot.of("beat", reading(renewed_s=14)))
    assert over["leader_up", "1"] == 0 and over["lease_remaining_seconds", "1"] == 0
    vacant = told(Snapshot.of("beat", reading(replace(RECORD, leader=None), members=())))
    assert vacant["leader_up", "1"] == 0 and vacant["heirs",] == 0
    assert ("lease_remaining_seconds", "1") not in vacant and ("lease_seconds", "1") not in vacant


def test_a_leader_that_runs_nothing_says_so() -> None:
    idle = row("a", 1, note='{"runs": false, "because": "it waits"}')
    assert told(Snapshot.of("beat", reading(members=(idle,))))["leader_runs", "1"] == 0


def test_each_seat_has_its_own() -> None:
    second = Place(Record(version=3, term=9, leader="b", ttl_s=10), since=NOW - 5, written_at=NOW - 2)
    found = told(Snapshot.of("beat", replace(reading(), seats=2, others=(second,))))
    assert (found["term", "1"], found["term", "2"]) == (7, 9)
    assert found["leader_info", "2", "host-b"] == 1 and found["heirs",] == 2


def test_a_line_of_once_that_waits_is_not_without_a_leader() -> None:
    done = replace(RECORD, leader=None, note='{"once": {"done_at": 999000.0}}')
    assert ("leader_up", "1") not in told(Snapshot.of("beat", reading(done, members=())))


def test_of_several_members_on_one_host_the_one_that_was_heard_last_counts() -> None:
    old = replace(row("x", 9, silent_s=500.0), host="host-a")
    assert told(Snapshot.of("beat", reading(members=(*LINE, old))))["check_in_age_seconds", "host-a"] == 1


def test_causes_come_from_the_kinds_of_events() -> None:
    assert takeovers(HISTORY, NOW - 3600) == {
        Cause.FIRST: 0, Cause.RELEASED: 1, Cause.LEASE_ENDED: 2, Cause.UNKNOWN: 0,
    }  # fmt: skip
    assert takeovers(HISTORY, 0.0)[Cause.FIRST] == 1
    assert takeovers(HISTORY[2:3], 0.0)[Cause.UNKNOWN] == 1
    assert restarts(HISTORY, NOW - 3600) == 4
    found = told(Snapshot.of("beat", reading()), HISTORY)
    assert found["last_gap_seconds", "1"] == 12.0 and found["takeovers_past_hour", "released"] == 1


def test_what_the_history_does_not_reach_is_left_out() -> None:
    many = tuple(Event(What.LOST, 1, "a", "x", at=NOW - 60) for _ in range(EVENTS))
    found = told(Snapshot.of("beat", reading()), many)
    assert not [key for key in found if "past_hour" in key[0]]
    old = (replace(many[0], at=NOW - 4000), *many[1:])
    assert ("restarts_past_hour",) in told(Snapshot.of("beat", reading()), old)


@pytest.mark.parametrize("name", MEANINGS)
def test_names_are_prometheus_own_kind(name: str) -> None:
    assert re.fullmatch(r"heirflow(_[a-z]+)+", name)
    assert not name.endswith(("_total", "_s", "_count"))
    assert MEANINGS[name].endswith(".")


@pytest.mark.parametrize("name", MEANINGS)
def test_each_one_stands_in_the_page(name: str) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text("utf-8")
    assert f"`{name}" in page
