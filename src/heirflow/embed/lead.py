"""What a callable gets for the time that it leads."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from heirflow.clock import boottime
from heirflow.election.state import NEVER


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

    def trusted_for_s(self) -> float:
        """How long this lead is still believed without news from the store; 0 when it is over."""
        return max(0.0, self.trusted_until - boottime())
