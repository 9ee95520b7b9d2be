"""How members begin and end when things are not as they should be."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heirflow.election.state import Policy
from lab.rig import written
from lab.rig.rig import Member, now_s
from lab.servers.servers import Server, free_port, postgres_server
from tests.faults.campaign import Campaign, Case, Run
from tests.faults.conftest import SHARED
from tests.faults.scene import NOISE_S, Scene
from tests.promises import broken

_numbers = itertools.count()


def new_folder() -> Path:
    return Path(SHARED["folder"], f"start-{next(_numbers)}")


def exit_of(play: Scene, member: Member, limit_s: float) -> int:
    play.wait_for(lambda: member.process.poll() is not None, f"the end of {member.host}", limit_s)
    return member.process.wait()


def judge(play: Scene, run: Run) -> Run:
    """Nothing ran twice."""
    found = play.overlaps()
    run.overlaps = len(found)
    if found:
        run.wrong += [*found, play.story()]
    return run


# ---- ten at once ----------------------------------------------------------------------------------------------------


def ten_at_once(kind: str) -> Run:
    """On a database without tables, ten members make them once, and a line of ten stands."""
    folder = new_folder()
    url = f"sqlite:///{folder.with_suffix('.db')}" if kind == "sqlite" else SHARED[f"empty {kind}"]
    hosts = tuple(f"host{number}" for number in range(10))
    run = Run()
    with Scene(url, folder, ttl_s=10.0, hosts=hosts) as play:
        play.fill()
        play.whole(90)
        terms = {start.term for start in written.starts(play.ticks)}
        if terms != {1}:
            run.wrong.append(f"more than one term: {terms}")
        return judge(play, run)


# ---- a database that is not there -----------------------------------------------------------------------------------


def nobody_listens(_: object) -> Run:
    """The member gives up with 69, and says why once."""
    run, limit_s = Run(), Policy().start_timeout_s
    url = f"postgresql+psycopg://nobody:secret@127.0.0.1:{free_port()}/nothing"
    with Scene(url, new_folder(), hosts=("ada",)) as play:
        play.fill()
        ada = play.rig.members["ada"]
        started_at = now_s()
        code = exit_of(play, ada, limit_s + 10)
        waited_s = now_s() - started_at
        said = ada.log.read_text()
        if code != 69 or waited_s < limit_s or said.count("cannot use the store") != 1 or len(said.splitlines()) > 3:
            run.wrong.append(f"exit {code} after {waited_s:.1f} s: {said}")
        if "secret" in said:
            run.wrong.append("the password stands in the journal")
    return run


def comes_back_in_time(server: Server) -> Run:
    """A member that is started first joins when the database is there."""
    server.stop()
    with Scene(server.url("psycopg"), new_folder(), hosts=("ada",)) as play:
        play.fill()
        play.wait_for(lambda: "cannot use the store" in play.story(), "its trouble", 20)
        server.start()
        back_at = now_s()
        play.whole(play.timings.ttl_s + NOISE_S)
        run = Run(gap_s=now_s() - back_at)
        run.late = run.gap_s > 2 * play.timings.check_in_s
        return judge(play, run)


def leaving_during_an_outage(server: Server) -> Run:
    """TERM ends leader, heir and newcomer promptly with 0 while nobody answers them."""
    run = Run()
    with Scene(server.url("psycopg"), new_folder(), hosts=("ada", "ben")) as play:
        play.fill()
        leader, start = play.whole()
        server.stop()
        play.wait_for(lambda: play.story().count("cannot use the store") == 2, "their trouble", 10)
        newcomer = play.rig.add("cleo")
        play.wait_for(lambda: "cannot use the store" in newcomer.log.read_text(), "its trouble", 20)
        at = now_s()
        members = list(play.rig.members.values())
        for member in members:
            member.signal("member", signal.SIGTERM)
        for member in members:
            code = exit_of(play, member, 10)
            took_s = now_s() - at
            if code != 0 or took_s > play.timings.ttl_s / 2 + NOISE_S:
                run.wrong.append(f"{member.host} ended with {code} after {took_s:.1f} s\n{play.story()}")
        orphans = play.processes(start)
        run.orphans = len(orphans)
        assert leader.process.poll() == 0
        if orphans:
            run.wrong.append(broken(f"left behind: {orphans}"))
    server.start()
    return judge(play, run)


# ---- how people end it ----------------------------------------------------------------------------------------------


def ctrl_c(_: object) -> Run:
    """The terminal sends SIGINT to the whole group; the command is stopped in good order and the heir begins at once."""
    run = Run()
    with Scene(SHARED["postgres"], new_folder(), hosts=("ada", "ben")) as play:
        play.fill()
        leader, start = play.whole()
        os.killpg(leader.process.pid, signal.SIGINT)
        after = play.next_start(start, play.timings.ttl_s + NOISE_S)
        code = exit_of(play, leader, 10)
        old = written.start_of(start.path)
        assert old is not None
        run.gap_s = after.from_s - old.to_s
        said = leader.log.read_text()
        if code != 0 or "was killed" in said or "released" not in said:
            run.wrong.append(f"exit {code}\n{play.story()}")
        run.late = run.gap_s > play.timings.ttl_s - play.timings.check_in_s
        return judge(play, run)


def our_own_end_is_not_the_commands(_: object) -> Run:
    """With --on-exit=exit a member leaves with its command; what was killed because the backstop died did not exit."""
    run = Run()
    with Scene(SHARED["postgres"], new_folder(), hosts=("ada", "ben"), options=("--on-exit", "exit")) as play:
        play.fill()
        leader, start = play.whole()
        at = now_s()
        leader.kill("backstop")
        after = play.next_start(start, play.timings.ttl_s + NOISE_S)
        run.gap_s = after.from_s - at
        play.whole()  # both are in line, and ready
        if leader.process.poll() is not None:
            run.wrong.append(f"exit {leader.process.poll()}\n{play.story()}")
        return judge(play, run)


# ---- commands that do not stay --------------------------------------------------------------------------------------


def crash_loop(behaviour: str) -> Run:
    """It is started again and again, by one member after the other, and ever more slowly."""
    run, watched_s = Run(), 12.0
    with Scene(SHARED["postgres"], new_folder(), behaviour=behaviour, more=("3",)) as play:
        play.fill()
        first = play.wait_for(lambda: written.starts(play.ticks), "the first start", 30)[0]
        play.wait_until(first.from_s + watched_s)
        found = [start for start in written.starts(play.ticks) if start.from_s < first.from_s + watched_s]
        # Each of three members: at 0, 1, 3 and 7 s.
        if not 4 <= len(found) <= 12:
            run.wrong.append(f"{len(found)} starts within {watched_s:g} s\n{play.story()}")
        lines = sum(len(member.log.read_text().splitlines()) for member in play.rig.members.values())
        if lines > 8 * len(found):
            run.wrong.append(f"{lines} lines about {len(found)} starts\n{play.story()}")
        current = max(found, key=lambda start: start.from_s)
        old = {
            pid for pid, path in written.processes(play.ticks).items() if int(path.name.split(".")[0]) < current.term
        }
        run.orphans = len(old)
        if old:
            run.wrong.append(broken(f"left behind: {old}"))
        return judge(play, run)


@contextlib.contextmanager
def own_postgres() -> Iterator[Server]:
    with postgres_server() as server:
        yield server


NOTHING = contextlib.nullcontext
CASES = [
    *(
        Case("ten members", f"ten at once on {kind}", NOTHING, lambda _, kind=kind: ten_at_once(kind))
        for kind in ("postgres", "mariadb", "sqlite")
    ),
    Case("nobody listens", "gives up with 69", NOTHING, nobody_listens),
    Case("own server", "database comes in time", own_postgres, comes_back_in_time),
    Case("own server", "TERM during an outage", own_postgres, leaving_during_an_outage),
    Case("postgres terminal", "ctrl-c", NOTHING, ctrl_c),
    Case("postgres terminal", "backstop killed, on-exit=exit", NOTHING, our_own_end_is_not_the_commands),
    Case("postgres exits", "crash loop", NOTHING, lambda _: crash_loop("exits")),
    Case("postgres exits", "crash loop with descendants", NOTHING, lambda _: crash_loop("daemon-and-exit")),
]


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_starting_and_leaving(case: Case, campaign: Campaign) -> None:
    campaign.result(case, 7000)


@pytest.mark.parametrize(("mode", "code"), [(None, 127), (0o600, 126)], ids=["absent", "not executable"])
def test_a_command_that_cannot_run_never_takes_the_lead(tmp_path: Path, mode: int | None, code: int) -> None:
    program, database = tmp_path / "program", tmp_path / "line.db"
    if mode is not None:
        program.write_text("#!/bin/sh\n")
        program.chmod(mode)
    done = subprocess.run(
        [sys.executable, "-m", "heirflow", "run", "--run-dir", str(tmp_path / "run"), "--", str(program)],
        env={**os.environ, "HEIRFLOW_DB_URL": f"sqlite:///{database}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert "program" in done.stderr
    assert not database.exists()
