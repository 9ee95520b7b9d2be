"""What a store is: a register with two deciding verbs, *read* and *swap if unchanged*. It decides nothing itself.

Both verbs, and everything a member writes about itself, travel in one `Exchange`: one transaction, carried out whole or not
at all. Losing a swap is a value (``Reading.swapped is False``). Not knowing (time-out, broken connection) is the exception
`StoreUnavailable`: the swap may or may not have happened, and the next read tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from heirflow.election.record import Event, Exchange, Keep, Reading, Swap, Told
from heirflow.errors import HeirflowError

if TYPE_CHECKING:
    import sqlalchemy as sa

OnTaken = Callable[["sa.engine.Connection", str], str | None]
"""What to do in the database when a swap has taken charge: it gets the connection, inside the swap's transaction, and the note of
the leader before (empty when that said nothing). It returns a sentence for the history, or None. It may fail, and is cut
short when it takes long: the swap wins all the same."""


class Address(Protocol):
    """The URL of a database that can change while it is in use, such as the password in it. Used by several threads."""

    @property
    def known(self) -> str:
        """The URL that was learnt last. Asks nobody."""

    def now(self) -> str:
        """The URL for a new connection."""

    def refused(self, url: str) -> bool:
        """A connection with this URL could not be had; whether another one is known now. It may take a while."""

    def accepted(self) -> None:
        """A connection was made."""


class StoreUnavailable(HeirflowError):
    """The store did not answer as it should, in time. Whether a write happened is not known."""

    exit_code = 69


class StoreRefuses(StoreUnavailable):
    """The store answers and refuses: this user or password, this database, or this right. It may change its mind."""

    exit_code = 77


class StoreMisfit(HeirflowError):
    """The store answers, but this HeirFlow cannot use it: tables missing and not allowed to make them, or of another version."""

    exit_code = 78


@dataclass(frozen=True, slots=True)
class Will:
    """Statements that release one member's term, ready for a helper process that has only the bare driver."""

    module: str
    """The DB-API driver to import."""
    connect_args: list[Any]
    connect_kwargs: dict[str, Any]
    hosts: list[dict[str, str]]
    """What the driver is told beside for each host, where there are several, as they are tried at the same time. Addresses of
    a host's name are looked up and told as ``hostaddr``. Empty: there is only one.
    """
    statements: list[tuple[str, Any]]
    """SQL and its bound parameters. When the first one changes no row, nothing is done."""
    because: str
    """The sentence among the parameters; for ``{prover}`` in it, the helper says who has proved that the command is gone."""
    news: list[tuple[str, Any]]
    """What wakes the heirs: each in a transaction of its own after the release, which must not fail with it."""


@dataclass(frozen=True, slots=True)
class KeyedWill:
    """The same where the record is in a coordinator: the helper loads the store and asks it."""

    module: str
    """To import: its ``carry_out`` does it."""
    url: str
    election: str
    seat: int
    member: str
    term: int
    because: str
    """As in `Will`."""
    call_limit_s: float


class KeptOut(str, Enum):
    """How a member that led before is kept from writing: ``facts["state"]`` of `Store.fence`."""

    FENCED = "fenced"
    """The database refuses its sessions, and a leader ends those that it has."""
    SESSIONS_ENDED = "sessions ended"
    """A leader ends its sessions."""
    LEASE_ONLY = "lease only"
    """Nothing but the lease."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `heirflow doctor`."""

    topic: str
    level: str
    """``ok``, ``note``, ``warning`` or ``problem``."""
    sentence: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Glance:
    """One election as a page reads it every second."""

    reading: Reading
    newest: int | None = None
    """The number of the newest event in its history: another one once more was told. None: this store does not say."""


class Beside(Protocol):
    """The database in which a command works, where its record is elsewhere. Nothing that fails here undoes a swap."""

    def taken(
        self, swap: Swap, left: Sequence[str], led: Callable[[Mapping[str, Any]], Mapping[str, bool]]
    ) -> tuple[tuple[Told, ...], AbstractSet[str]]:
        """A swap has taken charge, or made a seat vacant: end the sessions of who led, adopt what was left. Never raises.

        `left`: notes of leaders before (`Record.note`), the newest last. `led`: who led an earlier term (`sql.fence.Led`).
        Its time is limited. Returns what is worth telling, and which notes are done with; the others are for whoever comes next.
        """

    def sever(self) -> None:
        """As `Register.sever`."""

    def close(self) -> None:
        """As `Register.close`."""


class Register(Protocol):
    """What a member needs: one connection to the place where records live. Used by one thread at a time, except `sever`."""

    news_poll_s: float | None
    """How often `news` must be asked where there is no descriptor to wait on.

    None: this store pushes no notifications, or `news_fd` has them.
    """

    def open(self, *, create: bool = True) -> None:
        """Connect and see that the tables are there, making them when they are not and `create` allows it.

        Raises `StoreUnavailable` (try again) or `StoreMisfit` (a person must act).
        """

    def exchange(self, election: str, request: Exchange) -> Reading:
        """Carry out one transaction. Opens the connection again by itself after a failure. Raises like `open`."""

    def news_fd(self) -> int | None:
        """A descriptor that becomes readable when news may have come; None when there is none now."""

    def news(self, election: str) -> bool:
        """Take in what has come, without waiting; True when it concerns this election, or when nothing more can come.

        Ask after every exchange too: word that came in during one makes no descriptor readable any more.
        """

    def will(self, election: str, member: str, term: int, because: str, *, seat: int = 1) -> Will | KeyedWill | None:
        """What a helper must do to release exactly this member's term; None where that cannot be written down."""

    def prune(self, election: str, keep: Keep) -> bool:
        """Delete a small part of the history that is not to be kept; whether there may be more. Raises like `open`.

        It decides nothing: a store may keep all, and whoever may not delete there deletes nothing.
        """

    def sever(self) -> None:
        """Break the connection from another thread, so that a call that hangs there ends. Never raises."""

    def close(self) -> None:
        """Give the connection back. Never raises."""


class Store(Register, Protocol):
    """A register that people can ask too: for `heirflow status`, `history`, `doctor` and their like."""

    def limit_answers(self, limit_s: float) -> None:
        """From now on a call that takes longer ends as `StoreUnavailable`: for those who have no thread of their own for it.

        A server's own limits do not hold where it stands still, or where a commit waits for a standby.
        """

    def elections(self) -> tuple[str, ...]:
        """The names of all elections that have a record or a member."""

    def glance(self, only: str | None = None) -> Mapping[str, Glance]:
        """Every election by its name, or this one alone, in as few requests as the store can: of a database, one statement."""

    def events(self, election: str, limit: int) -> tuple[Event, ...]:
        """The newest events, oldest first."""

    def drain(self, election: str, member: str, on: bool) -> bool:
        """Order one member to stand aside, or take that back; False when there is no such member."""

    def set_seats(self, election: str, seats: int) -> bool:
        """Change how many members may lead at once; False where there is no such election. Raises `ConfigError`, too."""

    def forget(self, election: str, seen: Reading) -> bool:
        """Delete the election with its line and its history; False, with nothing changed, where it is not as it was seen."""

    def examine(self) -> tuple[Finding, ...]:
        """What `heirflow doctor` tells about this store, without a change to it. Raises `StoreUnavailable`."""

    def fence(self) -> Finding:
        """Whether and how a member that led before is kept from writing here. Raises like `open`.

        ``facts["state"]`` is a `KeptOut`.
        """
