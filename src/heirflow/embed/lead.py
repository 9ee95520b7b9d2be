"""What a callable gets for the time that it leads."""

from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass, field
from typing import Any

from heirflow.clock import boottime
from heirflow.election.record import record_name
from heirflow.errors import ConfigError, LostLead


class Stopping:
    """Whether the callable must return, asked as of a `threading.Event`.

    It looks at the clock too: a process that was frozen past its lease sees here that it is over, before anybody could tell it.
    """

    __slots__ = ("_event", "until")

    def __init__(self) -> None:
        self._event = threading.Event()
        self.until = math.inf
        """When the lease ends, on the clock that counts suspended time."""

    @property
    def asked(self) -> bool:
        """Whether somebody has asked for it."""
        return self._event.is_set()

    def set(self) -> None:
        """Ask for it."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether the callable must return."""
        return self.asked or boottime() >= self.until

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it, `timeout` seconds at most; whether the callable must return."""
        self._event.wait(timeout)
        return self.is_set()


@dataclass(slots=True)
class Lead:
    """One leadership: who leads, in which term, and how long it may be believed."""

    election: str
    member: str
    """On PostgreSQL only sessions with ``application_name=f"heirflow/{lead.member}"`` are fenced: open them within the callable."""
    term: int
    """Grows with every change of leadership: give it to whatever can refuse an older one."""
    stopping: Stopping = field(default_factory=Stopping)
    """Set when the callable must return: an orderly stop, a switchover, or a lease that is nearly over."""
    schema: str | None = None
    """Where HeirFlow's tables are, if not where a connection looks."""
    seat: int = 1
    """Which of the election's seats it leads; `term` is that seat's."""

    def trusted_for_s(self) -> float:
        """How long this lead is still believed without news from the store; 0 when it is over."""
        return max(0.0, self.stopping.until - boottime())

    def hold(self, connection: Any) -> None:
        """Make a transaction that writes commit only while this lead is the newest. Call it last, just before the commit.

        `connection`: an SQLAlchemy connection or session, or a DB-API cursor, within a transaction in the database that has
        HeirFlow's tables. It locks the record (``FOR SHARE``) until the transaction ends, so an heir takes charge after the
        commit, or this raises. The leader's own renewals wait too: a transaction that holds for longer than a check-in may cost
        it the lead. PostgreSQL and MariaDB end one that is left idle for 5 s, as by a host that was frozen in it.

        Raises `LostLead` where another term stands there, or nobody leads: roll back. Raises `ConfigError` where there is no
        transaction, and what the driver raises.
        """
        from heirflow.stores.sql.holding import locked  # SQLAlchemy is loaded only where it is used

        found = locked(connection, record_name(self.election, self.seat), self.schema)
        if found != (self.term, self.member):
            term, leader = found or (0, None)
            raise LostLead(
                f"term {self.term} of {self.election} is over: the record names {leader or 'nobody'}, term {term}"
            )

    @classmethod
    def of_command(cls, *, schema: str | None = None) -> Lead:
        """The lead under which `heirflow run` has started this program, for `hold`; nothing sets its `stopping`.

        `schema`: where HeirFlow's tables are, if not where a connection looks. Raises `ConfigError` in any other program.
        """
        try:
            election, member, term = (os.environ[f"HEIRFLOW_{name}"] for name in ("ELECTION", "MEMBER", "TERM"))
        except KeyError as error:
            raise ConfigError(f"{error} is not set: this program was not started by `heirflow run`") from None
        return cls(election, member, int(term), schema=schema, seat=int(os.environ.get("HEIRFLOW_SEAT", "1")))
