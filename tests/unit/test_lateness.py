"""What a scheduler of several is told of the others, and where somebody else's word is left as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heirflow.config.resolve import Config, Origin, Setting, Source, resolve
from heirflow.programs.airflow.ask import Given
from heirflow.programs.airflow.lateness import (
    INTERVAL,
    INTERVAL_S,
    THRESHOLD,
    THRESHOLD_S,
    SeatSettings,
    doubts,
    patience_s,
    seat_settings,
)

DEFAULTS = {THRESHOLD: Given("30"), INTERVAL: Given("300.0")}
PATIENCE_S = 175.0
LATE, LOOK = "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD", "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL"


def given(late: Given = DEFAULTS[THRESHOLD], look: Given = DEFAULTS[INTERVAL]) -> dict[str, Given]:
    return {THRESHOLD: late, INTERVAL: look}


def test_one_scheduler_is_told_nothing() -> None:
    assert seat_settings(1, DEFAULTS, PATIENCE_S) == SeatSettings()
    assert seat_settings(1, given(Given("3", LATE)), PATIENCE_S) == SeatSettings()


def test_several_are_told_both_where_nobody_has_set_them() -> None:
    found = seat_settings(2, DEFAULTS, PATIENCE_S)
    assert (found.environment, found.doubts) == ({LATE: "300", LOOK: "5"}, ())
    assert found.told == (
        f"its scheduler runs with {LATE}=300 and {LOOK}=5, which nobody has set: with 2 seats, one that is late keeps its tasks, "
        "and those of one that is gone are adopted soon"
    )


def test_what_no_member_knows_waits_no_longer_than_with_airflows_own_defaults() -> None:
    assert THRESHOLD_S + INTERVAL_S <= 30 + 300


@pytest.mark.parametrize("by", [LATE, f"{LATE}_CMD", "airflow.cfg"])
def test_an_early_guess_that_somebody_set_stays_and_looks_stay_rare(by: str) -> None:
    """Looks every 5 s would find more of those that are only late."""
    found = seat_settings(2, given(late=Given("30", by)), PATIENCE_S)
    assert (found.environment, found.told) == ({}, "")
    [told] = found.doubts
    assert told == (
        f"[scheduler] scheduler_health_check_threshold is 30 ({by}), so another scheduler takes the tasks of one that is late by "
        "30 s, though it lives; leave it out, or set 300"
    )


def test_a_late_guess_that_somebody_set_is_well() -> None:
    found = seat_settings(3, given(late=Given("600", LATE)), PATIENCE_S)
    assert (found.environment, found.doubts) == ({LOOK: "5"}, ())
    assert found.told.startswith(f"its scheduler runs with {LOOK}=5, which nobody has set: with 3 seats, ")


def test_rare_looks_that_somebody_set_stay() -> None:
    found = seat_settings(2, given(look=Given("300.0", "airflow.cfg")), PATIENCE_S)
    assert found.environment == {LATE: "300"}
    [told] = found.doubts
    assert told == (
        "[scheduler] orphaned_tasks_check_interval is 300.0 (airflow.cfg), so what a scheduler without an heir leaves waits for up "
        "to 300.0 s; leave it out, or set 5"
    )
    assert doubts(given(look=Given("30", "airflow.cfg")), PATIENCE_S) == ()


def test_where_airflow_cannot_tell_nothing_is_set() -> None:
    found = seat_settings(2, {}, PATIENCE_S)
    assert (found.environment, found.told, len(found.doubts)) == ({}, "", 1)


def test_no_time_at_all_is_an_early_guess() -> None:
    assert seat_settings(2, given(late=Given("0", LATE)), PATIENCE_S).environment == {}


@pytest.mark.parametrize("value", ["", "soon", "nan", "inf"])
def test_what_is_no_number_is_told_by_airflow_itself(value: str) -> None:
    assert doubts(given(Given(value, LATE), Given(value, LOOK)), PATIENCE_S) == ()


def settle(**flags: object) -> Config:
    return resolve({key.replace("_", "-"): value for key, value in flags.items()}, {"HOME": "/nowhere"})


def test_it_is_longer_than_heirflow_needs() -> None:
    """For one that hangs at its start, is then told to end, and waits for its tasks; and then the lease."""
    assert patience_s(settle()) == 120 + 15 + 30 + 10
    patient_s = patience_s(settle(stop_timeout="20m", ttl="20s"))
    assert patient_s == 120 + 15 + 1200 + 20
    assert int(seat_settings(2, DEFAULTS, patient_s).environment[LATE]) > patient_s
    assert patience_s(settle(health_timeout="10m")) == 600 + 15 + 30 + 10


def test_seats_are_one_where_no_setting_says_more() -> None:
    config = settle()
    assert config.seats == 1
    for value, seats in ((None, 1), (2, 2)):
        setting = Setting("seats", value, Origin(Source.FLAG, "flag --seats"))
        assert replace(config, settings={**config.settings, "seats": setting}).seats == seats
