"""What each command writes with --json, and a member with --log-format json, is as docs/schemas/ says, in the main states.

The `heirflow` fixture holds every such output of all tests in this folder against its schema; here each command is given once at
least, and a test counts them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heirflow.election.record import CheckIn, Event, Exchange, What
from heirflow.errors import HeirflowError
from heirflow.member.door import ask
from heirflow.stores import Store
from tests.cli.conftest import Answer, Started, until
from tests.schemas import ADDRESSES, BY_COMMAND, conforms
from tests.unit.test_schemas import JOURNAL

Heirflow = Callable[..., Answer]
GIVEN: list[tuple[str, int]] = [
    ("init", 0), ("status", 0), ("status beat", 0), ("status --check", 2), ("status --check nobody", 3), ("history beat", 0),
    ("doctor", 0), ("config", 0), ("config --ttl 3s --check-in 2s", 78), ("fence status", 1),
    ("switchover beat --to a", 0), ("drill beat --yes --wait 100ms", 1),
    ("pause beat", 0), ("pause beat", 0), ("resume beat", 0),
    ("drain b --name beat", 0), ("drain b --name beat --undo", 0), ("seats beat", 0),
    ("forget old", 0), ("release", 0), ("probe live", 1),
    ("probe leader", 1), ("probe --list", 1), ("preload -- {python} -m this", 0),
    ("fence install --db-url postgresql://me:hunter2@db/x", 0), ("fence remove --db-url postgresql://me:hunter2@db/x", 0),
]  # fmt: skip
"""Command lines in this order, with their exit codes; a leads, b is its heir, and nobody leads old."""
WATCHED = {"heirflow status --watch --json", "heirflow history --follow --json"}
"""These end only when they are interrupted: tests/cli/test_commands.py reads their lines."""


@pytest.fixture
def lines(line: Callable[..., None], store: Store) -> None:
    line("beat", "a", "b", "c")
    line("old")
    notes = (
        Event("missed", 1, "a", "nobody ran it 2 times"),
        Event(What.LOST, 1, "a", "the lease is over", took_s=3.5, ago_s=2.0),
    )
    said = CheckIn(
        "c", "host-c", 4243, ready=False, label="rack 3", note='{"settings": {"ttl_s": 3}, "kill_is_sure": false}'
    )
    store.exchange("beat", Exchange(check_in=said, notes=notes))


def test_each_command_writes_what_its_schema_says(
    heirflow: Heirflow, lines: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heirflow.cli.fence._by_superuser", lambda config, act: True)  # proved in tests/fencing
    monkeypatch.setattr("heirflow.cli.fence._lingers", lambda config: False)
    monkeypatch.setattr("heirflow.programs.preload.watched", lambda *_: [("slow_one", 0.25)])  # in tests/process
    monkeypatch.setattr("heirflow.programs.preload.comes_to_its_gate", lambda *_: True)
    for text, code in GIVEN:
        words = text.replace("{python}", sys.executable).split()
        own, dashes, program = words, [], []
        if "--" in words:
            at = words.index("--")
            own, dashes, program = words[:at], ["--"], words[at + 1 :]
        answer = heirflow(*own, "--json", *dashes, *program)
        assert answer.code == code, f"{text}: {answer}"
        json.loads(answer.out)


def test_no_command_is_left_out() -> None:
    given = set()
    for text, _ in GIVEN:
        words = text.split()
        plain = ["heirflow", *words[: 2 if words[0] == "fence" else 1]]
        marks = [word for word in words if word in {"--check", "--list"}]
        given.add(" ".join([*plain, *marks, "--json"]))
    assert given | WATCHED | JOURNAL | ADDRESSES == set(BY_COMMAND)


# ---- members ----------------------------------------------------------------------------------------------------------


def state_of(member: Started) -> str | None:
    try:
        return str(ask(Path(os.environ["HEIRFLOW_RUN_DIR"]), pid=member.process.pid)["state"])
    except HeirflowError:
        return None


def journal(member: Started) -> list[dict[str, Any]]:
    """Every line that a member wrote; each must be one of the journal's, and as its schema says."""
    entries = [json.loads(line) for line in member.told.splitlines()]
    for entry in entries:
        conforms("journal", entry)
    return entries


def told(member: Started, event: str) -> dict[str, Any]:
    (entry,) = [entry for entry in journal(member) if entry["event"] == event]
    return entry


COMMAND = ("--log-format", "json", "--name", "beat", "--", "sleep", "600")


