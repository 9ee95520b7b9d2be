"""The rules as stories: a command that is there and does not do its work. b is the member; a and c are others."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from unittest.mock import ANY

import pytest

from heirflow.election.record import Event, What
from heirflow.election.rules import decide, wake_at
from heirflow.election.state import Ask, Leaving, Policy, Purpose, Stopping
from heirflow.election.steps import (
    CommandGone,
    CommandStarted,
    GuardDown,
    Readiness,
    StartCommand,
    StopAsked,
    StopCommand,
    Unhealthy,
)
from heirflow.member.asker import CannotTell, Found
from heirflow.member.health import Blind, Judge, Lookout, Patience, Sight, Stale, Standstill, Unwell
from heirflow.member.url_check import UrlCheck
from tests.unit.election import Story, leader

SICK = Unhealthy("its health check failed for 61 s: job 17 does not write its heartbeat")
STOPPED = CommandGone(0, "the command is gone: it ended as it was told")


def leader_with_heir(**options: object) -> Story:
    b = leader(**options)
    b.other("c", 9)
    b.check_in(2.0)
    return b


def answered(b: Story, now: float) -> None:
    """Whatever it has asked meanwhile is answered; it may ask again at once."""
    if b.state.ask is not None:
        b.answer(now)


def test_a_command_that_hangs_is_stopped_and_the_heir_takes_charge() -> None:
    b = leader_with_heir()
    b.at(3.0, SICK)
    assert b.did(StopCommand).grace_s == 30
    assert isinstance(b.state.command, Stopping)
    answered(b, 3.1)
    b.at(4.0, STOPPED)
    assert b.asked.purpose is Purpose.RELEASE
    assert b.asked.exchange.swap is not None
    assert b.asked.exchange.swap.record.because == SICK.because, "the history tells the cause, not how it ended"
    assert b.did_not(StartCommand)


def test_a_command_that_stood_still_has_only_a_short_time_to_end_in_order() -> None:
    b = leader_with_heir()
    b.at(3.0, replace(SICK, still=True))
    assert b.did(StopCommand).grace_s == b.timings.loss_grace_s == 1.0


def test_without_an_heir_it_is_started_again_here() -> None:
    b = leader(policy=Policy(healthy_after_s=1.0))
    b.at(3.0, SICK)
    told = b.at(3.5, STOPPED)
    assert told == (f"{SICK.because}; no heir is ready: it is started again here in 0 s",)
    assert b.did(StartCommand).term == 1


def test_a_paused_election_keeps_its_leader() -> None:
    b = leader_with_heir()
    b.write(paused=True)
    b.check_in(4.0)
    b.at(5.0, SICK)
    b.at(5.1, STOPPED)
    assert b.state.stop is None
    b.at(7.0)
    assert b.state.working, "started again here"


def test_a_verdict_on_a_command_that_is_ending_or_gone_changes_nothing() -> None:
    b = leader_with_heir()
    b.at(3.0, SICK)
    before = b.state
    b.at(3.0, SICK)
    assert (b.state, b.acts) == (before, ())
    b.at(4.0, STOPPED)
    b.answer(4.1)
    b.at(4.2, SICK)
    assert b.did_not(StopCommand)


def test_a_member_that_is_stopped_meanwhile_leaves() -> None:
    b = leader_with_heir()
    b.at(3.0, SICK)
    answered(b, 3.1)
    b.at(3.5, StopAsked("stopped by SIGTERM"))
    answered(b, 3.6)
    b.at(4.0, STOPPED)
    assert b.asked.exchange.leave


def test_it_is_not_the_end_of_the_command_that_on_exit_means() -> None:
    b = leader_with_heir(policy=Policy(exit_with_command=True))
    b.at(3.0, SICK)
    b.at(4.0, STOPPED)
    assert b.state.leaving is None


def test_the_lease_is_renewed_while_it_is_stopped() -> None:
    b = leader_with_heir()
    b.at(3.0, SICK)
    answered(b, 3.1)
    b.check_in(6.1)
    assert b.state.trusted_until == pytest.approx(6.1 + 9.0)


def test_what_the_command_left_is_taken_over_when_it_is_started_again_here() -> None:
    b = leader()
    b.at(1.0, Readiness(ready=True, note="job 17"))
    b.answer(1.1)
    assert b.record is not None and b.record.note == "job 17"
    b.at(3.0, CommandGone(1, "the command exited with 1"))
    swap = b.asked.exchange.swap
    assert swap is not None and swap.takes_over == "job 17"
    assert swap.event is not None and swap.event.what is What.RESTARTED
    b.answer(3.1)
    assert (b.record.note, b.state.note) == ("", "")
    answered(b, 3.15)
    b.at(5.0)
    assert b.state.working
    answered(b, 5.1)
    b.at(5.2, Readiness(ready=True, note="job 18"))
    answered(b, 5.3)
    assert b.record.note == "job 18"


def restarts(asked: Ask) -> list[str]:
    swap = asked.exchange.swap
    events = [*asked.exchange.notes, *([swap.event] if swap is not None and swap.event is not None else [])]
    return [event.because for event in events if event.what is What.RESTARTED]


def test_one_death_is_one_event_though_the_command_left_a_note() -> None:
    """One of its guard's: the start in place, and what is taken over for it, were two."""
    b = leader()
    b.at(1.0, Readiness(ready=True, note="job 17"))
    b.answer(1.1)
    b.at(
        3.0, Readiness(ready=False, note="job 17")
    )  # its standby died with the guard: told, and asked, before its end is
    assert restarts(b.asked) == []
    ended = CommandGone(None, "the command was killed: its guard was killed")
    b.at(3.0, GuardDown("its guard was killed", ended))
    b.answer(3.1)
    b.at(5.1)
    (told,) = restarts(b.asked)
    assert told.startswith("the command was killed: its guard was killed; no heir is ready: it is started again here")
    assert told.endswith("; what the previous command left is taken over")
    b.fail(5.2)
    b.at(7.3)
    assert restarts(b.asked) == [told], "it is not lost with an exchange that fails"
    b.answer(7.4)
    assert b.state.unwritten == ()
    b.at(9.5)
    assert restarts(b.asked) == []


