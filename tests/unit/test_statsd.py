"""What a member tells by StatsD: words that every collector reads, to whom it can be told, and nothing that holds up the loop."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from heirflow.clock import boottime
from heirflow.config.readers import read_prefix, read_receiver
from heirflow.election.cause import Cause
from heirflow.election.state import Following, Idle, State
from heirflow.election.timings import Timings
from heirflow.member import statsd
from heirflow.member.statsd import DATAGRAM_LIMIT, NAME_LIMIT, Shown, Statsd, Where, packed, part
from tests.unit.test_http_door import leading

ROOT = Path(__file__).resolve().parents[2]
TIMINGS = Timings.of(10.0)
LINE = re.compile(r"([A-Za-z0-9_./-]{1,250}):(\d+(?:\.\d+)?)\|(g|c|ms)")
MAPPINGS = yaml.safe_load((ROOT / "deploy" / "helm" / "statsd-mappings.yaml").read_text())["statsd"]["extraMappings"]


class Collector:
    """A real UDP socket, and what came there."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(10.0)
        self.place = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.latest: dict[str, float] = {}
        self.counted: dict[str, float] = {}
        self.timed: dict[str, list[float]] = {}

    def take(self) -> dict[str, float]:
        """One more datagram; the gauges as they are then."""
        piece = self.socket.recv(65536)
        assert len(piece) <= DATAGRAM_LIMIT
        for each in piece.decode("ascii").split("\n"):
            match = LINE.fullmatch(each)
            assert match, each
            name, value, kind = match[1], float(match[2]), match[3]
            if kind == "g":
                self.latest[name] = value
            elif kind == "c":
                self.counted[name] = self.counted.get(name, 0.0) + value
            else:
                self.timed.setdefault(name, []).append(value)
        return self.latest

    def until(self, condition: Callable[[], object], limit_s: float = 30.0) -> None:
        ends_at = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < ends_at
            self.take()


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.socket.close()


def sender(place: str, election: str = "beat", host: str = "host-a", prefix: str = "heirflow") -> Statsd:
    return Statsd(Where(place, prefix), election, host, TIMINGS)


def told(state: State, **names: str) -> dict[str, tuple[float, str]]:
    made = sender("127.0.0.1:1", **names)
    found = {}
    for each in made.lines(Shown(state, boottime())):
        match = LINE.fullmatch(each)
        assert match and match[1] not in found, each
        found[match[1]] = (float(match[2]), match[3])
    made.close()
    return found


def follows() -> State:
    return replace(leading(), seat=replace(leading().seat, lead=Following(), record=None), command=Idle())


def test_a_leader_and_a_member_that_follows() -> None:
    lead, heir = told(replace(leading(), seats=2)), told(follows())
    assert (lead["heirflow.is_leader.beat.1.host-a"], lead["heirflow.is_leader.beat.2.host-a"]) == ((1, "g"), (0, "g"))
    assert lead["heirflow.term.beat.host-a"] == (7, "g") and lead["heirflow.ttl_seconds.beat.host-a"] == (10, "g")
    assert 7 < lead["heirflow.lease_remaining_seconds.beat.host-a"][0] <= 8
    assert heir["heirflow.is_leader.beat.1.host-a"] == (0, "g") == heir["heirflow.lease_remaining_seconds.beat.host-a"]
    assert "heirflow.term.beat.host-a" not in heir and "heirflow.last_gap_seconds.beat.host-a" not in heir
    counters = {name for name, (_, kind) in lead.items() if kind == "c"}
    assert counters == {
        *(f"heirflow.takeovers.beat.{cause.value}.host-a" for cause in Cause),
        "heirflow.restarts.beat.host-a",
        "heirflow.fenced_sessions.beat.host-a",
    }


