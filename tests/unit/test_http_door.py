"""The member's door on the network: it says what a probe says, and nobody who asks can make the loop wait."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from heirflow.clock import boottime
from heirflow.election.cause import Cause
from heirflow.election.record import Event, Exchange, Reading, Record, Swap, Told, What
from heirflow.election.state import (
    Ask,
    Following,
    Idle,
    Leading,
    Leaving,
    Purpose,
    Running,
    Seat,
    Starting,
    State,
)
from heirflow.election.timings import Timings
from heirflow.errors import ConfigError
from heirflow.member import http_door
from heirflow.member.http_door import MOST, HttpDoor, Question
from heirflow.member.report import describe
from heirflow.member.tally import Tally, exposition
from heirflow.stores.base import Register
from tests.schemas import conforms

TIMINGS = Timings.of(10.0)
PIDS = {"guard": 11, "command": 12, "standby": None}
PARTS = ("live", "ready", "able", "leader")


def leading(for_s: float = 8.0) -> State:
    now = boottime()
    record = Record(5, 7, "host-a-1", 10.0, "it is the first of its line")
    seat = Seat(record=record, record_since=now, highest_term=7, lead=Leading(7, now + for_s))
    return State(
        me="host-a-1", host="host-a", pid=10, born_at=now - 60, seat=seat, joined=True, guard_up=True, read_at=now,
        checked_in_at=now, command=Running(now - 50),
    )  # fmt: skip


def shown(door: HttpDoor, state: State) -> None:
    """One turn of the loop."""
    facts = {**describe("beat", state, PIDS, boottime(), TIMINGS), "kill_is_sure": True}
    door.look(state, lambda: facts)


@pytest.fixture
def door() -> Iterator[HttpDoor]:
    door = HttpDoor("127.0.0.1:0", "beat", TIMINGS)
    yield door
    door.close()


def get(door: HttpDoor, path: str, method: str = "GET", timeout_s: float = 10.0) -> tuple[int, str, Any]:
    link = http.client.HTTPConnection(*door.address[:2], timeout=timeout_s)
    link.request(method, path)
    answer = link.getresponse()
    body = answer.read().decode()
    link.close()
    return answer.status, body, answer.headers


def figures(door: HttpDoor) -> dict[str, float]:
    status, text, headers = get(door, "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return read(text)


def read(text: str) -> dict[str, float]:
    """By its name, without ``heirflow_member_``, and the bucket's bound or the cause."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type != "unknown"
        for sample in family.samples:
            key = sample.name.removeprefix("heirflow_member_") + sample.labels.get("le", sample.labels.get("cause", ""))
            assert key not in found and sample.labels.get("election", "beat") == "beat"
            found[key] = sample.value
    return found


@pytest.mark.parametrize(
    "state",
    [
        leading(),
        replace(leading(), command=Idle()),
        replace(leading(), failed_calls=2),
        replace(leading(), seat=replace(leading().seat, lead=Following(), record=None)),
    ],
    ids=["leader", "runs nothing", "store away", "follows"],
)
def test_it_says_what_a_probe_says(door: HttpDoor, state: State) -> None:
    shown(door, state)
    told = describe("beat", state, PIDS, boottime(), TIMINGS)
    for question in PARTS:
        status, body, _ = get(door, f"/{question}")
        assert (status == 200) == told[question] == body.startswith("yes, beat: host-a-1 "), question
    status, body, headers = get(door, "/status")
    said = json.loads(body)
    conforms("probe", said)
    assert status == 200 and headers["Content-Type"] == "application/json" and headers["Cache-Control"] == "no-store"
    assert {**said, "trusted_for_s": None} == {**told, "trusted_for_s": None, "kill_is_sure": True}
    found = figures(door)
    assert (found["live"], found["ready"], found["leader"]) == (1, told["ready"], told["leader"])


