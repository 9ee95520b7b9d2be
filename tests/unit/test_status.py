"""The snapshot: places, ages and the promise, from one reading."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from heirflow.election.record import ANYONE, MemberRow, Reading, Record
from heirflow.status import Snapshot, duration, ordinal
from heirflow.terminal.line import headline, plain
from heirflow.terminal.tables import plain_table

NOW = 1_000_000.0
RECORD = Record(version=5, term=7, leader="a", ttl_s=10, because="it is the first of its line")


def row(name: str, seniority: int, **more: object) -> MemberRow:
    fields = {"ready": True, "joined_at": NOW - 60, "silent_s": 1.0, **more}
    return MemberRow(id=name, seniority=seniority, host=f"host-{name}", pid=seniority, **fields)  # type: ignore[arg-type]


LINE = (row("a", 1), row("b", 2), row("c", 3), row("d", 4))


def reading(record: Record | None = RECORD, members: tuple[MemberRow, ...] = LINE, renewed_s: float = 1.0) -> Reading:
    return Reading(record, members, written_at=NOW - renewed_s, since=NOW - 300, db_now=NOW)


def places(snapshot: Snapshot) -> dict[str, str]:
    return {shown.member: shown.place for shown in snapshot.succession}


def test_leader_heir_and_the_rest_of_the_line() -> None:
    snapshot = Snapshot.of("beat", reading())
    assert places(snapshot) == {"a": "leader", "b": "heir", "c": "3rd", "d": "4th"}
    assert [shown.rank for shown in snapshot.succession] == [1, 2, 3, 4]
    assert snapshot.promise == "heir b takes charge within 12 s; at once on a clean end"
    assert snapshot.succession[0].since_s == 300
    assert snapshot.succession[1].since_s == 60


def test_the_leader_may_be_the_youngest() -> None:
    snapshot = Snapshot.of("beat", reading(replace(RECORD, leader="d")))
    assert list(places(snapshot).items()) == [("d", "leader"), ("a", "heir"), ("b", "3rd"), ("c", "4th")]


def test_who_has_no_place() -> None:
    members = (
        row("a", 1),
        row("b", 2, silent_s=60.0),
        row("c", 3, drained=True),
        row("d", 4, ready=False),
        row("e", 5, drained=True, silent_s=99.0),
    )
    snapshot = Snapshot.of("beat", reading(members=members))
    assert places(snapshot) == {"a": "leader", "b": "silent", "c": "drained", "d": "not ready", "e": "silent"}
    assert snapshot.heir is None
    assert snapshot.promise == "no heir is ready: when a ends, nobody takes charge"


def test_the_chosen_one_goes_first() -> None:
    snapshot = Snapshot.of("beat", reading(replace(RECORD, switchover_to="c")))
    assert places(snapshot) == {"a": "leader", "c": "heir", "b": "3rd", "d": "4th"}
    assert snapshot.promise == "switchover to c under way"


@pytest.mark.parametrize(
    ("changes", "members", "renewed_s", "promise"),
    [
        ({"paused": True}, LINE, 1, "paused: nobody changes place until `heirflow resume`"),
        ({"leader": None}, LINE, 1, "nobody leads; a takes charge at once"),
        ({"leader": None}, (), 1, "nobody leads and nobody is ready to lead"),
        ({}, LINE, 14, "a has been silent for 14 s; b takes charge now"),
        ({}, LINE[:1], 14, "a has been silent for 14 s and nobody is ready to take charge"),
        ({"switchover_to": ANYONE}, LINE, 1, "switchover to the next in line under way"),
        ({"ttl_s": 3.0}, LINE, 1, "heir b takes charge within 3.6 s; at once on a clean end"),
    ],
)
def test_the_promise(
    changes: dict[str, object], members: tuple[MemberRow, ...], renewed_s: float, promise: str
) -> None:
    record = replace(RECORD, **changes)  # type: ignore[arg-type]
    assert Snapshot.of("beat", reading(record, members, renewed_s)).promise == promise


def test_a_leader_without_a_row_leads_all_the_same() -> None:
    snapshot = Snapshot.of("beat", reading(members=LINE[1:]))
    assert snapshot.succession[0].member == "a"
    assert snapshot.succession[0].silent


def test_before_the_first_leader() -> None:
    assert Snapshot.of("beat", reading(None, LINE[:1])).promise == "nobody has led yet; a takes charge next"
    assert Snapshot.of("beat", reading(None, ())).promise == "nobody has led yet and nobody is ready"


def test_a_clock_that_went_back_shows_no_negative_age() -> None:
    snapshot = Snapshot.of("beat", replace(reading(members=(row("a", 1, silent_s=-5.0),)), db_now=NOW - 9999))
    assert snapshot.succession[0].last_check_in_s == 0
    assert snapshot.succession[0].since_s == 0


def test_it_can_be_json() -> None:
    data = json.loads(json.dumps(Snapshot.of("beat", reading()).to_json()))
    assert data["succession"][1]["place"] == "heir"
    assert data["leader"] == "a"


def test_as_text() -> None:
    text = plain([Snapshot.of("beat", reading(members=(LINE[0], row("b", 2, label="日本\x1b[2J"))))])
    assert text.splitlines() == [
        "beat   term 7   led by a",
        "heir b takes charge within 12 s; at once on a clean end",
        "place   member  host    since       able  last check-in  label",
        "leader  a       host-a  5 min 00 s  yes   1.0 s ago",
        "heir    b       host-b  1 min 00 s  yes   1.0 s ago      日本\\x1b[2J",
        "because: it is the first of its line",
    ]
    assert "label" not in plain([Snapshot.of("beat", reading())])
    assert "PAUSED" in headline(Snapshot.of("beat", reading(replace(RECORD, paused=True))))


def test_wide_characters_keep_the_columns() -> None:
    assert plain_table(("a", "b"), [("日本", "x"), ("abcd", "y")]).splitlines() == ["a     b", "日本  x", "abcd  y"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (0, "0 ms"), (0.0421, "42 ms"), (0.42, "0.4 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"),
        (200, "3 min 20 s"), (3599.7, "1 h 00 min"), (18_120, "5 h 02 min"), (273_600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_durations_that_a_person_reads(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_ordinals() -> None:
    assert [ordinal(number) for number in (3, 4, 11, 12, 21, 22, 103, 111)] == [
        "3rd", "4th", "11th", "12th", "21st", "22nd", "103rd", "111th",
    ]  # fmt: skip


@pytest.mark.parametrize(("ttl_s", "healthy_s"), [(10, 5.5), (60, 33)])
def test_what_counts_as_silent_follows_the_ttl(ttl_s: float, healthy_s: float) -> None:
    record, members = replace(RECORD, ttl_s=ttl_s), (row("a", 1), row("b", 2, silent_s=healthy_s))
    assert places(Snapshot.of("beat", reading(record, members)))["b"] == "heir"
    late = (members[0], replace(members[1], silent_s=healthy_s + 0.1))
    assert places(Snapshot.of("beat", reading(record, late)))["b"] == "silent"


def test_silent_is_judged_by_each_members_own_interval() -> None:
    slow = {"ttl_s": 60, "check_in_s": 12, "version": "0.1.0", "command": "beat#000001"}
    quick = {**slow, "ttl_s": 3.0, "check_in_s": 0.6}
    record = replace(RECORD, ttl_s=3)
    members = (
        row("a", 1, silent_s=0.5, note=json.dumps({"runs": True, "settings": quick})),
        row("b", 2, silent_s=11.0, note=json.dumps({"settings": slow})),
        row("c", 3, silent_s=34.0, note=json.dumps({"settings": slow})),
    )
    snapshot = Snapshot.of("beat", reading(record, members, renewed_s=0.5))
    assert places(snapshot) == {"a": "leader", "b": "heir", "c": "silent"}
    assert snapshot.differences == ("members differ in ttl: 3 s (a), 60 s (b)",)
    assert snapshot.differences[0] in plain([snapshot])
    assert snapshot.promise == "heir b takes charge within 15 s; at once on a clean end", "it looks every 12 s"


def test_a_quick_member_is_silent_soon_beside_a_slow_leader() -> None:
    quick = {"ttl_s": 3.0, "check_in_s": 0.6}
    members = (row("a", 1), row("b", 2, silent_s=2.0, note=json.dumps({"settings": quick})))
    assert places(Snapshot.of("beat", reading(replace(RECORD, ttl_s=60), members)))["b"] == "silent"


@pytest.mark.parametrize(
    "said", [None, 7, {"check_in_s": "2"}, {"check_in_s": True}, {"check_in_s": -1}, {"check_in_s": 1e9}]
)
def test_odd_settings_are_as_none(said: object) -> None:
    assert row("a", 1, note=json.dumps({"settings": said})).check_in_s is None


def test_different_commands_and_versions_are_told() -> None:
    members = tuple(
        row(name, number, note=json.dumps({"settings": {"command": command, "version": version}}))
        for number, (name, command, version) in enumerate(
            [("a", "beat#000001", "0.1.0"), ("b", "beat#000002", "0.1.0"), ("c", "beat#000002", "0.2.0")], 1
        )
    )
    assert Snapshot.of("beat", reading(members=members)).differences == (
        "members differ in command: beat#000001 (a), beat#000002 (b, c)",
        "members differ in version: 0.1.0 (a, b), 0.2.0 (c)",
    )


def test_different_partitions_are_told() -> None:
    """Two that came at the same moment; one of them leaves soon."""
    members = tuple(
        row(name, number, note=json.dumps({"settings": {"partition": told}}))
        for number, (name, told) in enumerate([("a", "--bundle-name x"), ("b", ""), ("c", "--bundle-name x")], 1)
    )
    found = Snapshot.of("beat", reading(members=members))
    assert found.differences == ("members differ in partition: --bundle-name x (a, c), none (b)",)
    assert found.succession[0].settings == {"partition": "--bundle-name x"}


STUCK = "the command is not gone: process 12 was killed and is still there"


def noted(**note: object) -> tuple[MemberRow, ...]:
    return (row("a", 1, note=json.dumps(note)), *LINE[1:])


def test_a_leader_that_runs_nothing_is_told_first() -> None:
    snapshot = Snapshot.of("beat", reading(members=noted(runs=False, because=STUCK)))
    assert (snapshot.runs, snapshot.succession[0].runs, snapshot.succession[0].because) == (False, False, STUCK)
    assert snapshot.promise == f"a leads, runs nothing, because {STUCK}; heir b takes charge when a ends"
    assert headline(snapshot) == "beat   term 7   led by a, which runs nothing"
    assert plain([snapshot]).splitlines()[2].split()[4:7] == ["5", "min", "00"] or "no" in plain([snapshot])
    alone = Snapshot.of("beat", reading(members=noted(runs=False, because=STUCK)[:1]))
    assert (
        alone.promise == f"a leads, runs nothing, because {STUCK}; no heir is ready: when a ends, nobody takes charge"
    )


def test_so_it_is_while_paused() -> None:
    snapshot = Snapshot.of("beat", reading(replace(RECORD, paused=True), noted(runs=False, because=STUCK)))
    assert (
        snapshot.promise
        == f"a leads, runs nothing, because {STUCK}; paused: nobody changes place until `heirflow resume`"
    )


def test_a_crash_loop_is_told_while_it_runs() -> None:
    snapshot = Snapshot.of("beat", reading(members=noted(runs=True, because="the command has ended 4 times in a row")))
    assert snapshot.runs is True
    assert snapshot.promise == (
        "heir b takes charge within 12 s; at once on a clean end; a: the command has ended 4 times in a row"
    )


def test_a_silent_leader_is_told_as_silent() -> None:
    snapshot = Snapshot.of("beat", reading(members=noted(runs=False, because=STUCK), renewed_s=14))
    assert snapshot.promise == "a has been silent for 14 s; b takes charge now"


@pytest.mark.parametrize(
    "note", ["", "words", "[1]", "{", "[" * 100_000, '{"runs": "no", "because": 7}', '{"job_id": 7}']
)
def test_a_note_of_another_kind_says_nothing_of_the_work(note: str) -> None:
    snapshot = Snapshot.of("beat", reading(members=(row("a", 1, note=note), *LINE[1:])))
    assert (snapshot.runs, snapshot.succession[0].because) == (None, "")
    assert snapshot.promise == "heir b takes charge within 12 s; at once on a clean end"
    assert headline(snapshot) == "beat   term 7   led by a"


def test_who_is_not_ready_says_why() -> None:
    members = (LINE[0], row("b", 2, ready=False, note='{"because": "its standby is not at its gate"}'))
    snapshot = Snapshot.of("beat", reading(members=members))
    assert snapshot.succession[1].because == "its standby is not at its gate"
    assert "b: its standby is not at its gate" in plain([snapshot])


def test_a_dead_line_is_not_led() -> None:
    members = (row("a", 1, silent_s=480.0, note='{"runs": true}'),)
    snapshot = Snapshot.of("beat", reading(members=members, renewed_s=480))
    assert (snapshot.leader, snapshot.expired, snapshot.last_leader, snapshot.runs) == (None, True, "a", None)
    assert (places(snapshot), snapshot.succession[0].able) == ({"a": "expired"}, False)
    assert headline(snapshot) == "beat   term 7   nobody leads: the lease of a has ended"
    assert snapshot.promise == "a has been silent for 8 min 00 s and nobody is ready to take charge"


def test_a_lease_that_has_ended_has_an_heir_all_the_same() -> None:
    snapshot = Snapshot.of("beat", reading(renewed_s=10.1))
    assert (snapshot.leader, snapshot.heir, snapshot.expired) == (None, "b", True)
    still = Snapshot.of("beat", reading(renewed_s=9.9))
    assert (still.leader, still.expired, still.last_leader) == ("a", False, "a")


def test_paused_and_nobody_leads() -> None:
    paused = replace(RECORD, paused=True)
    after = "paused: nobody takes charge until `heirflow resume`"
    assert Snapshot.of("beat", reading(paused, renewed_s=14)).promise == f"a has been silent for 14 s; {after}"
    vacant = Snapshot.of("beat", reading(replace(paused, leader=None)))
    assert (vacant.promise, vacant.expired, vacant.last_leader) == (f"nobody leads; {after}", False, None)
    assert headline(vacant) == "beat   term 7   nobody leads   PAUSED"


def test_ready_and_able_are_what_a_probe_says() -> None:
    members = (
        row("a", 1, ready=False, note=json.dumps({"runs": True})),
        row("b", 2),
        row("c", 3, drained=True),
        row("d", 4, ready=False),
        row("e", 5, silent_s=60.0),
    )
    shown = Snapshot.of("beat", reading(members=members)).succession
    found = {each.member: (each.ready, each.able) for each in shown}
    assert found == {
        "a": (True, True), "b": (True, True), "c": (True, False), "d": (True, False), "e": (False, False),
    }  # fmt: skip
    stuck = Snapshot.of("beat", reading(members=noted(runs=False, because=STUCK))).succession[0]
    assert (stuck.ready, stuck.able) == (False, False)
