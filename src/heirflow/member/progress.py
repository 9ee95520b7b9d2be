"""Health by progress: whether what a command should move moves, beside whether it is alive. A sign of life is not work.

A check says at each look that something moved or nothing waits, that something waits and nothing moved since the look before, or
that it cannot tell. Only the second, at each look for a whole limit, is worth a word. A backlog can stand still for reasons that no
check knows. So it is told, and nothing is stopped for it; who has seen that it is right about their program lets it act.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from heirflow.member.asker import Asker, Check, Found

SLOWEST_LOOK_S = 30.0
LOOKS_PER_LIMIT = 5


@dataclass(frozen=True, slots=True)
class Doubt:
    """The command seems to do no work. `over`: now it does again."""

    because: str
    over: bool = False


class Progress:
    """Asks a check of its own at its own pace. Used by one thread."""

    def __init__(self, check: Check, limit_s: float, *, acts: bool) -> None:
        """`limit_s`: how long nothing may move. `acts`: whether the command is given up then."""
        self._check = check
        self.limit_s = limit_s
        self.acts = acts
        self.every_s = max(0.1, min(SLOWEST_LOOK_S, limit_s / LOOKS_PER_LIMIT))
        self._asker: Asker | None = None
        self._asked_at: float | None = None
        self._since = 0.0
        self._told = False
        self.at = float("inf")
        """When the next look is due."""

    def begin(self, wake: Callable[[], None]) -> None:
        """`wake` is called from another thread when `look` should be called."""
        self._asker = Asker(self._check, wake)

    def command(self, now: float) -> None:
        """A run of the command has begun."""
        self._since, self._told, self.at = now, False, now + self.every_s

    def look(self, run: int, note: str, now: float) -> Found | None:
        """Ask when it is time, and never wait. `run`: 0 while none runs. Returns what a look came to."""
        assert self._asker is not None
        found = self._asker.take()
        if found is not None:
            self._asked_at = None
            return found if run and found.run == run else None
        if not run or now < self.at:
            return None
        self.at = now + self.every_s
        if self._asked_at is None:
            self._asked_at = now
            self._asker.ask(run, note, self.every_s)
        elif (late_s := now - self._asked_at) >= self.limit_s:
            return Found(run, None, f"it has not answered for {late_s:.0f} s")
        return None

    def hear(self, found: Found, now: float) -> Doubt | None:
        """What should be told, or acted on, after this look."""
        if found.unwell is None:
            self._since = now
            return None
        still_s = now - self._since
        if not found.unwell:
            told, self._since, self._told = self._told, now, False
            return Doubt(f"its work goes on, after {still_s:.0f} s", over=True) if told else None
        if still_s < self.limit_s or (self._told and not self.acts):
            return None
        self._told = True
        return Doubt(f"it has moved nothing for {still_s:.0f} s: {found.unwell}")

    def close(self) -> None:
        """Without waiting for a look that is under way."""
        if self._asker is not None:
            self._asker.close()
