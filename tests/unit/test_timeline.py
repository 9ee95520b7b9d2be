"""Who led when, from the history: leaderships, gaps and marks, and what the history does not tell."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heirflow.election.record import Event, MemberRow, Place, Reading, Record, What
from heirflow.status import Snapshot
from heirflow.web.bands import HOSTS, MEMBERS
from heirflow.web.drawing import WIDTH, drawn
from heirflow.web.timeline import SLOTS, Timeline, timeline_of

NOW = 1_000_000.0
HOUR = 3600.0


def took(term: int, member: str, ago_s: float, *, gap_s: float | None = 0.1, seat: int = 1) -> Event:
    return Event(What.TOOK_CHARGE, term, member, f"why {term}", gap_s, at=NOW - ago_s, seat=seat)


def event(what: What, term: int, member: str, ago_s: float, **more: int) -> Event:
    return Event(what, term, member, f"{what.value} of {term}", at=NOW - ago_s, **more)


def snapshot(leader: str | None, term: int, *, others: Sequence[Place] = (), stood_s: float = 1.0) -> Snapshot:
    members = tuple(
        MemberRow(f"{host}-{place:06x}", place, host, place, ready=True) for place, host in enumerate("abc", 1)
    )
    record = Record(9, term, leader, 10.0, "why")
    reading = Reading(
        record,
        members,
        written_at=NOW - stood_s,
        since=NOW - 60,
        db_now=NOW,
        seats=1 + len(others),
        others=tuple(others),
    )
    return Snapshot.of("beat", reading)


def timeline(
    events: Sequence[Event], leader: str | None, term: int, stretch_s: float = HOUR, **more: object
) -> Timeline:
    return timeline_of(snapshot(leader, term, **more), events, stretch_s)  # type: ignore[arg-type]


def spells(found: Timeline) -> dict[str, list[tuple[int, float, float]]]:
    """By host: term, and how long ago it began and ended."""
    hosts: dict[str, list[tuple[int, float, float]]] = {}
    for band in found.bands:
        hosts.setdefault(band.host, []).extend((each.term, NOW - each.since, NOW - each.until) for each in band.spells)
    return hosts


def test_a_takeover_has_two_leaderships_and_the_gap_between():
    found = timeline([took(1, "a-000001", 600, gap_s=None), took(2, "b-000002", 60, gap_s=4.0)], "b-000002", 2)
    assert spells(found) == {"a": [(1, 600, 64)], "b": [(2, 60, 0)]}
    assert [(NOW - gap.since, NOW - gap.until, gap.because) for gap in found.gaps] == [(64, 60, "why 2")]
    assert found.bands[1].spells[0].goes_on
    assert not found.bands[0].spells[0].goes_on
    assert found.gap_s == pytest.approx(4.0)
    assert found.known_since == found.since, "the first leader had none before it"


def test_a_gap_tells_what_the_leader_before_said():
    events = [
        took(1, "a-000001", 600, gap_s=None),
        event(What.LOST, 1, "a-000001", 63),
        took(2, "b-000002", 60, gap_s=4.0),
    ]
    found = timeline(events, "b-000002", 2)
    assert found.gaps[0].because == "lost of 1"
    assert [(mark.kind, NOW - mark.at) for mark in found.bands[0].marks] == [("lost", 63)]


def test_what_is_cut_off_begins_at_the_edge():
    found = timeline([took(1, "a-000001", 9000, gap_s=None), took(2, "b-000002", 60)], "b-000002", 2)
    assert spells(found)["a"] == [(1, HOUR, pytest.approx(60.1))]


@pytest.mark.parametrize(
    ("events", "stood_s", "ended_ago_s", "because"),
    [
        ([event(What.RELEASED, 1, "a-000001", 30)], 30.0, 30, "released of 1"),
        ([], 25.0, 15, "its lease ended and nobody followed"),
    ],
)
def test_nobody_leads_until_now(events, stood_s, ended_ago_s, because):
    leader = None if events else "a-000001"
    found = timeline([took(1, "a-000001", 600, gap_s=None), *events], leader, 1, stood_s=stood_s)
    assert spells(found) == {"a": [(1, 600, ended_ago_s)]}
    (gap,) = found.gaps
    assert (NOW - gap.since, gap.until, gap.goes_on, gap.because) == (ended_ago_s, NOW, True, because)


def test_a_leadership_that_the_history_lost_is_not_invented():
    """Old history goes but for each member's newest `took charge`: between those is nothing known."""
    events = [took(3, "a-000001", 3000), took(9, "b-000002", 1000), took(10, "c-000003", 400)]
    found = timeline(events, "c-000003", 10)
    assert spells(found) == {"b": [(9, 1000, pytest.approx(400.1))], "c": [(10, 400, 0)]}
    assert NOW - found.known_since == 1000


