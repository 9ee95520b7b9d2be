"""Who hears of changes beside the journal: a service manager, and the programs of --on-promote and its like."""

from __future__ import annotations

import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import until


class Manager:
    """A service manager's socket, and what was said to it."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.lines: list[str] = []

    def heard(self) -> list[str]:
        while True:
            try:
                self.lines += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.lines


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    path = tmp_path / "notify"
    made = Manager(path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield made
    made.socket.close()


def test_a_service_manager_hears_readiness_place_and_signs_of_life(start: Callable, manager: Manager) -> None:
    member = start(
        "--name", "unit", "--", "sh", "-c", 'echo "to the command: $NOTIFY_SOCKET$WATCHDOG_USEC."; sleep 600'
    )
    until(lambda: "STATUS=leads term 1" in manager.heard(), "its place was told")
    assert "READY=1" in manager.lines
    until(lambda: "to the command: ." in member.told, "the command has neither")
    before = manager.heard().count("WATCHDOG=1")
    time.sleep(2.0)
    assert manager.heard().count("WATCHDOG=1") - before >= 6  # every 0.2 s; a third of them may come late
    member.process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    before = manager.heard().count("WATCHDOG=1")
    time.sleep(1.0)
    assert manager.heard().count("WATCHDOG=1") == before
    member.process.send_signal(signal.SIGCONT)
    member.process.terminate()
    assert member.process.wait(20) == 0
    assert "STOPPING=1" in manager.heard()


def test_an_heir_is_ready_too(start: Callable, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET")
    first = start("--name", "unit", "--", "sleep", "600")
    until(lambda: "took charge" in first.told, "the first leads")
    monkeypatch.setenv("NOTIFY_SOCKET", manager.socket.getsockname())
    start("--name", "unit", "--", "sleep", "600")
    until(lambda: "STATUS=next in line" in manager.heard(), "its place was told")
    assert "READY=1" in manager.lines


def test_hooks_hear_in_order_who_leads(start: Callable, tmp_path: Path) -> None:
    told = tmp_path / "told"
    say = f'echo "$HEIRFLOW_EVENT $HEIRFLOW_TERM $HEIRFLOW_MEMBER-$HEIRFLOW_LEADER" >>{told}'
    first = start("--host", "a", "--name", "h", "--on-promote", say, "--on-demote", say, "--", "sleep", "600")
    until(lambda: told.exists() and "promote" in told.read_text(), "the first was promoted")
    every = tmp_path / "every"
    say = f'echo "$HEIRFLOW_EVENT $HEIRFLOW_TERM" >>{every}; exit 3'
    second = start("--host", "b", "--name", "h", "--on-event", say, "--", "sleep", "600")
    until(lambda: every.exists() and "leader 1" in every.read_text(), "the second knows the leader")
    first.process.terminate()
    assert first.process.wait(20) == 0
    words = [line.split()[:2] for line in told.read_text().splitlines()]
    assert words == [["promote", "1"], ["demote", "1"]], first.told
    until(lambda: "promote 2" in every.read_text(), "the second was promoted")
    assert "leader 2" in every.read_text().splitlines()
    second.process.terminate()
    assert second.process.wait(20) == 0
    assert every.read_text().splitlines()[-1] in {"demote 2", "leader 2"}
    assert "demote 2" in every.read_text()
    assert "warning: --on-event exited with 3" in second.told


def test_a_hook_holds_up_nobody(start: Callable, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    member = start("--name", "h", "--on-promote", f"touch {ran}; sleep 5", "--", "sh", "-c", "sleep 0.5; echo over")
    until(ran.exists, "the hook runs")
    began = time.monotonic()
    until(lambda: "it is started again here" in member.told, "the command's end was seen meanwhile")
    assert time.monotonic() - began < 4
    member.process.kill()


def test_who_leaves_without_telling_the_store_is_demoted_too(start: Callable, home: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    say = f"echo $HEIRFLOW_EVENT $HEIRFLOW_TERM >>{told}"
    member = start("--name", "h", "--on-promote", say, "--on-demote", say, "--", "sleep", "600")
    until(lambda: told.exists() and "promote 1" in told.read_text(), "it was promoted")
    with sqlite3.connect(home / "line.db", isolation_level=None) as connection:
        connection.execute("BEGIN IMMEDIATE")  # and nobody else can write
        member.process.terminate()
        assert member.process.wait(20) == 0
    connection.close()
    assert "left without telling the store" in member.told
    assert told.read_text().split("\n")[1] == "demote 1"


def test_what_stands_in_the_tables_gives_a_service_manager_no_orders(
    start: Callable, manager: Manager, home: Path
) -> None:
    member = start("--name", "unit", "--on-loss", "exit", "--ttl", "2s", "--", "sleep", "600")
    until(lambda: "STATUS=leads term 1" in manager.heard(), "its place was told")
    with sqlite3.connect(home / "line.db", timeout=10) as conn:
        conn.execute(
            "UPDATE heirflow_election SET leader = ?, term = term + 1, version = version + 1", ("x\nMAINPID=4711",)
        )
    assert member.process.wait(20) == 75
    assert any("the record names x\\nMAINPID=4711" in line for line in manager.heard()), manager.lines
    assert not [line for line in manager.lines if line.startswith("MAINPID")]


def test_a_leader_with_a_strange_name_ends_no_hooks(start: Callable, home: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    member = start(
        "--name",
        "h",
        "--ttl",
        "2s",
        "--on-event",
        f'echo "$HEIRFLOW_EVENT $HEIRFLOW_LEADER" >>{told}',
        "--",
        "sleep",
        "600",
    )
    until(lambda: told.exists() and "promote" in told.read_text(), "promoted")
    with sqlite3.connect(home / "line.db", timeout=10) as conn:
        conn.execute("UPDATE heirflow_election SET leader = ?, term = term + 1, version = version + 1", ("a\0b",))
    until(lambda: "leader ab" in told.read_text(), "the strange leader was told")
    until(lambda: "demote" in told.read_text(), "and what came after")
    member.process.terminate()
    assert member.process.wait(20) == 0


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("column", ["because", "leader"])
def test_no_text_in_the_tables_fails_a_hook(
    start: Callable, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, encoding: str
) -> None:
    """A million characters are more than a program can be started with; others cannot stand in an environment."""
    if encoding == "ascii":
        for name, value in {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}.items():
            monkeypatch.setenv(name, value)
    told = tmp_path / "told"
    say = f'printf "%s|%s|%s\\n" "$HEIRFLOW_EVENT" "$HEIRFLOW_{column.upper()}" end >>{told}'
    member = start("--name", "h", "--ttl", "2s", "--on-event", say, "--", "sleep", "600")
    until(lambda: told.exists() and "promote" in told.read_text(), "promoted")
    strange = "a\0b\x1b[2J\n日本é" + "x" * 1_000_000
    with sqlite3.connect(home / "line.db", timeout=10) as conn:
        conn.execute(
            f"UPDATE heirflow_election SET leader = 'somebody', {column} = ?, term = term + 1, version = version + 1",
            (strange,),
        )
    until(lambda: "leader|ab\\x1b[2J\\n" in told.read_text(), "it was told")
    until(lambda: "demote" in told.read_text(), "and what came after")
    member.process.terminate()
    assert member.process.wait(20) == 0
    line = next(line for line in told.read_text().splitlines() if line.startswith("leader|ab"))
    assert line.endswith("|end") and len(line) < 1100
    assert ("日本é" if encoding == "utf-8" else "\\u65e5\\u672c\\xe9") in line
    assert "could not be started" not in member.told
