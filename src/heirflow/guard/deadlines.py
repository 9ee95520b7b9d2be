"""When a command must be asked to end, and when it must be killed: moments of the clock that decides, and no acts.

Only a lease that comes in time, and names a later moment, moves `kill_at`. Nothing takes back what has begun.

A file that the guard loads from beside itself; it imports nothing of ours.
"""

from __future__ import annotations

FOREVER = float("inf")


class Deadlines:
    """Of one command. Seconds; `FOREVER` where there is none."""

    def __init__(self) -> None:
        self.kill_at = self.stop_at = 0.0
        """The end of its lease; the end of the time that an orderly stop gives it."""
        self.term_at: float | None = None
        """When it is asked to end because its lease is about to end; None once it was asked, for whatever reason."""
        self.again_at: float | None = None
        """When it is asked once more."""
        self.losing = False
        """It was asked because its lease is about to end."""

    def begin(self, term_at: float | None, kill_at: float) -> None:
        """A new lease; a standby has none (`FOREVER`)."""
        self.term_at, self.kill_at, self.again_at, self.stop_at, self.losing = term_at, kill_at, None, FOREVER, False

    def extend(self, now: float, term_at: float, kill_at: float) -> bool:
        """A renewal. One that comes after the end, or after the TERM before it, changes nothing: the command is ending."""
        if not now < self.kill_at < kill_at or self.losing:
            return False
        self.kill_at = kill_at
        self.term_at = None if self.term_at is None else term_at
        return True

    def stop(self, now: float, grace_s: float, again_s: float | None) -> bool:
        """An orderly stop. True when it must be asked to end now; the second time, only the time can get shorter."""
        first = self.term_at is not None
        self.stop_at = min(self.stop_at, now + grace_s)
        self.term_at = None
        if first:
            self.again_at = None if again_s is None else now + again_s
        return first

    def lease_is_ending(self, now: float) -> bool:
        """Whether it must be asked to end for its lease now. True once."""
        if self.term_at is None or now < self.term_at:
            return False
        self.term_at, self.losing = None, True
        return True

    def again(self, now: float) -> bool:
        """Whether it must be asked once more now. True once."""
        if self.again_at is None or now < self.again_at:
            return False
        self.again_at = None
        return True

    def next(self) -> float:
        """The first of these moments."""
        moments = (self.term_at, self.kill_at, self.stop_at, self.again_at)
        return min(at for at in moments if at is not None)
