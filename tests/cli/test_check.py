"""`heirflow status --check` tells apart what a person on call must tell apart, with real members."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from heirflow.election.record import Event, Exchange, MemberRow, Reading, Record, Swap, What
from heirflow.status import Snapshot
from heirflow.status.check import FLAPS, judged
from heirflow.stores import Store
from heirflow.terminal.line import headline
from tests.cli.conftest import Answer, until

NOW = 1_000_000.0


def state(heirflow: Callable[..., Answer]) -> tuple[int, str]:
    """Exit code and state; the line must say the same."""
    answer = heirflow("status", "--check", "--json")
    found = json.loads(answer.out)
    assert answer.code == found["code"] and answer.err == ""
    level = found["level"].upper()
    assert found["sentence"].startswith(f"HEIRFLOW {level} - ")
    return answer.code, ", ".join(each["state"] for each in found["elections"])


def test_a_monitor_tells_every_state_apart(heirflow: Callable, start: Callable, home: Path) -> None:
    name = ("--name", "beat", "--", "sh", "-c", "test ! -e broken && sleep 600")
    assert state(heirflow) == (3, "unknown")  # the store is not there yet
    first = start("--host", "host-a", *name)
    until(lambda: state(heirflow) == (1, "no heir"), "led without an heir")
    second = start("--host", "host-b", *name)
    until(lambda: state(heirflow) == (0, "led"), "healthy")
    line = heirflow("status", "--check").out
    assert line.count("\n") == 1 and line.startswith("HEIRFLOW OK - beat: led by host-a") and ", heir host-b" in line

    heirflow("pause", "beat")
    assert state(heirflow) == (1, "paused")
    heirflow("resume", "beat")
    assert state(heirflow) == (0, "led")

    database = home / "line.db"
    database.rename(home / "away.db")
    assert state(heirflow) == (3, "unknown")
    (home / "away.db").rename(database)

    second.process.kill()
    until(lambda: state(heirflow) == (1, "no heir"), "no heir any more")
    (home / "broken").touch()
    command = json.loads(heirflow("probe", "leader", "--pid", str(first.process.pid), "--json").out)["command_pid"]
    os.kill(command, signal.SIGKILL)
    until(lambda: state(heirflow) == (2, "runs nothing"), "leads without work")

    first.process.kill()
    until(lambda: state(heirflow) == (2, "nobody leads"), "nobody leads")
    assert "beat: nobody leads" in heirflow("status", "--check").out


def test_of_several_the_worst_counts_and_stands_first(heirflow: Callable, line: Callable, store: Store) -> None:
    line("beat", "a", "b")
    line("poller", "c")
    line("quiet", "d", leads=False)
    answer = heirflow("status", "--check")
    assert answer.code == 2
    assert answer.out.startswith("HEIRFLOW CRITICAL - quiet: nobody leads; ")
    assert answer.out.index("poller: led by c, and no heir") < answer.out.index("beat: led by a, heir b")
    assert heirflow("status", "--check", "beat").code == 0
    assert heirflow("status", "--check", "no-such").code == 3


def test_a_wrong_setting_is_not_known(heirflow: Callable) -> None:
    answer = heirflow("status", "--check", "--db-url", "nonsense://x")
    assert (answer.code, answer.err) == (3, "")
    assert answer.out.startswith("HEIRFLOW UNKNOWN - ")


def test_check_looks_once(heirflow: Callable) -> None:
    assert heirflow("status", "--check", "--watch").code == 2


def test_an_ended_lease_is_critical(heirflow: Callable, line: Callable, store: Store) -> None:
    line("beat", "a", ttl_s=1.0)
    until(lambda: heirflow("status", "--check").code == 2, "the lease ends")
    assert "nobody leads: a has been silent" in heirflow("status", "--check").out


def look(note: str = "") -> Snapshot:
    members = tuple(MemberRow(name, number, name, 1, ready=True, note=note) for number, name in enumerate("ab", 1))
    return Snapshot.of("beat", Reading(Record(5, 7, "a", 10), members, written_at=NOW, since=NOW, db_now=NOW))


def starts(count: int, age_s: float) -> list[Event]:
    return [Event(What.TOOK_CHARGE, number, "a", "", at=NOW - age_s) for number in range(count)]


def test_too_many_starts_are_flapping() -> None:
    assert judged(look(), starts(FLAPS, 60)).state == "flapping"
    assert judged(look(), starts(FLAPS - 1, 60)).state == "led"
    assert judged(look(), starts(FLAPS, 3600)).state == "led"
    loop = [
        replace(each, what=What.RESTARTED, term=7, times=times)
        for each, times in zip(starts(3, 60), (1, 2, 4), strict=True)
    ]
    assert judged(look(), loop).sentence == "beat: led by a, started 4 times within 10 min 00 s"
    assert judged(look(), loop[:2]).state == "led"
    assert judged(look('{"runs": true, "because": "the command has ended 3 times in a row"}'), []).state == "flapping"


def test_a_finished_once_is_well(heirflow: Callable, store: Store) -> None:
    note = json.dumps({"once": {"at": 1.0, "by": "a", "done_at": 2.0, "status": 0}})
    store.exchange("nightly", Exchange(swap=Swap(None, Record(1, 1, None, 10, "a left the line", note=note))))
    answer = heirflow("status", "--check")
    assert answer.code == 0 and "nightly: its command was done" in answer.out, answer
    assert "the next call of `heirflow once` begins it" in heirflow("status").out
    begun = note.replace("2.0", "null")
    store.exchange("nightly", Exchange(swap=Swap(1, Record(2, 2, None, 10, "a ended without a word", note=begun))))
    assert heirflow("status", "--check").code == 2, "begun, and nobody there to end it"


def test_a_leader_that_is_not_heard_is_told_before_its_lease_ends() -> None:
    members = tuple(
        MemberRow(name, 1, name, 1, ready=True, silent_s=silent_s) for name, silent_s in (("a", 20.0), ("b", 0.1))
    )
    line = Snapshot.of("beat", Reading(Record(5, 7, "a", 30), members, written_at=NOW - 20, since=NOW - 99, db_now=NOW))
    told = judged(line, [])
    assert (told.level, told.state) == (1, "silent") and "led by a, which is silent for 20 s" in told.sentence
    assert headline(line) == "beat   term 7   led by a, which is silent for 20 s"


def test_a_name_with_a_bar_gives_no_numbers(heirflow: Callable, line: Callable, store: Store) -> None:
    store.exchange("a|b", Exchange(swap=Swap(None, Record(1, 1, None, 10))))
    assert "|" not in heirflow("status", "--check").out
