"""What one member knows. Data only: `steps` has what can happen and what may be done about it, `rules` has the decisions.

A `Seat` is one record as this member sees it, and what the member holds of it. All else it has once: its place in the line, its
command, its questions to the store.

What runs, and what follows when it is gone
-------------------------------------------
These combinations exist, and no others (`invariants.check` has what the types cannot say).

    what runs  stop          it means                                       it is left by
    ---------  ------------  ---------------------------------------------  ------------------------------------------------
    Idle       -             nothing runs                                   a start that is ordered -> Starting
    Idle       HAND_OVER     it is gone, or cannot be started here: the     the release, or the loss of the lead -> Idle;
               SWITCH_OVER   record is released next                        a pause -> Idle, and it is started again here;
                                                                            StopAsked -> Idle LEAVE
    Idle       LEAVE         the same, and then this member leaves          the release, or the loss of the lead -> Idle
    Starting   -             the guard was told to start it, and has not    CommandStarted -> Running; its limit ->
                             answered yet                                   Stopping REPLACE; and as Running
    Running    -             it runs                                        CommandGone -> Idle, alone or with HAND_OVER or
                                                                            LEAVE; a reason to stop it -> Stopping
    Stopping   HAND_OVER     an order: this member is drained               CommandGone -> Idle HAND_OVER
    Stopping   SWITCH_OVER   an order: switchover                           CommandGone -> Idle SWITCH_OVER
    Stopping   LEAVE         somebody asked this member to stop             CommandGone -> Idle LEAVE
    Stopping   REPLACE       it does not do its work                        CommandGone -> Idle HAND_OVER if an heir is
                                                                            ready, otherwise Idle: it is started again here
    Stopping   LOST          the lead is lost or in doubt: it is killed     CommandGone -> Idle, and nothing is released

Whatever was killed and is still there (`State.withstands`) is left by CommandGone only.

What is being stopped changes its reason twice at most: to LEAVE when somebody asks this member to stop, and from anything to
LOST when the lead is lost, its trust ends, or the guard ends the command for its lease. Nothing takes LOST back.

A member that is `Following` is in the first row or the last; one that is `Doubting`, in the last; one that is `Leading`, in any.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from heirflow.election.record import Event, Exchange, MemberRow, Record

NEVER = float("-inf")


# ---- what a member holds ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Following:
    """It leads no term."""


@dataclass(frozen=True, slots=True)
class Leading:
    """The record, as last read, names it for this term."""

    term: int
    trusted_until: float
    """How long it believes that without news from the store. Nothing of ours may run, or start, from then on."""


@dataclass(frozen=True, slots=True)
class Doubting:
    """The same, but its trust ended while the command lived. It was told to be killed.

    A renewal that is confirmed makes it `Leading` again (the command must end all the same).
    """

    term: int


Lead = Following | Leading | Doubting


# ---- what runs --------------------------------------------------------------------------------------------------------


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
    times: int = 1
    """How often the command has ended in a row, too soon after its start, where that is why."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing runs: never started, or *proved* gone with all its descendants."""

    after: Stop | None = None
    """What the command was stopped for, and what is still to be done: release the record. None: nothing."""


@dataclass(frozen=True, slots=True)
class Starting:
    """The guard was told to start the command, and has not said yet that it did."""

    since: float


@dataclass(frozen=True, slots=True)
class Running:
    """The guard has started the command."""

    since: float


@dataclass(frozen=True, slots=True)
class Stopping:
    """It was told to end, and is not yet proved gone."""

    stop: Stop
    since: float
    """When it was started, not when it was told to end."""


Command = Idle | Starting | Running | Stopping


# ---- its questions to the store ---------------------------------------------------------------------------------------


class Purpose(Enum):
    """What an exchange with the store is for."""

    LOOK = "look"
    TAKE = "take"
    RENEW = "renew"
    RELEASE = "release"
    VACATE = "vacate"
    """A seat that is not its own, whose leader is silent for its whole lease and has no heir, or that names it by mistake."""


@dataclass(frozen=True, slots=True)
class Happened:
    """An event that is not written down yet."""

    event: Event
    at: float
    """When it happened, on our own clock."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The one exchange that is under way."""

    serial: int
    asked_at: float
    """Read on our own clock *before* the question was sent."""
    purpose: Purpose
    exchange: Exchange
    noted: tuple[Happened, ...] = ()
    """Those of `State.unwritten` that it writes down."""
    within: tuple[Happened, ...] = ()
    """Those that its swap's own event tells."""


