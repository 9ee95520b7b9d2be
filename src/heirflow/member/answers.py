"""Whether a guard still answers: it is asked at short intervals, and one that owes an answer for too long is frozen.

Only *our own* waking time counts. A stretch in which this process did not run counts as one interval at most, so that after a
freeze of both the guard can answer first.
"""

from __future__ import annotations

HELLO_LIMIT_S = 5.0
"""How long a new guard may take to say its first word: a busy host starts programs slowly."""


class Answers:
    """Asked and answered, by number. All moments are of the clock that decides, in seconds."""

    def __init__(self, limit_s: float) -> None:
        """`limit_s`: a guard that has not answered for so long is frozen."""
        self.limit_s = limit_s
        self.every_s = min(0.5, limit_s / 4)
        self.silent_s = 0.0
        """For how long an answer has been owed."""
        self._asked = self._answered = 0
        self._asked_at = self._looked_at = 0.0

    def begin(self, now: float) -> None:
        """A new guard, which owes nothing yet."""
        self._asked = self._answered = 0
        self.silent_s, self._looked_at = 0.0, now

    def ask(self, now: float) -> int:
        """The number of the question that is to be sent now."""
        self._asked += 1
        self._asked_at = now
        return self._asked

    def heard(self, number: int) -> None:
        """This question was answered."""
        self._answered = number
        if number == self._asked:
            self.silent_s = 0.0

    def due(self, now: float) -> bool:
        """Whether it is time for the next question."""
        return self._asked == self._answered and now >= self._asked_at + self.every_s

    def frozen(self, now: float, *, said_hello: bool) -> bool:
        """Whether an answer has been owed for too long. Asked at each turn of the loop while a command runs."""
        if self._answered == self._asked:
            return False
        self.silent_s += min(max(0.0, now - self._looked_at), self.every_s)
        return self.silent_s >= (self.limit_s if said_hello else max(HELLO_LIMIT_S, self.limit_s))

    def looked(self, now: float) -> None:
        """The loop has turned."""
        self._looked_at = now

    def wake_at(self) -> float:
        """When the loop must turn again to ask, or to see that nobody answered."""
        return (self._asked_at if self._answered == self._asked else self._looked_at) + self.every_s
