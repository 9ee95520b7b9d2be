"""Each command on an election of several seats that stands in a store; nobody runs."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from heirflow.election.record import ANYONE, CheckIn, Event, Exchange, Record, Swap, What
from heirflow.stores import Store, open_store
from tests.cli.conftest import until

TOLD = {"ttl_s": 600.0, "check_in_s": 120.0, "version": "0.3.0", "command": "beat#000001"}


def joins(store: Store, *members: str, **told: object) -> None:
    note = json.dumps({"settings": {**TOLD, **told}})
    for name in members:
        store.exchange("beat", Exchange(check_in=CheckIn(name, f"host-{name}", 4242, True, note=note), join=True))


@pytest.fixture
def seated(store: Store) -> Callable[..., None]:
    """Write down an election of so many seats as if members had: `leaders` hold the first of them, and `heirs` stand in line."""

    def write(leaders: str, heirs: str = "", *, seats: int = 2) -> None:
        joins(store, *leaders, *heirs)
        for number, leader in enumerate(leaders, 1):
            took = Event(What.TOOK_CHARGE, 1, leader, "nobody led", seat=number)
            if number == 1:
                swap = Swap(None, Record(1, 1, leader, 600.0, "it is the first of its line"), took, seats=seats)
            else:
                swap = Swap(1, Record(2, 1, leader, 600.0, "nobody led"), took, seat=number)
            assert store.exchange("beat", Exchange(swap=swap)).swapped

    return write


def records(store: Store) -> dict[int, Record]:
    places = store.exchange("beat", Exchange()).places
    return {number: place.record for number, place in enumerate(places, 1) if place.record is not None}


def becomes(store: Store, seat: int, **changes: object) -> None:
    before = records(store)[seat]
    after = replace(before, version=before.version + 1, **changes)  # type: ignore[arg-type]
    assert store.exchange("beat", Exchange(swap=Swap(before.version, after, seat=seat))).swapped


def ordered(store: Store) -> list[tuple[str, int]]:
    """What people have ordered, and of which seat."""
    found = (event for event in store.events("beat", 50) if event.what is What.ORDERED)
    return [(event.because.partition(", ordered by ")[0], event.seat) for event in found]


def test_status_and_history_show_every_seat(heirflow: Callable, seated: Callable) -> None:
    seated("ab", "c")
    assert "heir c takes the first seat that falls free within 720 s; at once on a clean end" in heirflow("status").out
    [look] = json.loads(heirflow("status", "--json").out)["elections"]
    assert (look["seats"], [seat["leader"] for seat in look["by_seat"]]) == (2, ["a", "b"])
    assert heirflow("status", "--check").out == "HEIRFLOW OK - beat: led by a and b, heir c\n"
    assert heirflow("history").out.splitlines()[0].split() == [
        "when",
        "seat",
        "term",
        "what",
        "member",
        "took",
        "because",
    ]
    assert [event["seat"] for event in json.loads(heirflow("history", "--json").out)["events"]] == [1, 2]


def test_check_says_which_seat_is_not_led(heirflow: Callable, seated: Callable) -> None:
    seated("a")
    answer = heirflow("status", "--check")
    assert (answer.code, answer.out) == (
        2, "HEIRFLOW CRITICAL - beat: seat 2 is vacant, and nobody is ready to take it\n",
    )  # fmt: skip


# ---- switchover ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaving", ["2", "b", "host-b"])
def test_one_seat_is_handed_over(heirflow: Callable, seated: Callable, store: Store, leaving: str) -> None:
    seated("ab", "cd")
    result = json.loads(heirflow("switchover", "--from", leaving, "--to", "d", "--no-wait", "--json").out)
    assert (result["seat"], result["from"], result["to"]) == (2, "b", "d")
    assert [record.switchover_to for record in records(store).values()] == [None, "d"]
    assert ordered(store) == [("switchover from b to d", 2)]
    assert "already under way" in heirflow("switchover", "--from", leaving).err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--to", "c"],
            "beat has 2 seats, so --from must name one or its leader: seat 1 is led by a, seat 2 is led by b",
        ),
        ([], "beat has 2 seats, so --from must name one or its leader: seat 1 is led by a, seat 2 is led by b"),
        (["--from", "3"], "there is no seat 3: beat has 2 seats"),
        (["--from", "0"], "there is no seat 0: beat has 2 seats"),
        (["--from", "c"], "c leads nothing: seat 1 is led by a, seat 2 is led by b"),
        (["--from", "zoe"], "there is no member 'zoe'; members: a, b, c"),
        (["--from", "2", "--to", "a"], "a leads seat 1, and a member holds one seat at most"),
    ],
)
def test_what_makes_no_sense_is_refused(heirflow: Callable, seated: Callable, words: list[str], sentence: str) -> None:
    seated("ab", "c")
    answer = heirflow("switchover", *words)
    assert (answer.code, answer.err) == (1, f"heirflow: {sentence}\n")


def test_a_vacant_seat_and_a_member_that_is_named_already(heirflow: Callable, seated: Callable, store: Store) -> None:
    seated("ab", "cd", seats=3)
    assert "seat 3 is vacant, so nobody can hand over" in heirflow("switchover", "--from", "3").err
    becomes(store, 1, switchover_to="c")
    said = heirflow("switchover", "--from", "2", "--to", "c").err
    assert "a switchover of seat 1 to c is already under way" in said


def test_to_who_leads_that_seat_already_is_done(heirflow: Callable, seated: Callable, store: Store) -> None:
    seated("ab", "c")
    before = records(store)
    result = json.loads(heirflow("switchover", "--from", "2", "--to", "b", "--json").out)
    assert (result["seat"], result["to"], result["term"], records(store)) == (2, "b", 1, before)


def test_one_seat_may_be_named_too(heirflow: Callable, seated: Callable, store: Store) -> None:
    seated("a", "b", seats=1)
    assert "b leads nothing: seat 1 is led by a" in heirflow("switchover", "--from", "b").err
    assert heirflow("switchover", "--from", "a", "--no-wait").out == (
        "beat: switchover from a to the next in line is ordered.\n"
    )
    assert records(store)[1].switchover_to == ANYONE


def test_it_waits_for_that_seat(heirflow: Callable, seated: Callable, store: Store) -> None:
    seated("ab", "c")
    becomes(store, 1, leader="d", term=9)

    def hand_over() -> None:
        mine = open_store(os.environ["HEIRFLOW_DB_URL"], call_limit_s=5)
        mine.open()
        ends_at = time.monotonic() + 20
        while records(mine)[2].switchover_to is None and time.monotonic() < ends_at:
            time.sleep(0.02)
        becomes(mine, 2, leader=None, switchover_to=None)
        becomes(mine, 2, leader="c", term=2)
        mine.close()

    other = threading.Thread(target=hand_over)
    other.start()
    answer = heirflow("switchover", "--from", "2", "--limit", "30s")
    other.join()
    assert answer.out.startswith("beat: c leads seat 2, term 2, "), answer
    assert "b has not handed over yet" not in answer.err


# ---- pause, resume and drain -----------------------------------------------------------------------------------------


def test_all_seats_pause_by_one_order(heirflow: Callable, seated: Callable, store: Store) -> None:
    seated("ab", "c", seats=3)
    assert heirflow("pause").out == "beat is paused.\n"
    assert [record.paused for record in records(store).values()] == [True] * 3
    assert ordered(store) == [("pause", 1)]
    assert heirflow("pause").out == "beat is paused already.\n"
    assert "is paused: `heirflow resume beat` first" in heirflow("switchover", "--from", "2").err
    becomes(store, 1, paused=False)
    assert heirflow("status", "--check").code == 2, "seat 3 is vacant"
    assert heirflow("resume").out == "beat is not paused.\n"
    assert [record.paused for record in records(store).values()] == [False] * 3
    assert ordered(store) == [("pause", 1), ("resume", 2)]


def test_drain_waits_until_it_leads_no_seat(heirflow: Callable, seated: Callable, store: Store) -> None:
    seated("ab", "c")
    assert "b is drained and still leads" in heirflow("drain", "b", "--wait", "--limit", "200ms").err
    assert ordered(store) == [("b is drained", 2)]
    becomes(store, 2, leader="c", term=2)
    assert heirflow("drain", "b", "--wait", "--limit", "200ms").code == 0


# ---- heirflow seats --------------------------------------------------------------------------------------------------


def test_how_many_and_who_holds_them(heirflow: Callable, seated: Callable) -> None:
    seated("ab", "c", seats=3)
    assert heirflow("seats", "beat").out == (
        "beat has 3 seats: seat 1 is led by a, seat 2 is led by b, seat 3 is vacant.\n"
    )
    told = json.loads(heirflow("seats", "beat", "--json").out)
    assert (told["seats"], told["before"], [seat["leader"] for seat in told["by_seat"]]) == (3, 3, ["a", "b", None])
    assert heirflow("seats", "beat", "3").out == "beat has 3 seats already.\n"


def test_more_seats(heirflow: Callable, seated: Callable, store: Store) -> None:
    seated("a", "bc", seats=1)
    assert (
        heirflow("seats", "beat", "2").out == "beat has 2 seats now; seat 2 opens: b takes it at its next check-in.\n"
    )
    assert (store.exchange("beat", Exchange()).seats, len(records(store))) == (2, 2)
    assert ordered(store) == [("2 seats instead of 1", 1)]
    told = json.loads(heirflow("seats", "beat", "5", "--json").out)
    assert (told["seats"], told["before"]) == (5, 2)
    assert told["sentence"] == (
        "beat has 5 seats now; seat 3 opens: c takes it at its next check-in; seat 4 opens, and nobody is ready to take it; "
        "seat 5 opens, and nobody is ready to take it"
    ), "b is for seat 2, which nobody has taken yet"


def test_fewer_seats(heirflow: Callable, seated: Callable, store: Store) -> None:
    seated("ab", "c", seats=3)
    told = json.loads(heirflow("seats", "beat", "1", "--json").out)
    assert told["sentence"] == "beat has 1 seat now; b stops in order, and seat 2 is no more"
    assert [(seat["leader"], seat["over"]) for seat in told["by_seat"]] == [("a", False), ("b", True)]
    assert "is over the number of seats: b stops without an order" in heirflow("switchover", "--from", "2").err
    assert "seat 2 is over the number of seats: b stops" in heirflow("status").out


def test_a_seat_that_opens_again_is_as_the_others(heirflow: Callable, seated: Callable, store: Store) -> None:
    """What was ordered of it before it was closed is over."""
    seated("ab", "c")
    heirflow("pause")
    assert "beat is paused: `heirflow resume beat` first" in heirflow("seats", "beat", "3").err
    assert heirflow("seats", "beat", "1").out == "beat has 1 seat now; b stops in order after `heirflow resume`.\n"
    becomes(store, 2, leader=None, switchover_to="c")
    heirflow("resume")
    assert (
        heirflow("seats", "beat", "2").out == "beat has 2 seats now; seat 2 opens: b takes it at its next check-in.\n"
    )
    assert (records(store)[2].paused, records(store)[2].switchover_to, records(store)[2].term) == (False, None, 1)


@pytest.mark.parametrize("number", ["0", "17", "two", "-1"])
def test_no_such_number(heirflow: Callable, seated: Callable, number: str) -> None:
    seated("a", seats=1)
    assert heirflow("seats", "beat", number).code == 2


def test_seats_of_what_is_not_there(heirflow: Callable, store: Store, seated: Callable) -> None:
    assert "there is no election 'beat'" in heirflow("seats", "beat", "2").err
    joins(store, "a")
    answer = heirflow("seats", "beat", "2")
    assert (answer.code, answer.err) == (
        1, "heirflow: beat has had no leader yet: start its first member with `--seats 2`\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("told", "who"),
    [
        ({"version": "0.2.9"}, "c is of version 0.2.9"),
        ({"version": None}, "c does not tell its version"),
        ({"version": "unknown"}, "c is of version unknown"),
    ],
)
def test_a_member_that_knows_one_seat_only_is_in_the_way(
    heirflow: Callable, seated: Callable, store: Store, told: dict[str, object], who: str
) -> None:
    seated("a", "b", seats=1)
    joins(store, "c", **told)
    answer = heirflow("seats", "beat", "2")
    assert answer.code == 1
    assert answer.err == (
        f"heirflow: {who}, and several seats need 0.3 or newer on every member: an older one that leads ends the sessions of "
        "the other seats' leaders\n"
    )
    assert store.exchange("beat", Exchange()).seats == 1
    assert heirflow("seats", "beat", "1").code == 0


@pytest.mark.parametrize("version", ["0.3.0", "0.10.1", "1.0", "0.3.0.dev4+g12"])
def test_newer_versions_are_welcome(heirflow: Callable, seated: Callable, store: Store, version: str) -> None:
    seated("a", seats=1)
    joins(store, "c", version=version)
    assert heirflow("seats", "beat", "2").code == 0


# ---- forget and doctor -----------------------------------------------------------------------------------------------


def silence(home: Path, *members: str) -> None:
    with sqlite3.connect(home / "line.db") as db:
        for name in members:
            db.execute("UPDATE heirflow_member SET checked_in_at = checked_in_at - 7200 WHERE id = ?", (name,))
    db.close()


def test_forget_watches_every_seat(
    heirflow: Callable, seated: Callable, store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seated("ab")
    assert "a, b of beat checked in just now" in heirflow("forget", "beat").err
    silence(home, "a", "b")
    becomes(store, 1, leader=None, ttl_s=1.0)
    becomes(store, 2, ttl_s=2.0)
    looks = itertools.count()
    with monkeypatch.context() as patched:
        patched.setattr("heirflow.cli.forget.time.sleep", lambda _: next(looks) == 1 and becomes(store, 2, term=1))
        answer = heirflow("forget", "beat")
    assert "beat: watching for 2 s that nobody is heard" in answer.err, "the longest lease"
    assert "somebody of beat is heard again; stop its members first" in answer.err
    becomes(store, 2, leader=None, ttl_s=1.0)
    assert heirflow("forget", "beat").out == "beat is forgotten.\n"
    assert "beat" not in store.elections()


def test_doctor_tells_of_members_that_know_one_seat_only(heirflow: Callable, seated: Callable, store: Store) -> None:
    def problems() -> list[str]:
        findings = json.loads(heirflow("doctor", "--json").out)["findings"]
        return [each["sentence"] for each in findings if each["topic"] == "members" and each["level"] == "problem"]

    seated("ab", "c")
    assert problems() == []
    joins(store, "c", version="0.2.0")
    [problem] = problems()
    assert problem == (
        "beat has 2 seats, and c is of version 0.2.0: when an older one than 0.3 leads, it ends the sessions of the other "
        "seats' leaders; upgrade it, or run `heirflow seats beat 1`"
    )


# ---- with real members -----------------------------------------------------------------------------------------------


def test_two_lead_and_the_third_is_the_heir_of_both(heirflow: Callable, start: Callable) -> None:
    def by_seat() -> list[str | None]:
        answer = heirflow("status", "--json")
        looks = json.loads(answer.out)["elections"] if answer.code == 0 else []
        return [seat["leader"] and seat["leader"].rpartition("-")[0] for look in looks for seat in look["by_seat"]]

    def is_well() -> bool:
        return heirflow("status", "--check").code == 0

    for host, leaders in (
        ("host-a", ["host-a", None]),
        ("host-b", ["host-a", "host-b"]),
        ("host-c", ["host-a", "host-b"]),
    ):
        start("--host", host, "--name", "beat", "--seats", "2", "--", "sleep", "600")
        until(lambda leaders=leaders: by_seat() == leaders, f"{leaders} lead")
    until(is_well, "all led, with an heir")
    assert heirflow("switchover", "--from", "host-b").out.startswith("beat: host-c-")
    assert by_seat() == ["host-a", "host-c"]
    until(is_well, "host-b is the heir now")
    assert heirflow("drain", "host-a", "--wait").code == 0  # which waits until it leads no more, and not for the next
    until(lambda: by_seat() == ["host-b", "host-c"], "host-b leads")
    seats = {(event["seat"], event["what"]) for event in json.loads(heirflow("history", "--json").out)["events"]}
    assert {(1, "took charge"), (2, "took charge"), (2, "ordered"), (1, "ordered")} <= seats
    assert heirflow("seats", "beat", "1").out.startswith("beat has 1 seat now; host-c-")
    until(lambda: by_seat() == ["host-b"], "the second seat is no more")


def test_a_line_of_once_has_one_seat(heirflow: Callable, seated: Callable, store: Store) -> None:
    """Nobody would ever take the second one, and whoever tried it would stand aside from the first."""
    seated("a", "b", seats=1)
    due = {"at": 1.0, "by": "a", "done_at": None, "status": None}
    becomes(store, 1, note=json.dumps({"once": due}))
    refused = heirflow("seats", "beat", "2")
    assert refused.code == 1 and "heirflow once" in refused.err
    assert store.exchange("beat", Exchange()).seats == 1