def test_a_release_carries_the_note_and_the_next_lead_begins_without_one() -> None:
    b = leader_with_heir()
    b.at(2.5, Readiness(ready=True, note="job 17"))
    answered(b, 2.6)
    b.at(3.0, SICK)
    answered(b, 3.1)
    b.at(4.0, STOPPED)
    answered(b, 4.05)
    assert b.record is not None and (b.record.leader, b.record.note) == (None, "job 17")
    assert b.state.note == ""


def test_a_command_that_fails_at_once_on_every_host_does_not_spin() -> None:
    """Three members hand it on; each waits longer after each of its own failures."""
    starts: dict[str, list[float]] = {"b": []}
    b = leader(policy=Policy(restart_limit_s=8.0))
    now = 0.1
    while now < 60.0:
        b.other("a", 50, stamp=now, ready=False)
        b.other("c", 51, stamp=now, ready=False)
        if b.state.working:
            starts["b"].append(now)
            b.at(now, CommandStarted())
            b.at(now + 0.01, CommandGone(1, "the command exited with 1"))
        b.at(now + 0.02)
        if b.state.ask is not None:
            b.answer(now + 0.03)
        now = max(now + 0.05, min(wake_at(b.state, now + 0.05, b.timings), now + 1.0))
    assert len(starts["b"]) <= 12, starts
    assert decide(b.state, StopAsked("done"), now, b.timings).state.leaving == Leaving("done", give_up_at=ANY)


# ---- how long is too long ----


def test_patience() -> None:
    judge = Judge(Patience(timeout_s=60, start_s=120), now=0.0)
    assert judge.hear(119.0, "nothing yet") is None
    assert judge.hear(120.0, "nothing yet") == "its health check failed for 120 s: nothing yet"
    judge = Judge(Patience(timeout_s=60, start_s=120), now=0.0)
    assert judge.hear(30.0, "") is None
    assert judge.hear(89.0, "silent") is None
    assert judge.hear(90.0, "silent") == "its health check failed for 60 s: silent"


def test_an_outage_of_what_the_check_rests_on_starts_the_wait_again() -> None:
    judge = Judge(Patience(timeout_s=60, start_s=120), now=0.0)
    judge.hear(10.0, "")
    judge.hear(50.0, None)
    assert judge.hear(100.0, "silent") is None
    assert judge.hear(110.0, "silent") is not None


class Always:
    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.notes: list[str] = []

    def look(self, note: str, limit_s: float) -> str:
        self.notes.append(note)
        if self.answer == "?":
            raise CannotTell
        return self.answer


def wait_for_finding(lookout: Lookout, wakes: list[int], limit_s: float = 10.0) -> Unwell | Blind | Stale:
    import time

    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if found := lookout.take():
            return found[0]
        time.sleep(0.01)
    raise AssertionError(f"nothing was found; woken {len(wakes)} times")


