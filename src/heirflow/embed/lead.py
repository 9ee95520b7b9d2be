"""What a callable gets for the time that it leads."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Any

from heirflow.clock import boottime
from heirflow.election.state import NEVER
from heirflow.errors import ConfigError, LostLead


@dataclass(slots=True)
class Lead:
    """One leadership: who leads, in which term, and how long it may be believed."""

    election: str
    member: str
    """On PostgreSQL only sessions with ``application_name=f"heirflow/{lead.member}"`` are fenced: open them within the callable."""
    term: int
    """Grows with every change of leadership: give it to whatever can refuse an older one."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the callable must return: an orderly stop, a switchover, or a lease that is nearly over."""
    trusted_until: float = NEVER
    schema: str | None = None
    """Where HeirFlow's tables are, if not where a connection looks."""

    def trusted_for_s(self) -> float:
        """How long this lead is still believed without news from the store; 0 when it is over."""
        return max(0.0, self.trusted_until - boottime())

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

        found = locked(connection, self.election, self.schema)
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
        return cls(election, member, int(term), schema=schema)
