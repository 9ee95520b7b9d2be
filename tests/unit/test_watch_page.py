"""The page of `heirflow watch` as text, and what keys do to it: no terminal, no store, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.cells import cell_len

from heirflow.election.record import Event, MemberRow, Place, Reading, Record, What
from heirflow.status import Snapshot
from heirflow.status.check import judged
from heirflow.status.seen import sorted_by_need
from heirflow.terminal.keyboard import keys_in
from heirflow.terminal.page import Away, Kind, Page, Seen, Shown, Wish, lines
from heirflow.terminal.page.columns import Column, fitted, wrapped

NOW = 1_000_000.0
WHY = "dora-51fe09 was killed, and its guard proved that the command is gone"
SIZES = [(40, 24), (80, 24), (120, 40), (40, 8), (80, 5), (12, 4), (200, 60)]


def row(name: str, seniority: int, **more: object) -> MemberRow:
    fields = {"ready": True, "joined_at": NOW - 60, "silent_s": 1.0, **more}
    return MemberRow(id=name, seniority=seniority, host=f"host-{name}", pid=seniority, **fields)  # type: ignore[arg-type]


def election(
    name: str,
    *members: str | MemberRow,
    leader: str | None = "",
    others: Sequence[Place] = (),
    events: int = 3,
    store: int = 0,
    **record: object,
) -> Shown:
    """The first member leads, unless `leader` says who does."""
    rows = tuple(row(each, place) if isinstance(each, str) else each for place, each in enumerate(members, 1))
    first = Record(5, 7, (rows[0].id if rows else None) if leader == "" else leader, 10.0, WHY)
    first = replace(first, **record)  # type: ignore[arg-type]
    reading = Reading(
        first, rows, written_at=NOW - 1.8, since=NOW - 300, db_now=NOW, seats=1 + len(others), others=tuple(others)
    )
    happened = tuple(Event(What.TOOK_CHARGE, 7 - ago, "a", WHY, 0.1, at=NOW - 300 - 60 * ago) for ago in range(events))
    snapshot = Snapshot.of(name, reading)
    verdict = judged(snapshot, ())
    return Shown(snapshot, int(verdict.level), verdict.state, happened[::-1], store)


def seats(name: str = "seats") -> Shown:
    second = Place(Record(3, 4, "b", 10.0, WHY), NOW - 200, NOW - 6)
    third = Place(Record(3, 2, None, 10.0, "c released it"), NOW - 50, NOW - 50)
    return election(name, "a", "b", "c", others=(second, third))


def page(*elections: Shown, keys: Sequence[str] = (), away: tuple[Away, ...] = ()) -> Page:
    made = Page()
    made.look(Seen(sorted_by_need(elections), away, at=NOW))
    for key in keys:
        made.press(key)
    return made


def text(made: Page, width: int = 80, height: int = 24) -> str:
    return "\n".join(line.plain.rstrip() for line in lines(made, width, height, NOW))


def many(count: int) -> list[Shown]:
    return [election(f"election-{number:02}", "a", "b") for number in range(count)]


PAGES = {
    "nothing yet": Page,
    "no election": page,
    "one member": lambda: page(election("beat", "a")),
    "three members": lambda: page(election("beat", "a", "b", "c")),
    "fifty members": lambda: page(election("beat", *(f"member-{n:02}" for n in range(50)))),
    "twenty elections": lambda: page(*many(20)),
    "twenty, one whole": lambda: page(*many(20), keys=["G", "enter"]),
    "seats": lambda: page(seats()),
    "seats and more": lambda: page(seats(), *many(3)),
    "help": lambda: page(*many(3), keys=["?"]),
    "question": lambda: page(*many(3), keys=["s"]),
    "said": lambda: page(election("beat", leader=None), keys=["s"]),
    "away": lambda: page(*many(3), away=(Away(0, "no answer within 5 s " * 9, NOW - 75, NOW - 77),)),
    "never seen": lambda: page(away=(Away(0, "no answer within 5 s", NOW - 75, None),)),
    "long names": lambda: page(election("e" * 100, "m" * 100, "n" * 100), election("x", "a"), keys=["s"]),
    "wide": lambda: page(election("選挙の名前" * 6, "会員" * 20, "b"), election("x", "a"), keys=["d"]),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", PAGES)
def test_it_is_as_high_as_the_terminal_and_never_wider(name: str, size: tuple[int, int]) -> None:
    drawn = lines(PAGES[name](), *size, NOW)
    assert len(drawn) == size[1]
    assert max(cell_len(line.plain) for line in drawn) <= size[0]


def test_all_elections_at_80_columns() -> None:
    seen = text(page(election("airflow-scheduler", "ada", "ben", "cleo"), election("nightly", "ada", leader=None)))
    first, head, *rest = seen.splitlines()
    assert first.startswith("HeirFlow   2 elections, 1 needs somebody") and "every 2 s" in first
    assert head.split("  ")[1] == "election" and "lease left" in head
    assert rest[0].split() == [">", "nightly", "nobody", "leads", "–", "7", "–", "ada", "1"]
    assert "airflow-scheduler  led           ada        7       8.2 s  ben         3" in rest[1]
    assert "nobody leads; ada takes charge at once" in seen, "the promise of the chosen one"
    assert "took charge  a (0.1 s): dora-51fe09 was killed" in seen
    assert rest[-1].startswith("j/k choose   Enter whole   s switchover")


def test_one_election_at_40_columns() -> None:
    seen = text(page(election("beat", "ada-3f9c21", "ben-77d0e4")), 40, 24)
    assert "  place  member     term lease heard\n> leader ada-3f9c21    7 8.2 s 1.0 s\n" in seen
    assert "heir ben-77d0e4 takes charge within 12" in seen
    assert seen.endswith("j/k Esc s p d ? q")


def test_seats_at_40_columns() -> None:
    seen = text(page(seats()), 40, 30)
    assert "  # place  member term lease heard able\n> 1 leader a         7 8.2 s 1.0 s yes\n" in seen
    assert "  3 vacant –         2     –" in seen


def test_at_120_columns_nothing_is_left_out() -> None:
    shown = election("beat", row("a", 1, label="rack 1"), "b")
    head = next(line for line in text(page(shown), 120).splitlines() if "place" in line)
    assert head.split() == ["place", "member", "host", "term", "lease", "left", "check-in", "since", "able", "label"]


def test_those_that_need_somebody_come_first() -> None:
    idle = '{"runs": false, "because": "its command ended 5 times in a row"}'
    made = page(
        election("a-well", "a", "b"),
        election("b-paused", "a", "b", paused=True),
        election("c-no-heir", "a"),
        election("d-runs-nothing", row("a", 1, note=idle), "b"),
        election("e-nobody", "a", leader=None),
    )
    assert made.seen is not None
    assert [shown.snapshot.election[0] for shown in made.seen.elections] == ["e", "d", "c", "b", "a"]
    assert "5 elections, 4 need somebody" in text(made)


def test_each_seat_has_its_row_and_the_line_follows() -> None:
    seen = text(page(seats()))
    assert "seats   3 seats   2 led: seat 3 is vacant" in seen
    rows = [line[2:].split()[:3] for line in seen.splitlines() if line[:1] in "> " and line[2:].strip()]
    assert [each for each in rows if each[0] in {"1", "2", "3", "heir"}] == [
        ["1", "leader", "a"],
        ["2", "leader", "b"],
        ["3", "vacant", "–"],
        ["heir", "c", "host-c"],
    ]
    assert "seat not led  2 of 3" in text(page(seats(), *many(1)))


def test_the_chosen_one_is_seen_among_fifty_and_twenty() -> None:
    made = page(election("beat", *(f"member-{n:02}" for n in range(50))), keys=["G"])
    assert "> 50th" in text(made) and "of 50 in the line" in text(made)
    assert "> 50th" in text(made, 40, 12)
    assert "> election-19" in text(page(*many(20), keys=["end"]))
    assert "> election-10" in text(page(*many(20), keys=["page down"]), 40, 10)


def test_what_is_chosen_stays_chosen_where_it_moves() -> None:
    made = page(*many(3), keys=["j"])
    assert made.chosen is not None and made.chosen.snapshot.election == "election-01"
    made.look(Seen(sorted_by_need([*many(1), election("election-01", "a"), election("z", leader=None)])))
    assert made.chosen is not None and made.chosen.snapshot.election == "election-01"
    made.press("enter")
    made.look(Seen(sorted_by_need(many(1))))
    assert not made.whole and made.said == "the election that was shown is no more"

    made = page(election("beat", "a", "b", "c"), keys=["j"])
    assert made.standing is not None and made.standing.member == "b"
    made.look(Seen((election("beat", "a", "b", "c", leader="b"),)))
    assert made.standing.member == "b", "it leads now, and is the one that was chosen"


def test_a_store_that_is_away_is_told_with_since_when() -> None:
    seen = text(page(election("beat", "a"), away=(Away(0, "no answer within 5 s", NOW - 75, NOW - 77),)), 200)
    assert "The store has been away since " in seen
    assert "(1 min 15 s); what is shown is of " in seen and ": no answer within 5 s" in seen
    assert "beat   term 7" in seen, "what was seen last stays"
    gone = Away(0, "there is no election 'beat'", NOW - 75, NOW - 77, answers=True)
    _, told, *_ = text(page(election("beat", "a"), away=(gone,)), 200).splitlines()
    assert told.startswith("Since ") and told.endswith(": there is no election 'beat'")


class TestOrders:
    def asked(self, made: Page, *keys: str) -> str:
        for key in keys:
            assert made.press(key) is None
        return made.question.text if made.question is not None else made.said

    def test_nothing_is_ordered_without_a_yes(self) -> None:
        for no in ("n", "escape", "q", "enter", "s", "Y", "up"):
            made = page(election("beat", "a", "b"))
            assert self.asked(made, "s") == "Switchover of beat: a hands over to the next in line (b)?"
            assert text(made).splitlines()[-1] == f"{made.question.text} y/n"  # type: ignore[union-attr]
            assert made.press(no) is None
            assert (made.question, made.said) == (None, "no order was given")

    def test_switchover(self) -> None:
        made = page(election("beat", "a", "b", "c"), keys=["j", "j"])
        assert self.asked(made, "s") == "Switchover of beat: a hands over to c?"
        assert made.press("y") == Wish(Kind.SWITCHOVER, (0, "beat"), "c", "a")
        assert self.asked(page(election("beat", "a", leader=None)), "s") == "nobody leads now, so nobody can hand over"

    def test_switchover_of_seats_needs_the_one_that_hands_over(self) -> None:
        made = page(seats(), *many(1))
        assert "choose the leader that hands over" in self.asked(made, "g", "s")
        assert made.whole
        assert self.asked(made, "j", "s") == "Switchover of seat 2 of seats: b hands over to the next in line (c)?"
        assert made.press("y") == Wish(Kind.SWITCHOVER, (0, "seats"), None, "b")
        assert self.asked(made, "j", "s") == "seat 3 is vacant, so nobody can hand over"
        assert "choose the leader that hands over" in self.asked(made, "j", "s")

    def test_pause_and_resume(self) -> None:
        made = page(*many(2), keys=["j"])
        assert self.asked(made, "p").startswith("Pause election-01? Nobody changes place until")
        assert made.press("y") == Wish(Kind.PAUSE, (0, "election-01"))
        made = page(election("beat", "a", paused=True))
        assert self.asked(made, "p") == "Resume beat?"
        assert made.press("y") == Wish(Kind.RESUME, (0, "beat"))

    def test_drain_is_of_a_member(self) -> None:
        made = page(*many(2))
        assert self.asked(made, "d") == "choose the member, then d drains it"
        assert self.asked(made, "d").endswith("It leads, and hands over as soon as another member is ready.")
        made.press("n")
        assert self.asked(made, "j", "d") == "Drain b? It does not take charge until that is taken back."
        assert made.press("y") == Wish(Kind.DRAIN, (0, "election-00"), "b")
        made = page(election("beat", "a", row("b", 2, drained=True)), keys=["j", "d"])
        assert made.press("y") == Wish(Kind.UNDRAIN, (0, "beat"), "b")

    def test_the_question_is_about_what_was_seen_when_it_was_asked(self) -> None:
        made = page(*many(2), keys=["j", "p"])
        made.look(Seen((election("z", leader=None),)))
        assert made.press("y") == Wish(Kind.PAUSE, (0, "election-01"))

    def test_a_store_that_is_away_takes_no_orders(self) -> None:
        made = page(election("beat", "a", "b"), away=(Away(0, "gone", NOW, NOW),))
        for key in "spd":
            assert self.asked(made, key).startswith("what is shown is out of date")

    def test_in_an_empty_store(self) -> None:
        made = page()
        for key in ("s", "p", "d"):
            assert self.asked(made, key) == "there is no election here"
        for key in ("j", "enter", "escape", "G", "x"):
            assert self.asked(made, key) == ""


def test_help_and_leaving() -> None:
    made = page(*many(2), keys=["?"])
    assert "drain the chosen member" in text(made)
    assert made.press("?") is None and not made.helps
    made.press("?")
    assert made.press("q") == Wish(Kind.LEAVE)
    assert page(*many(2), keys=["enter", "escape"]).whole is False


def test_nothing_that_stands_in_a_row_speaks_to_the_terminal() -> None:
    evil = row("b\x1b[2J", 2, label="\x07[red]")
    seen = text(page(election("e\x1b]0;x\x07", "a", evil), keys=["j", "d"]), 120)
    assert all(character.isprintable() for character in seen.replace("\n", ""))
    assert "[red]" in seen


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"jk", ["j", "k"]),
        (b"\x1b[A\x1bOB\x1b[5~\x1b[6~\x1b[H\x1b[F", ["up", "down", "page up", "page down", "home", "end"]),
        (b"\r\n\x7f\x1b", ["enter", "enter", "escape", "escape"]),
        (b"\x1b[200~sy\x1b[201~", ["s", "y"]),
        (b"\x1b[1;5A\x1b[<0;1;1M\x00\x01", []),
        ("ü日y".encode(), ["y"]),
        (b"\x1b\x1b[A", ["escape", "up"]),
    ],
)
def test_keys(data: bytes, keys: list[str]) -> None:
    assert keys_in(data) == keys


def test_columns_give_way_in_their_order_and_cells_are_cut() -> None:
    columns = (Column("name", least=4, keep=3), Column("what", keep=1), Column("n", keep=2, right=True))
    rows = [["a-long-name", "leads", "7"], ["b", "", "12"]]
    assert fitted(columns, rows, 80).line(rows[0]) == "a-long-name  leads   7"
    assert fitted(columns, rows, 15).line(rows[0]) == "a-lon… leads  7"
    assert fitted(columns, rows, 8).line(rows[0]) == "a-lo…  7"
    assert fitted(columns, [["x", "", "1"]], 80).head() == "name  n"


def test_sentences_are_wrapped_and_what_has_no_room_is_seen_to_be_missing() -> None:
    assert [line.plain for line in wrapped("one two three", 7)] == ["one two", "three"]
    assert [line.plain for line in wrapped("one two three four five", 9, most=2)] == ["one two", "three fo…"]
    assert [line.plain for line in wrapped("x" * 25, 10, hanging=2)] == ["x" * 10, "  " + "x" * 8, "  " + "x" * 7]
    assert [line.plain for line in wrapped("", 10)] == [""]
