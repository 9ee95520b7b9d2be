"""The rules as stories: b is the member; a and c are others. Default timings: ttl 10 s, check-in 2 s, margin 1 s."""

from __future__ import annotations

import re

import pytest

from heirflow.election import rules
from heirflow.election.record import ANYONE, Event, Reading, What
from heirflow.election.rules import decide, wake_at
from heirflow.election.state import Policy, Purpose
from heirflow.election.steps import (
    EXIT_LOST,
    EXIT_STORE_UNAVAILABLE,
    Abandon,
    Answered,
    CommandEnding,
    CommandGone,
    CommandStarted,
    Exit,
    ExtendLease,
    GuardDown,
    KillCommand,
    News,
    Readiness,
    Send,
    StartCommand,
    StopAsked,
    StopCommand,
    Tick,
)
from tests.unit.election import GONE_BY_ITSELF, Story, heir, leader, newcomer

# ---- the story at the top of the rules ----


def test_the_failover_at_the_top_of_the_rules_is_what_happens() -> None:
    told = re.findall(r"^ +(\d+\.\d\d)  (\w+) +(\S.*?)  +\S", rules.__doc__ or "", re.MULTILINE)
    assert len(told) == 12
    events = {
        "Tick": Tick(),
        "CommandStarted": CommandStarted(),
        "StopAsked": StopAsked("stopped by SIGTERM"),
        "CommandGone": CommandGone(0, "the command exited with 0"),
    }
    b = heir()
    b.write(term=7)
    for at, event, does in told:
        now = float(at)
        if event == "Answered":
            while b.state.ask is None:
                b.at(b.state.ask_at)
                if b.now < now - 1.0:  # a check-in that the story leaves out
                    b.answer(b.now + 0.01)
            b.answer(now)
        else:
            b.at(now, events[event])
        acts = [f"Send {act.ask.purpose.name}" if isinstance(act, Send) else type(act).__name__ for act in b.acts]
        assert (", ".join(acts) or "nothing") == does, at
    assert b.record is not None and (b.record.leader, b.record.term) == (None, 8)


# ---- joining and taking charge ----


def test_the_first_of_its_line_joins_takes_charge_and_starts_its_command() -> None:
    b = newcomer()
    assert b.sent().purpose is Purpose.LOOK
    assert b.asked.exchange.join
    b.answer(0.01)
    assert b.sent().purpose is Purpose.TAKE
    assert b.answer(0.02) == ("took charge for term 1: it is the first of its line",)
    started = b.did(StartCommand)
    # Trusted until 0.01 + 10 - 1; KILL 0.25 s before that, TERM 1 s before the KILL.
    assert started == StartCommand(1, pytest.approx(7.76), pytest.approx(8.76))


def test_trust_is_counted_from_before_the_question() -> None:
    b = leader()
    b.at(2.01)
    b.answer(3.4)  # a slow answer gives nothing away
    assert b.did(ExtendLease).kill_at == pytest.approx(2.01 + 10 - 1 - 0.25)


def test_a_renewal_that_wins_after_the_lease_told_the_command_to_end_extends_nothing() -> None:
    b = leader()
    b.at(2.01)
    b.fail(2.02)
    b.at(7.6)
    assert b.state.ask is not None
    b.at(7.76, CommandEnding("its lease is running out"))
    b.answer(7.8)
    assert b.did_not(ExtendLease)
    b.at(8.8, CommandGone(-9, "its lease ran out"))
    assert b.state.idle and b.state.term is None


def test_an_heir_that_takes_charge_is_given_twice_the_time_of_a_check_in() -> None:
    b = heir()
    for second in (2.0, 4.0, 6.0, 8.0):
        b.check_in(second)
    b.at(10.0)
    b.answer(10.01)
    assert b.asked.purpose is Purpose.TAKE and b.asked.asked_at == pytest.approx(10.01)
    b.at(10.01 + 1.4 * b.timings.call_limit_s)
    assert b.asked.purpose is Purpose.TAKE, "not given up after the limit of a check-in"
    assert b.answer(10.01 + 1.5 * b.timings.call_limit_s)[0].startswith("took charge")
    # Trust counts from before the question all the same.
    assert b.did(StartCommand).kill_at == pytest.approx(10.01 + 10 - 1 - 0.25)


