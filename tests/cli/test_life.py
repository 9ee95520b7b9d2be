"""The life of an installation: elections that are forgotten, names that a shell completes, and waiting for a drain."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from heirflow.election.record import CheckIn, Exchange, Record, Swap
from heirflow.stores import Store, open_store
from tests.cli.conftest import until


def silence(home: Path) -> None:
    """As if nobody had checked in for long."""
    with sqlite3.connect(home / "line.db") as conn:
        conn.execute("UPDATE heirflow_member SET checked_in_at = checked_in_at - 9000")
        conn.execute("UPDATE heirflow_election SET written_at = written_at - 9000")
    conn.close()


class TestForget:
    def test_an_election_that_nobody_leads(self, heirflow: Callable, line: Callable, store: Store) -> None:
        line("old", leads=False)
        line("beat", "a")
        assert heirflow("forget", "old").out == "old is forgotten.\n"
        assert store.elections() == ("beat",)
        assert store.events("old", 10) == ()
        assert store.exchange("beat", Exchange()).record is not None and len(store.events("beat", 10)) == 1

    @pytest.mark.parametrize("leads", [True, False])
    def test_it_is_refused_while_somebody_is_heard(
        self, heirflow: Callable, line: Callable, store: Store, leads: bool
    ) -> None:
        line("beat", "a", "b", leads=leads)
        answer = heirflow("forget", "beat")
        assert answer.code == 1 and "a, b of beat checked in just now; stop its members first" in answer.err
        assert store.elections() == ("beat",)

    def test_who_led_last_is_watched_for_a_lease(
        self, heirflow: Callable, line: Callable, store: Store, home: Path
    ) -> None:
        line("beat", "a", ttl_s=1.0)
        silence(home)
        answer = heirflow("forget", "beat")
        assert (answer.code, answer.out) == (0, "beat is forgotten.\n")
        assert "watching for 1 s that nobody is heard" in answer.err
        assert store.elections() == ()

    def test_a_leader_that_wakes_meanwhile_keeps_it(self, line: Callable, store: Store, home: Path) -> None:
        """By the store's clock it is silent for long; it renews all the same."""
        line("beat", "a", ttl_s=30.0)
        silence(home)
        command = [sys.executable, "-m", "heirflow", "forget", "beat"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None and "watching" in process.stderr.readline()
            record = Record(2, 1, "a", 30.0)
            assert store.exchange("beat", Exchange(swap=Swap(1, record, expected_term=1))).swapped
            assert "somebody of beat is heard again" in process.stderr.read()
        assert process.returncode == 1
        assert store.exchange("beat", Exchange()).record is not None

    def test_there_is_none(self, heirflow: Callable, line: Callable) -> None:
        line("beat", "a")
        assert "there is no election 'beet'; did you mean 'beat'?" in heirflow("forget", "beet").err

    @pytest.mark.parametrize("driver", ["sqlite", "psycopg", "pymysql"])
    def test_only_what_was_seen_is_deleted(self, new_database: Callable, driver: str) -> None:
        store = open_store(new_database(driver), call_limit_s=5)
        store.open()
        a, b = (Exchange(check_in=CheckIn(name, "h", 1, ready=True), join=True) for name in "ab")
        first = store.exchange("beat", a)
        store.exchange("beat", Exchange(swap=Swap(None, Record(1, 1, "a", 10.0))))
        assert not store.forget("beat", first), "there was no record then"
        seen = store.exchange("beat", Exchange())
        store.exchange("beat", Exchange(swap=Swap(1, Record(2, 1, "a", 10.0), expected_term=1)))
        assert not store.forget("beat", seen), "the leader has renewed since"
        seen = store.exchange("beat", Exchange())
        store.exchange("beat", b)
        assert not store.forget("beat", seen), "somebody has joined since"
        assert store.exchange("beat", Exchange()).record == Record(2, 1, "a", 10.0)
        seen = store.exchange("beat", Exchange())
        assert len(seen.members) == 2
        assert store.forget("beat", seen)
        assert store.elections() == ()
        store.close()


def completed(words: str) -> list[str]:
    """What bash offers for the last word."""
    found = subprocess.run(
        [sys.executable, "-c", "from heirflow.cli import main; main([])"],
        env={
            **os.environ,
            "_HEIRFLOW_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stderr == ""
    return [line.partition(",")[2] for line in found.stdout.splitlines() if line]


class TestCompletion:
    def test_names_of_elections(self, line: Callable) -> None:
        line("beat", "a")
        line("bot", "a")
        line("poller", "a")
        assert completed("heirflow status b") == ["beat", "bot"]
        assert completed("heirflow forget p") == ["poller"]
        assert completed("heirflow drain --name ") == ["beat", "bot", "poller"]

    def test_no_database_is_no_error(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for url in (f"sqlite:///{home}/none.db", "postgresql://me@127.0.0.1:1/x", "nonsense"):
            monkeypatch.setenv("HEIRFLOW_DB_URL", url)
            assert completed("heirflow status b") == []
        assert not (home / "none.db").exists()


def test_one_election_of_several(heirflow: Callable, line: Callable, home: Path) -> None:
    """Its table in heirflow.toml counts for these commands too."""
    file = home / "heirflow.toml"
    file.write_text('[election.beat]\nttl = "7s"\n')
    file.chmod(0o600)
    line("beat", "a")
    assert "ttl 7 s" in heirflow("doctor", "--name", "beat").out
    assert "ttl 10 s" in heirflow("doctor").out
    assert heirflow("init", "--name", "beat").code == 0
    assert heirflow("fence", "status", "--name", "beat").code == 1


class TestProbe:
    def test_list(self, heirflow: Callable, start: Callable, home: Path) -> None:
        answer = heirflow("probe", "--list")
        assert (answer.code, answer.out) == (1, "") and "no member listens in" in answer.err
        start("--name", "one", "--", "sleep", "60")
        start("--name", "two", "--", "sleep", "60")
        until(lambda: heirflow("probe", "leader", "--name", "one").code == 0, "one leads")
        until(lambda: heirflow("probe", "leader", "--name", "two").code == 0, "two leads")
        answer = heirflow("probe", "--list")
        assert answer.code == 0
        assert [each.partition(":")[0] for each in answer.out.splitlines()] == ["one", "two"]
        members = json.loads(heirflow("probe", "--list", "--json", "--name", "two").out)["members"]
        assert [(each["election"], each["leader"]) for each in members] == [("two", True)]

    def test_a_question_or_the_list(self, heirflow: Callable) -> None:
        for words in ((), ("live", "--list"), ("--list", "--pid", "7")):
            answer = heirflow("probe", *words)
            assert answer.code == 2 and "give one question" in answer.err

    def test_a_folder_that_cannot_be_read(self, tmp_path: Path) -> None:
        """As an ordinary user, whom the mode of a folder keeps out."""
        folder = Path(tempfile.gettempdir()) / f"heirflow-unreadable-{os.getpid()}"
        folder.mkdir(mode=0o300)
        try:
            become = ""
            if os.geteuid() == 0:
                os.chown(folder, 65534, 65534)
                become = "import os; os.setgid(65534); os.setuid(65534)"
            words = ["probe", "live", "--run-dir", str(folder)]
            # All is imported before: the other user need not be able to read it.
            code = f"import heirflow.cli.probe\n{become}\nraise SystemExit(heirflow.cli.main({words}))"
            answer = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "HOME": "/"}, cwd="/"
            )
        finally:
            folder.chmod(0o700)
            shutil.rmtree(folder)
        assert answer.returncode == 1
        assert f"cannot read the folder for probes {folder}: Permission denied" in answer.stderr


class TestDrain:
    def test_wait(self, heirflow: Callable, start: Callable, store: Store) -> None:
        start("--name", "beat", "--host", "one", "--", "sleep", "60")
        until(lambda: (record := store.exchange("beat", Exchange()).record) and record.leader, "somebody leads")
        answer = heirflow("drain", "one", "--wait", "--limit", "1s")
        assert answer.code == 1 and "is drained and still leads" in answer.err
        start("--name", "beat", "--host", "two", "--", "sleep", "60")
        assert heirflow("drain", "one", "--wait").code == 0
        record = store.exchange("beat", Exchange()).record
        assert record is not None and not (record.leader or "").startswith("one")

    def test_wait_and_undo(self, heirflow: Callable) -> None:
        assert heirflow("drain", "one", "--wait", "--undo").code == 2