@pytest.fixture
def pair(start: Callable[..., Started]) -> tuple[Started, Started]:
    first = start("--host", "host-a", *COMMAND)
    until(lambda: state_of(first) == "leader", "the first leads")
    second = start("--host", "host-b", *COMMAND)
    until(lambda: state_of(second) == "heir", "the second is heir")
    return first, second


def test_a_members_whole_life_in_json(heirflow: Heirflow, pair: tuple[Started, Started]) -> None:
    first, second = pair
    facts = json.loads(heirflow("probe", "leader", "--json", "--pid", str(first.process.pid)).out)
    heir = json.loads(heirflow("probe", "leader", "--json", "--pid", str(second.process.pid)).out)
    for question in ("--list", "ready"):
        heirflow("probe", question, "--json", *(() if question == "--list" else ("--pid", str(first.process.pid))))
    heirflow("status", "--json")
    heirflow("status", "--check", "--json")
    heirflow("switchover", "beat", "--json")
    until(lambda: state_of(first) == "heir", "the first joined again")
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(20) == 0
    until(lambda: state_of(first) == "leader", "the first leads again")
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(20) == 0
    heirflow("history", "beat", "--json")

    ours = journal(first)
    assert {entry["member"] for entry in ours} == {facts["member"]}, "the full id"
    assert {entry["pid"] for entry in ours} == {first.process.pid}, "and never the pid of the command"
    assert [entry["event"] for entry in ours if entry["event"] in {"took_charge", "released"}] == [
        "took_charge", "released", "took_charge", "released",
    ]  # fmt: skip
    assert [entry["term"] for entry in ours if entry["event"] == "released"] == [1, 3]
    started = next(entry for entry in ours if entry["event"] == "command_started")
    assert (started["command_pid"], started["term"]) == (facts["command_pid"], 1)
    assert [entry["status"] for entry in ours if entry["event"] == "command_ended"] == [-15, -15]
    released = told(second, "released")
    assert (released["term"], released["member"]) == (2, heir["member"])
    moments = [entry["at"] for entry in ours]
    assert moments == sorted(moments)


def test_what_is_told_of_the_settings_is_json_too(
    start: Callable[..., Started], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.delenv("HEIRFLOW_DB_URL")
    monkeypatch.setenv("HEIRFLOW_TTTL", "3s")
    (home / "heirflow.toml").write_text('label = "rack 3"')
    member = start(*COMMAND)
    until(lambda: state_of(member) == "leader", "it leads")
    doubts = [entry for entry in journal(member) if entry["event"] == "settings_doubtful"]
    assert {entry["level"] for entry in doubts} == {"warning"}
    sentences = " ".join(entry["sentence"] for entry in doubts)
    assert "HEIRFLOW_TTTL is not a setting" in sentences and "no database was given" in sentences
    assert told(member, "settings_read")["file"] == str(home / "heirflow.toml")


def test_a_command_that_dies_and_a_member_that_is_frozen(heirflow: Heirflow, pair: tuple[Started, Started]) -> None:
    first, second = pair
    pid = str(second.process.pid)
    second.process.send_signal(signal.SIGSTOP)
    assert heirflow("probe", "live", "--pid", pid, "--timeout", "200ms", "--json").code == 1
    seen = json.loads(heirflow("probe", "--list", "--timeout", "200ms", "--json").out)["members"]
    assert sorted(each["live"] for each in seen) == [False, True]
    second.process.kill()
    second.process.wait()
    until(lambda: "no heir" in heirflow("status", "--check", "--json").out, "the heir is silent")
    command = json.loads(heirflow("probe", "leader", "--pid", str(first.process.pid), "--json").out)["command_pid"]
    os.kill(command, signal.SIGKILL)
    until(lambda: "command_restarts" in first.told, "it is started again")
    entry = told(first, "command_restarts")
    assert (entry["level"], entry["status"], entry["term"]) == ("warning", -9, 1)


def test_an_error_of_once_is_told_by_its_member(home: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "heirflow",
        "once",
        "--log-format",
        "json",
        "--name",
        "x",
        "--ttl",
        "3s",
        "--verbose",
    ]
    done = subprocess.run([*command, "--", "false"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    for entry in entries:
        conforms("journal", entry)
    assert [entry["event"] for entry in entries][:1] == ["joined"]
    assert [entry["status"] for entry in entries if entry["event"] == "command_ended"] == [1]
