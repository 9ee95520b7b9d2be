"""What an election knows: the record that decides, the members in line, and what happened.

The *record* is one row per election and the only thing that decides who leads. It is replaced by compare-and-swap on
``version`` and never deleted: a release clears the leader and keeps the term. Member rows order who *tries*; events are
for people.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

ANYONE = "*"
"""The switchover target that means "whoever is next in line"."""
SHORTEST_TTL_S, LONGEST_TTL_S = 1.0, 3600.0
"""Between these is the ttl of every member. A store that finds another one in its record shows the longest."""
MOST_SEATS = 16
"""So many members of one election may lead at once, at most."""
LARGEST = 2**63 - 1
"""The largest term and version that a store can hold."""


@dataclass(frozen=True, slots=True)
class Record:
    """The row that decides. Two equal records are the same write, unless a backup was restored in between."""

    version: int
    """Grows by one with every write."""
    term: int
    """Number of this leadership; only grows; the fencing number."""
    leader: str | None
    """Member id of the leader; None when the record is vacant."""
    ttl_s: float
    """How long an heir watches this record stand still before it may take charge."""
    because: str = ""
    """Why the leadership last changed, as a plain sentence for people."""
    paused: bool = False
    """Order: nobody changes place."""
    note: str = ""
    """What the leader's command said about itself (a JSON object), for a successor that takes over what it left."""
    switchover_to: str | None = None
    """Order: a member id, `ANYONE`, or None. The member that is named goes first in line until somebody takes charge."""
    history: str | None = None
    """The history of the store in which its leadership was last confirmed (`Reading.history`); None: not known.

    An order, or the will of a member that was killed, leaves it as it is.
    """


@dataclass(frozen=True, slots=True)
class MemberRow:
    """One incarnation of a member, as the store shows it."""

    id: str
    seniority: int
    """Place in the order of joining, handed out by the store; lower is older."""
    host: str
    pid: int
    ready: bool
    """Whether the member could take charge now."""
    drained: bool = False
    """Order to this member: stand aside."""
    label: str = ""
    note: str = ""
    """What the member says about itself: a JSON object, empty when there is nothing to say."""
    stamp: float = 0.0
    """Its last check-in by the store's clock, seconds since 1970. For people; the rules only watch whether it changes."""
    silent_s: float = 0.0
    """Age of that check-in by the store's clock when it was read. May be wrong where that clock jumps."""
    joined_at: float = 0.0

    @property
    def settings(self) -> dict[str, Any]:
        """What it says of its settings, of those that we know; empty where it says nothing (HeirFlow 0.1)."""
        said = said_in(self.note).get("settings")
        known = said if isinstance(said, dict) else {}
        return {key: known[key] for key, kind in _SETTINGS.items() if type(known.get(key)) in kind}

    @property
    def check_in_s(self) -> float | None:
        """How often it checks in by its own settings, in seconds; None where it does not say, or says what cannot be."""
        own: float = self.settings.get("check_in_s", 0.0)
        return own if 0 < own < LONGEST_TTL_S else None


_SETTINGS = {
    "ttl_s": (int, float),
    "check_in_s": (int, float),
    "version": (str,),
    "command": (str,),
    "partition": (str,),
    "seats": (int,),
}
"""What a member tells of its settings, and of which kinds a value may be."""


def said_in(note: str) -> dict[str, Any]:
    """What stands in a note; empty where that is nothing, or no JSON object. Anybody may have written there."""
    try:
        said = json.loads(note) if note.startswith("{") else None
    except (ValueError, RecursionError):
        said = None
    return said if isinstance(said, dict) else {}


class What(str, Enum):
    """Kinds of event in an election's history."""

    TOOK_CHARGE = "took charge"
    RELEASED = "released"
    LOST = "lost"
    RESTARTED = "restarted"
    ORDERED = "ordered"
    REFUSED = "refused"
    FENCED = "fenced"
    """Sessions of a member that led before were ended."""
    ADOPTED = "adopted"
    """What a leader before left was taken over, or could not be, after the swap: in the database beside a coordinator."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the history."""

    what: What | str
    """A kind that this HeirFlow does not know is shown as it is written: members of a newer version write here too."""
    term: int
    member: str
    because: str
    took_s: float | None = None
    """How long it took; for a change of leadership, how long nobody led. None when it does not apply."""
    at: float = 0.0
    """When it happened, by the store's clock, seconds since 1970; filled in by the store. 0: not known."""
    ago_s: float = 0.0
    """How long before it was written it happened, by the clock of who writes it: the store could not be asked."""
    seat: int = 1
    """The number of the seat whose leadership it tells of."""
    times: int = 1
    """How often it has happened in a row, where not each time is written down (a crash loop)."""
    odd: str = ""
    """What a store found in this event that cannot be, as a sentence; filled in by the store."""

    @property
    def word(self) -> str:
        """What happened, as it is written in the history."""
        return self.what.value if isinstance(self.what, What) else self.what


@dataclass(frozen=True, slots=True)
class Keep:
    """How much history an election keeps.

    The newest ``took charge`` of each member stays whatever this says: fencing looks up there who led before.
    """

    age_s: float
    """What happened longer ago goes. 0: nothing goes for its age."""
    most: int
    """Beyond so many events the oldest go. 0: none goes for their number."""


def what_of(word: str) -> What | str:
    """The kind of event that a word in the history means; the word itself where this HeirFlow does not know it."""
    return What(word) if word in _KNOWN else word


