"""What a guard tells its member, and how people are told why a command ended."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from heirflow.election.told import Named, Said
from heirflow.guard.why import KillBy, Why

HOW = {
    Why.STOPPED: "exited after being asked to stop",
    Why.STOP_TIMEOUT: "did not stop in time and was killed (it may need a longer --stop-timeout, or another --stop-signal)",
    Why.LEASE_ENDING: "exited after being asked to stop, because its lease was about to end",
    Why.LEASE_OVER: "was killed at the end of its lease",
    Why.ORDERED: "was killed as ordered",
    Why.NOT_RUNNABLE: "could not be started: {detail}",
    Why.TOO_LATE: "was not started: its lease was already over",
    Why.STANDBY_GONE: "was not started: its standby had ended",
    Why.NOT_AT_GATE: "was killed: it was not at its gate when it should have begun",
    Why.NEVER_AT_GATE: "was killed: it was not at its gate within {detail} s",
    Why.MEMBER_DONE: "was killed: its member is done",
    Why.MEMBER_GONE: "was killed: its member was gone",
    Why.BACKSTOP_GONE: "was killed: its backstop was killed",
    Why.GUARD_GONE: "was killed: its guard was killed",
    Why.GUARD_FROZEN: "was killed: its guard was frozen for {detail} s",
    Why.GUARD_STAYS: "was killed: its guard did not end in time",
    Why.GUARD_MUTE: "was killed: its guard was started and never answered",
    Why.GUARD_DEAF: "was killed: its guard answered and did not do as told for {detail} s",
    Why.RETURNED: "returned",
    Why.RAISED: "raised an exception",
}
"""After "the command" or "the standby"; `Why.ENDED` is told by the exit code."""

OURS_DIED = {Why.BACKSTOP_GONE, Why.GUARD_GONE, Why.GUARD_FROZEN, Why.GUARD_STAYS, Why.GUARD_MUTE, Why.GUARD_DEAF}
"""The command was killed because one of HeirFlow's own processes had ended or hung: its exit code then says nothing about it."""


KILLS = {
    KillBy.NO_NEW_PRIVILEGES: Said(
        Named.KILL_BY_PRIVILEGE,
        "the command runs without new privileges, so that it can always be killed: sudo and set-uid "
        "programs do not work in it (--allow-sudo lets them)",
    ),
    KillBy.NOTHING: Said(
        Named.KILL_NOT_SURE,
        "the command may become another user (--allow-sudo), and this member could then not kill it: that never "
        "two run is not promised; run heirflow as root or with CAP_KILL, or give it a cgroup (systemd: Delegate=yes)",
    ),
}
"""What people must know of it."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The guard is there."""

    kill_by: KillBy


@dataclass(frozen=True, slots=True)
class Started:
    """The command runs."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ending:
    """The guard has asked the command to end, on its own: the lease is about to end."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """These processes were struck and are still there; the guard goes on trying. Not gone yet. Told again and again."""

    pids: tuple[int, ...]
    refused: tuple[int, ...] = ()
    """Those among them that belong to another user, and that we may not signal."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Proved: neither the command nor any descendant of it is left."""

    status: int | None
    """Exit code, or minus the signal; None when it never started or nobody could collect it."""
    why: Why
    detail: str = ""
    took_s: float = 0.0
    """From the first kill to the proof."""
    left: int = 0
    """How many other processes were still there when the main process had ended by itself; they were killed."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Guard and backstop are dead, and nothing is left below them: spawn a new guard."""

    why: Why
    detail: str = ""
    ended: Gone | None = None
    """How the command ended that ran under it; None when none did."""


@dataclass(frozen=True, slots=True)
class AtGate:
    """The standby waits at its gate."""

    pid: int


@dataclass(frozen=True, slots=True)
class StandbyGone:
    """Proved: the standby has ended before its gate was opened, with all its descendants."""

    status: int | None
    why: Why
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """The command said something about itself: a JSON object."""

    text: str


GuardEvent = Ready | Started | Ending | Stuck | Gone | Lost | AtGate | StandbyGone | Note


def how(event: Gone | StandbyGone) -> str:
    """How it ended, to be put after its name: "exited with 3", "was killed at the end of its lease"."""
    if event.why is not Why.ENDED:
        return HOW[event.why].format(detail=event.detail)
    if event.status is None:
        return "ended"
    if event.status < 0:
        named = -event.status in signal.Signals.__members__.values()  # not all real-time signals have a name
        return f"was killed by {signal.Signals(-event.status).name if named else f'signal {-event.status}'}"
    exited = f"exited with {event.status}"
    if event.status == 0 and isinstance(event, Gone) and event.left:
        others = "1 process" if event.left == 1 else f"{event.left} processes"
        return f"{exited} and left {others} behind, killed now; run the program in the foreground"
    return exited


def lost(event: Lost) -> str:
    """Why there is no guard any more, as a sentence."""
    return {
        Why.BACKSTOP_GONE: "its backstop was killed",
        Why.GUARD_GONE: "its guard was killed",
        Why.GUARD_FROZEN: f"its guard was frozen for {event.detail} s",
        Why.GUARD_STAYS: "its guard did not end in time",
        Why.GUARD_MUTE: "its guard was started and never answered",
        Why.GUARD_DEAF: f"its guard answered and did not do as told for {event.detail} s",
    }[event.why]


def stuck(event: Stuck) -> str:
    """Why a command that was killed is still there, as a sentence."""
    pids = ", ".join(map(str, event.refused or event.pids))
    if event.refused:
        return (
            f"the command is not gone: this member may not kill what belongs to another user now (process {pids}); nothing is "
            "released before that has ended; run heirflow as root or with CAP_KILL, or without --allow-sudo"
        )
    return f"the command is not gone: process {pids} was killed and is still there, perhaps it waits in the kernel"
