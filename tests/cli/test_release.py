"""`heirflow release`: after a service manager has killed a member with its whole group, and at no other time."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from heirflow.election.record import Exchange, What
from heirflow.guard.processes import lives
from heirflow.member.cgroups import Cgroup, cgroup_of
from heirflow.member.charge import Charge, noted
from heirflow.stores import Store, open_store
from heirflow.testing.seats_contract import led_by
from tests import cgroups
from tests.cgroups import kill_all
from tests.cli.conftest import until
from tests.contract.drivers import MYSQL, POSTGRES
from tests.schemas import check_output

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]


@pytest.fixture
def cgroup(started: None) -> Iterator[Path]:
    with cgroups.made() as own:
        yield own


@pytest.fixture(autouse=True)
def started() -> Iterator[None]:
    """Every process that a test started is ended and its pipes are closed."""
    STARTED.clear()
    yield
    for process in STARTED:
        process.kill()
        process.communicate()


STARTED: list[subprocess.Popen[str]] = []


def within(cgroup: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    """Start a command in the cgroup, below a shell that stays there, as service managers' scripts do."""
    script = f'echo $$ >{cgroup}/cgroup.procs && "$@"; exit $?'
    process = subprocess.Popen(
        ["sh", "-c", script, "sh", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **more},
    )
    STARTED.append(process)
    return process


def run(*words: str) -> list[str]:
    return [sys.executable, "-m", "heirflow", "run", "--name", "unit", "--ttl", "60s", "--", *(words or SLEEP)]


def release(cgroup: Path, *words: str, **more: str) -> tuple[int, str, str]:
    process = within(cgroup, sys.executable, "-m", "heirflow", "release", *words, **more)
    out, err = process.communicate(timeout=30)
    check_output(["release", *words], out)
    return process.returncode, out, err


def run_dir() -> Path:
    return Path(os.environ["HEIRFLOW_RUN_DIR"])


def leading(cgroup: Path) -> Charge:
    """A member that leads in the cgroup, once it has noted that."""
    within(cgroup, *run())
    until(lambda: noted(run_dir()), "a note")
    return noted(run_dir())[0][1]


def record(store: Store) -> tuple[str | None, int]:
    seen = store.exchange("unit", Exchange()).record
    assert seen is not None
    return seen.leader, seen.term


def test_a_killed_group_is_released(cgroup: Path, store: Store) -> None:
    charge = leading(cgroup)
    assert record(store) == (charge.member, charge.term) == (charge.member, 1)
    kill_all(cgroup)
    assert record(store)[0] == charge.member, "nobody was left who could release"
    code, out, err = release(cgroup)
    assert (code, err) == (0, "")
    assert out == f"unit: term 1 of {charge.member} is released\n"
    assert record(store) == (None, 1)
    event = store.events("unit", 1)[0]
    assert event.what is What.RELEASED
    assert (
        event.because
        == f"{charge.member} was killed with its whole group by the service manager, and its cgroup is empty"
    )
    assert noted(run_dir()) == []
    assert release(cgroup)[0] == 0, "nothing noted is nothing to release"


