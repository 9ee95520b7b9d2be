"""Real members on one host: what people see of them, and what they can order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from heirflow.errors import HeirflowError
from heirflow.member.door import ask
from tests.cli.conftest import until

COMMAND = ("--name", "beat", "--", "sleep", "600")


def state_of(pid: int) -> str | None:
    from pathlib import Path

    try:
        return str(ask(Path(os.environ["HEIRFLOW_RUN_DIR"]), pid=pid)["state"])
    except HeirflowError:
        return None


@pytest.fixture
def pair(start: Callable) -> tuple:
    """A leader and an heir."""
    first = start("--host", "host-a", *COMMAND)
    until(lambda: state_of(first.process.pid) == "leader", "the first leads")
    second = start("--host", "host-b", "--label", "rack 3", *COMMAND)
    until(lambda: state_of(second.process.pid) == "heir", "the second is heir")
    return first, second


def test_who_named_no_database_is_told_that_each_host_has_a_line_of_its_own(
    start: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEIRFLOW_DB_URL")
    member = start(*COMMAND)
    until(lambda: state_of(member.process.pid) == "leader", "it leads")
    member.process.send_signal(signal.SIGTERM)
    member.process.wait(20)
    assert "no database was given" in member.told


def test_a_line_of_two(heirflow: Callable, pair: tuple) -> None:
    first, second = pair
    (snapshot,) = json.loads(heirflow("status", "--json").out)["elections"]
    assert [row["host"] for row in snapshot["succession"]] == ["host-a", "host-b"]
    assert "takes charge within 3.6 s; at once on a clean end" in snapshot["promise"]

    assert heirflow("probe", "leader", "--pid", str(first.process.pid)).code == 0
    assert heirflow("probe", "leader", "--pid", str(second.process.pid)).code == 1
    for question in ("live", "ready", "able"):
        assert heirflow("probe", question, "--pid", str(second.process.pid)).code == 0
    assert heirflow("probe", "live", "--name", "beat").code == 2
    facts = json.loads(heirflow("probe", "leader", "--json", "--pid", str(first.process.pid)).out)
    assert facts["leader"] is True
    assert facts["able"] is True
    assert facts["election"] == "beat"
    assert facts["command_pid"] > 0

    result = json.loads(heirflow("switchover", "--to", "host-b", "--json").out)
    assert result["to"].startswith("host-b")
    assert result["took_s"] < 5
    until(lambda: state_of(first.process.pid) == "heir", "the first joined again")
    assert "ordered by" in heirflow("history").out

    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(20) == 0
    until(lambda: state_of(first.process.pid) == "leader", "the first leads again")
    assert "Traceback" not in first.told + second.told


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_probe_whose_answer_nobody_can_read_still_answers_by_its_exit_code(
    start: Callable, form: tuple[str, ...]
) -> None:
    member = start(*COMMAND)
    until(lambda: state_of(member.process.pid) == "leader", "it leads")
    asked = [sys.executable, "-m", "heirflow", "probe", "leader", *form]
    with open("/dev/full", "w") as full:
        assert subprocess.run(asked, stdout=full, timeout=30).returncode == 0, "it would be killed for a full disk"
    gone, out = os.pipe()
    os.close(gone)
    assert subprocess.run(asked, stdout=out, timeout=30).returncode == 0
    os.close(out)


def test_a_frozen_member_is_not_live(heirflow: Callable, pair: tuple) -> None:
    _, second = pair
    pid = str(second.process.pid)
    second.process.send_signal(signal.SIGSTOP)
    answer = heirflow("probe", "live", "--pid", pid, "--timeout", "200ms")
    assert answer.code == 1
    assert "does not answer in time" in answer.err
    assert json.loads(heirflow("probe", "live", "--json", "--pid", pid, "--timeout", "200ms").out)["live"] is False
    second.process.send_signal(signal.SIGCONT)
    until(lambda: heirflow("probe", "live", "--pid", pid).code == 0, "it answers again")


def test_a_drained_leader_hands_over(heirflow: Callable, pair: tuple) -> None:
    first, second = pair
    assert heirflow("drain", "host-a").code == 0
    until(lambda: state_of(second.process.pid) == "leader", "the second leads")
    assert "drained" in heirflow("status").out
    pid = str(first.process.pid)
    until(lambda: heirflow("probe", "ready", "--pid", pid).code == 0, "it has joined again")
    assert heirflow("probe", "able", "--pid", pid).code == 1
    heirflow("drain", "host-a", "--undo")
    until(lambda: state_of(first.process.pid) == "heir", "the first is heir again")
    assert heirflow("probe", "able", "--pid", pid).code == 0


def test_the_election_is_named_after_the_command(heirflow: Callable, start: Callable) -> None:
    member = start("--", "sleep", "600")
    until(lambda: state_of(member.process.pid) == "leader", "it leads")
    assert heirflow("status").out.startswith("sleep ")


def test_a_command_killed_by_a_signal_without_a_name_leaves_with_its_number(start: Callable) -> None:
    # The member died of a traceback: Python has no names for most real-time signals.
    member = start("--on-exit", "exit", "--name", "odd", "--", "sh", "-c", "kill -40 $$")
    assert member.process.wait(20) == 128 + 40
    assert "the command was killed by signal 40" in member.told


def imported_by(*args: str) -> set[str]:
    """The modules that a command line has imported when it is done."""
    program = "import sys; from heirflow.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    answer = subprocess.run(
        [sys.executable, "-c", program, *args], capture_output=True, text=True, timeout=60, check=True
    )
    return {name.split(".")[0] for name in answer.stderr.split()}


def test_a_probe_imports_no_database_and_no_tables(home) -> None:
    assert not imported_by("probe", "live", "--json") & {"sqlalchemy", "rich", "asyncio", "tomllib", "ssl"}


def test_run_imports_no_tables(home) -> None:
    assert "rich" not in imported_by("run", "--", "no-such-program")


def test_a_member_carries_no_web_client_and_no_tables() -> None:
    program = "import sys, heirflow.member.run, heirflow.cli.run, heirflow.programs.plain; print(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    web = {"http.client", "http.server", "email.parser", "rich", "heirflow.member.http_door"}
    assert not {*web, "heirflow.member.tally", "heirflow.member.statsd"} & set(told.split())


def test_help_imports_no_command(home) -> None:
    assert not imported_by("--help") & {"sqlalchemy", "rich"}
