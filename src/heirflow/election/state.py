"""What a member knows, what can happen to it, and what it may do about it. Data only; `rules` has the decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from heirflow.election.record import Event, Exchange, MemberRow, Reading, Record

NEVER = float("-inf")


class Command(Enum):
    """The one command of this member."""

    NONE = "none"
    """Nothing runs: never started, or *proved* gone with all its descendants."""
    RUNNING = "running"
    STOPPING = "stopping"
    """Told to end, and not yet proved gone."""


class Purpose(Enum):
    """What an exchange with the store is for."""

    LOOK = "look"
    TAKE = "take"
    RENEW = "renew"
    RELEASE = "release"


class Then(Enum):
    """What follows when the command that is being stopped is gone."""

    HAND_OVER = "hand over"
    """Release, and join again at the end of the line."""
    SWITCH_OVER = "switch over"
    """The same, and keep the name of the chosen successor in the record."""
    LEAVE = "leave"
    """Release, leave the line and exit."""
    REPLACE = "replace"
    """Another run takes its place: an heir's if one is ready by then, otherwise one here."""
    LOST = "lost"
    """The lead is lost or in doubt: release nothing, look again."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why the command is being stopped, and what follows."""

    then: Then
    because: str


@dataclass(frozen=True, slots=True)
class Ask:
    """The one exchange that is under way."""

    serial: int
    asked_at: float
    """Read on our own clock *before* the question was sent."""
    purpose: Purpose
    exchange: Exchange


@dataclass(frozen=True, slots=True)
class Heard:
    """When, on our own clock, a member's check-in last changed."""

    stamp: float
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What this member was told to do."""

    exit_with_command: bool = False
    """When the command ends by itself: leave with its exit code (True), or hand over and join again (False)."""
    exit_on_loss: bool = False
    """When the lead is lost: exit with 75 (True), or join again (False)."""
    start_timeout_s: float = 30.0
    """How long the store may be silent at the start before the member gives up with 69."""
    healthy_after_s: float = 60.0
    """A command that ran this long is not part of a crash loop."""
    restart_limit_s: float = 60.0
    """The longest back-off between restarts of the command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything one member knows. `State(me=…, host=…, pid=…, born_at=now)` is a member that has done nothing yet."""

    me: str
    host: str
    pid: int
    born_at: float
    label: str = ""
    policy: Policy = field(default_factory=Policy)

    # What the store told.
    known: bool = False
    """Whether a record (or its absence) has ever been read."""
    record: Record | None = None
    record_since: float = NEVER
    """When this version was first seen."""
    vacant_before_s: float = 0.0
    """For people: how long it had been vacant when this version was first seen, by the store's clock."""
    watch_since: float | None = None
    """Since when this version stands still while every read succeeded."""
    read_at: float = NEVER
    """When the last successful answer came."""
    highest_term: int = 0
    members: tuple[MemberRow, ...] = ()
    heard: dict[str, Heard] = field(default_factory=dict)
    joined: bool = False
    drained: bool = False
    checked_in_at: float = NEVER
    """When the last successful check-in was asked."""

    # What this member holds.
    term: int | None = None
    """The term that it leads."""
    trusted_until: float = NEVER

    # What runs.
    command: Command = Command.NONE
    command_since: float = NEVER
    guard_up: bool = False
    standby_ready: bool = True
    """Whether the command could start at once (a warm standby stands at its gate, or none is wanted)."""
    note: str = ""
    failures: int = 0
    restart_at: float = NEVER
    """Not before this the command is started again, nor is this member ready to lead."""

    # What it is about to do.
    stop: Stop | None = None
    leaving: str | None = None
    """Why this member is leaving; None when it is not."""
    leave_by: float | None = None
    exit_code: int = 0
    done: bool = False
    untold: tuple[Event, ...] = ()
    """Events that the next exchange should write down."""

    # Its talk with the store.
    ask: Ask | None = None
    serial: int = 0
    ask_at: float = NEVER
    """When the next exchange is due."""
    news: bool = False
    """News came while an exchange was under way, whose answer may be older than the news."""
    failed_calls: int = 0
    lost_swaps: int = 0

    @property
    def losing(self) -> bool:
        """Whether what runs here is ending because its lease is, or is not ours any more: nothing takes that back."""
        return self.stop is not None and self.stop.then is Then.LOST


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
class GuardUp:
    """A guard is there and can start the command."""


@dataclass(frozen=True, slots=True)
class GuardDown:
    """There is no guard, and what it ran, if anything, is proved gone."""

    because: str


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
    | CommandGone
    | Unhealthy
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
    because: tuple[str, ...] = ()
    """What happened and why, a plain sentence each; empty when there is nothing to tell."""
