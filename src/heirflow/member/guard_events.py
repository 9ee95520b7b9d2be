"""What a guard tells its member."""

from __future__ import annotations

import signal
from dataclasses import dataclass

ENDED_BY_ITSELF = "it ended by itself"


@dataclass(frozen=True, slots=True)
class Started:
    """The command runs."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ending:
    """The guard has told the command to end, on its own."""

    because: str


@dataclass(frozen=True, slots=True)
class Stuck:
    """These processes have been killed and do not go away (state D); the guard goes on trying. Not gone yet."""

    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Gone:
    """Proved: neither the command nor any descendant of it is left."""

    status: int | None
    """Exit code, or minus the signal; None when it never started or nobody could collect it."""
    because: str
    took_s: float
    """From the first kill to the proof."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Guard and backstop are dead, and nothing is left below them: spawn a new guard."""

    because: str


@dataclass(frozen=True, slots=True)
class Standing:
    """The standby stands at its gate."""

    pid: int


@dataclass(frozen=True, slots=True)
class StandbyGone:
    """Proved: the standby has ended before its gate was opened, with all its descendants."""

    status: int | None
    because: str


@dataclass(frozen=True, slots=True)
class Note:
    """The command said something about itself: a JSON object."""

    text: str


GuardEvent = Started | Ending | Stuck | Gone | Lost | Standing | StandbyGone | Note


def end_of(status: int | None, because: str) -> str:
    """How the command ended, in words. `because` is why the guard saw to its end."""
    if status is None or because != ENDED_BY_ITSELF:
        return f"the command is gone: {because}"
    if status < 0:
        named = -status in signal.Signals.__members__.values()  # not all real-time signals have a name
        return f"the command was killed by {signal.Signals(-status).name if named else f'signal {-status}'}"
    return f"the command exited with {status}"