def test_a_leader_is_a_number_and_what_it_does_not_know_is_left_out(door: HttpDoor) -> None:
    shown(door, leading())
    found = figures(door)
    assert (found["term"], found["seat"], found["seats"], found["ttl_seconds"]) == (7, 1, 1, 10)
    assert 7 < found["lease_remaining_seconds"] <= 8 and "place" not in found and found["runs_nothing"] == 0
    assert found["heirs"] == 0 and "last_gap_seconds" not in found
    shown(door, replace(leading(), seat=replace(leading().seat, lead=Following(), record=None)))
    found = figures(door)
    assert "term" not in found and "lease_remaining_seconds" not in found and found["leader"] == 0


def test_trust_that_ends_between_two_turns_of_the_loop_is_no_lead_any_more(door: HttpDoor) -> None:
    shown(door, leading(0.05))
    time.sleep(0.06)
    assert get(door, "/leader")[0] == 503 and get(door, "/live")[0] == 200


def test_a_loop_that_stands_still_is_not_live_and_says_nothing_else(
    door: HttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert get(door, "/live")[0] == 503  # it has not turned yet
    shown(door, leading(600.0))
    late = boottime() + 2 * TIMINGS.check_in_s + 1.1
    monkeypatch.setattr(http_door, "boottime", lambda: late)
    assert [door.answer(f"/{question}")[0] for question in PARTS] == [503] * 4
    status, _, text = door.answer("/status")
    conforms("probe", json.loads(text))
    assert status == 503 and "stands still for 5 s" in text
    found = read(door.answer("/metrics")[2])
    assert (
        found["live"] == 0 and "leader" not in found and "heirs" not in found and found["takeovers_totalunknown"] == 1
    )


def test_no_password_goes_out(door: HttpDoor) -> None:
    said = 'no answer from postgresql://me:hunter2@db/x "so"'
    follows = replace(leading().seat, lead=Following(), record=None)
    shown(door, replace(leading(), seat=follows, command=Idle(), leaving=Leaving(said)))
    answers = [get(door, path)[1] for path in http_door.PATHS]
    assert "hunter2" not in "".join(answers) and "me:***@db" in answers[1]
    assert "me:***@db" in json.loads(answers[4])["because"]


def test_what_it_does_not_know_it_does_not_answer(door: HttpDoor) -> None:
    shown(door, leading())
    assert get(door, "/")[0] == 404 and "/metrics" in get(door, "/favicon.ico")[1]
    assert get(door, "/live", "HEAD")[:2] == (200, "")
    assert get(door, "/live", "POST")[0] == 501
    assert get(door, "/live?a=b")[0] == 200
    assert "Python" not in str(get(door, "/live")[2])


@pytest.mark.parametrize(
    "asked", [b"\r\n\r\n", b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET /live HTTP/9.9\r\n\r\n", b"GET " * 99]
)
def test_no_question_breaks_it(door: HttpDoor, asked: bytes) -> None:
    Question(asked + b"\r\n\r\n", door.answer)
    shown(door, leading())
    with socket.create_connection(door.address[:2], timeout=5) as link:
        link.sendall(asked + b"\r\n\r\n")
        link.recv(4096)
    assert get(door, "/live")[0] == 200


def test_a_question_without_an_end_is_cut_off(door: HttpDoor) -> None:
    shown(door, leading())
    with socket.create_connection(door.address[:2], timeout=5) as link:
        link.sendall(b"GET /live HTTP/1.1\r\nX: " + b"x" * 20_000)
        with suppress(ConnectionResetError):
            assert link.recv(100) == b""
    assert get(door, "/live")[0] == 200


def test_who_stays_silent_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_door, "LIMIT_S", 0.2)
    door = HttpDoor("127.0.0.1:0", "beat", TIMINGS)
    shown(door, leading())
    with socket.create_connection(door.address[:2], timeout=5) as link:
        link.sendall(b"GET /li")
        assert link.recv(1) == b""
    door.close()


def test_a_hundred_slow_clients_and_one_that_never_reads_delay_nobody(door: HttpDoor) -> None:
    """The loop's part is to put its state down: how long that takes is measured while they all pull."""
    shown(door, leading())
    slow = [socket.create_connection(door.address[:2], timeout=10) for _ in range(100)]
    deaf = socket.create_connection(door.address[:2], timeout=10)
    deaf.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    ending = threading.Event()

    def drip() -> None:
        while not ending.wait(0.02):
            for place, link in enumerate(slow):
                try:
                    link.send(b"G")
                except OSError:  # it was let go: again
                    link.close()
                    slow[place] = socket.create_connection(door.address[:2], timeout=10)

    dripping = threading.Thread(target=drip)
    dripping.start()
    state, longest_s = leading(600.0), 0.0
    ends_at = time.monotonic() + 2.0
    answered = 0
    while time.monotonic() < ends_at:
        started = time.perf_counter()
        shown(door, state)
        longest_s = max(longest_s, time.perf_counter() - started)
        if get(door, "/live")[0] == 200:
            answered += 1
    ending.set()
    dripping.join()
    for link in (*slow, deaf):
        link.close()
    assert answered > 10
    assert longest_s < 0.5, f"{longest_s:.3f} s"  # milliseconds, but for a host that has no processor left


def test_a_round_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_door, "LIMIT_S", 0.05)
    door = HttpDoor("127.0.0.1:0", "beat", TIMINGS)
    shown(door, leading())

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(door, "_welcome", fail)
        with socket.create_connection(door.address[:2], timeout=5):
            time.sleep(0.1)
    monkeypatch.setattr(http_door, "LIMIT_S", 5.0)
    assert get(door, "/live")[0] == 200
    door.close()