@pytest.mark.parametrize("driver", ["sqlite", POSTGRES[0], MYSQL[0]])
def test_the_heir_takes_charge_at_once_and_never_beside_what_is_left(
    cgroup: Path,
    driver: str,
    new_database: Callable[[str], str],
    start: Callable,
    home: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Member, guard and backstop are killed, and a process of the command is not: then the whole cgroup is."""
    monkeypatch.setenv("HEIRFLOW_DB_URL", url := new_database(driver))
    monkeypatch.setenv(
        "HEIRFLOW_RUN_DIR", str(tmp_path_factory.mktemp("run"))
    )  # a short path, which a socket's must be
    ticks, began = home / "ticks", home / "began"
    tick = f"while :; do date +%s.%N >>{ticks}; sleep 0.01; done"
    words = run("sh", "-c", f"setsid env -i PATH=$PATH sh -c '{tick}' & exec sleep 600")
    within(cgroup, *words)
    until(lambda: noted(run_dir()) and ticks.exists(), "a command that is noted and at work")
    charge = noted(run_dir())[0][1]
    start("--name", "unit", "--ttl", "60s", "--check-in", "400ms", "--run-dir", str(home / "heirs"), "--",
          "sh", "-c", f"date +%s.%N >{began}; exec sleep 600")  # fmt: skip
    with closing(open_store(url, call_limit_s=5)) as store:
        store.open(create=False)
        until(lambda: len(store.exchange("unit", Exchange()).members) == 2, "an heir")
        ours = [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in ours:
                os.kill(pid, number)
        until(lambda: not any(map(lives, ours)), "the end of member, guard and backstop")
        code, _, err = release(cgroup)
        assert (code, record(store)) == (1, (charge.member, 1)), f"released while a process of the command lives: {err}"
        kill_all(cgroup)
        assert not began.exists()
        assert release(cgroup)[0] == 0
        until(lambda: began.exists() and began.read_text(), "the heir's command")
        until(lambda: store.events("unit", 1)[0].what is What.TOOK_CHARGE, "the heir's lead")
        released, took = store.events("unit", 2)
    assert (released.what, released.member, released.term, took.term) == (What.RELEASED, charge.member, 1, 2)
    assert took.at - released.at < 1.0
    last = float(ticks.read_text().split()[-1])
    assert last < float(began.read_text()), "two at the same time"


def test_of_several_seats_only_the_killed_members_is_released(
    cgroup: Path, store: Store, start: Callable, home: Path
) -> None:
    """Both are in term 1: the note says of which seat it is."""
    other = start("--name", "unit", "--seats", "2", "--ttl", "60s", "--run-dir", str(home / "other"), "--", *SLEEP)
    until(lambda: noted(home / "other"), "the first seat's note")
    within(cgroup, *run()[: -len(SLEEP) - 1], "--seats", "2", "--", *SLEEP)
    until(lambda: noted(run_dir()), "the second seat's note")
    [(_, charge)], [(_, first)] = noted(run_dir()), noted(home / "other")
    assert (first.seat, first.term, charge.seat, charge.term) == (1, 1, 2, 1)
    kill_all(cgroup)
    code, out, err = release(cgroup)
    assert (code, out, err) == (0, f"unit: term 1 of {charge.member} is released\n", "")
    assert led_by(store.exchange("unit", Exchange())) == [(first.member, 1), (None, 1)]
    told = store.events("unit", 1)[0]
    assert (told.what, told.seat, told.member) == (What.RELEASED, 2, charge.member)
    assert other.process.poll() is None and noted(run_dir()) == [] and noted(home / "other")


def test_a_service_managers_own_cgroup_below_it_will_do(cgroup: Path, store: Store) -> None:
    """With Delegate=yes, systemd runs ExecStopPost= in a cgroup below the unit's."""
    charge = leading(cgroup)
    kill_all(cgroup)
    control = cgroup / ".control"
    control.mkdir()
    code, out, _ = release(control, "--json")
    assert code == 0
    assert json.loads(out)["notes"] == [
        {
            "election": "unit",
            "member": charge.member,
            "term": 1,
            "outcome": "released",
            "sentence": f"term 1 of {charge.member} is released",
        }
    ]
    assert record(store) == (None, 1)


def test_a_living_member_is_not_released(cgroup: Path, store: Store) -> None:
    charge = leading(cgroup)
    code, out, err = release(cgroup)
    assert (code, out) == (1, "")
    assert f"its process {charge.pid} lives" in err
    assert record(store) == (charge.member, 1)
    assert noted(run_dir())


@pytest.mark.parametrize("place", [".", "below"])
def test_somebody_left_in_the_cgroup_keeps_the_record(cgroup: Path, store: Store, place: str) -> None:
    charge = leading(cgroup)
    kill_all(cgroup)
    (cgroup / place).mkdir(exist_ok=True)
    left = within(cgroup / place, "env", "-i", *SLEEP)
    until(lambda: len((cgroup / place / "cgroup.procs").read_text().split()) == 2, "somebody left")
    code, _, err = release(cgroup)
    assert code == 1
    assert "2 processes live" in err
    assert record(store) == (charge.member, 1)
    kill_all(cgroup)
    left.communicate()
    assert release(cgroup)[0] == 0
    assert record(store) == (None, 1)


def test_whoever_carries_the_members_name_elsewhere_keeps_the_record(cgroup: Path, store: Store) -> None:
    charge = leading(cgroup)
    kill_all(cgroup)
    with subprocess.Popen(SLEEP, env={**os.environ, "HEIRFLOW_MEMBER": charge.member}) as left:
        try:
            code, _, err = release(cgroup)
            assert (code, record(store)) == (1, (charge.member, 1)), err
            assert f"process {left.pid} lives outside of its cgroup" in err
        finally:
            left.kill()
    assert release(cgroup)[0] == 0


def test_the_command_cannot_release_for_its_own_member(cgroup: Path, store: Store, tmp_path: Path) -> None:
    """All in the cgroup are then parents of the one who asks."""
    said = tmp_path / "said"
    ask = f"sleep 1; env -u HEIRFLOW_MEMBER {sys.executable} -m heirflow release >{said} 2>&1; echo $? >>{said}; sleep 600"
    within(cgroup, *run("sh", "-c", ask), HEIRFLOW_CONFIG="", HEIRFLOW_DB_URL_FILE="")
    until(lambda: said.exists() and said.read_text().rstrip().endswith(("0", "1", "8", "9")), "its answer")
    assert said.read_text().splitlines()[-1] == "1", said.read_text()
    assert record(store)[0] is not None


@pytest.mark.parametrize("what", ["another term", "another leader"])
def test_a_record_that_moved_on_is_left_alone(cgroup: Path, store: Store, home: Path, what: str) -> None:
    leading(cgroup)
    kill_all(cgroup)
    with sqlite3.connect(home / "line.db") as connection:
        changed = "term = 2" if what == "another term" else "leader = 'ben'"
        connection.execute(f"UPDATE heirflow_election SET {changed}, version = version + 1")
    connection.close()
    before = record(store)
    code, out, _ = release(cgroup)
    assert code == 0
    assert "nothing to release" in out
    assert record(store) == before
    assert noted(run_dir()) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"number": 1}, "is another one now"),
        ({"boot": "another"}, "is another one now"),
        ({"folder": "/nowhere"}, "is not there"),
        (None, "could not see a cgroup"),
    ],
    ids=["cgroup", "boot", "folder", "none"],
)
def test_a_note_of_another_place_proves_nothing(
    cgroup: Path, store: Store, wrong: dict[str, object] | None, words: str
) -> None:
    """A note of another container or host in a shared folder, or of before a restart of the machine."""
    charge = leading(cgroup)
    kill_all(cgroup)
    assert charge.cgroup is not None
    replace(charge, cgroup=None if wrong is None else Cgroup(**{**asdict(charge.cgroup), **wrong})).write(run_dir())
    code, _, err = release(cgroup)
    assert code == 1
    assert words in err
    assert record(store) == (charge.member, 1)