def test_a_seat_that_is_gone_is_told_of_once_more() -> None:
    made = sender("127.0.0.1:1")
    now = boottime()
    assert any(".is_leader.beat.3." in each for each in made.lines(Shown(replace(leading(), seats=3), now)))
    assert "heirflow.is_leader.beat.3.host-a:0|g" in [*made.lines(Shown(leading(), now))]
    assert not any(".is_leader.beat.3." in each for each in made.lines(Shown(leading(), now)))
    made.close()


@pytest.mark.parametrize(
    ("names", "first"),
    [
        ({"host": "a.b.example"}, "heirflow.is_leader.beat.1.a_b_example"),
        (
            {"election": "airflow-dag-processor/teams/a", "host": "ä b"},
            "heirflow.is_leader.airflow-dag-processor/teams/a.1.__b",
        ),
        ({"election": "|:#@\n", "host": "."}, "heirflow.is_leader._____.1._"),
        ({"prefix": "airflow.heirflow"}, "airflow.heirflow.is_leader.beat.1.host-a"),
    ],
)
def test_names_are_of_parts_without_dots(names: dict[str, str], first: str) -> None:
    assert next(iter(told(leading(), **names))) == first


def test_the_longest_names_are_cut_and_stay_different() -> None:
    found = told(leading(), election="e" * 100, host="h" * 200, prefix="p" * 50)
    assert max(map(len, found)) == NAME_LIMIT


def test_datagrams_are_full_and_not_too_long() -> None:
    lines = [f"{'x' * 90}{number}:1|g" for number in range(100)]
    pieces = [*packed(iter(lines))]
    assert b"\n".join(pieces).decode().split("\n") == lines
    assert all(DATAGRAM_LIMIT - 100 < len(piece) <= DATAGRAM_LIMIT for piece in pieces[:-1])
    assert [*packed(iter([]))] == []


def test_it_is_sent_after_each_check_in_and_after_each_change(collector: Collector) -> None:
    made, state = sender(collector.place), leading(600.0)
    made.look(state, dict)
    collector.until(lambda: collector.timed)
    assert collector.latest["heirflow.is_leader.beat.1.host-a"] == 1
    assert collector.counted["heirflow.takeovers.beat.unknown.host-a"] == 1
    made.look(state, dict)  # nothing is new
    made.look(replace(state, checked_in_at=state.checked_in_at + 1), dict)
    collector.until(lambda: len(collector.timed["heirflow.check_in.beat.host-a"]) == 2)
    assert collector.counted["heirflow.takeovers.beat.unknown.host-a"] == 1
    made.look(replace(follows(), checked_in_at=state.checked_in_at + 1), dict)
    collector.until(lambda: collector.latest["heirflow.is_leader.beat.1.host-a"] == 0)
    assert len(collector.timed["heirflow.check_in.beat.host-a"]) == 2
    made.close()
    assert not made._thread.is_alive()


