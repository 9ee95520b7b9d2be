"""A Python callable in the line: led by one at a time, told to stop, and honest about threads."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from heirflow import Election, HeirflowError, Lead, LostLead, StoreUnavailable, UnsafeTimings, aio
from heirflow.clock import boottime
from lab.servers.servers import free_port
from tests.contract.drivers import POSTGRES


def wait_for(condition, limit_s=15.0):
    ends_at = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < ends_at, "waited in vain"
        time.sleep(0.01)


class Work:
    """Notes the terms in which it ran, and how many of its kind ran at once."""

    running = 0
    most = 0

    def __init__(self) -> None:
        self.terms: list[int] = []

    def __call__(self, lead: Lead) -> None:
        Work.running += 1
        Work.most = max(Work.most, Work.running)
        self.terms.append(lead.term)
        assert lead.trusted_for_s() > 0
        lead.stopping.wait(60)
        Work.running -= 1


# A callable that outlives its lease here, on a machine that stood still, must not take pytest with it (exit code 75).
here = partial(Election, ttl_s=2, overrun="warn")


def election(folder: Path, **options) -> Election:
    return here("embedded", db_url=f"sqlite:///{folder / 'line.db'}", **options)


def test_two_lead_where_there_are_two_seats_and_each_holds_its_own(tmp_path):
    leads: dict[str, Lead] = {}
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'line.db'}")
    with engine.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE effect (term INTEGER)")

    def writes(lead: Lead) -> None:
        with engine.begin() as conn:
            conn.execute(sa.text("INSERT INTO effect VALUES (:term)"), {"term": lead.term})
            lead.hold(conn)

    def works(host: str):
        def work(lead: Lead) -> None:
            leads[host] = lead
            lead.stopping.wait(60)
            del leads[host]

        return election(tmp_path, host=host, seats=2).member(work)

    with works("a") as first, ExitStack() as line:
        wait_for(lambda: "a" in leads)
        line.enter_context(works("b"))
        wait_for(lambda: "b" in leads)
        heir = line.enter_context(works("c"))
        wait_for(lambda: heir.joined)
        assert {host: (lead.seat, lead.term) for host, lead in leads.items()} == {"a": (1, 1), "b": (2, 1)}
        for lead in leads.values():
            writes(lead)
        old = leads["a"]
        first.leave()
        wait_for(lambda: "c" in leads)
        assert (leads["c"].seat, leads["c"].term) == (1, 2)
        with pytest.raises(LostLead):
            writes(old)
        writes(leads["b"])
        with engine.connect() as conn:
            assert conn.exec_driver_sql("SELECT term FROM effect").scalars().all() == [1, 1, 1]


def test_the_second_takes_charge_when_the_first_leaves(tmp_path):
    first, second = Work(), Work()
    with election(tmp_path, host="a").member(first):
        wait_for(lambda: first.terms)
        with election(tmp_path, host="b").member(second) as heir:
            wait_for(lambda: heir.joined)
            assert second.terms == []
    with election(tmp_path, host="c").member(second):
        wait_for(lambda: second.terms)
    assert (first.terms, second.terms, Work.most) == ([1], [2], 1)


def test_a_callable_that_returns_ends_a_run_that_wants_it_once(tmp_path):
    terms = []
    election(tmp_path).run(lambda lead: terms.append(lead.term), once=True)
    assert terms == [1]


def test_an_exception_of_a_run_that_is_wanted_once_is_raised_from_it(tmp_path):
    def fails(_lead: Lead) -> None:
        raise ValueError("no such report")

    with pytest.raises(ValueError, match="no such report") as raised:
        election(tmp_path).run(fails, once=True)
    assert raised.traceback[-1].name == "fails"


def test_after_an_exception_it_is_called_again(tmp_path, capsys):
    terms = []

    def fails_first(lead: Lead) -> None:
        terms.append(lead.term)
        if len(terms) == 1:
            raise ValueError("no such report")
        lead.stopping.wait(60)

    with election(tmp_path).member(fails_first):
        wait_for(lambda: len(terms) == 2)
    assert terms == [1, 1], "nobody else could take it over"
    assert "no such report" in capsys.readouterr().err


def test_a_cancellation_in_the_callable_does_not_end_the_member(tmp_path):
    terms = []

    def fails_first(lead: Lead) -> None:
        terms.append(lead.term)
        if len(terms) == 1:
            raise asyncio.CancelledError
        lead.stopping.wait(60)

    with election(tmp_path).member(fails_first) as member:
        wait_for(lambda: len(terms) == 2)
        assert (member.joined, member.term, member.left.is_set()) == (True, 1, False)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("once", [False, True])
def test_an_exception_that_ends_the_program_ends_the_run(tmp_path, error, once):
    def leaves(_lead: Lead) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        election(tmp_path).run(leaves, once=once)
    assert raised.value is error
    assert released(tmp_path)


def test_a_callable_that_leaves_the_program_when_it_is_asked_to_stop_is_not_killed(tmp_path):
    entered = threading.Event()

    def leaves(lead: Lead) -> None:
        entered.set()
        lead.stopping.wait(60)
        sys.exit(4)

    with pytest.raises(SystemExit) as raised, election(tmp_path).member(leaves):
        entered.wait(15)
    assert raised.value.code == 4
    assert released(tmp_path)


def released(folder: Path) -> bool:
    with closing(sqlite3.connect(folder / "line.db")) as conn:
        return conn.execute("SELECT leader FROM heirflow_election").fetchall() == [(None,)]


@pytest.mark.parametrize("kind", ["run", "member", "aio run", "aio member"])
def test_giving_up_is_told_once_in_the_log_and_once_raised(caplog, kind):
    own = {"db_url": f"postgresql://nobody@127.0.0.1:{free_port()}/none", "ttl_s": 2, "start_timeout_s": 0.2}

    async def in_a_block() -> None:
        async with aio.Election("embedded", **own).member(coroutine) as member:
            await asyncio.to_thread(member.left.wait, 15)

    def stand() -> None:
        if kind == "run":
            Election("embedded", **own).run(lambda _lead: None)
        elif kind == "member":
            with Election("embedded", **own).member(lambda _lead: None) as member:
                member.left.wait(15)
        elif kind == "aio run":
            asyncio.run(aio.Election("embedded", **own).run(coroutine))
        else:
            asyncio.run(in_a_block())

    with pytest.raises(StoreUnavailable) as raised:
        stand()
    told = [(record.levelname, record.getMessage()) for record in caplog.records if "gives up" in record.getMessage()]
    assert told == [("ERROR", str(raised.value))]
    assert caplog.records[-1].heirflow["event"] == "gave_up"


def test_a_store_that_never_answers_is_an_error(tmp_path):
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    with pytest.raises(StoreUnavailable, match="embedded: gives up: "):
        Election("embedded", db_url=url, ttl_s=2, start_timeout_s=0.2).run(lambda _lead: None)
    with (
        pytest.raises(StoreUnavailable),
        Election("embedded", db_url=url, ttl_s=2, start_timeout_s=0.2).member(lambda _lead: None) as member,
    ):
        wait_for(lambda: member.left.is_set() and not member.joined and member.term is None)


async def coroutine(_lead: Lead) -> None: ...


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": ""},
        {"name": None},
        {"name": 7},
        {"name": "x" * 101},
        {"db_url": "nonsense"},
        {"db_url": "oracle://x/y"},
        {"db_url": 5},
        {"db_url_file": "/nowhere/at/all"},
        {"ttl_s": "long"},
        {"ttl_s": -1},
        {"ttl_s": float("nan")},
        {"ttl_s": True},
        {"ttl_s": 0.1},
        {"check_in_s": 0},
        {"margin_s": 0},
        {"stop_timeout_s": -1},
        {"start_timeout_s": "x"},
        {"host": ""},
        {"label": "x" * 201},
        {"overrun": "kill"},
        {"overrun": None},
        {"work": None},
        {"work": coroutine},
    ],
    ids=str,
)
def test_every_argument_is_validated(tmp_path, arguments):
    whole = {"name": "embedded", "db_url": f"sqlite:///{tmp_path / 'line.db'}", "work": print, **arguments}
    name, work = whole.pop("name"), whole.pop("work")
    with pytest.raises(HeirflowError):
        Election(name, **whole).run(work, once=True)


def test_settings_are_those_of_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEIRFLOW_DB_URL", f"sqlite:///{tmp_path / 'line.db'}")
    (tmp_path / "heirflow.toml").write_text('ttl = "4s"\n[election.embedded]\nhost = "from-the-file"\nttl = "3s"\n')
    seen = []
    Election("embedded", overrun="warn").run(lambda lead: seen.append(lead.member), once=True)
    with closing(sqlite3.connect(tmp_path / "line.db")) as conn:
        assert conn.execute("SELECT ttl_s FROM heirflow_election").fetchall() == [(3.0,)]
    assert seen[0].startswith("from-the-file-")
    here("embedded").run(print, once=True)
    with closing(sqlite3.connect(tmp_path / "line.db")) as conn:
        assert conn.execute("SELECT ttl_s FROM heirflow_election").fetchall() == [(2.0,)], "an argument is closer"


def test_without_a_database_it_warns_as_the_command_does(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("HEIRFLOW_DB_URL", raising=False)
    here("embedded").run(print, once=True)
    assert "no database was given" in caplog.text
    caplog.clear()
    election(tmp_path).run(print, once=True)
    assert "no database was given" not in caplog.text


def test_unsafe_numbers_are_refused_with_their_sum(tmp_path):
    with pytest.raises(UnsafeTimings, match=r"2 check-ins 4 .* = "):
        Election("x", db_url="sqlite://", ttl_s=3, check_in_s=2)


def alive(session: psycopg.Connection) -> bool:
    try:
        session.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def test_only_sessions_named_after_their_member_end_before_another_callable_runs(new_database):
    url = new_database(POSTGRES[0])
    address = sa.engine.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    left, found = [], []

    def first(lead: Lead) -> None:
        names = (f"heirflow/{lead.member}", "reports")
        left.extend(
            undo.enter_context(psycopg.connect(address, application_name=name, autocommit=True)) for name in names
        )
        lead.stopping.wait(60)  # and leaves both open

    def second(lead: Lead) -> None:
        found.extend(alive(session) for session in left)
        lead.stopping.wait(60)

    with ExitStack() as undo:
        with here("embedded", db_url=url, host="a").member(first):
            wait_for(lambda: len(left) == 2)
        with here("embedded", db_url=url, host="b").member(second):
            wait_for(lambda: len(found) == 2)
    assert found == [False, True]


STUBBORN = """
import sys, time
sys.path.insert(0, {path!r})
from heirflow import Election
def work(lead):
    print("works", flush=True)
    time.sleep(60)  # deaf to lead.stopping
