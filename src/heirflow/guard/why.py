"""Why a command ended, and what makes it sure that one can be killed, as guard and member tell each other.

Code acts on these words; people read `member.guard_events`.

A file that the guard loads from beside itself; it imports nothing of ours.
"""

from __future__ import annotations

from enum import Enum


class Why(str, Enum):
    """The reason for which a guard, or the member in its place, saw to the end of a command."""

    # What the command did, or was asked to do.
    ENDED = "ended"
    """By itself: nobody had asked for it."""
    STOPPED = "stopped"
    """After an orderly stop was asked for."""
    STOP_TIMEOUT = "stop timeout"
    """Killed: it did not end in time after an orderly stop was asked for."""
    LEASE_ENDING = "lease ending"
    """After the TERM that comes before the end of its lease."""
    LEASE_OVER = "lease over"
    """Killed at the end of its lease."""
    ORDERED = "ordered"
    """Killed at the word of the member."""
    # It never ran.
    NOT_RUNNABLE = "not runnable"
    """It could not be executed; the detail says why."""
    TOO_LATE = "too late"
    """Not started: the lease was over when the order came."""
    STANDBY_GONE = "standby gone"
    """Not started: the standby that should have begun had ended."""
    NOT_AT_GATE = "not at gate"
    """The standby that should have begun did not wait at its gate then."""
    NEVER_AT_GATE = "never at gate"
    """The standby did not come to its gate in time; the detail is the limit in seconds."""
    # One of HeirFlow's own processes ended or hung, and the command was killed for it.
    MEMBER_DONE = "member done"
    MEMBER_GONE = "member gone"
    BACKSTOP_GONE = "backstop gone"
    GUARD_GONE = "guard gone"
    GUARD_FROZEN = "guard frozen"
    """The detail is how long it gave no answer, in seconds."""
    GUARD_STAYS = "guard stays"
    """It did not end in time when it was told to."""
    GUARD_MUTE = "guard mute"
    """It was started and never said a word."""
    GUARD_DEAF = "guard deaf"
    """It answered, and did not end the command when it was told to; the detail is for how long it did not, in seconds."""
    # The callable of `heirflow.Election`, which has no guard.
    RETURNED = "returned"
    RAISED = "raised"


class KillBy(str, Enum):
    """What makes it sure that a command can be killed, whoever it becomes."""

    RIGHT = "right"
    """This process may signal processes of every user (root, CAP_KILL)."""
    CGROUP = "cgroup"
    """The command runs in a cgroup of its own, which is killed as a whole."""
    NO_NEW_PRIVILEGES = "no new privileges"
    """The command cannot become another user's: sudo and set-uid programs do not work in it."""
    NOTHING = "nothing"
    """A command that becomes another user's cannot be killed."""

    @classmethod
    def chosen(cls, *, right: bool, cgroup: bool, may_gain: bool) -> KillBy:
        """The surest that is to be had. `may_gain`: the command may gain privileges, come what may."""
        if right:
            return cls.RIGHT
        if cgroup:
            return cls.CGROUP
        return cls.NOTHING if may_gain else cls.NO_NEW_PRIVILEGES
