"""What a member tells of itself, as a name for programs beside the sentence for people.

A name keeps its meaning; a sentence may change at any time.
docs/schemas/journal.json lists them all, and a test keeps that list true.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Named(str, Enum):
    """What happened. The value is the `event` of a line in JSON."""

    SETTINGS_READ = "settings_read"
    SETTINGS_DOUBTFUL = "settings_doubtful"
    SETTINGS_GIVEN = "settings_given"
    """The command is told something by its environment that nobody else has set."""
    METRICS_SENT = "metrics_sent"
    """They go where the program sends its own, which nobody has told this member."""
    JOINED = "joined"
    JOINED_AGAIN = "joined_again"
    TOOK_CHARGE = "took_charge"
    TOOK_OVER = "took_over"
    """What an earlier leader left was put in order: its sessions ended, its tasks adopted."""
    TAKE_OVER_FAILED = "take_over_failed"
    COMMAND_STARTED = "command_started"
    COMMAND_NOT_STARTED = "command_not_started"
    COMMAND_UNHEALTHY = "command_unhealthy"
    WORK_STANDS_STILL = "work_stands_still"
    """The command lives, and what it should move does not move."""
    WORK_GOES_ON = "work_goes_on"
    COMMAND_STANDS = "command_stands"
    """Where it stood when it was given up for its health."""
    COMMAND_ENDING = "command_ending"
    """It was asked to end, as its lease is about to."""
    COMMAND_WITHSTANDS = "command_withstands"
    COMMAND_ENDED = "command_ended"
    COMMAND_RESTARTS = "command_restarts"
    """It has ended, and is started again by the same leader."""
    HANDS_OVER = "hands_over"
    SWITCHES_OVER = "switches_over"
    RELEASED = "released"
    VACATED = "vacated"
    SEATS_DIFFER = "seats_differ"
    TERM_OVER = "term_over"
    NOT_RENEWED = "not_renewed"
    LOST = "lost"
    STOP_ASKED = "stop_asked"
    STOP_ASKED_AGAIN = "stop_asked_again"
    LEFT_UNTOLD = "left_untold"
    GAVE_UP = "gave_up"
    STORE_FAILS = "store_fails"
    STORE_ANSWERS = "store_answers"
    STORE_WENT_BACK = "store_went_back"
    STORE_FAILED_OVER = "store_failed_over"
    STORE_ODD = "store_odd"
    STANDBY_WARM = "standby_warm"
    STANDBY_ENDED = "standby_ended"
    STANDBY_REPLACED = "standby_replaced"
    GUARD_LOST = "guard_lost"
    GUARD_NOT_STARTED = "guard_not_started"
    KILL_BY_PRIVILEGE = "kill_by_privilege"
    KILL_NOT_SURE = "kill_not_sure"
    HEALTH_BLIND = "health_blind"
    HEALTH_SEEN = "health_seen"
    HOOK_FAILED = "hook_failed"
    DOOR_CLOSED = "door_closed"
    """No probe and no `heirflow release` will find this member."""
    CHARGE_NOT_NOTED = "charge_not_noted"


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that is told."""

    event: Named
    sentence: str
