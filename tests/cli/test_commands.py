"""Each command on an election that stands in a store; nobody runs."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from heirflow import __version__
from heirflow.cli import COMMANDS
from heirflow.cli.common import settled, write_json
from heirflow.cli.status import _looks
from heirflow.election.record import ANYONE, CheckIn, Event, Exchange, Swap, What
from heirflow.stores import Finding, Store
from heirflow.stores.sql.store import SqlStore
from tests.schemas import conforms


def on_a_terminal(*args: str, **env: str) -> str:
    """What a person sees: the command's output on a terminal of 120 columns."""
    primary, secondary = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **env}
    with subprocess.Popen([sys.executable, "-m", "heirflow", *args], stdout=secondary, env=environment) as process:
        os.close(secondary)
        seen = b""
        try:
            while piece := os.read(primary, 65536):
                seen += piece
        except OSError:  # how a terminal says that its other end is closed
            pass
    os.close(primary)
    assert process.returncode == 0
    return seen.decode()


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help_in_the_words_of_the_house(heirflow: Callable, command: str) -> None:
    answer = heirflow(command, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: heirflow {command}")
    assert not re.search(r"\b(heartbeat|master|primary|candidate|epoch)\b", answer.out)


@pytest.mark.parametrize("command", [*COMMANDS, "fence install", "fence remove", "fence status"])
def test_every_help_shows_an_example(heirflow: Callable, command: str) -> None:
    assert re.search(rf"^  (HEIRFLOW_\S+ )?heirflow {command}", heirflow(*command.split(), "--help").out, re.MULTILINE)


def test_version(heirflow: Callable) -> None:
    assert heirflow("--version").out == f"heirflow {__version__}\n"


class TestStatus:
    def test_all_elections(self, heirflow: Callable, line: Callable) -> None:
        line("beat", "a", "b")
        line("poller", "c")
        answer = heirflow("status")
        assert answer.code == 0
        assert "heir b takes charge within 720 s; at once on a clean end" in answer.out
        assert "no heir is ready: when c ends, nobody takes charge" in answer.out
        assert "\x1b" not in answer.out

    def test_one(self, heirflow: Callable, line: Callable) -> None:
        line("beat", "a")
        line("poller", "c")
        assert "beat" not in heirflow("status", "poller").out

    def test_json(self, heirflow: Callable, line: Callable) -> None:
        line("beat", "a", "b", "c")
        seen = json.loads(heirflow("status", "--json").out)
        assert (seen["fence"]["state"], seen["trouble"]) == ("lease only", None)
        (snapshot,) = seen["elections"]
        assert (snapshot["leader"], snapshot["heir"], snapshot["term"]) == ("a", "b", 1)
        assert [row["place"] for row in snapshot["succession"]] == ["leader", "heir", "3rd"]

    def test_nothing_yet(self, heirflow: Callable, store: Store) -> None:
        assert "There is no election in this store yet" in heirflow("status").out
        assert json.loads(heirflow("status", "--json").out)["elections"] == []

    def test_colours_only_where_they_are_wanted(self, line: Callable) -> None:
        line("beat", "a", "b")
        coloured = re.compile(r"\x1b\[[0-9;]*3[0-9]")
        assert coloured.search(on_a_terminal("status"))
        assert not coloured.search(on_a_terminal("status", NO_COLOR="1"))
        assert "\x1b" not in on_a_terminal("status", TERM="dumb")

    def test_a_name_cannot_speak_to_the_terminal(self, store: Store, line: Callable) -> None:
        line("beat", "a")
        who = CheckIn("b\x1b]0;owned\x07", "host\nb", 1, ready=True, label="[red]日本\x1b[2J")
        store.exchange("beat", Exchange(check_in=who, join=True))
        seen = on_a_terminal("status")
        assert "\x1b]0" not in seen
        assert "\x1b[2J" not in seen
        assert "[red]日本\\x1b[2J" in seen


def test_history(heirflow: Callable, line: Callable) -> None:
    line("beat", "a")
    heirflow("pause", "beat")
    text = heirflow("history").out
    assert "took charge" in text
    assert "it is the first of its line" in text
    events = json.loads(heirflow("history", "beat", "--json", "--limit", "1").out)["events"]
    assert [event["what"] for event in events] == ["ordered"]


def test_history_is_in_the_order_in_which_it_happened(heirflow: Callable, line: Callable, store: Store) -> None:
    line("beat", "a")
    heirflow("pause", "beat")
    late = Event(What.LOST, 1, "a", "the store did not answer", ago_s=3 * 3600)
    store.exchange("beat", Exchange(notes=(late,)))
    text = heirflow("history").out.splitlines()
    assert [word in line for word, line in zip(("lost", "took charge", "ordered"), text[1:], strict=True)] == [True] * 3
    assert text[1].endswith("the store did not answer; written 3 h 00 min later")
    store.exchange("beat", Exchange(notes=(replace(late, because="why " * 99 + "why"),)))
    assert "why; written 3 h 00 min later" in heirflow("history").out, "nothing is cut in a pipe"
    first, *_ = json.loads(heirflow("history", "--json").out)["events"]
    assert first["written_at"] - first["at"] == pytest.approx(3 * 3600)
    assert "lost" not in heirflow("history", "--since", "1h").out
    assert heirflow("history", "--since", "1d").out == heirflow("history").out
    assert heirflow("history", "--since", "2999-01-01T00:00Z").out == "Nothing has happened in beat since then.\n"
    for wrong in ("yesterday", "", "2h ago", "9" * 400 + "d", "1e9"):
        answer = heirflow("history", "--since", wrong)
        assert (answer.code, answer.out) == (2, ""), wrong
        assert "must be a duration like 2h or 7d, or a time like" in answer.err


def test_history_follows_until_it_is_interrupted(line: Callable, store: Store, home: Path) -> None:
    line("beat", "a")
    words = ["history", "beat", "--follow", "--json", "--limit", "1", "--db-url", f"sqlite:///{home / 'line.db'}"]
    whole = [sys.executable, "-m", "heirflow", *words]
    with subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["what"] == "took charge"
        for because in ("one", "two"):
            store.exchange("beat", Exchange(notes=(Event(What.ORDERED, 1, "ann", because),)))
            told = json.loads(process.stdout.readline())
            assert told["because"] == because
            conforms("history-follow", told)
        process.send_signal(signal.SIGINT)
        assert (process.wait(10), process.stderr.read()) == (130, "\n"), "the line of ^C ends"


def test_odd_rows_are_told_and_hide_nothing(heirflow: Callable, line: Callable, home: Path) -> None:
    line("beat", "a", "b")
    heirflow("pause", "beat")
    with sqlite3.connect(home / "line.db") as db:
        db.execute("UPDATE heirflow_event SET what = 'ascended', at = 1e300, took_s = 9e999 WHERE what = 'took charge'")
        db.execute("UPDATE heirflow_election SET ttl_s = 9e999, since = 1e300")
    db.close()
    answer = heirflow("history")
    assert (answer.code, answer.err.count("\n")) == (0, 1)
    assert "warning: an event says how long it took (inf) in a way that cannot be" in answer.err
    assert [text in answer.out for text in ("ascended", "not known", "ordered")] == [True, True, True]
    told = heirflow("history", "--json")
    assert "NaN" not in told.out and "Infinity" not in told.out
    assert [(event["what"], event["at"] is None) for event in json.loads(told.out)["events"]] == [
        ("ascended", True),
        ("ordered", False),
    ]
    assert "warning: the record says a ttl of inf s, which no member writes" in heirflow("status").out
    [look] = json.loads(heirflow("status", "--json").out)["elections"]
    assert (look["leader"], look["ttl_s"], look["leader_since"], len(look["odd"])) == ("a", 3600, None, 2)
    assert "a ttl of inf s" in on_a_terminal("status")


def test_json_has_no_numbers_that_json_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"at": [float("nan"), 1.5, {"x": float("-inf")}]})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"at": [None, 1.5, {"x": None}]}