def test_a_start_in_place_that_adopts_is_given_as_long() -> None:
    b = leader()
    b.at(0.5, Readiness(True, "job 7"))
    b.answer(0.51)
    b.at(3.0, GONE_BY_ITSELF)
    asked = b.asked
    assert asked.exchange.swap is not None and asked.exchange.swap.takes_over == "job 7"
    b.at(3.0 + 1.4 * b.timings.call_limit_s)
    assert b.asked is asked, "not given up after the limit of a check-in"


def test_an_heir_waits_the_whole_ttl_from_the_answer_that_it_read() -> None:
    b = heir()
    for second in (2.0, 4.0, 6.0, 8.0):
        b.check_in(second)
    b.check_in(10.0)  # answered at 10.01
    assert b.asked.purpose is Purpose.TAKE
    assert b.answer(10.02) == ("took charge for term 2: a was silent for 10.0 s",)


def test_an_heir_does_not_move_a_moment_before() -> None:
    b = heir()
    for second in (2.0, 4.0, 6.0, 8.0):
        b.check_in(second)
    b.at(10.005)
    assert b.sent().purpose is Purpose.LOOK


def test_a_renewal_that_is_seen_starts_the_wait_again() -> None:
    b = heir()
    for second in (2.0, 4.0, 6.0, 8.0, 10.0, 12.0):
        b.write()
        b.check_in(second)
        assert b.state.ask is None


def test_the_ttl_that_counts_is_the_one_in_the_record() -> None:
    b = heir()
    b.write(ttl_s=20.0)
    for second in (2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0):
        b.check_in(second)
        assert b.state.term is None
        assert b.state.ask is None
    b.check_in(22.0)
    assert b.asked.purpose is Purpose.TAKE


def test_a_failed_read_starts_the_wait_again() -> None:
    b = heir()
    b.check_in(2.0)
    b.at(4.0)
    assert b.fail(4.01) == ("cannot use the store: connection refused",)
    b.check_in(4.6)
    for second in (6.6, 8.6, 10.6, 12.6):
        b.check_in(second)
        assert b.state.ask is None
    b.check_in(14.605)
    assert b.asked.purpose is Purpose.TAKE


def test_a_gap_in_the_own_reading_is_like_a_failed_read() -> None:
    b = heir()
    b.at(30.0)  # frozen meanwhile
    b.answer(30.01)
    assert b.state.ask is None
    assert b.state.seat.watch_since == 30.01


def test_a_more_senior_ready_member_has_its_turn_first() -> None:
    b = heir()
    b.leaves("a")
    b.other("0", 0, stamp=1.0)
    b.check_in(2.0)
    assert b.state.ask is None
    b.at(3.5)
    assert b.did_not(Send)
    b.at(4.02)  # its turn of one check-in has passed
    assert b.sent().purpose is Purpose.TAKE


def test_a_more_senior_member_that_is_not_ready_or_drained_or_silent_does_not_count() -> None:
    for way in ({"ready": False}, {"drained": True}):
        b = heir()
        b.leaves("a")
        b.other("0", 0, **way)  # type: ignore[arg-type]
        b.check_in(2.0)
        assert b.asked.purpose is Purpose.TAKE
    b = heir()
    b.other("0", 0, stamp=0.0)
    for second in (2.0, 4.0, 6.0):
        b.check_in(second)
    b.leaves("a")
    b.check_in(8.0)
    assert b.asked.purpose is Purpose.TAKE


def test_losing_the_swap_is_no_error() -> None:
    b = heir()
    b.leaves("a")
    b.check_in(2.0)
    b.write(leader="c", term=2)
    assert b.answer(2.02) == ()
    assert b.state.term is None


def test_who_is_not_ready_does_not_take_charge() -> None:
    b = newcomer()
    b.at(0.005, Readiness(False, "starting"))
    b.answer(0.01)
    assert b.state.ask is None or b.asked.purpose is Purpose.LOOK


# ---- trusting and losing ----


def test_what_cannot_be_renewed_is_killed_at_the_end_of_trust() -> None:
    b = leader()
    now, killed = 2.02, ()
    while now < 9.1 and not killed:
        b.at(now)
        killed = tuple(sentence for sentence in b.because if "is killed" in sentence)
        now += 0.1
    assert killed == ("could not renew term 1 within 9 s: the command is killed (no answer within 1.5 s)",)
    b.did(KillCommand)
    assert 9.01 <= b.now < 9.2
    b.at(9.3, CommandGone(-9, "killed"))
    assert b.state.term is None
    assert b.state.stop is None