def test_it_holds_a_few_connections_at_once(door: HttpDoor) -> None:
    shown(door, leading())
    links = [socket.create_connection(door.address[:2], timeout=5) for _ in range(3 * MOST)]
    assert get(door, "/live")[0] == 200
    gone = 0
    for link in links:
        link.setblocking(False)
        try:
            gone += link.recv(1) == b""
        except BlockingIOError:
            pass
        except OSError:
            gone += 1
    assert gone >= 2 * MOST
    for link in links:
        link.close()


def test_a_port_in_use_is_one_sentence(door: HttpDoor) -> None:
    port = door.address[1]
    with pytest.raises(ConfigError, match=rf"^cannot listen on 127.0.0.1:{port} \(--http\): .*in use"):
        HttpDoor(f"127.0.0.1:{port}", "beat", TIMINGS)
    with pytest.raises(ConfigError, match=r"cannot listen on no-such-host\.invalid:9180"):
        HttpDoor("no-such-host.invalid:9180", "beat", TIMINGS)


def test_it_ends_at_once_with_somebody_in_the_middle_of_a_question_and_gives_its_port_back() -> None:
    door = HttpDoor("127.0.0.1:0", "beat", TIMINGS)
    link = socket.create_connection(door.address[:2])
    link.sendall(b"GET")
    started = time.monotonic()
    door.close()
    assert time.monotonic() - started < 0.9 and not door._thread.is_alive()
    HttpDoor(f"127.0.0.1:{door.address[1]}", "beat", TIMINGS).close()
    link.close()


def test_the_tally() -> None:
    tally, state = Tally(), leading()
    follows = replace(state, seat=replace(state.seat, lead=Following()), command=Idle())
    one, two = Starting(1.0), Starting(2.0)
    steps: list[State] = [
        follows, replace(state, command=one), replace(state, command=one), state, replace(state, command=Idle()),
        replace(state, command=two), state, follows,
        replace(state, seat=replace(state.seat, lead=Leading(9, 0.0)), command=Starting(3.0)),
    ]  # fmt: skip
    for each in steps:
        tally.look(replace(each, checked_in_at=100.0), 100.02)
    tally.look(replace(state, checked_in_at=200.0), 207.0)
    assert (sum(tally.takeovers.values()), tally.restarts) == (3, 1)  # the last look led term 7 again
    found = read(exposition("beat", None, tally))
    assert found["check_in_seconds_count"] == 2 and round(found["check_in_seconds_sum"], 3) == 7.02
    assert found["check_in_seconds_bucket0.01"] == 0 and found["check_in_seconds_bucket0.025"] == 1
    assert found["check_in_seconds_bucket5.0"] == 1 and found["check_in_seconds_bucket+Inf"] == 2


