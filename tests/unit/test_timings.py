"""Every number of an election, and the sums that must hold between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heirflow.election.timings import BACKSTOP_S, DYING_S, Timings, UnsafeTimings, back_off_s
from heirflow.guard.backstop import LATE_S


def test_what_is_not_given_follows_from_the_ttl() -> None:
    timings = Timings.of(10.0)
    assert (timings.check_in_s, timings.margin_s, timings.loss_grace_s, timings.call_limit_s) == (2.0, 1.0, 1.0, 1.5)
    assert (timings.guard_limit_s, timings.trust_s, timings.turn_s, timings.fresh_s) == (2.5, 9.0, 2.0, 5.5)
    assert timings.kill_lead_s == 0.25


@pytest.mark.parametrize("ttl_s", [1.0, 3.0, 10.0, 60.0, 3600.0])
def test_every_ttl_in_range_works_with_nothing_else_given(ttl_s: float) -> None:
    Timings.of(ttl_s).check()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ttl_s": 0.0}, "ttl_s must be more than 0 s, not 0 s"),
        ({"ttl_s": float("nan")}, "ttl_s must be more than 0 s, not nan s"),
        ({"ttl_s": 10.0, "check_in_s": -1.0}, "check_in_s must be more than 0 s, not -1 s"),
        ({"ttl_s": 10.0, "margin_s": 0.0}, "margin_s must be more than 0 s, not 0 s"),
        ({"ttl_s": 0.5}, "ttl_s must be between 1 s and 3600 s, not 0.5 s"),
        ({"ttl_s": 7200.0}, "ttl_s must be between 1 s and 3600 s, not 7200 s"),
        ({"ttl_s": 10.0, "stop_timeout_s": -1.0}, "stop_timeout_s must not be negative, not -1 s"),
        (
            {"ttl_s": 10.0, "margin_s": 0.1},
            "margin_s 0.1 s is below 2 % of ttl_s 10 s (= 0.2 s): clocks of two hosts may differ by more; raise margin_s",
        ),
        (
            {"ttl_s": 1.0, "margin_s": 0.05},
            "dying takes 0.02 s; an heir moves 0.017 s (kill) + 0.05 s (margin) after it; raise margin_s",
        ),
        (
            {"ttl_s": 10.0, "check_in_s": 4.0},
            "2 check-ins 8 + one slow call 3 + grace 1 + kill 0.25 + margin 1 = 13.25 s; raise ttl_s or lower check_in_s",
        ),
    ],
)
def test_unsafe_numbers_are_refused_with_the_sum(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(UnsafeTimings) as refused:
        Timings.of(**options)
    assert str(refused.value).endswith(sentence)


def test_the_command_line_is_told_of_its_flags() -> None:
    with pytest.raises(UnsafeTimings, match=r"^ttl 10 s is too short: .* raise --ttl or lower --check-in$"):
        Timings.of(10.0, check_in_s=4.0, flags=True)


def test_the_backstop_strikes_when_the_sums_say() -> None:
    assert BACKSTOP_S == 2 * LATE_S


@given(
    ttl_s=st.floats(0.5, 4000),
    check_in_share=st.none() | st.floats(0.01, 1.0),
    margin_share=st.none() | st.floats(0.001, 0.9),
)
def test_what_is_accepted_leaves_room_for_everything(
    ttl_s: float, check_in_share: float | None, margin_share: float | None
) -> None:
    try:
        timings = Timings.of(
            ttl_s,
            check_in_s=None if check_in_share is None else ttl_s * check_in_share,
            margin_s=None if margin_share is None else ttl_s * margin_share,
        )
    except UnsafeTimings:
        return
    # TERM, grace, KILL and the proof all lie inside the trust, and one renewal may fail before TERM is sent.
    term_after_s = timings.trust_s - timings.kill_lead_s - timings.loss_grace_s
    assert term_after_s >= 2 * timings.check_in_s + timings.call_limit_s - 1e-9
    assert 0 < timings.kill_lead_s < timings.margin_s
    # A frozen guard is struck inside the trust by its member, and before the heir moves by the backstop alone.
    assert timings.strike_after_s <= timings.kill_lead_s / 2
    assert timings.kill_lead_s + timings.margin_s >= 2 * LATE_S + DYING_S
    assert timings.call_limit_s < timings.check_in_s


def test_the_pause_grows_to_its_limit_and_however_often_it_fails() -> None:
    assert [back_off_s(times, 60.0) for times in (0, 1, 2, 3, 6, 7, 5000)] == [0.0, 1.0, 2.0, 4.0, 32.0, 60.0, 60.0]
