"""Whether a guard still answers and does as told: one that owes an answer for too long is frozen, one that owes an end is deaf.

Only *our own* waking time counts. A stretch in which this process did not run counts as one interval at most, so that after a
freeze of both the guard can answer first.
"""

from __future__ import annotations

from heirflow.guard.proof import STUCK_AFTER_S, STUCK_EVERY_S

HELLO_LIMIT_S = 5.0
"""How long a new guard may take to say its first word: a busy host starts programs slowly."""
OBEY_LIMIT_S = STUCK_AFTER_S + 3.0
"""How long a guard that was told to end its command may say nothing of that: by then it is gone, or told to be stuck."""
EVERY_S = 0.5
"""The longest time between two looks."""


class Answers:
    """Asked and answered, by number. All moments are of the clock that decides, in seconds."""

    def __init__(self, limit_s: float) -> None:
        """`limit_s`: a guard that has not answered for so long is frozen."""
        self.limit_s = limit_s
        self.every_s = min(EVERY_S, limit_s / 4)
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


class EndDue:
    """The end of what runs, which the guard owes from a moment on: the word that it is gone, or what withstands."""

    def __init__(self) -> None:
        self.settle()

    def settle(self) -> None:
        """It is gone, or something else begins: nothing is owed."""
        self._from, self._silent_s, self._looked_at = float("inf"), 0.0, 0.0

    def owe(self, at: float) -> None:
        """The guard was told to see to its end from this moment on, at the latest."""
        self._from = min(self._from, at)

    def withstands(self) -> None:
        """It does what it can, and says so again."""
        self._silent_s = -STUCK_EVERY_S

    def overdue(self, now: float) -> bool:
        """Whether nothing was heard for too long. Asked at each turn of the loop."""
        if now >= self._from:
            self._silent_s += min(max(0.0, now - max(self._from, self._looked_at)), EVERY_S)
        self._looked_at = now
        return self._silent_s >= OBEY_LIMIT_S

    def wake_at(self) -> float:
        """When the loop must turn again."""
        return max(self._from, self._looked_at) + EVERY_S
