"""The warm standby of a member: when the next one is to be started, and what became of the last.

A standby is the command, started up to the point where it would begin, waiting at its gate. It gets no lease: its gate opens
only with one.
"""

from __future__ import annotations

from collections.abc import Sequence

from heirflow.election.timings import back_off_s
from heirflow.election.told import Named
from heirflow.member.guard_events import StandbyGone, how
from heirflow.member.journal import Log

LONGEST_PAUSE_S = 60.0
"""Between two standbys of which none comes to its gate."""


class Standby:
    """Of one member. Without `argv` none is wanted: the command is started cold."""

    def __init__(self, argv: Sequence[str] | None, journal: Log) -> None:
        self.argv = argv
        self.pid: int | None = None
        """While it waits at its gate."""
        self.at: float | None = None
        """When the next one is to be started; None while there is one, or none is wanted."""
        self._journal = journal
        self._failures = 0
        """How many have ended in a row that had not come to their gate."""

    def want(self, at: float) -> None:
        """Another one from this moment on."""
        if self.argv is not None:
            self.at = at

    def due(self, now: float) -> Sequence[str] | None:
        """What is to be started now, if it is time; it then counts as started."""
        if self.argv is None or self.at is None or now < self.at:
            return None
        self.at = None
        return self.argv

    def at_gate(self, pid: int) -> None:
        """It waits at its gate."""
        self.pid, self._failures = pid, 0
        self._journal.log("the standby is warm", event=Named.STANDBY_WARM, standby_pid=pid)

    def begun(self) -> None:
        """Its gate was opened: it is the command now."""
        self.pid = None

    def gone(self, event: StandbyGone, now: float) -> float:
        """It has ended. Returns when another one should be started."""
        self.pid = None
        self._failures += 1
        pause_s = back_off_s(self._failures, LONGEST_PAUSE_S)
        tell = self._journal.warn if self._failures else self._journal.log
        sentence = f"the standby {how(event)}; another one starts in {pause_s:g} s"
        tell(sentence, event=Named.STANDBY_ENDED, status=event.status)
        return now + pause_s

    def replace(self, because: str) -> None:
        """It is killed because it is out of date; that end is no failure."""
        self._journal.log(f"the standby is started anew: {because}", event=Named.STANDBY_REPLACED)
        self._failures = -1

    def lost(self) -> None:
        """The guard is gone, and the standby with it."""
        self.at = self.pid = None
