"""The history as rows of a table: in the order in which things happened, a crash loop as one row that counts."""

from __future__ import annotations

from dataclasses import replace

from heirflow.cli.history import _line_of
from heirflow.election.record import Event, What
from heirflow.status.history import Row, added, facts_of, in_order, rows_of
from heirflow.terminal.history import HEAD, cells_of, table_of

CRASH = Event(What.RESTARTED, 4, "a", "it exited with 1", at=1000.0)
TOOK = Event(What.TOOK_CHARGE, 4, "a", "nobody led", at=900.0)


def crashes(*times: int, term: int = 4) -> list[Event]:
    return [replace(CRASH, at=1000.0 + number, times=number, term=term) for number in times]


def test_a_crash_loop_is_one_row_that_counts() -> None:
    ordered = Event(What.ORDERED, 4, "ann", "pause", at=1003.0)
    took, middle, loop = rows_of([TOOK, *crashes(1, 2), ordered, *crashes(4, 8)])
    assert (took.event, middle.event, loop.event) == (TOOK, ordered, crashes(8)[0])
    assert loop.since == 1001.0
    assert "; 8 times in a row since " in cells_of(loop)[-1]
    assert (facts_of(loop)["times"], facts_of(loop)["since"], facts_of(loop)["at"]) == (8, 1001.0, 1008.0)
    assert (facts_of(took)["times"], facts_of(took)["since"]) == (1, 900.0)


def test_another_loop_is_another_row() -> None:
    first, again = crashes(1, 2, 4), crashes(1, 2)
    assert [row.event.times for row in rows_of([*first, *again])] == [4, 2]
    assert [row.event.times for row in rows_of([*crashes(1, 2), *crashes(1, 2, term=5)])] == [2, 2]
    apart = [replace(CRASH, at=1000.0), replace(CRASH, at=2000.0)]
    assert [row.event for row in rows_of(apart)] == apart, "each of them had run well before"


def test_a_loop_whose_beginning_is_not_shown_says_how_often_all_the_same() -> None:
    for shown in ((16,), (16, 32), (8, 16, 64)):
        (row,) = rows_of(crashes(*shown))
        assert cells_of(row)[-1] == f"it exited with 1; {shown[-1]} times in a row"
        assert facts_of(row)["since"] is None


def test_the_order_is_that_of_what_happened() -> None:
    late = replace(TOOK, at=500.0, ago_s=600.0)
    odd = replace(TOOK, at=0.0)
    assert in_order([TOOK, odd, CRASH, late]) == [late, TOOK, odd, CRASH]


def test_what_is_new_is_told_once_though_the_latest_that_was_known_is_deleted() -> None:
    one, two, three, four = (replace(TOOK, term=number) for number in range(1, 5))
    assert added([one, two], [one, two, three, four]) == [three, four]
    assert added([one, two, three], [one, two, four]) == [four], "the third was deleted"
    assert added([one, two], [one, two]) == []
    assert added([], [one]) == [one]
    assert added([one], [three, four]) == [three, four]


def test_seats_are_told_only_where_there_are_several() -> None:
    second = replace(TOOK, seat=2, member="b")
    assert table_of(rows_of([TOOK])) == (HEAD, [cells_of(row) for row in rows_of([TOOK])])
    head, cells = table_of(rows_of([TOOK, second]))
    assert head == ("when", "seat", "term", "what", "member", "took", "because")
    assert [(each[1], each[2], each[4]) for each in cells] == [("1", "4", "a"), ("2", "4", "b")]
    assert [facts_of(row)["seat"] for row in rows_of([TOOK, second])] == [1, 2]
    lines = [_line_of(Row(second), seats=seats).split("  ") for seats in (False, True)]
    assert (lines[0][1], lines[1][1:3]) == ("4", ["seat 2", "4"])


def test_a_crash_loop_is_counted_for_each_seat() -> None:
    """The terms of two seats are numbers of their own, and one member may have led both."""
    second = [replace(each, seat=2) for each in crashes(1, 2)]
    rows = rows_of([*crashes(1), *second, *crashes(4)])
    assert [(row.event.seat, row.event.times, row.since) for row in rows] == [(2, 2, 1001.0), (1, 4, 1001.0)]


def loop_on_two_hosts(rounds: int) -> list[Event]:
    """Each of a and b leads in turn, and its command ends at once."""
    events = []
    for term in range(1, 2 * rounds + 1):
        member, number = "ab"[(term - 1) % 2], (term + 1) // 2
        events += [
            Event(What.TOOK_CHARGE, term, member, "it exited with 1", 0.1, at=1000.0 + 10 * term),
            Event(What.RELEASED, term, member, "it exited with 1", at=1001.0 + 10 * term, times=number),
        ]
    return events


def test_a_crash_loop_that_changes_hosts_is_a_row_for_each_that_counts() -> None:
    rows = rows_of(loop_on_two_hosts(50))
    assert [(row.event.what, row.event.term, row.event.member, row.event.times) for row in rows] == [
        (What.TOOK_CHARGE, 1, "a", 1),
        (What.TOOK_CHARGE, 2, "b", 1),
        (What.RELEASED, 99, "a", 50),
        (What.RELEASED, 100, "b", 50),
    ]
    assert [row.since for row in rows[2:]] == [1011.0, 1021.0]
    assert "; 50 times in a row since " in cells_of(rows[2])[-1]
    assert rows_of([*loop_on_two_hosts(2), TOOK])[-1].event == TOOK


def test_other_releases_of_a_member_are_rows_of_their_own() -> None:
    ordered = [replace(event, times=1) for event in loop_on_two_hosts(3)]
    assert [row.event for row in rows_of(ordered)] == ordered
    again = [*loop_on_two_hosts(2), *(replace(event, term=event.term + 4) for event in loop_on_two_hosts(1))]
    counted = [row.event.times for row in rows_of(again) if row.event.what is What.RELEASED]
    assert counted == [2, 2, 1, 1], "it ran well in between"
