"""`heirflow drill`: with members that run, and on elections that stand in a store and obey nobody."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from heirflow.election.record import Exchange, Swap, What
from heirflow.stores import Store, StoreUnavailable
from heirflow.stores.sql.store import SqlStore
from tests.cli.conftest import Started, until

Heirflow = Callable[..., object]
DRILL = (sys.executable, "-m", "heirflow", "drill")


@pytest.fixture
def members(start: Callable[..., Started], heirflow: Callable, store: Store) -> Callable[..., None]:
    """Members that run, on so many seats, until all are in line and each seat is led."""

    def begin(*hosts: str, seats: int = 1) -> None:
        for host in hosts:
            start("--name", "beat", "--host", host, "--seats", str(seats), "--", "sleep", "1000")

        def whole() -> bool:
            line = json.loads(heirflow("status", "beat", "--json").out)["elections"]
            rows = line[0]["succession"] if line else []
            leading = [row for row in rows if row["rank"] == 1 and row["runs"]]
            return len(leading) == seats and len([row for row in rows if row["rank"]]) == len(hosts)

        until(lambda: "beat" in store.elections(), "an election")
        until(whole, "a whole line")

    return begin


def ordered(store: Store) -> list[str]:
    return [event.because for event in store.events("beat", 100) if event.what is What.ORDERED]


@pytest.mark.slow
def test_the_leader_hands_over_and_each_step_is_told(heirflow: Callable, members: Callable, home: Path) -> None:
    members("a", "b", "c")
    report = home / "drills.jsonl"
    answer = heirflow("drill", "beat", "--yes", "--times", "2", "--limit", "20s", "--record", str(report), "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert (told["well"], told["trouble"], told["limit_s"]) == (True, None, 20.0)
    first, second = told["rounds"]
    assert (second["from"], second["term"]) == (first["to"], first["term"] + 1)
    for each in told["rounds"]:
        assert 0 <= each["released_s"] <= each["took_charge_s"] <= each["runs_s"] <= each["whole_s"]
        assert 0 <= each["gap_s"] <= told["longest_gap_s"] < 20
    for step in ("is ordered to hand over", "has released", "took charge", "says that its command runs", "whole again"):
        assert answer.err.count(step) == 2, answer.err
    history = json.loads(heirflow("history", "beat", "--json").out)["events"]
    assert first["gap_s"] in [
        event["took_s"] and round(event["took_s"], 3) for event in history if event["what"] == "took charge"
    ]
    heirflow("drill", "beat", "--yes", "--record", str(report))
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [len(each["rounds"]) for each in lines] == [2, 1]
    assert lines[0] == told


@pytest.mark.slow
def test_each_seat_in_turn_or_one(heirflow: Callable, members: Callable) -> None:
    members("a", "b", "c", seats=2)
    answer = heirflow("drill", "--yes")
    assert answer.code == 0, answer.err
    head, *rows = answer.out.splitlines()
    assert head.split("  ")[0] == "seat"
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert "hand over, one after the other in order" in answer.err
    told = json.loads(heirflow("drill", "--yes", "--seat", "2", "--json").out)
    assert [each["seat"] for each in told["rounds"]] == [2]
    assert "there is no seat 3: beat has 2 seats" in heirflow("drill", "--yes", "--seat", "3").err


@pytest.mark.slow
def test_a_gap_that_is_too_long_is_told_by_the_exit_code(heirflow: Callable, members: Callable) -> None:
    members("a", "b")
    answer = heirflow("drill", "--yes", "--limit", "0s", "--times", "3", "--json")
    told = json.loads(answer.out)
    assert (answer.code, told["well"], len(told["rounds"])) == (1, False, 1)
    assert "longer than" in told["trouble"]
    assert told["trouble"] in answer.err


class TestRefused:
    """Nothing is ordered, and one sentence says why."""

    def refused(self, heirflow: Callable, store: Store, why: str, *words: str) -> None:
        before = ordered(store)
        answer = heirflow("drill", "--yes", *words)
        assert (answer.code, answer.out) == (1, "")
        assert why in answer.err
        assert ordered(store) == before

    def test_without_an_heir(self, heirflow: Callable, line: Callable, store: Store) -> None:
        line("beat", "a")
        self.refused(heirflow, store, "only a healthy line is drilled: beat: led by a, and no heir is ready")

    def test_where_nobody_leads(self, heirflow: Callable, line: Callable, store: Store) -> None:
        line("beat", "a", "b", leads=False)
        self.refused(heirflow, store, "nobody leads")

    def test_while_paused(self, heirflow: Callable, line: Callable, store: Store) -> None:
        line("beat", "a", "b")
        heirflow("pause")
        self.refused(heirflow, store, "paused: nobody takes its place until `heirflow resume`")

    def test_while_a_switchover_is_under_way(self, heirflow: Callable, line: Callable, store: Store) -> None:
        line("beat", "a", "b")
        heirflow("switchover", "--no-wait")
        self.refused(heirflow, store, "a switchover of a is already under way")

    def test_a_seat_that_is_not(self, heirflow: Callable, line: Callable, store: Store) -> None:
        line("beat", "a", "b")
        self.refused(heirflow, store, "there is no seat 2: beat has 1 seat", "--seat", "2")

    def test_where_nobody_can_be_asked(self, line: Callable, store: Store) -> None:
        line("beat", "a", "b")
        done = subprocess.run(DRILL, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert "there is no terminal on which to ask; --yes does it without a question" in done.stderr
        assert ordered(store) == []

    def test_a_report_that_cannot_be_kept(self, heirflow: Callable, line: Callable, store: Store, home: Path) -> None:
        line("beat", "a", "b")
        answer = heirflow("drill", "--yes", "--record", str(home / "none" / "drills.jsonl"))
        assert (answer.code, answer.out) == (2, "")
        assert "No such file or directory" in answer.err
        assert ordered(store) == []


@pytest.mark.parametrize(("says", "code"), [("n", 1), ("", 1), ("y", 1)])
def test_it_asks_on_a_terminal(line: Callable, store: Store, says: str, code: int) -> None:
    line("beat", "a", "b")
    primary, secondary = pty.openpty()
    with subprocess.Popen(
        [*DRILL, "--wait", "300ms"], stdin=secondary, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as asked:
        os.write(primary, f"{says}\n".encode())
        _, err = asked.communicate(timeout=30)
    os.close(primary)
    os.close(secondary)
    told = err.decode()
    assert asked.returncode == code
    assert "beat: led by a; the heir is b." in told
    assert "Begin?" in told
    assert ("nothing was ordered" in told) == (says != "y")
    assert len(ordered(store)) == (says == "y")


def test_a_leader_that_does_not_obey(heirflow: Callable, line: Callable) -> None:
    line("beat", "a", "b")
    answer = heirflow("drill", "--yes", "--wait", "300ms", "--json")
    told = json.loads(answer.out)
    assert answer.code == 1
    assert "a has not handed over yet; the order remains in force" in answer.err
    assert [(each["from"], each["to"], each["released_s"]) for each in told["rounds"]] == [("a", None, None)]
    assert told["rounds"][0]["trouble"] == told["trouble"]


def test_ctrl_c_leaves_the_order_and_says_so(line: Callable, store: Store, home: Path) -> None:
    line("beat", "a", "b")
    words = [*DRILL, "--yes", "--record", str(home / "drills.jsonl")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as drilling:
        until(lambda: ordered(store), "an order")
        time.sleep(0.3)
        drilling.send_signal(signal.SIGINT)
        out, err = drilling.communicate(timeout=30)
    assert drilling.returncode == 130
    assert "beat: a is ordered to hand over to the next in line, and does so without us" in err
    assert "Traceback" not in err
    assert "nobody" in out.splitlines()[1]
    assert json.loads((home / "drills.jsonl").read_text())["well"] is False
    assert store.exchange("beat", Exchange()).record.switchover_to is not None


def test_ctrl_c_while_the_order_is_written(heirflow: Callable, line: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    line("beat", "a", "b")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("heirflow.steering.drill.order_switchover", interrupted)
    answer = heirflow("drill", "--yes", "--json")
    assert answer.code == 130
    assert "a may have been ordered to hand over, and then does so without us" in answer.err
    assert json.loads(answer.out)["well"] is False


def moved(store: Store, leader: str | None, term: int, because: str) -> None:
    record = store.exchange("beat", Exchange()).record
    assert record is not None
    after = replace(record, version=record.version + 1, leader=leader, term=term, switchover_to=None, because=because)
    assert store.exchange("beat", Exchange(swap=Swap(record.version, after, expected_term=record.term))).swapped


@pytest.mark.parametrize(
    ("leader", "term", "why"),
    [("a", 1, "a did not carry out the order: it is busy"), ("a", 2, "a leads again: it is busy")],
)
def test_a_leader_that_keeps_the_lead(
    heirflow: Callable, line: Callable, store: Store, monkeypatch: pytest.MonkeyPatch, leader: str, term: int, why: str
) -> None:
    line("beat", "a", "b")
    monkeypatch.setattr("heirflow.steering.drill.time.sleep", lambda _: moved(store, leader, term, "it is busy"))
    answer = heirflow("drill", "--yes")
    assert answer.code == 1
    assert why in answer.err


def test_a_store_that_does_not_answer_for_a_while_ends_no_drill(
    heirflow: Callable, line: Callable, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    line("beat", "a", "b", "c")
    real, looks = SqlStore.exchange, []

    def failing(self: SqlStore, election: str, exchange: Exchange) -> object:
        if exchange == Exchange() and ordered(store):
            looks.append(1)
            if len(looks) == 1:
                moved(store, None, 1, "it released")
            elif len(looks) == 2:
                moved(store, "b", 2, "it is the next")
                raise StoreUnavailable("the database does not answer")
        return real(self, election, exchange)

    monkeypatch.setattr(SqlStore, "exchange", failing)
    answer = heirflow("drill", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["rounds"][0]["to"] == "b"
    assert "b does not say what runs" in answer.err