_KNOWN = frozenset(what.value for what in What)


@dataclass(frozen=True, slots=True)
class Swap:
    """Replace the record if its version is still `expected`."""

    expected: int | None
    """The version that must stand there; None: no record exists yet."""
    record: Record
    event: Event | None = None
    """Written to the history in the same transaction, only if the swap wins."""
    news: bool = False
    """Wake those who wait for news. Set for changes of leadership and orders, never for a mere renewal."""
    takes_over: str | None = None
    """For a swap that takes charge: the `Record.note` of the leader before. The store's own hook may act on it."""
    under: str | None = None
    """The history in which the record was read: in another one the swap is lost. None: whatever the history is."""
    start: int | None = None
    """Number of the leader's start of its command that runs, or comes next: what its earlier starts left at the store is over."""
    seat: int = 1
    """The number of the seat whose record it replaces."""
    seats: int = 1
    """Where there is no record yet: how many seats the election is made with. A record for each is there from then on."""
    expected_term: int | None = None
    """The term that must stand beside that version, which a restored backup can bring back in another one. None: any."""


@dataclass(frozen=True, slots=True)
class CheckIn:
    """What a member says about itself in each check-in."""

    id: str
    host: str
    pid: int
    ready: bool
    label: str = ""
    note: str = ""
    runs: bool | None = None
    """Whether its command runs; None: it leads nothing. For people, like the next one: both reach the store within `note`."""
    because: str = ""
    """Why nothing runs, or why it is not ready."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One transaction with the store; every part is optional and they are carried out in this order."""

    check_in: CheckIn | None = None
    """Touch this member's row."""
    join: bool = False
    """Give that row a new place at the end of the line (also when it is missing)."""
    swap: Swap | None = None
    leave: bool = False
    """Delete that row."""
    forget: tuple[str, ...] = ()
    """Delete the rows of these members, who fell silent long ago."""
    notes: tuple[Event, ...] = ()
    """Events to write whatever the swap does."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a store did beside a swap that won: a sentence for people, and a mark for the program."""

    sentence: str
    failed: bool = False
    """Whether something did not work, or not wholly."""
    sessions: int = field(default=0, compare=False)
    """How many sessions of earlier leaders were ended since the last word of it. Words for people are not told apart by it."""


@dataclass(frozen=True, slots=True)
class Place:
    """The record of one seat, as an exchange saw it."""

    record: Record | None
    since: float = 0.0
    """When its leader last changed, by the store's clock, seconds since 1970. This and the next are for people."""
    written_at: float = 0.0
    """When it was last written, by the store's clock."""
    stuck: bool = False
    """Whether nobody can write it, as something stands there that cannot be: it is left out, and nobody tries the seat."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What an exchange saw, after its own changes, in the same transaction."""

    record: Record | None
    """Of the first seat."""
    members: tuple[MemberRow, ...] = ()
    """Every row of the election in order of seniority."""
    swapped: bool | None = None
    """Whether the swap won; None when none was asked."""
    written_at: float = 0.0
    """When the record was last written, by the store's clock, seconds since 1970. This and the next two are for people."""
    since: float = 0.0
    """When the leader last changed, by the store's clock."""
    db_now: float = 0.0
    """The store's clock when it was read."""
    told: tuple[Told, ...] = ()
    odd: tuple[str, ...] = ()
    """What stands in the tables and cannot be, as sentences for people: the rest of this reading leaves it out."""
    history: str | None = None
    """What the store calls its own history: another name after a fail-over, which may have forgotten confirmed writes.

    None: it has no such name.
    """
    seats: int = 1
    """How many members may lead at once."""
    others: tuple[Place, ...] = ()
    """Of seats 2, 3, …, in that order: as many as there are, and those beyond that are still led, or where something was left."""

    @property
    def places(self) -> tuple[Place, ...]:
        """All of them, the first seat's first."""
        return (Place(self.record, self.since, self.written_at), *self.others)

    def record_of(self, seat: int) -> Record | None:
        """Of the seat with this number, if there is one."""
        return self.places[seat - 1].record if seat <= len(self.places) else None

    @property
    def leaders(self) -> tuple[str, ...]:
        """Who leads a seat, while its lease lasts by the store's clock. For people; the rules watch for themselves."""
        return tuple(
            place.record.leader
            for place in self.places
            if place.record is not None
            and place.record.leader is not None
            and self.db_now - place.written_at <= place.record.ttl_s
        )


def record_name(election: str, seat: int) -> str:
    """The name of a seat's record. The first seat has the election's name: an election of one seat is as it always was."""
    return election if seat == 1 else f"{election}#{seat}"


def record_names(election: str) -> list[str]:
    """The names of all records that it can have, the first seat's first."""
    return [record_name(election, seat) for seat in range(1, MOST_SEATS + 1)]


def counted(seats: int) -> str:
    """1 seat, 2 seats."""
    return f"{seats} seat{'' if seats == 1 else 's'}"


def believed(record: Record | None, before: Record | None) -> Record | None:
    """The record with the ttl that was read first for this leader and term, where the longest stands there now.

    One leader never changes its ttl. Whoever has seen it need not wait for an hour when somebody spoils it.
    """
    if record is None or before is None or record.ttl_s < LONGEST_TTL_S or record.leader is None:
        return record
    same = (record.leader, record.term) == (before.leader, before.term)
    return replace(record, ttl_s=before.ttl_s) if same else record