def test_the_lookout_wakes_its_member() -> None:
    wakes: list[int] = []
    check = Always("it sleeps")
    lookout = Lookout(check=check, patience=Patience(timeout_s=0.4, start_s=0.4))
    lookout.begin(lambda: wakes.append(1))
    lookout.command(os.getpid())
    lookout.note("job 17")
    found = wait_for_finding(lookout, wakes)
    lookout.command(None)
    lookout.close()
    assert isinstance(found, Unwell) and not found.still and "it sleeps" in found.because
    assert wakes and check.notes[-1] == "job 17"


class Mistaken:
    """A check with a mistake in it."""

    def look(self, note: str, limit_s: float) -> str:
        raise KeyError(note)


def test_a_check_that_is_broken_is_told_once_and_what_else_is_looked_at_goes_on() -> None:
    wakes: list[int] = []
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]) as process:
        try:
            lookout = Lookout(check=Mistaken(), patience=Patience(timeout_s=0.4, start_s=0.4), standstill_s=0.5)
            lookout.begin(lambda: wakes.append(1))
            lookout.command(process.pid)
            first = wait_for_finding(lookout, wakes)
            assert isinstance(first, Blind) and "KeyError" in first.because
            process.send_signal(signal.SIGSTOP)
            found = wait_for_finding(lookout, wakes)
            lookout.close()
            assert isinstance(found, Unwell) and found.still
        finally:
            process.kill()


class Hangs:
    """A check that never comes back."""

    def look(self, note: str, limit_s: float) -> str:
        threading.Event().wait()
        return ""


def test_a_check_that_hangs_hides_nothing_else_and_is_told() -> None:
    wakes: list[int] = []
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]) as process:
        try:
            lookout = Lookout(check=Hangs(), patience=Patience(timeout_s=0.4, start_s=0.4), standstill_s=0.5)
            lookout.begin(lambda: wakes.append(1))
            lookout.command(process.pid)
            first = wait_for_finding(lookout, wakes)
            assert isinstance(first, Blind) and "not been able to tell" in first.because
            assert "it has not answered for" in first.because
            process.send_signal(signal.SIGSTOP)
            found = wait_for_finding(lookout, wakes)
            lookout.close()
            assert isinstance(found, Unwell) and found.still
        finally:
            process.kill()


def test_a_check_that_cannot_tell_for_long_says_so_and_when_it_can_again() -> None:
    wakes: list[int] = []
    check = Always("?")
    lookout = Lookout(check=check, patience=Patience(timeout_s=0.4, start_s=0.4))
    lookout.begin(lambda: wakes.append(1))
    lookout.command(os.getpid())
    blind = wait_for_finding(lookout, wakes)
    check.answer = ""
    again = wait_for_finding(lookout, wakes)
    lookout.close()
    assert isinstance(blind, Blind) and not blind.over
    assert "a command that hangs is not seen" in blind.because
    assert isinstance(again, Blind) and again.over and "can tell again" in again.because


def test_blindness_is_told_after_a_whole_timeout_and_now_and_then_again() -> None:
    sight, blind = Sight(60.0, 0.0), Found(1, None, "the database does not answer")
    assert sight.hear(59.0, blind) is None
    told = sight.hear(61.0, blind)
    assert told is not None and told.because.endswith(
        "for 61 s, so a command that hangs is not seen: the database does not answer"
    )
    assert sight.hear(600.0, blind) is None
    assert sight.hear(662.0, blind) is not None
    assert sight.hear(663.0, Found(1, "it sleeps")) == Blind("the health check can tell again, after 663 s", over=True)
    assert sight.hear(664.0, Found(1, "")) is None
    assert sight.hear(700.0, blind) is None, "it could tell a while ago"


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"HTTP/1.1 200 OK\r\n" * 300]
)
def test_an_address_that_answers_anything_else_is_unwell_and_no_secret_is_told(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            link, _ = server.accept()
            with link:
                link.recv(65536)
                link.sendall(said)

        threading.Thread(target=answer, daemon=True).start()
        unwell = UrlCheck(f"http://127.0.0.1:{server.getsockname()[1]}/health?token=hunter2").look("", 5.0)
    assert "did not answer" in unwell and "hunter2" not in unwell


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells in /proc that a process is stopped")
def test_a_command_that_is_stopped_is_given_up_though_its_check_is_content() -> None:
    wakes: list[int] = []
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]) as process:
        try:
            lookout = Lookout(check=Always(""), standstill_s=0.5)
            lookout.begin(lambda: wakes.append(1))
            lookout.command(process.pid)
            with pytest.raises(AssertionError, match="nothing was found"):
                wait_for_finding(lookout, wakes, 1.5)
            process.send_signal(signal.SIGSTOP)
            found = wait_for_finding(lookout, wakes)
            lookout.close()
            assert isinstance(found, Unwell) and found.still and "stands still" in found.because
        finally:
            process.kill()