# ---- the whole --------------------------------------------------------------------------------------------------------


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
    seats: int | None = None
    """How many seats an election is made with that is not there yet. None: one, and however many there are is right."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """This member is leaving the line, for good."""

    because: str
    exit_code: int = 0
    give_up_at: float | None = None
    """When it leaves without telling the store, which does not answer; None as long as something ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One record, as this member sees it, and what the member holds of it."""

    number: int = 1
    record: Record | None = None
    """As last read. None: there is none, or nothing was read yet (`State.known`)."""
    record_since: float = NEVER
    """When this version was first seen."""
    vacant_before_s: float = 0.0
    """For people: how long it had been vacant when this version was first seen, by the store's clock."""
    silent_before_s: float = 0.0
    """For people: how old it was, by the store's clock, when this member read anything for the first time."""
    watch_since: float | None = None
    """Since when this version stands still while every read succeeded."""
    highest_term: int = 0
    """The highest term ever seen. A record with a lower one gives nobody the right to lead."""
    history: str | None = None
    """The last name that the store gave to its own history (`Reading.history`)."""
    doubtful: bool = False
    """Whether the store may have forgotten what was written after this record: somebody unknown may lead."""
    longest_ttl_s: float = 0.0
    """The longest ttl ever seen in the record: whoever is unknown may have led with it."""
    stuck: bool = False
    """Whether nobody can write its record, as last read."""
    failed_takes: int = 0
    """How often in a row an exchange that was to take it failed, with a good answer to another one before each."""
    not_before: float = NEVER
    """So long it is not tried again, as those failed: its row may be locked, which must keep nobody from the other seats."""
    lead: Lead = Following()


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything one member knows. `State(me=…, host=…, pid=…, born_at=now)` is a member that has done nothing yet."""

    me: str
    host: str
    pid: int
    born_at: float
    label: str = ""
    policy: Policy = field(default_factory=Policy)

    seat: Seat = Seat()
    """The one that it holds; of a member that leads nothing, the one that it would try first (`seats.choose`)."""
    others: tuple[Seat, ...] = ()
    """All the others, which it does not hold."""
    seats: int = 1
    """How many members may lead at once, as last read."""

    # Its place in the line.
    members: tuple[MemberRow, ...] = ()
    heard: dict[str, Heard] = field(default_factory=dict)
    odd: tuple[str, ...] = ()
    """What stands in the tables and cannot be, as last read and told."""
    joined: bool = False
    drained: bool = False
    checked_in_at: float = NEVER
    """When the last successful check-in was asked."""
    leaving: Leaving | None = None
    done: bool = False
    """It has ended; nothing is decided any more."""

    # Its command.
    command: Command = Idle()
    withstands: str = ""
    """Why the command was killed and is still there, as its guard said last; empty when that is not so."""
    doubt: str = ""
    """Why the command that runs seems to do no work; empty when it does, for all that is known."""
    ended: str = ""
    """How its command ended last, for people."""
    guard_up: bool = False
    standby_ready: bool = True
    """Whether the command could start at once (a warm standby stands at its gate, or none is wanted)."""
    note: str = ""
    """What the command said about itself."""
    failures: int = 0
    restart_at: float = NEVER
    """Not before this the command is started again, nor is this member ready to lead."""

    # Its questions to the store.
    ask: Ask | None = None
    serial: int = 0
    ask_at: float = NEVER
    """When the next exchange is due."""
    read_at: float = NEVER
    """When the last successful answer came."""
    news: bool = False
    """News came while an exchange was under way, whose answer may be older than the news."""
    news_paid_s: float = NEVER
    """Until when the exchanges that news has caused are paid for (`news.heeded`)."""
    failed_calls: int = 0
    trouble: str = ""
    """Why the last of them failed; empty since an answer came."""
    lost_swaps: int = 0
    unwritten: tuple[Happened, ...] = ()
    """Events that the next exchange should write down."""

    # ---- in short ----

    @property
    def all_seats(self) -> tuple[Seat, ...]:
        """Its own and the others, by their numbers."""
        return tuple(sorted((self.seat, *self.others), key=lambda seat: seat.number))

    def in_words(self, term: int | None) -> str:
        """A term of its seat as sentences name it; a single seat has no number."""
        return (
            f"term {term}" if self.seats == 1 and self.seat.number == 1 else f"term {term} of seat {self.seat.number}"
        )

    @property
    def troubled(self) -> str:
        """The trouble with the store, to be added to a sentence about its effect."""
        return f" ({self.trouble})" if self.trouble else ""

    @property
    def known(self) -> bool:
        """Whether a record (or its absence) has ever been read."""
        return self.read_at != NEVER

    @property
    def record(self) -> Record | None:
        """The record of its seat, as last read."""
        return self.seat.record

    @property
    def term(self) -> int | None:
        """The term that it leads, or led until its trust ended."""
        lead = self.seat.lead
        return None if isinstance(lead, Following) else lead.term

    @property
    def trusted_until(self) -> float:
        """How long it believes its lead; `NEVER` where it has none, or its trust ended while the command lived."""
        lead = self.seat.lead
        return lead.trusted_until if isinstance(lead, Leading) else NEVER

    @property
    def idle(self) -> bool:
        """Whether nothing runs, which is proved. This is what a release and a taking ask for."""
        return isinstance(self.command, Idle)

    @property
    def working(self) -> bool:
        """Whether the command starts or runs, and nobody stops it."""
        return isinstance(self.command, Starting | Running)

    @property
    def command_since(self) -> float:
        """Since when the command runs; `NEVER` when nothing does."""
        return NEVER if isinstance(self.command, Idle) else self.command.since

    @property
    def stop(self) -> Stop | None:
        """What the command is being stopped for, or was and what is still to be done."""
        match self.command:
            case Idle(after):
                return after
            case Stopping(stop):
                return stop
            case _:
                return None

    @property
    def losing(self) -> bool:
        """Whether what runs here is ending because its lease is, or is not ours any more: nothing takes that back."""
        return self.stop is not None and self.stop.then is Then.LOST


def with_lead(state: State, lead: Lead) -> State:
    """The same member, holding this."""
    return replace(state, seat=replace(state.seat, lead=lead))


def with_stop(state: State, stop: Stop) -> State:
    """The command is being stopped for this reason; where nothing runs, this is what is still to be done."""
    command = state.command
    return replace(state, command=Idle(stop) if isinstance(command, Idle) else Stopping(stop, command.since))


def without_lead(state: State) -> State:
    """It leads no more. Where nothing runs, nothing is left to be done either."""
    return with_lead(replace(state, command=Idle()) if state.idle else state, Following())