def test_without_any_history_nothing_is_known():
    found = timeline([], "a-000001", 4)
    assert (found.bands, found.gaps, found.known_since) == ((), (), NOW)
    assert drawn(found, several=False)["unknown"] == WIDTH


def test_each_seat_is_told_by_itself():
    other = Place(Record(3, 1, "b-000002", 10.0, "why"), NOW - 500, NOW - 1)
    events = [took(1, "a-000001", 600, gap_s=None), took(1, "b-000002", 500, gap_s=None, seat=2)]
    found = timeline(events, "a-000001", 1, others=(other,))
    assert spells(found) == {"a": [(1, 600, 0)], "b": [(1, 500, 0)]}
    assert found.gaps == ()


def test_an_order_of_a_person_stands_at_whom_it_concerns():
    order = Event(What.ORDERED, 1, "root@desk-7", "switchover", at=NOW - 100)
    found = timeline([took(1, "a-000001", 600, gap_s=None), order], "a-000001", 1)
    assert [(band.host, [mark.kind for mark in band.marks]) for band in found.bands] == [("a", ["ordered"])]


def test_each_member_has_a_band_and_those_of_one_host_stand_together():
    """A restart is a new member on the same host."""
    events = [
        took(1, "b-000007", 3000, gap_s=None),
        took(2, "a-000005", 2000),
        took(3, "b-000008", 1000),
        took(4, "b-000002", 500),
    ]
    found = timeline(events, "b-000002", 4)
    assert [(band.host, band.member) for band in found.bands] == [
        ("a", "a-000005"),
        ("b", "b-000002"),
        ("b", "b-000008"),
        ("b", "b-000007"),
    ]
    assert [len(band.spells) for band in found.bands] == [1, 1, 1, 1] and found.bands[1].spells[0].goes_on
    rows = drawn(found, several=False)["rows"]
    assert [(row["name"], row["end"], row["tone"]) for row in rows][1:3] == [("b", "-000002", 1), ("b", "-000008", 1)]


