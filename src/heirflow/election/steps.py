"""What can happen to a member, and what it may do about it: the two ends of `rules.decide`. Data only."""

from __future__ import annotations

from dataclasses import dataclass

from heirflow.election.record import Reading
from heirflow.election.state import Ask, State
from heirflow.election.told import Said

EXIT_STORE_UNAVAILABLE = 69
EXIT_LOST = 75

# ---- what can happen ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The exchange with this serial number was carried out."""

    serial: int
    reading: Reading


@dataclass(frozen=True, slots=True)
class Failed:
    """The exchange with this serial number failed; whether it was carried out is not known."""

    serial: int
    because: str
    fatal_code: int | None = None
    """An exit code when trying again cannot help."""


@dataclass(frozen=True, slots=True)
class News:
    """Leadership or orders may have changed."""


@dataclass(frozen=True, slots=True)
class CommandStarted:
    """The guard has started the command."""


@dataclass(frozen=True, slots=True)
class CommandEnding:
    """The guard told the command to end, because its lease is nearly over."""

    because: str


@dataclass(frozen=True, slots=True)
class CommandWithstands:
    """What was killed is still there (of the command, or of a standby): not gone, and no work is done. Told again and again."""

    because: str


@dataclass(frozen=True, slots=True)
class CommandGone:
    """The command and every descendant of it are proved gone."""

    status: int | None
    """Exit code, or minus the signal; None when it was never seen to exit by itself (not started, guard lost)."""
    because: str


@dataclass(frozen=True, slots=True)
class Unhealthy:
    """The command is there and does not do its work."""

    because: str
    still: bool = False
    """It was stopped (SIGSTOP): it does nothing at all, and an orderly end need not be waited for long."""


@dataclass(frozen=True, slots=True)
class Doubted:
    """The command seems to do no work, which is told and no reason to stop it."""

    because: str
    over: bool = False
    """It works again."""


@dataclass(frozen=True, slots=True)
class GuardUp:
    """A guard is there and can start the command."""


@dataclass(frozen=True, slots=True)
class GuardDown:
    """There is no guard, and what it ran, if anything, is proved gone.

    One event, not two: between them the command would be started again on a guard that is being torn down.
    """

    because: str
    ended: CommandGone | None = None
    """How the command ended that it ran; None when it ran none."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """The standby became ready, or is not any more; or the command said something about itself."""

    ready: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants this member to end. Asked twice, it does not wait for the command any longer."""

    because: str


StateEvent = (
    Tick
    | Answered
    | Failed
    | News
    | CommandStarted
    | CommandEnding
    | CommandWithstands
    | CommandGone
    | Unhealthy
    | Doubted
    | GuardUp
    | GuardDown
    | Readiness
    | StopAsked
)


# ---- what it may do -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Begin this exchange with the store."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Abandon:
    """Stop waiting for this exchange; its answer, should it come, is dropped."""

    serial: int


@dataclass(frozen=True, slots=True)
class StartCommand:
    """Start the command for this term; it must be dead by these moments unless the lease is extended."""

    term: int
    term_at: float
    kill_at: float


@dataclass(frozen=True, slots=True)
class ExtendLease:
    """The guard may let the command live until these moments: TERM at the first, KILL at the second."""

    term_at: float
    kill_at: float


@dataclass(frozen=True, slots=True)
class StopCommand:
    """Ask the command to end; kill it after the grace."""

    grace_s: float


@dataclass(frozen=True, slots=True)
class KillCommand:
    """Kill the command and all its descendants now."""


@dataclass(frozen=True, slots=True)
class Exit:
    """This member is finished."""

    code: int


Act = Send | Abandon | StartCommand | ExtendLease | StopCommand | KillCommand | Exit


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from one event."""

    state: State
    acts: tuple[Act, ...] = ()
    said: tuple[Said, ...] = ()
    """What happened and why; empty when there is nothing to tell."""

    @property
    def because(self) -> tuple[str, ...]:
        """The same, as a plain sentence each."""
        return tuple(each.sentence for each in self.said)