def test_a_member_that_releases_takes_its_note_away(start: Callable) -> None:
    member = start("--name", "unit", "--", *SLEEP)
    until(lambda: noted(run_dir()), "a note")
    charge = noted(run_dir())[0][1]
    assert (charge.election, charge.term, charge.pid) == ("unit", 1, member.process.pid)
    assert charge.cgroup == cgroup_of(member.process.pid)
    path = charge.path(run_dir())
    assert path.stat().st_mode & 0o777 == 0o600
    assert "sqlite" not in path.read_text()
    member.process.send_signal(signal.SIGTERM)
    assert member.process.wait(10) == 0
    assert not list(run_dir().glob("*.lead*"))


def test_without_a_note_there_is_nothing_to_release(heirflow: Callable) -> None:
    answer = heirflow("release")
    assert answer.code == 0
    assert answer.out.startswith("nothing to release")
    assert json.loads(heirflow("release", "--json").out) == {"notes": []}


def test_a_torn_note_is_no_note(heirflow: Callable) -> None:
    run_dir().mkdir(mode=0o700)
    for name, text in {"a": "", "b": "{", "c": "[" * 9000, "d": '{"election": "unit"}', "e": "null"}.items():
        (run_dir() / f"{name}.lead").write_text(text)
    assert heirflow("release").code == 0


def test_a_folder_that_others_may_write_is_not_believed(heirflow: Callable) -> None:
    run_dir().mkdir()
    run_dir().chmod(0o777)
    answer = heirflow("release")
    assert answer.code == 1
    assert "no note in it is believed" in answer.err


def test_a_killed_member_alone_leaves_its_guard_to_release(cgroup: Path, store: Store) -> None:
    charge = leading(cgroup)
    os.kill(charge.pid, signal.SIGKILL)
    until(lambda: record(store)[0] is None, "the will")
    until(lambda: not lives(charge.pid), "its end")
    assert release(cgroup)[:2] == (0, f"unit: {charge.member} does not lead in term 1 any more; nothing to release\n")


def test_a_member_that_cannot_note_its_lead_says_so(start: Callable, home: Path) -> None:
    member = start("--name", "unit", "--run-dir", str(home / ("x" * 120)), "--", *SLEEP)
    until(lambda: "too long for a socket" in member.told, "the warning")
    assert "neither probes nor `heirflow release` will find this member" in member.told