Election("embedded", db_url={url!r}, ttl_s=2, host="deaf").run(work)
"""


def test_a_deaf_callable_ends_its_process_before_its_lease_does(tmp_path):
    """The store goes away under it: the only way left to keep "never two" is to end the process."""
    path = tmp_path / "line.db"
    source = str(Path(__file__).parents[2] / "src")
    program = STUBBORN.format(path=source, url=f"sqlite:///{path}")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"works\n"
        import sqlite3

        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        assert process.wait(timeout=10) == 75
        assert time.monotonic() - began < 2.0
        assert b"did not return before its lease ended" in process.stderr.read()
        blocker.close()


UNWATCHED = """
import os, signal, sys, threading, time
sys.path.insert(0, {path!r})
from heirflow import Election
def broken_off(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, broken_off)  # the program's own
def work(lead):
    print("works", flush=True)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    time.sleep(60)  # deaf to lead.stopping
try:
    election = Election("embedded", db_url={url!r}, ttl_s=2, host="deaf")
    election.run(work)
except KeyboardInterrupt:
    print("goes on", flush=True)
    time.sleep(30)
"""


def test_a_callable_whose_member_was_broken_off_does_not_outlive_its_lease(tmp_path):
    """Ctrl-C ends the loop in which the lease is renewed and watched, and the program goes on."""
    source = str(Path(__file__).parents[2] / "src")
    program = UNWATCHED.format(path=source, url=f"sqlite:///{tmp_path / 'line.db'}")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"works\n"
        assert process.stdout.readline() == b"goes on\n"
        assert process.wait(timeout=10) == 75, "the program itself would go on for 30 s, and end with 0"


def test_stopping_sees_by_the_clock_that_the_lease_is_over():
    """A process that was frozen past its lease: nobody has told it anything yet."""
    lead = Lead("embedded", "a-1", 1)
    assert not lead.stopping.wait(0)
    lead.stopping.until = boottime() + 60
    assert not lead.stopping.is_set()
    assert 50 < lead.trusted_for_s() < 60
    lead.stopping.until = boottime() - 0.001
    assert lead.stopping.wait(0)
    assert lead.trusted_for_s() == 0
    assert not lead.stopping.asked