def test_a_deposed_leader_kills_at_once_and_releases_nothing() -> None:
    b = leader()
    b.write(term=2, leader="c")
    b.at(2.01)
    assert b.answer(2.02) == ("lost term 1: the record names c, term 2",)
    b.did(KillCommand)
    b.at(2.03)
    assert b.record is not None
    b.at(2.1, CommandGone(-9, "killed"))
    b.check_in(4.1)
    assert b.record.leader == "c"


def test_a_late_answer_to_a_question_that_was_given_up_is_dropped() -> None:
    b = leader()
    b.at(2.01)
    old = b.asked
    b.at(3.52)
    assert b.did(Abandon).serial == old.serial
    trusted = b.state.trusted_until
    b.at(3.6, Answered(old.serial, Reading(old.exchange.swap.record if old.exchange.swap else None, (), True)))
    assert b.state.trusted_until == trusted
    assert b.did_not(ExtendLease)


def test_when_the_guard_ends_the_command_for_its_lease_the_lead_is_lost_and_not_released() -> None:
    b = leader()
    b.at(7.8, CommandEnding("the lease is nearly over"))
    b.at(8.0, CommandGone(-15, "the command ended after TERM"))
    assert b.state.term is None
    assert b.state.unwritten[-1].event.what is What.LOST


def test_an_event_is_written_with_its_age() -> None:
    b = leader()
    b.at(2.01)
    b.fail(2.02)
    b.at(7.8, CommandEnding("the lease is nearly over"))
    b.at(8.0, CommandGone(-15, "the command ended after TERM"))
    b.at(30.0)  # what was asked meanwhile is given up
    b.at(32.0)
    [lost] = b.asked.exchange.notes
    assert (lost.what, lost.ago_s) == (What.LOST, 24.0)
    assert lost.because == "the lease is nearly over (connection refused)"
    b.answer(32.1)
    assert b.state.unwritten == ()


def test_a_lost_lead_leaves_with_75_where_that_is_the_policy() -> None:
    b = leader(policy=Policy(exit_on_loss=True))
    b.write(term=2, leader="c")
    b.at(2.01)
    b.answer(2.02)
    b.at(2.1, CommandGone(-9, "killed"))
    while not b.state.done:
        b.answer(b.now + 0.01)
    assert b.did(Exit) == Exit(EXIT_LOST)


def test_a_store_that_never_answered_is_given_up_with_69() -> None:
    b = newcomer(policy=Policy(start_timeout_s=5.0))
    now = 0.1
    while not b.state.done and now < 20:
        if b.state.ask:
            b.fail(now)
        else:
            b.at(now)
        now += 0.3
    assert b.did(Exit) == Exit(EXIT_STORE_UNAVAILABLE)
    assert 5.0 <= b.now < 8.0
    assert (b.because, b.warned) == (("gives up: connection refused",), True)


def test_failed_calls_are_tried_again_with_back_off_and_told_once() -> None:
    b = leader()
    b.at(2.01)
    waits, told, now = [], (), 2.02
    for _ in range(5):
        told += b.fail(now)
        waits.append(round(b.state.ask_at - now, 3))
        now = b.state.ask_at
        b.at(now)
    assert waits == [0.5, 1.0, 2.0, 2.0, 2.0]
    assert told == ("cannot use the store: connection refused",)


def test_silence_loses_seniority() -> None:
    b = heir()
    b.check_in(2.0)
    b.at(13.0)
    assert b.asked.exchange.join


def test_a_short_silence_does_not() -> None:
    b = heir()
    b.check_in(2.0)
    b.at(11.0)
    assert not b.asked.exchange.join


# ---- ends of the command ----


def test_a_command_that_ends_is_handed_to_a_ready_heir() -> None:
    b = leader()
    b.other("c", 2, stamp=2.0)
    b.check_in(2.01)
    b.at(3.0, GONE_BY_ITSELF)
    assert b.sent().purpose is Purpose.RELEASE
    assert b.asked.exchange.join  # at the end of the line
    b.answer(3.01)
    assert b.record is not None
    assert b.record.leader is None
    assert b.record.term == 1
    assert b.record.because == "the command exited with 1"


def test_what_hands_over_because_its_command_ends_says_the_how_manieth_time_in_a_row_that_is() -> None:
    b = leader()
    for number in (1, 2):
        b.at(b.now + 0.1, GONE_BY_ITSELF)
        if b.state.ask:
            b.answer(b.now + 0.01)
        b.at(b.now + 2.0 * number)
        b.did(StartCommand)
    b.other("c", 2, stamp=b.now)
    b.check_in(b.now + 0.01)
    b.at(b.now + 0.1, GONE_BY_ITSELF)
    swap = b.asked.exchange.swap
    assert swap is not None and swap.event is not None
    assert (swap.event.what, swap.event.times) == (What.RELEASED, 3)


