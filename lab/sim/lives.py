"""Every command of a simulated world, from its start until its last descendant is gone, and what it may do meanwhile.

A command that lives *runs*, or is *suspended* (it stands still with its whole host), or is *late*: its host was thawed when
no kill could come in time any more. While its lease lasts it must be alone, in whichever of the three ways it lives. When
its lease is over, only one that stood still until then may still be there, and meet its successor in the instant until its
guard has killed it: fencing's business, and counted (`Lives.thaw_overlaps`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NoReturn, Protocol

from lab.sim.promises import Promise
from lab.sim.seen import SeenCommand, SeenWorld

ROUNDING_S = 1e-5
STARTS_PER_SECOND = 5
"""More starts of one member's command than this within a second is a crash loop that spins."""


class Verdicts(Protocol):
    """The judge, as far as commands concern it."""

    slack_s: float
    """How much later a command may be gone."""
    lease_end: dict[str, float]
    """Until when, on its host's clock, each member's last *confirmed* renewal lets its command live."""

    @property
    def world(self) -> SeenWorld: ...
    @property
    def void(self) -> bool:
        """Whether the store forgot confirmed writes not long ago."""

    def broken(self, promise: Promise, sentence: str) -> NoReturn:
        """Say that a promise is broken, and end the world."""


class Lives:
    """The commands that live, in order of starting."""

    def __init__(self, judge: Verdicts) -> None:
        self._judge = judge
        self._commands: dict[SeenCommand, None] = {}
        self._starts: dict[str, deque[float]] = {}
        self.thaw_overlaps = 0
        """How often a command that was thawed late met another one."""

    def __iter__(self) -> Iterator[SeenCommand]:
        return iter([*self._commands])

    @property
    def running(self) -> list[SeenCommand]:
        """Those that run within their lease."""
        return [command for command in self if not command.suspended and not self.fenced(command)]

    def of(self, member: str | None, seat: int | None = None) -> list[SeenCommand]:
        """What lives of one member's, suspended and late ones too; `seat`: only what leads that one."""
        return [command for command in self if command.member.id == member and seat in {None, command.seat}]

    # ---- how they live ----

    def started(self, command: SeenCommand) -> None:
        """A command begins to run."""
        self._count_start(command)
        self._commands[command] = None
        self._in_time(command)
        self._alone(command)

    def gone(self, command: SeenCommand) -> None:
        """A command and all its descendants are gone."""
        self._commands.pop(command, None)
        self._in_time(command)

    def thawed(self, command: SeenCommand) -> None:
        """It goes on with its host: within its lease as any command, later in the instant that only fencing closes."""
        now, end, kill_lead_s = self._now(command), self._end(command), command.member.timings.kill_lead_s
        command.suspended = False
        command.late = now >= end - kill_lead_s
        command.dead_by, command.guard_slept = max(end, now + kill_lead_s), command.guard.frozen
        self._alone(command)

    # ---- what is promised ----

    def fenced(self, command: SeenCommand) -> bool:
        """Whether only fencing keeps it from meeting its successor: it stood still with its host until its lease was over."""
        return (command.suspended or command.late) and self._now(command) >= self._end(command)

    def sweep(self) -> None:
        """Look at everything that lives."""
        for command in self:
            self._in_time(command)
        running = self.running
        if len(running) > len({command.seat for command in running}) and not self._judge.void:
            self._judge.broken("never two", " and ".join(command.member.id for command in running))

    def _alone(self, command: SeenCommand) -> None:
        for other in self:
            if other is command or (self._judge.void and other.member is not command.member):
                continue
            if other.seat != command.seat and other.member is not command.member:
                continue
            if not (self.fenced(command) or self.fenced(other)):
                one, two = (f"{each.member.id} (term {each.term})" for each in (command, other))
                self._judge.broken("never two", f"the commands of {one} and {two} both live")
            self.thaw_overlaps += not other.suspended

    def _in_time(self, command: SeenCommand) -> None:
        if command.suspended:
            return
        end = self._end(command)
        if command.late:  # what is renewed after the thaw does not count: a guard's first act is to look at its clock
            end = max(command.dead_by, end) if command.guard_slept else command.dead_by
        over_s = self._now(command) - end - self._judge.slack_s
        if over_s > ROUNDING_S:
            promise: Promise = "thawed late, it is killed at once" if command.late else "dead by the end of trust"
            self._judge.broken(promise, f"the command of {command.member.id} lived {over_s:.3f} s longer")

    def _count_start(self, command: SeenCommand) -> None:
        now = self._judge.world.agenda.now
        recent = self._starts.setdefault(command.member.id, deque())
        recent.append(now)
        while recent[0] < now - 1.0:
            recent.popleft()
        if len(recent) > STARTS_PER_SECOND:
            sentence = f"{command.member.id} started {len(recent)} times within a second"
            self._judge.broken("a crash loop does not spin", sentence)

    def _now(self, command: SeenCommand) -> float:
        return command.host.local(self._judge.world.agenda.now)

    def _end(self, command: SeenCommand) -> float:
        """The end of the trust that its member's last *confirmed* renewal gave, whatever the rules or the guard believe."""
        return self._judge.lease_end.get(command.member.id, float("-inf"))
