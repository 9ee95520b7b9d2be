"""The clock of servers that tell it only in whole seconds, in each answer's ``Date``, or beside what they have written."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime


class TheirClock:
    """How far another clock is from ours: what every answer so far allows. For people; no rule compares two clocks."""

    def __init__(self) -> None:
        self._least, self._most = float("-inf"), float("inf")

    def now(self) -> float:
        """That clock, seconds since 1970: ours, where no answer speaks against it."""
        return time.time() + min(max(0.0, self._least), self._most)

    def told(self, at: float, within_s: float, asked_at: float, answered_at: float) -> None:
        """Between two moments of our clock, that one showed a time from `at` on, at most so much later."""
        least, most = at - answered_at, at + within_s - asked_at
        if least > self._most or most < self._least:  # one of them was set anew, or it is another server's
            self._least, self._most = least, most
        else:
            self._least, self._most = max(self._least, least), min(self._most, most)

    def date(self, header: str | None, asked_at: float, answered_at: float) -> None:
        """The same from an answer's ``Date``."""
        if not header:
            return
        try:
            at = parsedate_to_datetime(header).timestamp()
        except ValueError:
            return
        self.told(at, 1.0, asked_at, answered_at)