def test_who_hands_over_as_ordered_counts_no_crash_of_long_ago() -> None:
    b = leader()
    b.at(3.0, GONE_BY_ITSELF)
    if b.state.ask:
        b.answer(3.01)
    b.at(5.0)
    b.did(StartCommand)
    if b.state.ask:
        b.answer(5.01)
    b.at(5.02, StopAsked("stopped by SIGTERM"))
    if b.state.ask:
        b.answer(5.03)
    b.at(5.5, CommandGone(0, "the command exited with 0"))
    swap = b.asked.exchange.swap
    assert swap is not None and swap.event is not None
    assert (swap.event.what, swap.event.times) == (What.RELEASED, 1)


def test_without_an_heir_it_is_started_again_with_back_off() -> None:
    b = leader()
    assert b.at(3.0, GONE_BY_ITSELF) == (
        "the command exited with 1; no heir is ready: it is started again here in 1 s",
    )
    if b.state.ask:
        b.answer(3.01)
    assert b.state.idle
    b.at(4.0)
    b.did(StartCommand)
    b.at(4.1, GONE_BY_ITSELF)
    assert b.state.restart_at == pytest.approx(6.1)


def test_a_command_that_ran_long_is_no_crash_loop() -> None:
    b = leader(policy=Policy(healthy_after_s=1.0))
    b.at(3.0, GONE_BY_ITSELF)
    assert b.state.failures == 0
    b.did(StartCommand)


def test_exit_with_command_leaves_with_its_code() -> None:
    b = leader(policy=Policy(exit_with_command=True))
    b.at(3.0, CommandGone(3, "the command exited with 3"))
    assert b.asked.purpose is Purpose.RELEASE
    b.answer(3.01)
    assert b.did(Exit) == Exit(3)


def test_a_leader_without_a_guard_hands_over() -> None:
    b = leader()
    b.other("c", 2, stamp=2.0)
    b.check_in(2.01)
    b.at(3.0, CommandGone(None, "its guard was killed"))
    b.at(3.0, GuardDown("its guard was killed"))
    assert b.asked.purpose is Purpose.RELEASE


# ---- an orderly stop ----


def test_an_orderly_stop_renews_while_the_command_drains_and_releases_when_it_is_gone() -> None:
    b = leader()
    assert b.at(3.0, StopAsked("SIGTERM")) == ("SIGTERM: stopping the command",)
    assert b.did(StopCommand).grace_s == 30.0
    for second in (3.01, 5.0, 7.0, 9.0, 11.0, 13.0):
        if b.state.ask:
            assert b.asked.purpose is Purpose.RENEW
            b.answer(second)
        else:
            b.at(second)
    b.at(13.5, CommandGone(0, "the command ended"))
    if b.asked.purpose is Purpose.RENEW:
        b.answer(13.51)
    assert b.asked.purpose is Purpose.RELEASE
    assert b.asked.exchange.leave
    b.answer(13.52)
    assert b.did(Exit) == Exit(0)


def test_asked_twice_it_does_not_wait() -> None:
    b = leader()
    b.at(3.0, StopAsked("SIGTERM"))
    assert b.at(3.5, StopAsked("SIGTERM")) == ("SIGTERM again: the command is killed",)
    b.did(KillCommand)


def test_an_heir_leaves_at_once() -> None:
    b = heir()
    b.at(1.0, StopAsked("SIGTERM"))
    assert b.asked.exchange.leave
    b.answer(1.01)
    assert b.did(Exit) == Exit(0)


def test_leaving_does_not_wait_for_a_store_that_does_not_answer() -> None:
    b = heir()
    b.at(1.0, StopAsked("SIGTERM"))
    now = 1.0
    while not b.state.done and now < 20:
        now += 0.5
        b.at(now)
    assert b.because[-1] == "left without telling the store, which does not answer"
    assert now <= 1.0 + 5.0 + 0.5


# ---- orders ----


def ordered(**order: object) -> Story:
    """Leader b with c and d in line, and an order in the record that it has just read."""
    b = leader()
    b.other("c", 2, stamp=1.9)
    b.other("d", 3, stamp=1.9)
    b.write(**order)
    b.at(2.0, News())
    b.answer(2.005)
    return b