def test_a_store_that_is_away_keeps_nobody_from_telling_that_the_lease_ends(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, state = sender(collector.place), leading(600.0)
    made.look(state, dict)
    collector.until(lambda: collector.latest.get("heirflow.is_leader.beat.1.host-a") == 1)
    late = boottime() + 700.0
    monkeypatch.setattr(statsd, "boottime", lambda: late)
    made.look(state, dict)
    collector.until(lambda: collector.latest["heirflow.is_leader.beat.1.host-a"] == 0)
    made.close()


def test_a_name_server_that_does_not_answer_holds_up_nobody(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, asked = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def hang(host: str, *args: Any, **more: Any) -> Any:
        asked.set()
        assert free.wait(30)
        return real("127.0.0.1", *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    made = sender(collector.place.replace("127.0.0.1", "metrics.example"))
    longest_s = 0.0
    for number in range(200):
        started = time.perf_counter()
        made.look(replace(leading(), checked_in_at=float(number)), dict)
        longest_s = max(longest_s, time.perf_counter() - started)
    assert asked.wait(10) and longest_s < 0.5, f"{longest_s:.3f} s"
    started = time.monotonic()
    made.close()
    assert time.monotonic() - started < statsd.END_LIMIT_S + 0.5
    free.set()
    made._thread.join(10)
    collector.until(lambda: collector.timed)
    assert len(collector.timed["heirflow.check_in.beat.host-a"]) <= statsd.MOST_WAITING


def test_nothing_that_fails_ends_it(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statsd, "RESOLVE_S", 0.0)
    made, state = sender("no-such-host.invalid:8125"), leading(600.0)
    made.look(state, dict)
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **more: real("127.0.0.1", *a, **more))
    made._where = made._where._replace(place=collector.place)
    monkeypatch.setattr(made, "lines", lambda shown: iter([1]))  # a fault of ours
    made.look(replace(state, checked_in_at=1.0), dict)
    time.sleep(0.05)
    monkeypatch.undo()
    made.look(replace(state, checked_in_at=2.0), dict)
    collector.until(lambda: collector.latest)
    made.close()


def test_one_address_of_several_is_the_one_that_collectors_listen_at(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = collector.socket.getsockname()[1]
    both = [(socket.AF_INET6, 2, 17, "", ("::1", port, 0, 0)), (socket.AF_INET, 2, 17, "", ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **more: both)
    made = sender(f"localhost:{port}")
    made.look(leading(), dict)
    collector.until(lambda: collector.latest)
    made.close()


def test_where_and_how_it_is_told() -> None:
    assert read_receiver("OFF") == "off" and read_receiver("[::1]:8125") == "[::1]:8125"
    assert read_prefix("airflow.prod-1/x") == "airflow.prod-1/x"
    with pytest.raises(ValueError, match=r"^must be HOST:PORT, like 127.0.0.1:8125 or \[::1\]:8125; or off$"):
        read_receiver("8125")


def mapped(name: str) -> tuple[str, dict[str, str]] | None:
    """What statsd_exporter makes of a name: the first mapping whose parts are the same, where * is any one."""
    for each in MAPPINGS:
        asked, parts = each["match"].split("."), name.split(".")
        if len(asked) == len(parts) and all(want in ("*", have) for want, have in zip(asked, parts, strict=True)):
            stars = [have for want, have in zip(asked, parts, strict=True) if want == "*"]
            text = {f"${number}": star for number, star in enumerate(stars, 1)}
            return each["name"].replace("$1", text["$1"]), {label: text[star] for label, star in each["labels"].items()}
    return None


def test_the_snippet_for_the_chart_knows_every_name_and_makes_labels_of_its_parts() -> None:
    assert all(each["ttl"] == "1m" for each in MAPPINGS)
    made = sender("127.0.0.1:1", election="airflow-scheduler", prefix="airflow.heirflow")
    made.tally.gap_s = 1.0
    made._took.append(0.012)
    found: dict[str, set[str]] = {}
    for each in made.lines(Shown(leading(), boottime())):
        name, labels = mapped(each.partition(":")[0]) or ("", {})
        assert labels.pop("election") == "airflow-scheduler" and labels.pop("host") == "host-a", each
        assert set(labels.values()) <= {"1", *(cause.value for cause in Cause)}
        found.setdefault(name, set()).update(labels)
    made.close()
    plain = {
        "ready", "able", "runs_nothing", "seats", "place", "heirs", "lease_remaining_seconds", "ttl_seconds", "term",
        "last_gap_seconds", "check_in_seconds", "restarts_total", "fenced_sessions_total",
    }  # fmt: skip
    assert found == {
        "airflow_heirflow_is_leader": {"seat"},
        "airflow_heirflow_takeovers_total": {"cause"},
        **{f"airflow_heirflow_{name}": set() for name in plain},
    }


def test_parts() -> None:
    assert (part("a.b:c|d"), part(""), part("x_y-z/1")) == ("a_b_c_d", "_", "x_y-z/1")