ME, OTHER = "host-a-1", "host-b-2"
RECORD = Record(5, 7, OTHER, 10.0, "x")
VACANT = replace(RECORD, version=6, leader=None)


def of(record: Record | None, number: int = 1, *, since: float = 0.0, watched: float | None = 0.0) -> Seat:
    return Seat(number=number, record=record, record_since=since, watch_since=watched)


@pytest.mark.parametrize(
    ("cause", "before", "tried", "others"),
    [
        (Cause.FIRST, of(None), of(None), ()),
        (Cause.RELEASED, of(RECORD), of(VACANT, since=3.0), ()),
        (Cause.RELEASED, of(VACANT), of(VACANT), ()),
        (Cause.LEASE_ENDED, of(RECORD), of(RECORD), ()),
        (Cause.LEASE_ENDED, of(replace(RECORD, leader=ME)), of(replace(RECORD, leader=ME)), ()),
        # Of several seats, others may make one vacant whose leader is silent.
        (Cause.FIRST, of(replace(VACANT, term=0), 2), of(replace(VACANT, term=0), 2), (of(RECORD),)),
        (Cause.RELEASED, of(RECORD, 2), of(VACANT, 2, since=9.9), (of(RECORD),)),
        (Cause.LEASE_ENDED, of(RECORD, 2), of(VACANT, 2, since=10.1), (of(RECORD),)),
        (Cause.UNKNOWN, of(RECORD, 2, watched=None), of(VACANT, 2, since=10.1), (of(RECORD),)),
        (Cause.UNKNOWN, of(VACANT, 2), of(VACANT, 2), (of(RECORD),)),
        (Cause.UNKNOWN, of(replace(RECORD, term=6), 2), of(VACANT, 2, since=10.1), (of(RECORD),)),
    ],
)
def test_the_tally_knows_why_a_seat_could_be_taken(
    cause: Cause, before: Seat, tried: Seat, others: tuple[Seat, ...]
) -> None:
    tally, state = Tally(), State(me=ME, host="host-a", pid=10, born_at=0.0)
    record = Record(9, 8, ME, 10.0, "x")
    event = Event(What.TOOK_CHARGE, 8, ME, "x", took_s=2.5)
    ask = Ask(4, 0.0, Purpose.TAKE, Exchange(swap=Swap(6, record, event, seat=tried.number)))
    tally.look(replace(state, seat=before, others=others), 1.0)
    tally.look(replace(state, seat=tried, others=others, ask=ask), 2.0)
    assert sum(tally.takeovers.values()) == 0
    held = replace(tried, record=record, lead=Leading(8, 20.0))
    for _ in range(2):
        tally.look(replace(state, seat=held, others=others), 3.0)
    assert tally.takeovers == {**dict.fromkeys(Cause, 0), cause: 1} and tally.gap_s == 2.5
    found = read(exposition("beat", None, tally))
    assert found["last_gap_seconds"] == 2.5 and found[f"takeovers_total{cause.value}"] == 1
    assert sum(value for name, value in found.items() if name.startswith("takeovers_total")) == 1


def test_the_tally_counts_sessions_that_the_store_tells_of_and_changes_no_exchange() -> None:
    asked: list[tuple[str, Exchange]] = []

    class Store:
        news_poll_s = 0.5

        def exchange(self, election: str, request: Exchange) -> Reading:
            asked.append((election, request))
            return reading

    reading = Reading(RECORD, told=(Told("ended 2", sessions=2), Told("adopted"), Told("x", failed=True)))
    tally = Tally()
    store = tally.store(cast("Register", Store()))
    request = Exchange(leave=True)
    assert store.exchange("beat", request) is reading and store.news_poll_s == 0.5
    assert asked == [("beat", request)] and tally.fenced == 2
    assert read(exposition("beat", None, tally))["fenced_sessions_total"] == 2


def test_a_name_with_quotes_is_text() -> None:
    text = exposition('a"b\\c', None, Tally())
    labels = [sample.labels for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {each["election"] for each in labels if "election" in each} == {'a"b\\c'}
