"""A Python callable in the line: led by one at a time, told to stop, and honest about threads."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from heirflow import Election, Lead, UnsafeTimings
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


def election(folder: Path, **options) -> Election:
    return Election("embedded", db_url=f"sqlite:///{folder / 'line.db'}", ttl_s=2, **options)


def test_the_second_takes_charge_when_the_first_leaves(tmp_path):
    first, second = Work(), Work()
    with election(tmp_path, host="a").member(first):
        wait_for(lambda: first.terms)
        with election(tmp_path, host="b").member(second) as heir:
            wait_for(lambda: heir.state.joined)
            assert second.terms == []
    with election(tmp_path, host="c").member(second):
        wait_for(lambda: second.terms)
    assert (first.terms, second.terms, Work.most) == ([1], [2], 1)


def test_a_callable_that_returns_ends_a_run_that_wants_it_once(tmp_path):
    terms = []
    election(tmp_path).run(lambda lead: terms.append(lead.term), once=True)
    assert terms == [1]


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
        with Election("embedded", db_url=url, ttl_s=2, host="a").member(first):
            wait_for(lambda: len(left) == 2)
        with Election("embedded", db_url=url, ttl_s=2, host="b").member(second):
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
