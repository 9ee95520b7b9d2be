"""What the command is given, how it is stopped, and what is told about its end."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from heirflow.clock import boottime
from heirflow.election.timings import Timings
from heirflow.errors import CommandNotFound, CommandNotRunnable
from heirflow.guard.processes import children, stat_of
from heirflow.guard.why import Why
from heirflow.member import shell
from heirflow.member.environment import command_environment
from heirflow.member.guard_events import Gone, GuardEvent, Lost, Started
from heirflow.member.guard_link import GuardLink
from heirflow.programs.runnable import check_runnable
from tests.process.own_guard import living, own_guard
from tests.process.stage import Stage, wait_until

SECRET = {
    "NOTIFY_SOCKET": "/run/notify",
    "WATCHDOG_USEC": "1",
    "WATCHDOG_PID": "1",
    "HEIRFLOW_DB_URL": "postgresql://u:secret@h/d",
}


def test_it_gets_its_own_session_and_nothing_of_ours(stage: Stage) -> None:
    out = stage.folder / "out"
    odd = b"odd \xff\xc3\x28"
    environ = {**os.environ, **SECRET, "ODD": os.fsdecode(odd)}
    with out.open("wb") as stdout:
        stage.run(
            *stage.command("reports", os.fsdecode(odd)), stdout=stdout, environ=environ, env={"HEIRFLOW_TERM": "7"}
        )
        stage.wait_for_nobody()
    facts = json.loads(out.read_bytes())
    assert not set(facts["env"]) & set(SECRET)
    assert facts["env"]["HEIRFLOW_TERM"] == "7"
    assert facts["env"]["ODD"].encode("latin-1") == odd
    assert facts["argv"][-1].encode("latin-1") == odd
    assert facts["cwd"] == str(stage.folder)
    assert facts["sid"], "a session of its own"
    python_ignores = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)  # the reporter's own interpreter
    python_ignores |= 1 << 31 | 1 << 32  # the C library's own two, which its posix_spawn ignores and nobody can reset
    assert facts["masks"]["SigIgn"] & ~python_ignores == 0
    assert facts["masks"]["SigBlk"] == 0
    assert set(facts["fds"]) <= {0, 1, 2, 3, 4}, "its own output, its file of ticks, and the listing itself"


def test_guard_and_backstop_know_no_secret_and_hold_nothing(stage: Stage) -> None:
    stage.run(*stage.command("ordinary"), environ={**os.environ, **SECRET}, ttl_s=30)
    stage.wait_for_ticks()
    for role in ("guard", "backstop"):
        proc = Path("/proc", str(stage.role(role)))
        assert b"secret" not in (proc / "environ").read_bytes() + (proc / "cmdline").read_bytes()
        files = {os.readlink(fd) for fd in (proc / "fd").iterdir()}
        assert not any(str(stage.folder) in file for file in files)
        rss_kb = int(
            next(line.split()[1] for line in (proc / "status").read_text().splitlines() if line.startswith("VmRSS"))
        )
        print(f"{role}: {rss_kb / 1024:.1f} MB resident")
        assert rss_kb < 16 * 1024
    stage.send(signal.SIGUSR2, "member")
    assert stage.wait_for("Gone")["why"] == Why.ORDERED
    stage.wait_for_nobody()


def test_output_passes_through_untouched(stage: Stage) -> None:
    read, write = os.pipe()
    stage.run(*stage.command("floods"), stdout=write, stderr=subprocess.DEVNULL, ttl_s=30)
    os.close(write)
    line = b"\xff\xfe\x00\x80 no text \xc3\x28\n"
    data = b""
    while len(data) < 200_000:
        data += os.read(read, 65536)
    stage.send(signal.SIGKILL, "member")
    while more := os.read(
        read, 65536
    ):  # ends only when nobody holds the other end any more: neither guard nor backstop
        data += more
    os.close(read)
    whole = data[: len(data) // len(line) * len(line)]
    assert whole == line * (len(whole) // len(line))
    stage.wait_for_nobody()


@pytest.mark.parametrize("status", [0, 3, 255])
def test_its_exit_code_is_told(stage: Stage, status: int) -> None:
    stage.run(*stage.command("exits", status), ttl_s=30)
    gone = stage.wait_for("Gone")
    assert (gone["status"], gone["why"]) == (status, Why.ENDED)
    assert stage.events("Started")
    stage.wait_for_nobody()


def test_what_it_left_behind_is_killed_before_its_end_is_told(stage: Stage) -> None:
    stage.run(*stage.command("daemon-and-exit"), ttl_s=30)
    gone = stage.wait_for("Gone")
    assert gone["status"] == 7
    assert stage.ticks()
    assert stage.ticks()[-1][0] < gone["at"]
    stage.wait_for_nobody()


def test_a_command_that_cannot_be_executed(stage: Stage) -> None:
    plain = stage.folder / "not-executable"
    plain.write_text("#!/bin/sh\n")
    for word, status in (("./no-such-program", 127), (str(plain), 126), (str(stage.folder), 126)):
        stage.events_file.unlink(missing_ok=True)
        stage.run(word, ttl_s=30)
        gone = stage.wait_for("Gone")
        assert gone["status"] == status
        assert gone["why"] == Why.NOT_RUNNABLE
        assert not stage.events("Started")
        stage.wait_for_nobody()


def test_an_orderly_stop_wakes_a_stopped_command(stage: Stage) -> None:
    stage.run(*stage.command("ordinary"), ttl_s=30)
    stage.wait_for_ticks()
    stage.send(signal.SIGSTOP, "command")
    # Until it really stands still, a TERM that comes is acted on first: it has the lower number.
    wait_until(lambda: stat_of(stage.role("command"))[0] == "T", "it stands still")
    at = stage.send(signal.SIGTERM, "member")
    gone = stage.wait_for("Gone")
    assert (gone["status"], gone["why"]) == (-signal.SIGTERM, Why.STOPPED)
    assert gone["at"] < at + 0.9
    stage.wait_for_nobody()


@pytest.mark.parametrize("behaviour", ["ignores-term", "stops-itself", "daemon"])
def test_a_stop_that_is_not_obeyed_ends_in_a_kill(stage: Stage, behaviour: str) -> None:
    stage.run(*stage.command(behaviour), ttl_s=30, stop_s=0.4, again_s=0.1)
    stage.wait_for_ticks({"daemon": 4, "stops-itself": 2}.get(behaviour, 1))
    at = stage.send(signal.SIGTERM, "member")
    gone = stage.wait_for("Gone")
    if behaviour != "stops-itself":
        assert (gone["status"], gone["why"]) == (-signal.SIGKILL, Why.STOP_TIMEOUT)
        assert at + 0.3 < gone["at"] < at + 1.4
    assert stage.ticks()[-1][0] < gone["at"]
    stage.wait_for_nobody()


def test_the_lease_running_out_is_a_term_and_then_a_kill(stage: Stage) -> None:
    stage.run(*stage.command("ignores-term"), ttl_s=1.0, loss_grace_s=0.3)
    kill_at = stage.wait_for("start")["kill_at"]
    ending, gone = stage.wait_for("Ending"), stage.wait_for("Gone")
    assert kill_at - 0.3 <= ending["at"] < kill_at
    assert gone["why"] == Why.LEASE_OVER
    assert kill_at <= gone["at"] < kill_at + 0.2
    assert kill_at - 0.1 < stage.ticks()[-1][0] < kill_at + 0.1
    stage.wait_for_nobody()


def test_a_renewal_after_its_term_takes_nothing_back(stage: Stage) -> None:
    """A command that is deaf to the TERM of its lease would otherwise run on for ever, in a member that waits for its end."""
    stage.run(*stage.command("ignores-term"), ttl_s=3.0, loss_grace_s=1.0, renews_late=True)
    kill_at = stage.wait_for("start")["kill_at"]
    gone = stage.wait_for("Gone")
    assert stage.events("Ending") and gone["why"] == Why.LEASE_OVER
    assert kill_at <= gone["at"] < kill_at + 0.2
    stage.wait_for_nobody()


def test_renewals_keep_it_alive_and_a_signal_reaches_it(stage: Stage) -> None:
    stage.run(*stage.command("ordinary"), ttl_s=0.8, renew_s=0.1)
    start = stage.wait_for("start")["kill_at"]
    stage.wait_until_past(start + 1.0)
    assert not stage.events("Gone")
    stage.send(signal.SIGINT, "member")
    assert stage.wait_for("Gone")["status"] in {-signal.SIGINT, 1}  # Python ends with 1 where it can still say why
    stage.wait_for_nobody()


def test_signals_to_guard_and_backstop_are_ignored(stage: Stage) -> None:
    stage.run(*stage.command("ordinary"), ttl_s=30)
    stage.wait_for_ticks()
    for number in (
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGTSTP,
        signal.SIGUSR1,
        signal.SIGRTMIN,
    ):
        stage.send(number, "guard", "backstop")
    before = len(stage.ticks())
    wait_until(lambda: len(stage.ticks()) > before + 20, "more ticks")
    assert not stage.events("Gone")
    stage.send(signal.SIGTERM, "member")
    stage.wait_for_nobody()


# ---- the launcher in this process ----------------------------------------------------------------------------------


def until(guard: GuardLink, kind: type[GuardEvent], limit_s: float = 15.0) -> list[GuardEvent]:
    """Poll until an event of this kind has come; all events so far."""
    seen: list[GuardEvent] = []

    def came() -> bool:
        seen.extend(guard.poll(boottime()))
        return any(isinstance(event, kind) for event in seen)

    wait_until(came, f"{kind.__name__} in {seen}", limit_s)
    return seen


@pytest.fixture
def guard(tmp_path: Path):
    before = living()
    guard = own_guard(
        argv=[sys.executable, "-S", "-c", "import time; time.sleep(30)"], cwd=str(tmp_path), guard_limit_s=1.0
    )
    guard.spawn()
    yield guard
    guard.close()
    assert set(children(os.getpid())) == before, "its own are gone and collected, and others go on"


def test_what_ran_here_before_outlives_a_guard_that_is_closed(tmp_path: Path) -> None:
    """The shared etcd and ZooKeeper were killed here, for those who came later to find."""
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(30)"]) as server:
        os.posix_spawn("/bin/true", ["true"], {})  # and what nobody collects does not stand in its way
        wait_until(lambda: len(living()) < len(children(os.getpid())), "one is dead", 5)
        guard = own_guard(argv=["true"], cwd=str(tmp_path), guard_limit_s=1.0)
        guard.spawn()
        guard.close()
        assert server.poll() is None
        server.kill()


def test_one_guard_runs_one_command_after_another(guard: GuardLink) -> None:
    for _ in range(3):
        guard.start(env={}, term_at=boottime() + 20, kill_at=boottime() + 21)
        until(guard, Started)
        guard.kill()
        assert until(guard, Gone)[-1].status == -signal.SIGKILL
    assert guard.wake_at() == float("inf"), "an idle guard costs nothing"


def test_a_frozen_guards_command_is_struck_when_the_timings_say(tmp_path: Path) -> None:
    """Time is told, not waited for: the deadline itself is far away."""
    timings = Timings.of(1.0)
    sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(30)"]
    guard = own_guard(argv=sleeper, cwd=str(tmp_path), guard_limit_s=60, strike_after_s=timings.strike_after_s)
    guard.spawn()
    try:
        kill_at = boottime() + 30
        guard.start(env={}, term_at=kill_at, kill_at=kill_at)
        pid = next(event.pid for event in until(guard, Started) if isinstance(event, Started))
        os.kill(guard.pid, signal.SIGSTOP)
        guard.poll(kill_at + timings.strike_after_s - 0.001)
        assert Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
        guard.poll(kill_at + timings.strike_after_s)
        wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z", "the command's end", 5)
        os.kill(guard.pid, signal.SIGCONT)
    finally:
        guard.close()


def test_a_stop_in_the_very_moment_of_the_start_is_obeyed(guard: GuardLink) -> None:
    for _ in range(20):
        guard.start(env={}, term_at=boottime() + 30, kill_at=boottime() + 31)
        guard.stop(grace_s=20.0)
        [gone] = [event for event in until(guard, Gone, 10.0) if isinstance(event, Gone)]
        assert gone.why is Why.STOPPED


def test_a_start_that_comes_too_late_is_refused(guard: GuardLink) -> None:
    guard.start(env={}, term_at=boottime() - 1, kill_at=boottime() + 5)
    gone = until(guard, Gone)[-1]
    assert gone.status is None
    assert gone.why is Why.TOO_LATE


def test_an_earlier_lease_changes_nothing(guard: GuardLink) -> None:
    kill_at = boottime() + 1.0
    guard.start(env={}, term_at=kill_at, kill_at=kill_at)
    until(guard, Started)
    guard.lease(term_at=kill_at - 0.9, kill_at=kill_at - 0.9)
    until(guard, Gone)
    assert boottime() >= kill_at


def test_a_lease_that_crosses_the_word_of_the_commands_end_costs_the_guard_nothing(guard: GuardLink) -> None:
    """Its backstop took it for frozen when that lease was over, and killed it with the standby of an heir."""
    kill_at = boottime() + 1.5
    guard.start(env={}, term_at=kill_at, kill_at=kill_at)
    until(guard, Started)
    guard.kill()
    until(guard, Gone)
    kill_at += 0.2
    guard.lease(term_at=kill_at, kill_at=kill_at)  # as from a member that has not heard yet that it is gone
    while boottime() < kill_at + 0.6:
        assert not [event for event in guard.poll(boottime()) if isinstance(event, Lost)]
        time.sleep(0.02)


def test_a_frozen_guard_never_blocks_the_member_and_is_replaced(guard: GuardLink) -> None:
    guard.start(env={}, term_at=boottime() + 20, kill_at=boottime() + 21)
    until(guard, Started)
    os.kill(guard.pid, signal.SIGSTOP)
    payload = {"module": "x", "connect_args": ["y" * 100_000], "connect_kwargs": {}, "statements": []}
    began = boottime()
    for _ in range(20):
        guard.will(payload)
        guard.poll(boottime())
    assert boottime() - began < 0.5
    events = until(guard, Lost)
    lost = events[-1]
    assert isinstance(lost, Lost) and lost.ended is not None and not any(isinstance(event, Gone) for event in events)
    assert guard.fileno() == -1
    guard.spawn()
    guard.start(env={}, term_at=boottime() + 20, kill_at=boottime() + 21)
    until(guard, Started)


def test_a_spared_child_survives_a_lost_guard(guard: GuardLink) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"]) as hook:
        guard.spare.add(hook.pid)
        guard.start(env={}, term_at=boottime() + 20, kill_at=boottime() + 21)
        until(guard, Started)
        os.kill(guard.pid, signal.SIGKILL)
        os.kill(guard.backstop_pid, signal.SIGKILL)
        until(guard, Lost)
        assert hook.poll() is None
        hook.kill()


def test_a_child_that_is_just_being_started_is_spared_too(guard: GuardLink, monkeypatch: pytest.MonkeyPatch) -> None:
    # A hook of a member that left was killed: forked already and not yet known when the guard's end was swept up.
    start = subprocess.Popen
    forked = threading.Event()

    def slowly(*args: Any, **options: Any) -> Any:
        process = start(*args, **options)
        forked.set()
        time.sleep(0.5)
        return process

    guard.start(env={}, term_at=boottime() + 20, kill_at=boottime() + 21)
    until(guard, Started)
    codes: list[int | None] = []
    with monkeypatch.context() as patch:
        patch.setattr(shell.subprocess, "Popen", slowly)
        hook = threading.Thread(
            target=lambda: codes.append(shell.run_beside("sleep 1; exit 3", guard.spare, 20.0, extra={}, speaks=False))
        )
        hook.start()
        assert forked.wait(5)
    os.kill(guard.pid, signal.SIGKILL)
    os.kill(guard.backstop_pid, signal.SIGKILL)
    until(guard, Lost)
    hook.join()
    assert codes == [3]


# ---- commands ------------------------------------------------------------------------------------------------------


def test_the_environment_has_nothing_private() -> None:
    assert command_environment({**SECRET, "A": "1", "B": "2"}, {"B": "3"}) == {"A": "1", "B": "3"}


def test_what_cannot_run_is_said_in_a_sentence(tmp_path: Path) -> None:
    def script(name: str, first: str, mode: int = 0o755) -> str:
        path = tmp_path / name
        path.write_text(first + "\n")
        path.chmod(mode)
        return "./" + name

    def check(word: str, **env: str) -> str:
        return check_runnable([word], str(tmp_path), env)

    assert check("sh", PATH="/usr/bin:/bin").endswith("/sh")
    assert check(script("good", "#!/bin/sh")) == str(tmp_path / "good")
    with pytest.raises(CommandNotFound, match="not found in PATH"):
        check("no-such-program-anywhere", PATH="/usr/bin")
    with pytest.raises(CommandNotFound, match="does not exist"):
        check("./missing")
    with pytest.raises(CommandNotRunnable, match="is a directory"):
        check(str(tmp_path))
    with pytest.raises(CommandNotFound, match="asks for the interpreter /no/such"):
        check(script("orphan", "#!/no/such"))
    with pytest.raises(CommandNotFound, match="asks for the interpreter no-such-python"):
        check(script("lost", "#!/usr/bin/env no-such-python"))
    plain = script("plain", "#!/bin/sh", stat.S_IRUSR)
    with pytest.raises(CommandNotRunnable, match="not executable"):
        check(plain)
    with pytest.raises(CommandNotRunnable, match="working directory"):
        check_runnable(["sh"], str(tmp_path / "nowhere"), {"PATH": "/bin"})