class TestOrders:
    def test_pause_and_resume(self, heirflow: Callable, line: Callable, store: Store) -> None:
        line("beat", "a", "b")
        assert heirflow("pause").out == "beat is paused.\n"
        assert heirflow("pause").out == "beat is paused already.\n"
        reading = store.exchange("beat", Exchange())
        assert reading.record is not None
        assert reading.record.paused
        assert (reading.record.version, reading.record.leader, reading.record.term) == (2, "a", 1)
        assert json.loads(heirflow("resume", "--json").out) == {"election": "beat", "paused": False}
        event = store.events("beat", 1)[0]
        assert event.what is What.ORDERED
        assert re.fullmatch(r"resume, ordered by .+@.+", event.because)

    def test_switchover_writes_the_order(self, heirflow: Callable, line: Callable, store: Store) -> None:
        line("beat", "a", "b", "c")
        assert heirflow("switchover", "--no-wait").code == 0
        record = store.exchange("beat", Exchange()).record
        assert record is not None
        assert record.switchover_to == ANYONE
        assert "already under way" in heirflow("switchover").err

    @pytest.mark.parametrize("target", ["bert-01", "bert", "host-bert-01"])
    def test_the_target_may_be_an_id_its_beginning_or_a_host(
        self, heirflow: Callable, line: Callable, store: Store, target: str
    ) -> None:
        line("beat", "anna-01", "bert-01", "cleo-01")
        result = json.loads(heirflow("switchover", "--to", target, "--no-wait", "--json").out)
        assert (result["from"], result["to"]) == ("anna-01", "bert-01")

    @pytest.mark.parametrize(
        ("target", "sentence"),
        [
            ("zoe", "there is no member 'zoe'; members: anna-01, bert-01, bert-02"),
            ("bert", "'bert' may mean bert-01 or bert-02; give the whole id"),
            ("bert-02", "bert-02 cannot take charge: it is drained"),
        ],
    )
    def test_who_cannot_lead_is_refused(
        self, heirflow: Callable, line: Callable, store: Store, target: str, sentence: str
    ) -> None:
        line("beat", "anna-01", "bert-01", "bert-02")
        store.drain("beat", "bert-02", True)
        answer = heirflow("switchover", "--to", target)
        assert (answer.code, answer.err) == (1, f"heirflow: {sentence}\n")

    @pytest.mark.parametrize("target", ["anna-01", "host-anna-01"])
    def test_to_who_leads_already_is_done(self, heirflow: Callable, line: Callable, store: Store, target: str) -> None:
        line("beat", "anna-01", "bert-01")
        before = store.exchange("beat", Exchange()).record
        answer = heirflow("switchover", "--to", target)
        assert (answer.code, answer.out) == (0, "beat: anna-01 leads already, term 1.\n")
        result = json.loads(heirflow("switchover", "--to", target, "--json").out)
        assert (result["from"], result["to"], result["term"]) == ("anna-01", "anna-01", 1)
        assert store.exchange("beat", Exchange()).record == before

    def test_nobody_to_hand_over_to(self, heirflow: Callable, line: Callable) -> None:
        line("beat", "a")
        assert "no other member is ready to take charge" in heirflow("switchover").err

    def test_nobody_to_hand_over(self, heirflow: Callable, line: Callable) -> None:
        line("beat", "a", leads=False)
        assert "nobody leads now" in heirflow("switchover").err

    def test_paused(self, heirflow: Callable, line: Callable) -> None:
        line("beat", "a", "b")
        heirflow("pause")
        assert "beat is paused: `heirflow resume beat` first" in heirflow("switchover").err

    def test_a_command_that_is_told_can_be_pasted(self, heirflow: Callable, line: Callable) -> None:
        line("night job", "a", "b")
        assert (
            "the order remains in force, see `heirflow status 'night job'`"
            in heirflow("switchover", "--limit", "1ms").err
        )
        heirflow("pause")
        assert "is paused: `heirflow resume 'night job'` first" in heirflow("switchover").err

    def test_waiting_has_a_limit(self, heirflow: Callable, line: Callable) -> None:
        line("beat", "a", "b")
        answer = heirflow("switchover", "--limit", "300ms")
        assert answer.code == 1
        assert "a has not handed over yet; the order remains in force" in answer.err

    def test_an_order_that_loses_to_a_renewal_is_tried_again(
        self, heirflow: Callable, line: Callable, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        line("beat", "a", "b")
        from dataclasses import replace

        ask, renewals = SqlStore.exchange, []

        def exchange(self: SqlStore, election: str, request: Exchange):
            if request.swap is not None and request.swap.event is not None and len(renewals) < 3:
                record = ask(store, election, Exchange()).record
                renewal = Swap(record.version, replace(record, version=record.version + 1))
                renewals.append(ask(store, election, Exchange(swap=renewal)))
            return ask(self, election, request)

        monkeypatch.setattr(SqlStore, "exchange", exchange)
        assert heirflow("pause").code == 0
        monkeypatch.undo()
        record = store.exchange("beat", Exchange()).record
        assert record is not None
        assert (record.paused, record.version) == (True, 5)

    def test_drain_and_undo(self, heirflow: Callable, line: Callable, store: Store) -> None:
        line("beat", "a", "b")
        assert heirflow("drain", "host-b").out == "beat: b is drained.\n"
        assert store.exchange("beat", Exchange()).members[1].drained
        assert heirflow("drain", "host-b").code == 0, "the same order again"
        assert heirflow("drain", "b", "--undo").out == "beat: b is not drained any more.\n"
        assert not store.exchange("beat", Exchange()).members[1].drained
        told = [event.because for event in store.events("beat", 10) if event.what is What.ORDERED]
        assert [each.partition(", ordered by ")[0] for each in told] == ["b is drained", "b is drained no more"]

    def test_a_host_means_the_member_that_is_heard_there(
        self, heirflow: Callable, line: Callable, store: Store, home: Path
    ) -> None:
        def silence(*members: str) -> None:
            with sqlite3.connect(home / "line.db") as conn:
                marks = ", ".join("?" * len(members))
                stand_still = f"UPDATE heirflow_member SET checked_in_at = checked_in_at - 1200 WHERE id IN ({marks})"
                conn.execute(stand_still, members)
            conn.close()

        line("beat", "a-1")
        for name in ("b-1", "b-2", "b-3"):
            store.exchange("beat", Exchange(check_in=CheckIn(name, "host-b", 4242, ready=True), join=True))
        silence("b-1")
        assert "'host-b' may mean b-2 or b-3; give the whole id" in heirflow("drain", "host-b").err
        silence("b-2")
        assert heirflow("drain", "host-b").out == "beat: b-3 is drained.\n"
        assert heirflow("drain", "host-b", "--undo").out == "beat: b-3 is not drained any more.\n"
        assert json.loads(heirflow("switchover", "--to", "host-b", "--no-wait", "--json").out)["to"] == "b-3"
        assert heirflow("drain", "b-1").out == "beat: b-1 is drained.\n"
        silence("b-3")
        assert "'host-b' may mean b-1 or b-2 or b-3; give the whole id" in heirflow("drain", "host-b").err

        # A leader that is silent may be frozen, and leads when it wakes.
        store.exchange("beat", Exchange(check_in=CheckIn("a-2", "host-a-1", 4242, ready=True), join=True))
        silence("a-1")
        assert "'host-a-1' may mean a-1 or a-2; give the whole id" in heirflow("drain", "host-a-1").err


class TestDoctor:
    def test_findings(self, heirflow: Callable, store: Store) -> None:
        answer = heirflow("doctor", "--json")
        findings = json.loads(answer.out)["findings"]
        assert {"settings", "probes"} < {finding["topic"] for finding in findings}
        assert answer.code == int(any(finding["level"] == "problem" for finding in findings))
        assert "settings" in heirflow("doctor").out

    def test_a_problem_is_exit_code_1(self, heirflow: Callable) -> None:
        answer = heirflow("doctor", "--db-url", "postgresql://me:hunter2@127.0.0.1:1/x")
        assert answer.code == 1
        assert "problem" in answer.out
        assert "hunter2" not in answer.out + answer.err

    def test_it_makes_nothing(self, heirflow: Callable, home: Path) -> None:
        before = sorted(home.rglob("*"))
        answer = heirflow("doctor", "--json")
        found = {each["topic"]: each for each in json.loads(answer.out)["findings"]}
        assert found["store"]["level"] == "note" and "does not exist yet" in found["store"]["sentence"]
        assert (
            found["probes"]["sentence"]
            == f"members on this host answer probes in {home}/run, which the first one creates"
        )
        assert sorted(home.rglob("*")) == before

    def test_it_leaves_the_folder_for_probes_as_it_is(self, heirflow: Callable, home: Path) -> None:
        def probes() -> tuple[str, str]:
            findings = json.loads(heirflow("doctor", "--json").out)["findings"]
            [found] = [each for each in findings if each["topic"] == "probes"]
            return found["level"], found["sentence"]

        folder = home / "run"
        folder.mkdir()
        folder.chmod(0o777)
        assert probes() == (
            "note",
            f"other users may write to {folder}; the next member on this host removes that right",
        )
        assert folder.stat().st_mode & 0o777 == 0o777
        folder.chmod(0o700)
        assert probes() == ("ok", f"members on this host answer probes in {folder}")
        folder.rmdir()
        folder.touch()
        assert probes()[0] == "warning" and "is not a folder" in probes()[1]


def test_init_makes_the_tables_twice(heirflow: Callable, home: Path) -> None:
    for _ in range(2):
        answer = heirflow("init")
        assert answer.code == 0
        assert "line.db" in answer.out
    assert heirflow("status").code == 0
    told = json.loads(heirflow("init", "--json").out)
    assert told["database"] == f"sqlite:///{home}/line.db"
    assert told["sentence"] == f"HeirFlow's tables are in {told['database']}"


@pytest.mark.parametrize(
    ("word", "there", "fact"),
    [
        ("install", None, ("installed", True)),
        ("remove", True, ("removed", True)),
        ("remove", False, ("removed", False)),
    ],
)
def test_fence_tells_what_it_did_as_json_too(
    heirflow: Callable, monkeypatch: pytest.MonkeyPatch, word: str, there: bool | None, fact: tuple[str, bool]
) -> None:
    # What the trigger does is proved in tests/fencing, on real servers.
    monkeypatch.setattr("heirflow.cli.fence._by_superuser", lambda config, act: there)
    said = heirflow("fence", word, "--db-url", "postgresql://me:hunter2@db/x")
    told = json.loads(heirflow("fence", word, "--json", "--db-url", "postgresql://me:hunter2@db/x").out)
    assert told == {"database": "postgresql://me:***@db/x", fact[0]: fact[1], "sentence": said.out.strip()}


class TestConfig:
    def test_every_value_and_its_origin(self, heirflow: Callable, home: Path) -> None:
        (home / "heirflow.toml").write_text('label = "rack 3"')
        settings = json.loads(heirflow("config", "--ttl", "20s", "--json").out)["settings"]
        assert settings["ttl"] == {"value": 20.0, "origin": "flag --ttl"}
        assert settings["check-in"] == {"value": 4.0, "origin": "default, from ttl"}
        assert settings["label"]["value"] == "rack 3"
        assert settings["label"]["origin"] == "file heirflow.toml"
        assert settings["db-url"]["origin"] == "environment HEIRFLOW_DB_URL"

    def test_numbers_that_are_refused_are_shown_with_their_origins(
        self, heirflow: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HEIRFLOW_CHECK_IN", "2s")
        said = heirflow("config", "--ttl", "3s")
        assert said.code == 78
        assert re.search(r"^check-in +2s +environment HEIRFLOW_CHECK_IN$", said.out, re.MULTILINE)
        assert said.err.startswith("heirflow: ttl 3 s is too short")
        told = heirflow("config", "--ttl", "3s", "--json")
        assert (told.code, told.err) == (78, said.err)
        shown = json.loads(told.out)
        assert shown["settings"]["ttl"] == {"value": 3.0, "origin": "flag --ttl"}
        assert f"heirflow: {shown['trouble']}\n" == said.err

    def test_no_password_is_shown(self, heirflow: Callable) -> None:
        for args in (["config"], ["config", "--json"]):
            answer = heirflow(*args, "--db-url", "mysql://me:hunter2@db/x?password=hunter2")
            assert "hunter2" not in answer.out + answer.err
            assert "me:***@db" in answer.out


def test_watch_says_that_the_store_is_away_and_goes_on_when_it_is_back(heirflow: Callable, home: Path) -> None:
    command = [sys.executable, "-m", "heirflow", "status", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        away = json.loads(process.stdout.readline())
        assert (away["elections"], away["fence"]) == ([], None)
        assert "line.db does not exist" in away["trouble"]
        assert heirflow("init").code == 0
        back = (json.loads(line) for line in process.stdout)
        seen = next(seen for seen in islice(back, 20) if seen["trouble"] is None)
        assert seen["fence"]["state"] == "lease only"
        process.send_signal(2)
        process.stdout.read()
    assert process.returncode == 130


def test_watch_shows_the_fence_too_and_asks_for_it_less_often(
    line: Callable, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    line("beat", "a", "b")
    fence, asked = SqlStore.fence, []
    monkeypatch.setattr(SqlStore, "fence", lambda self: asked.append(True) or fence(self))
    monkeypatch.setattr("heirflow.cli.status.REDRAW_EVERY_S", 0)
    looks = list(islice(_looks(store, settled({})), 5))
    assert len(asked) == 1
    for look in looks:
        assert look.text("").startswith("beat ") and "\nfence: lease only; " in look.text("")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("status", 1), ("status --json", 1), ("status --watch", 1), ("status --check", 3), ("doctor", 1), ("config", 1),
        ("history beat", 1), ("--help", 1), ("--version", 1), ("probe live --json", 1),
    ],
)  # fmt: skip
def test_an_output_that_is_full_is_told_by_its_name(line: Callable, command: str, code: int) -> None:
    line("beat", "a")
    with open("/dev/full", "w") as full:
        answer = subprocess.run(
            [sys.executable, "-m", "heirflow", *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert answer.returncode == code
    assert answer.stderr == "heirflow: cannot write the answer to standard output: No space left on device\n"


def test_doctor_cuts_nothing_in_a_pipe(heirflow: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = "long " * 100 + "end"
    monkeypatch.setattr("heirflow.cli.doctor.examined", lambda config: [Finding("store", "note", sentence)])
    assert sentence in heirflow("doctor").out