def test_a_week_of_flapping_is_no_longer_than_the_eye_sees():
    events = [took(term, f"{'ab'[term % 2]}-{term:06x}", 7 * 86400 - 30 * term, gap_s=1.0) for term in range(1, 5001)]
    found = timeline(events, events[-1].member, 5000, 7 * 86400.0)
    parts = sum(len(band.spells) for band in found.bands)
    assert [band.members for band in found.bands] == [*[1] * (MEMBERS // 2), 2500 - MEMBERS // 2] * 2
    assert found.bands[0].spells[-1].goes_on and found.bands[0].member == events[-1].member
    assert parts + len(found.gaps) <= 4 * SLOTS
    assert sum(spell.times for band in found.bands for spell in band.spells) == 5000, "each is counted"
    assert sum(gap.times for gap in found.gaps) == 4999
    assert found.gap_s == pytest.approx(4999)
    picture = drawn(found, several=False)
    assert (picture["together"], picture["bands_together"]) == (5000 - MEMBERS, 2)
    assert picture["rows"][MEMBERS // 2]["title"] == f"{2500 - MEMBERS // 2} earlier members on a"


def test_a_host_that_crashes_again_and_again_takes_no_band_from_another():
    often = [took(term, f"a-{term:06x}", 3000 - 10 * term) for term in range(3, 203)]
    found = timeline([took(1, "b-000001", 3500, gap_s=None), took(2, "c-000001", 3200), *often], often[-1].member, 202)
    own = [band.member for band in found.bands if band.member]
    assert len(own) == MEMBERS and {"b-000001", "c-000001"} < {*own}
    assert [(band.host, band.members) for band in found.bands if not band.member] == [("a", 202 - MEMBERS)]


def test_one_member_too_many_is_not_hidden():
    events = [took(term, f"a-{term:06x}", 3000 - 10 * term) for term in range(1, MEMBERS + 2)]
    found = timeline(events, events[-1].member, len(events))
    assert [band.members for band in found.bands] == [1] * (MEMBERS + 1)


def test_only_the_hosts_that_led_last_have_bands():
    events = [took(term, f"host{term:02}-{term:06x}", 3000 - 100 * term) for term in range(1, 21)]
    found = timeline(events, events[-1].member, 20)
    assert [band.host for band in found.bands] == [f"host{term:02}" for term in range(9, 21)]
    assert (len(found.bands), found.hidden) == (HOSTS, 8)


def test_hosts_that_change_often_led_as_long_as_they_did():
    """For the eye their short leaderships are one, and in sum each led half of the time."""
    events = [took(term, f"{'ab'[term % 2]}-{term:06x}", 600.0 * (31 - term), gap_s=None) for term in range(1, 31)]
    found = timeline(events, events[-1].member, 30, 7 * 86400.0)
    assert [(band.members, len(band.spells)) for band in found.bands] == [*[(1, 1)] * 12, (3, 1)] * 2
    assert [sum(band.led_s for band in found.bands if band.host == host) for host in "ab"] == [9000, 9000]
    assert found.led_s[events[0].member] == 600


def test_between_two_calls_of_once_nobody_is_missing():
    done = {"once": {"due": 1.0, "done_at": NOW - 30}}
    members = (MemberRow("a-000001", 1, "a", 1, ready=True, note=json.dumps(done)),)
    record = Record(9, 2, "a-000001", 10.0, "why", note=json.dumps(done))
    line = Snapshot.of("nightly", Reading(record, members, written_at=NOW - 1, since=NOW - 60, db_now=NOW))
    found = timeline_of(line, [took(1, "a-000001", 600, gap_s=None), took(2, "a-000001", 60, gap_s=500.0)], HOUR)
    assert (found.gaps, found.gap_s) == ((), 0)


def test_a_seat_that_was_never_led_is_a_gap_and_hides_nothing():
    found = timeline([took(1, "a-000001", 3000, gap_s=None)], "a-000001", 1, others=(Place(None),))
    assert found.known_since == found.since
    (gap,) = found.gaps
    assert (gap.seat, gap.goes_on, gap.because) == (2, True, "nobody has led it yet")
    assert spells(found) == {"a": [(1, 3000, 0)]}


def test_the_longest_history_is_told_in_no_time():
    events = []
    for term in range(1, 2501):
        events += [
            took(term, f"a-{term:06x}", 80.0 * (2501 - term), gap_s=1.0),
            event(What.RELEASED, term, f"a-{term:06x}", 80.0 * (2501 - term) - 40),
        ]
    began = time.process_time()
    timeline(events, None, 2500)
    assert time.process_time() - began < 0.5


def test_a_week_of_orders_by_people_is_told_in_no_time():
    events = []
    for term in range(1, 2501):
        ago_s = 80.0 * (2501 - term)
        events += [
            took(term, f"a-{term:06x}", ago_s, gap_s=1.0),
            Event(What.ORDERED, term, "root@desk", "why", at=NOW - ago_s + 9),
        ]
    began = time.process_time()
    found = timeline(events, None, 2500, 7 * 86400.0)
    assert time.process_time() - began < 0.5
    assert sum(mark.times for band in found.bands for mark in band.marks) == 2500


changes = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0, 900, allow_nan=False), st.floats(0, 900, allow_nan=False)),
    max_size=60,
)


@given(changes=changes, stretch_s=st.sampled_from([60.0, HOUR, 86400.0]), leads=st.booleans())
def test_nothing_overlaps_and_all_is_inside(changes, stretch_s, leads):
    """Whatever the history says: of one seat there is one leader at a time, and no place outside the drawing."""
    at, events = NOW, []
    for term, (host, gap_s, led_s) in zip(range(len(changes), 0, -1), changes, strict=True):
        at -= led_s
        events.insert(0, Event(What.TOOK_CHARGE, term, f"{host}-{term:06x}", "why", gap_s, at=at))
        at -= gap_s
    last = events[-1].member if events and leads else None
    found = timeline(events, last, len(changes), stretch_s)
    parts = sorted(
        [(each.since, each.until) for band in found.bands for each in band.spells if each.times == 1]
        + [(each.since, each.until) for each in found.gaps if each.times == 1]
    )
    assert all(since <= until for since, until in parts)
    assert all(one[1] <= two[0] + 1e-6 for one, two in pairwise(parts))
    picture = drawn(found, several=False)
    boxes = [*picture["gaps"], *(box for row in picture["rows"] for box in row["spells"])]
    assert all(0 <= x <= WIDTH and width > 0 and x + width <= WIDTH + 1.01 for x, width, _ in boxes)
