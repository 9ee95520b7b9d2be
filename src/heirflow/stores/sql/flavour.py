"""What differs between databases, as one small object each (`sqlite`, `postgres`, `mysql`); `sql` holds all they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from heirflow.election.record import Exchange, Reading, Swap, Told
from heirflow.stores.base import Finding
from heirflow.stores.sql.bound import Bound
from heirflow.stores.sql.connecting import Arguments, Place
from heirflow.stores.sql.schema import Tables

if TYPE_CHECKING:
    from heirflow.stores.sql.fence import Led
    from heirflow.stores.sql.one_statement import Kind
    from heirflow.stores.sql.statements import Statements


@dataclass(frozen=True, slots=True)
class AtOnce:
    """What came of an exchange that was one statement."""

    rows: Sequence[Any]
    """As `Statements.read` answers."""
    swapped: bool | None
    confirmed: bool
    """As `Flavour.commit` answers."""
    fence: bool
    """Whether `Flavour.fence` has something to do after this swap."""
    open: bool
    """Whether its transaction still stands open: what belongs to it follows, and then the commit."""
    further: Sequence[Any] | None = None
    """As `Statements.further` answers; None: that was not read."""


class Flavour(Protocol):
    """One kind of database, and what is known about the connection that is open to it."""

    title: str
    """Its name for people."""
    encoding: str
    """Of the database, by the server's name for it."""
    news_poll_s: float | None
    roles: bool
    """Whether there are roles here that may do some things and not others."""
    now: sa.sql.elements.ColumnElement[float]
    """The database's clock in SQL: seconds since 1970, going on within a transaction."""
    terse: bool
    """Whether `at_once` may do something here."""
    notify: sa.sql.expression.Executable | None
    """Wakes those who wait for news of the bound ``election``: sent after the commit, in a transaction of its own that may fail."""

    history: str | None
    """What the server calls its own history, in SQL: another name after a fail-over.

    Known once `set_up` was called; None: it has no such name.
    """

    def engine_options(self) -> dict[str, Any]:
        """What `sqlalchemy.create_engine` is told, with ``connect_args``."""

    def storable(self, text: str) -> str:
        """The text with a question mark for each letter that this database cannot hold. Known once it is connected."""

    def prepare(self, *, create: bool) -> bool:
        """Before connecting; False: there is no such database, and `create` does not allow to make it."""

    def places(self, arguments: Arguments) -> Sequence[Place]:
        """Each place that these arguments of the driver's name, in their order; empty where there is nothing to wait for."""

    def dial(self, driver: Any, words: Sequence[Any], arguments: Arguments) -> Any:
        """Connect to one of them, or to what the words name, with the driver's module."""

    def repeats(self, connection: Any) -> bool:
        """Whether the driver's connection leads to a server that only repeats another one."""

    def set_up(self, conn: sa.engine.Connection) -> None:
        """Right after connecting: make the session such that a frozen member cannot hold a lock."""

    def begin(self, conn: sa.engine.Connection, *, writes: bool, lone: bool = False) -> None:
        """First thing in every transaction. `lone`: of statements that only read, each of which may be one by itself."""

    def at_once(
        self,
        conn: sa.engine.Connection,
        here: Tables,
        sql: Statements,
        election: str,
        kind: Kind,
        swap: Swap | None,
        bound: Bound,
    ) -> AtOnce | None:
        """Carry an exchange of this kind out as one statement, which mostly is its own transaction.

        Where `bound` has ``p_names``, it reads the records of those names, too.

        None: not here, or it has shown no record, be it that a swap was lost. Then it must be carried out in steps, which does
        no harm where it was carried out already: to check in twice is to check in, and what was lost is lost.
        """

    def commit(self, conn: sa.engine.Connection) -> bool:
        """Commit; False: the server did, and cannot say that a failover of the database would not forget it."""

    def patient(self, conn: sa.engine.Connection) -> None:
        """Within the transaction that makes the tables: allow it more time than an exchange."""

    def hurry(self, conn: sa.engine.Connection, limit_s: float | None) -> None:
        """Within a transaction: let no statement run, or wait for a lock, for longer than this; None: as before."""

    def try_lock(self, conn: sa.engine.Connection) -> bool:
        """Try to be the only one that makes the tables."""

    def unlock(self, conn: sa.engine.Connection) -> None:
        """After the commit: undo `try_lock` where the end of the transaction has not."""

    def fence(
        self, conn: sa.engine.Connection, here: Tables, election: str, swap: Swap, led: Led | None = None
    ) -> tuple[Told, ...]:
        """Within the transaction of a swap that won: end what members that led before, or earlier starts of this one's
        command (see `Swap.start`), could still write. What is worth telling. `led`: who led, where the tables do not say.
        """

    def fenced(self, conn: sa.engine.Connection, here: Tables) -> Finding:
        """Whether and how a member that led before is kept from writing, for people."""

    def insert_if_absent(self, table: sa.Table) -> Any:
        """An INSERT that changes no row, and breaks nothing, when the key exists."""

    def fileno(self, driver: Any) -> int | None:
        """The descriptor of the connection's socket; None where there is none."""

    def interrupt(self, driver: Any) -> None:
        """End a call that hangs, from another thread, where there is no socket to shut down."""

    def stale(self) -> bool:
        """Whether the connection must not be used again although nothing has failed yet."""

    def news_fd(self, driver: Any) -> int | None:
        """See `Store.news_fd`."""

    def news(self, conn: sa.engine.Connection, election: str, here: Tables) -> bool:
        """See `Store.news`."""

    def saw(self, election: str, request: Exchange, reading: Reading) -> None:
        """Remember what the member knows now, where news is told by comparing."""

    def refuses(self, error: BaseException) -> bool:
        """Whether a driver's error means that this role, or anybody here, may not do what was asked."""

    def may_create(self, conn: sa.engine.Connection, here: Tables) -> bool | None:
        """Whether this role may make tables where ours belong; None: that could not be seen."""

    def will_guard(self) -> Any | None:
        """A condition that is always true and limits how long the will's transaction may stand open; None: not needed."""

    def will_options(self, dialect: Any) -> dict[str, Any]:
        """What else the driver must be told when a helper connects to carry out a will."""

    def hides(self, conn: sa.engine.Connection, here: Tables) -> str | None:
        """Why this role may not see all rows of our tables, as a sentence; None: it sees them."""

    def examine(self, conn: sa.engine.Connection, here: Tables) -> list[Finding]:
        """Findings of `heirflow doctor` that only this kind of database has."""
