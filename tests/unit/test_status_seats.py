"""The snapshot of an election with several seats: each seat first, then the heirs of all, and one promise for the whole."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from heirflow.election.record import ANYONE, MemberRow, Place, Reading, Record
from heirflow.status import Snapshot
from heirflow.terminal.line import headline, plain
from tests.schemas import conforms

NOW = 1_000_000.0
FIRST = Record(version=5, term=7, leader="a", ttl_s=10, because="it is the first of its line")
SECOND = Record(version=9, term=4, leader="b", ttl_s=10, because="d was silent for 10.4 s")
NEVER = Record(version=1, term=0, leader=None, ttl_s=10, because="nobody has taken this seat yet")


def row(name: str, seniority: int, **more: object) -> MemberRow:
    fields = {"ready": True, "joined_at": NOW - 60, "silent_s": 1.0, **more}
    return MemberRow(id=name, seniority=seniority, host=f"host-{name}", pid=seniority, **fields)  # type: ignore[arg-type]


LINE = (row("a", 1), row("b", 2), row("c", 3), row("d", 4))


def place(record: Record | None, renewed_s: float = 1.0, since_s: float = 200.0) -> Place:
    return Place(record, NOW - since_s, NOW - renewed_s) if record is not None else Place(None)


def reading(
    *others: Place | Record | None, first: Record | None = FIRST, members: tuple[MemberRow, ...] = LINE, seats: int = 2
) -> Reading:
    """The first seat was renewed a second ago, and its leader changed 300 s ago."""
    places = tuple(each if isinstance(each, Place) else place(each) for each in others or (SECOND,))
    since, written_at = (NOW - 300, NOW - 1) if first is not None else (0.0, 0.0)
    return Reading(
        first, members, written_at=written_at, since=since, db_now=NOW, seats=seats, others=places
    )  # fmt: skip


def look(*others: Place | Record | None, **more: object) -> Snapshot:
    return Snapshot.of("beat", reading(*others, **more))  # type: ignore[arg-type]


def places(snapshot: Snapshot) -> dict[str, str]:
    return {shown.member: shown.place for shown in snapshot.succession}


def test_one_seat_is_the_election_as_it_always_was() -> None:
    one = Reading(FIRST, LINE, written_at=NOW - 1, since=NOW - 300, db_now=NOW)
    snapshot = Snapshot.of("beat", one)
    assert (snapshot.seats, len(snapshot.by_seat), snapshot.several) == (1, 1, False)
    [seat] = snapshot.by_seat
    assert (seat.seat, seat.leader, seat.term, seat.since, seat.ttl_s) == (1, "a", 7, NOW - 300, 10)
    assert [shown.seat for shown in snapshot.succession] == [1, None, None, None]
    text = plain([snapshot])
    assert text.splitlines()[0] == "beat   term 7   led by a"
    assert text.splitlines()[2].split()[:2] == ["place", "member"]


def test_every_seat_and_then_the_heirs_of_all() -> None:
    snapshot = look()
    assert places(snapshot) == {"a": "leader", "b": "leader", "c": "heir", "d": "3rd"}
    assert [(shown.seat, shown.rank) for shown in snapshot.succession] == [(1, 1), (2, 1), (None, 2), (None, 3)]
    assert [(seat.seat, seat.leader, seat.term) for seat in snapshot.by_seat] == [(1, "a", 7), (2, "b", 4)]
    assert (snapshot.leader, snapshot.term, snapshot.heir, snapshot.seats) == ("a", 7, "c", 2)
    assert snapshot.promise == "heir c takes the first seat that falls free within 12 s; at once on a clean end"
    assert headline(snapshot) == "beat   2 seats   all led"


def test_as_text() -> None:
    assert plain([look()]).splitlines() == [
        "beat   2 seats   all led",
        "heir c takes the first seat that falls free within 12 s; at once on a clean end",
        "seat  term  place   member  host    since       able  last check-in",
        "1     7     leader  a       host-a  5 min 00 s  yes   1.0 s ago",
        "2     4     leader  b       host-b  3 min 20 s  yes   1.0 s ago",
        "            heir    c       host-c  1 min 00 s  yes   1.0 s ago",
        "            3rd     d       host-d  1 min 00 s  yes   1.0 s ago",
        "seat 1, because: it is the first of its line",
        "seat 2, because: d was silent for 10.4 s",
    ]


def test_it_can_be_json_as_its_schema_says() -> None:
    for one in (look(), look(NEVER), look(None), look(SECOND, seats=1), Snapshot.of("beat", Reading(FIRST, LINE))):
        data = json.loads(json.dumps(one.to_json()))
        conforms("status", {"elections": [data], "fence": None, "trouble": None})
    seat = json.loads(json.dumps(look().to_json()))["by_seat"][1]
    assert seat == {
        "seat": 2, "term": 4, "leader": "b", "last_leader": "b", "expired": False, "vacant": False, "over": False,
        "since": NOW - 200, "since_s": 200.0, "because": "d was silent for 10.4 s", "runs": None, "ttl_s": 10,
        "renewed_s": 1.0, "paused": False, "switchover_to": None,
    }  # fmt: skip


def test_a_seat_that_nobody_has_taken_yet() -> None:
    alone = look(NEVER, members=LINE[:1])
    assert (alone.by_seat[1].vacant, alone.by_seat[1].leader, alone.by_seat[1].expired) == (True, None, False)
    assert alone.promise == "seat 2 is vacant, and nobody is ready to take it"
    assert headline(alone) == "beat   2 seats   1 led: seat 2 is vacant"
    assert [line.split() for line in plain([alone]).splitlines()[3:5]] == [
        ["1", "7", "leader", "a", "host-a", "5", "min", "00", "s", "yes", "1.0", "s", "ago"],
        ["2", "0", "vacant", "3", "min", "20", "s"],
    ]
    assert look(NEVER).promise == (
        "seat 2 is vacant, and b takes it at once; c takes the next seat that falls free within 12 s; at once on a clean end"
    )
    assert look(None, members=LINE[:1]).promise == alone.promise, "a record that is not there is a vacant seat"
    assert look(members=LINE, seats=3).by_seat[2].vacant, "as many seats as there are, whatever the store has of them"


def test_a_lease_that_has_ended() -> None:
    snapshot = look(place(SECOND, renewed_s=14))
    assert [(seat.leader, seat.last_leader, seat.expired) for seat in snapshot.by_seat] == [
        ("a", "a", False), (None, "b", True),
    ]  # fmt: skip
    assert places(snapshot) == {"a": "leader", "b": "expired", "c": "heir", "d": "3rd"}
    assert snapshot.promise.startswith("seat 2: b has been silent for 14 s, and c takes it now; d takes the next seat")
    assert headline(snapshot) == "beat   2 seats   1 led: the lease of b on seat 2 has ended"
    first = Snapshot.of("beat", replace(reading(), written_at=NOW - 14))
    assert (first.leader, first.last_leader, first.expired, first.by_seat[1].leader) == (None, "a", True, "b")


def test_several_free_seats_go_to_as_many_heirs_the_longest_free_first() -> None:
    both = look(place(replace(SECOND, leader=None), since_s=900), first=replace(FIRST, leader=None))
    assert both.promise == (
        "seat 2 is vacant, and a takes it at once; seat 1 is vacant, and b takes it at once; "
        "c takes the next seat that falls free within 12 s; at once on a clean end"
    )
    assert headline(both) == "beat   2 seats   nobody leads: seat 1 is vacant; seat 2 is vacant"
    one = look(place(replace(SECOND, leader=None), since_s=900), first=replace(FIRST, leader=None), members=LINE[:1])
    assert one.promise == "seat 2 is vacant, and a takes it at once; seat 1 is vacant, and nobody is ready to take it"


def test_nobody_is_ready() -> None:
    snapshot = look(members=LINE[:2])
    assert (snapshot.heir, snapshot.promise) == (None, "no heir is ready: when a leader ends, nobody takes its seat")


STUCK = "the command is not gone: process 12 was killed and is still there"


def noted(name: str, **note: object) -> tuple[MemberRow, ...]:
    return tuple(replace(each, note=json.dumps(note)) if each.id == name else each for each in LINE)


def test_a_leader_that_runs_nothing_is_told_with_its_seat() -> None:
    snapshot = look(members=noted("b", runs=False, because=STUCK))
    assert [seat.runs for seat in snapshot.by_seat] == [None, False]
    assert snapshot.promise == (
        f"b leads seat 2, runs nothing, because {STUCK}; "
        "heir c takes the first seat that falls free within 12 s; at once on a clean end"
    )
    assert headline(snapshot) == "beat   2 seats   all led: b on seat 2 runs nothing"
    assert "leader, runs nothing" in plain([snapshot])


def test_a_crash_loop_is_told_while_it_runs() -> None:
    snapshot = look(members=noted("b", runs=True, because="the command has ended 4 times in a row"))
    assert snapshot.promise.endswith("; b: the command has ended 4 times in a row")


def test_a_leader_that_is_not_heard() -> None:
    snapshot = look(members=(LINE[0], replace(LINE[1], silent_s=7.0), *LINE[2:]))
    assert headline(snapshot) == "beat   2 seats   all led: b on seat 2 is silent for 7.0 s"
    assert snapshot.unheard == "", "that is about the first seat"
    gone = look(members=(LINE[0], *LINE[2:]))
    assert headline(gone) == "beat   2 seats   all led: b on seat 2 was never heard"


def test_paused() -> None:
    paused = look(replace(SECOND, paused=True), first=replace(FIRST, paused=True))
    assert (paused.paused, paused.promise) == (True, "paused: nobody changes place until `heirflow resume`")
    assert headline(paused) == "beat   2 seats   all led   PAUSED"
    assert "leader, paused" in plain([paused])
    vacant = look(replace(SECOND, leader=None, paused=True), first=replace(FIRST, paused=True))
    assert vacant.promise == "seat 2 is vacant; paused: nobody changes place until `heirflow resume`"
    half = look(replace(SECOND, paused=True))
    assert (half.paused, headline(half)) == (True, "beat   2 seats   all led: seat 2 is paused   PAUSED")


@pytest.mark.parametrize(
    ("target", "whom", "heirs"), [("d", "d", {"d": "heir", "c": "3rd"}), (ANYONE, "the next in line", {"c": "heir"})]
)
def test_a_switchover_of_one_seat(target: str, whom: str, heirs: dict[str, str]) -> None:
    snapshot = look(replace(SECOND, switchover_to=target))
    assert heirs.items() <= places(snapshot).items()
    assert snapshot.promise.startswith(f"switchover of seat 2 from b to {whom} under way; heir ")


def test_a_seat_over_the_number_of_seats() -> None:
    snapshot = look(SECOND, seats=1)
    assert (snapshot.seats, [seat.over for seat in snapshot.by_seat], snapshot.several) == (1, [False, True], True)
    assert snapshot.promise == (
        "heir c takes the first seat that falls free within 12 s; at once on a clean end; "
        "seat 2 is over the number of seats: b stops"
    )
    assert headline(snapshot) == "beat   1 seat   all led: b on seat 2 is over the number of seats and stops"
    assert "leader, over the number of seats: stops" in plain([snapshot])
    filler = look(replace(SECOND, leader=None), replace(SECOND, leader="c"), seats=1)
    assert [seat.seat for seat in filler.by_seat] == [1, 3], "an empty seat that there is not is not shown"
    gone = look(place(SECOND, renewed_s=14), seats=1)
    assert gone.promise.endswith("seat 2 is over the number of seats: b has been silent for 14 s, and nobody takes it")


def test_who_is_named_twice_stands_in_the_line_once() -> None:
    """A write of its own that landed late: it leads the other seat."""
    snapshot = look(place(replace(SECOND, leader="a"), renewed_s=14))
    assert [(shown.member, shown.seat) for shown in snapshot.succession if shown.seat] == [("a", 1)]
    assert plain([snapshot]).splitlines()[4].split()[:4] == ["2", "4", "expired", "a"]


def test_what_is_not_promised_of_any_of_them() -> None:
    assert "; never two is not promised: b may be unable" in look(members=noted("b", kill_is_sure=False)).promise