def test_a_switchover_to_a_named_member_stops_releases_and_keeps_the_name() -> None:
    b = ordered(switchover_to="d")
    assert b.because == ("switchover to d was ordered",)
    b.did(StopCommand)
    b.at(2.5, CommandGone(0, "the command ended"))
    while b.asked.purpose is not Purpose.RELEASE:
        b.answer(b.now + 0.01)
    b.answer(b.now + 0.01)
    assert b.record is not None
    assert (b.record.leader, b.record.switchover_to) == (None, "d")


def test_the_member_that_was_named_goes_first() -> None:
    b = heir()
    b.other("0", 0, stamp=1.0)
    b.write(leader=None, because="switchover to b was ordered", switchover_to="b")
    b.check_in(2.0)
    assert b.asked.purpose is Purpose.TAKE
    b.answer(2.02)
    assert b.record is not None
    assert b.record.switchover_to is None


def test_a_switchover_to_anyone_names_the_heir() -> None:
    assert ordered(switchover_to=ANYONE).because == ("switchover to c was ordered",)


def test_a_switchover_to_somebody_unknown_is_refused_in_the_history() -> None:
    b = ordered(switchover_to="nobody")
    assert b.did_not(StopCommand)
    swap = b.asked.exchange.swap
    assert swap is not None
    assert swap.record.switchover_to is None
    assert isinstance(swap.event, Event)
    assert swap.event.because == "switchover to nobody refused: no such member is ready in the line"


def test_while_paused_nobody_takes_charge() -> None:
    b = heir()
    b.write(paused=True)
    for second in range(2, 60, 2):
        b.check_in(float(second))
        assert b.state.ask is None


def test_while_paused_a_command_that_dies_is_started_in_place() -> None:
    b = ordered(paused=True)
    while b.state.ask:
        b.answer(b.now + 0.005)
    b.at(3.0, GONE_BY_ITSELF)
    while b.state.ask:
        b.answer(b.now + 0.005)
    b.at(4.1)
    b.did(StartCommand)
    assert b.state.term == 1


def test_a_drained_leader_hands_over_and_a_drained_heir_stands_aside() -> None:
    b = leader()
    b.other("c", 2, stamp=1.9)
    mine = b.rows["b"]
    b.other("b", mine.seniority, drained=True)
    b.check_in(2.01)
    assert b.because == ("b is drained",)
    b.did(StopCommand)
    b = heir()
    b.other("b", 5, drained=True)
    b.leaves("a")
    b.check_in(2.0)
    assert b.state.ask is None


def test_news_that_comes_while_an_exchange_is_under_way_is_looked_at_afterwards() -> None:
    b = heir()
    b.at(2.0)
    b.at(2.001, News())
    b.answer(2.01)
    b.did(Send)


# ---- limits ----


def test_decide_is_pure_and_a_finished_member_does_nothing() -> None:
    b = leader()
    before = b.state
    assert decide(before, Tick(), 2.01, b.timings) == decide(before, Tick(), 2.01, b.timings)
    b.at(3.0, StopAsked("SIGTERM"))
    b.at(3.1, CommandGone(0, "the command ended"))
    while not b.state.done:
        b.answer(b.now + 0.01)
    assert b.at(9.0) == ()
    assert b.acts == ()
    assert wake_at(b.state, 9.0, b.timings) == float("inf")


def test_it_never_wants_to_wake_in_the_past() -> None:
    b = leader()
    for now in (0.05, 1.0, 2.01, 3.6, 9.02, 50.0):
        b.at(now)
        assert wake_at(b.state, now, b.timings) > now


def test_a_member_that_does_not_lead_grows_patient() -> None:
    """Where to connect takes longer than a call may, the next try gets twice the time; in all at most two check-ins."""
    b = heir()
    b.at(2.01)
    asked_at = b.now
    assert b.state.ask is not None
    b.at(asked_at + b.timings.call_limit_s + 0.01)
    assert b.state.ask is None, "the first is given up after the limit of a call"
    for _ in range(4):
        b.at(b.state.ask_at)
        begun_at = b.now
        b.at(begun_at + 2 * b.timings.call_limit_s - 0.01)
        assert b.state.ask is not None
        b.at(begun_at + 2 * b.timings.call_limit_s + 0.01)
        assert b.state.ask is None
        assert b.state.ask_at - begun_at <= 2 * b.timings.check_in_s + 0.02