def test_standing_still_counts_from_the_last_time_that_it_moved() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]) as process:
        try:
            standstill = Standstill(5.0)
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            assert standstill.look(process.pid, 100.0) == ""
            assert standstill.look(process.pid, 104.0) == ""
            process.send_signal(signal.SIGCONT)
            os.waitid(os.P_PID, process.pid, os.WCONTINUED)
            assert standstill.look(process.pid, 105.0) == ""
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            assert standstill.look(process.pid, 106.0) == ""
            if sys.platform == "linux":
                assert standstill.look(process.pid, 111.0) == "it was stopped (SIGSTOP) and stands still for 5 s"
        finally:
            process.kill()
    assert Standstill(0.0).look(process.pid, 0.0) == ""  # gone: its guard tells


def test_what_changed_since_the_standby_was_started_makes_it_stale() -> None:
    now: dict[str, object] = {"airflow.cfg": 1, "the version of the metadata database": None}
    wakes: list[int] = []
    lookout = Lookout(fingerprint=lambda: now, fingerprint_every_s=0.05)
    lookout.begin(lambda: wakes.append(1))
    lookout.standby()
    import time

    time.sleep(0.2)
    assert lookout.take() == []
    now["the version of the metadata database"] = "abc"  # known only now: no change
    time.sleep(0.2)
    assert lookout.take() == []
    now["airflow.cfg"] = 2
    assert wait_for_finding(lookout, wakes) == Stale("airflow.cfg changed")
    lookout.close()


def test_words() -> None:
    assert replace(Patience(), timeout_s=10).every_s == 2.5
    assert Patience().every_s == 15


def written(b: Story, now: float) -> list[Event]:
    """What it writes into the history until it asks nothing more; all of it is answered."""
    events: list[Event] = []
    while b.state.ask is not None:
        swap = b.asked.exchange.swap
        events += [*b.asked.exchange.notes, *([swap.event] if swap is not None and swap.event is not None else [])]
        b.answer(now)
    return [event for event in events if event.what is What.RESTARTED]


@pytest.mark.parametrize("note", ["", "job 17"], ids=["plain", "with a note, which is taken over each time"])
def test_of_a_crash_loop_the_1st_2nd_4th_and_8th_time_are_written_down(note: str) -> None:
    b = leader()
    events: list[Event] = []
    for _ in range(9):
        if note:
            b.at(b.now + 0.1, Readiness(ready=True, note=note))
            written(b, b.now)
        b.at(b.now + 0.1, CommandGone(1, "the command exited with 1"))
        events += written(b, b.now)
        while not b.state.working:
            b.at(min(b.now + 1, max(b.now, b.state.restart_at)) + 0.01)
            events += written(b, b.now)
    assert [event.times for event in events] == [1, 2, 4, 8]
    assert all("exited with 1" in event.because for event in events)


def test_a_command_that_ran_long_is_in_no_crash_loop() -> None:
    b = leader()
    events: list[Event] = []
    for _ in range(3):
        ends_at = b.now + b.state.policy.healthy_after_s + 1
        while b.now < ends_at:
            b.at(b.now + 1)
            events += written(b, b.now)
        b.at(b.now, CommandGone(1, "the command exited with 1"))
        events += written(b, b.now)
        b.at(b.state.restart_at + 0.01)
        events += written(b, b.now)
    assert [event.times for event in events] == [1, 1, 1]


def test_a_crash_loop_of_long_ago_neither_hides_a_restart_nor_is_counted_again() -> None:
    b = leader()
    for _ in range(3):
        b.at(b.now + 0.1, CommandGone(1, "the command exited with 1"))
        while not b.state.working:
            written(b, b.now)
            b.at(min(b.now + 1, max(b.now, b.state.restart_at)) + 0.01)
    ends_at = b.now + b.state.policy.healthy_after_s + 1
    while b.now < ends_at:
        b.at(b.now + 1)
        written(b, b.now)
    b.at(b.now, GuardDown("its guard was killed", CommandGone(None, "the command was killed with its guard")))
    assert [event.times for event in written(b, b.now)] == [1]
