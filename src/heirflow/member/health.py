"""Whether the command does its work, and whether the standby is still the right one: looked at beside the loop.

One thread watches, at its own pace; what it finds wakes the member's loop, which never waits for it. Another one asks the check,
which may hang. A check answers one of three things: well, not well, or that it cannot tell. A command is given up when it was
not found well for a whole timeout *while the check could tell*: an outage of what the check rests on starts the wait again, and
is never the command's fault. Whatever the clock is, only the first thread's own counts.

A command that was *stopped* (SIGSTOP) is seen at once, in ``/proc``, without asking anybody: it holds what it holds, locks in the
database perhaps, and does nothing. So it is given up after a shorter time, and has a shorter time to end in order.

A check that cannot tell for a whole timeout is told, and told again: until it can, nobody sees a command that hangs.

Before a command is given up, a `witness` says where it stands, for a limited time and once: after the kill nobody can.
"""

from __future__ import annotations

import math
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from heirflow.clock import boottime
from heirflow.guard.processes import stat_of
from heirflow.member.asker import Asker, CannotTell, Check, Found
from heirflow.member.progress import Doubt, Progress
from heirflow.member.shell import run_beside
from heirflow.member.witness import AnyWitness

LOOKS_PER_TIMEOUT = 4
SLOWEST_LOOK_S = 15.0
FRESHNESS_EVERY_S = 30.0
STANDSTILL_EVERY_S = 1.0
BLIND_AGAIN_S = 600.0
"""How often it is told that the check still cannot tell."""


@dataclass(frozen=True, slots=True)
class Unwell:
    """The command was not found well for too long; `still`: it was stopped (SIGSTOP)."""

    because: str
    still: bool = False
    stands: tuple[str, ...] = ()
    """Where it stood, a line for each thread."""


@dataclass(frozen=True, slots=True)
class Blind:
    """The check is broken, or has not been able to tell for long: meanwhile nobody looks. `over`: now it can tell again."""

    because: str
    over: bool = False


@dataclass(frozen=True, slots=True)
class Stale:
    """What the standby imported is not what would be imported now."""

    because: str


Finding = Unwell | Blind | Doubt | Stale


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a command may be unwell, in seconds."""

    timeout_s: float = 60.0
    start_s: float = 120.0
    """Until it is found well for the first time."""

    @property
    def every_s(self) -> float:
        return max(0.1, min(SLOWEST_LOOK_S, self.timeout_s / LOOKS_PER_TIMEOUT))


class Judge:
    """The arithmetic of patience: fed with what looks find, it says when it is enough. No thread, no clock."""

    def __init__(self, patience: Patience, now: float) -> None:
        self._patience = patience
        self._since = now
        self._limit_s = patience.start_s

    def hear(self, now: float, unwell: str | None) -> str | None:
        """`unwell`: empty when well, None when the check could not tell. Returns why the command should be given up."""
        if unwell is None:
            self._since = now
        elif not unwell:
            self._since, self._limit_s = now, self._patience.timeout_s
        elif now - self._since >= self._limit_s:
            return f"its health check failed for {now - self._since:.0f} s: {unwell}"
        return None


class Sight:
    """For how long a check could not tell, and when that is worth a word. No thread, no clock."""

    def __init__(self, limit_s: float, now: float, name: str = "the health check") -> None:
        self._limit_s = limit_s
        self._since = now
        self._name = name
        self._told_at: float | None = None

    def hear(self, now: float, found: Found) -> Blind | None:
        """After each look; returns what should be told."""
        if found.unwell is not None:
            blind_s, told = now - self._since, self._told_at is not None
            self._since, self._told_at = now, None
            return Blind(f"{self._name} can tell again, after {blind_s:.0f} s", over=True) if told else None
        if self._told_at is not None and now - self._told_at < BLIND_AGAIN_S:
            return None
        hidden = "so a command that hangs is not seen"
        if found.broken and self._told_at is None:
            self._told_at = now
            return Blind(f"{self._name} is broken, {hidden}: {found.because}")
        if now - self._since < self._limit_s:
            return None
        self._told_at = now
        return Blind(f"{self._name} has not been able to tell for {now - self._since:.0f} s, {hidden}: {found.because}")


class Standstill:
    """Whether a process was stopped (SIGSTOP, SIGTSTP) at every look for so long. One that a debugger holds is not meant.

    Linux only: elsewhere nothing is found.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since: float | None = None

    def look(self, pid: int, now: float) -> str:
        """Empty, or why the command should be given up."""
        try:
            stopped = stat_of(pid)[0] == "T"
        except OSError:
            stopped = False
        if not stopped:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since >= self._limit_s:
            return f"it was stopped (SIGSTOP) and stands still for {now - self._since:.0f} s"
        return ""


class Lookout:
    """The thread. The member tells it what begins and ends, and takes what it has found."""

    def __init__(
        self,
        *,
        check: Check | None = None,
        patience: Patience | None = None,
        standstill_s: float = math.inf,
        fingerprint: Callable[[], dict[str, Any]] | None = None,
        fingerprint_every_s: float = FRESHNESS_EVERY_S,
        witness: AnyWitness | None = None,
        progress: Progress | None = None,
    ) -> None:
        """`fingerprint`: everything that a standby depends on, by name; a standby that was started with another one is stale.

        `standstill_s`: how long a command with a `check` may be stopped. `witness`: says where one stands that is given up.
        `progress`: who looks whether anything moves.
        """
        self._check = check
        self._patience = patience or Patience()
        self._standstill_s = standstill_s
        self._fingerprint = fingerprint
        self._fingerprint_every_s = fingerprint_every_s
        self._witness, self._progress = witness, progress
        self._witnessed = 0  # the run about which it was asked
        self._changed = threading.Condition()
        self._found: deque[Finding] = deque()
        self._run = 0  # number of the command's run, 0 while none runs: a verdict on an earlier one is void
        self._runs = 0
        self._pid = 0
        self._note = ""
        self._standby = 0
        self._ending = False
        self._asker: Asker | None = None
        self._answered = False
        self._asked_at: float | None = None  # when the look was asked for that has not been answered yet
        self._wake: Callable[[], None] = lambda: None

    def begin(self, wake: Callable[[], None]) -> None:
        """Start looking. `wake` is called from the thread when `take` has something."""
        self._wake = wake
        if self._check is not None:
            self._asker = Asker(self._check, self._look_again)
        if self._progress is not None:
            self._progress.begin(self._look_again)
        if self._check is not None or self._fingerprint is not None or self._progress is not None:
            threading.Thread(target=self._watch, name="heirflow-lookout", daemon=True).start()

    def command(self, pid: int | None) -> None:
        """The command has started, or is gone (None)."""
        runs = pid is not None
        with self._changed:
            self._runs += runs
            self._pid = pid or 0
            self._run, self._note = (self._runs if runs else 0), ""
            self._found.clear()
            self._changed.notify()

    def note(self, text: str) -> None:
        """The command said this about itself."""
        with self._changed:
            self._note = text
            self._changed.notify()

    def standby(self) -> None:
        """A standby is being started now."""
        with self._changed:
            self._standby += 1
            self._changed.notify()

    def take(self) -> list[Finding]:
        """What was found since the last call."""
        with self._changed:
            found = list(self._found)
            self._found.clear()
        return found

    def close(self) -> None:
        """End the thread, without waiting for a look that is under way."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        for asked in (self._asker, self._progress):
            if asked is not None:
                asked.close()

    def _look_again(self) -> None:
        with self._changed:
            self._answered = True
            self._changed.notify()

    # ---- the thread ----

    def _watch(self) -> None:
        run = standby = 0
        judge, sight = Judge(self._patience, boottime()), Sight(self._patience.timeout_s, boottime())
        progress, far_sight = self._progress, sight
        health_at = fresh_at = still_at = float("inf")
        standstill = Standstill(self._standstill_s)
        print_before: dict[str, Any] = {}
        while True:
            with self._changed:
                if self._ending:
                    return
                due = min(
                    min(health_at, still_at, progress.at if progress else health_at) if self._run else float("inf"),
                    fresh_at if self._fingerprint else float("inf"),
                )
                if (run, standby) == (self._run, self._standby) and due > boottime() and not self._answered:
                    self._changed.wait(None if due == float("inf") else max(0.0, due - boottime()))
                begun, note, before = self._run != run, self._note, standby
                run, standby = self._run, self._standby
                self._answered = False
            now = boottime()
            if begun and run and self._check is not None:
                judge, health_at = Judge(self._patience, now), now + self._patience.every_s
                sight = Sight(self._patience.timeout_s, now)
                standstill, still_at = Standstill(self._standstill_s), now
                if self._asker is not None:
                    self._asker.begin()
            if begun and run and progress is not None:
                progress.command(now)
                far_sight = Sight(progress.limit_s, now, "the look at its progress")
            if run and now >= still_at:
                still_at = now + STANDSTILL_EVERY_S
                if because := standstill.look(self._pid, now):
                    self._give_up(run, Unwell(because, still=True))
            if self._asker is not None and (found := self._look(self._asker, run, note, asks=now >= health_at)):
                if run and found.run == run:
                    self._hear(found, judge, sight, now)
                health_at = now + self._patience.every_s
            elif now >= health_at:
                health_at = now + self._patience.every_s
            if progress is not None and (seen := progress.look(run, note, now)) is not None:
                self._hear_of(progress, seen, far_sight, now)
            if self._fingerprint is not None and (standby != before or now >= fresh_at):
                print_now = {name: value for name, value in self._fingerprint().items() if value is not None}
                changed = sorted(name for name, value in print_now.items() if print_before.get(name, value) != value)
                if standby == before and changed:
                    self._report(Stale(f"{' and '.join(changed)} changed"))
                print_before = {**print_before, **print_now}
                fresh_at = boottime() + self._fingerprint_every_s

    def _look(self, asker: Asker, run: int, note: str, *, asks: bool) -> Found | None:
        """What a look has found. `asks`: it is time for another one, if none is under way."""
        now = boottime()
        if (found := asker.take()) is not None:
            self._asked_at = None
            return found
        if not run or not asks:
            return None
        if self._asked_at is None:
            self._asked_at = now
            asker.ask(run, note, self._patience.every_s)
        elif (late_s := now - self._asked_at) >= self._patience.timeout_s:
            return Found(run, None, f"it has not answered for {late_s:.0f} s")
        return None

    def _hear(self, found: Found, judge: Judge, sight: Sight, now: float) -> None:
        if (blind := sight.hear(now, found)) is not None:
            self._report_of(found.run, blind)
        if (verdict := judge.hear(now, found.unwell)) is not None:
            self._give_up(found.run, Unwell(verdict))

    def _hear_of(self, progress: Progress, found: Found, sight: Sight, now: float) -> None:
        if (blind := sight.hear(now, found)) is not None:
            self._report_of(found.run, blind)
        if (doubt := progress.hear(found, now)) is not None:
            acts = progress.acts and not doubt.over
            self._give_up(found.run, Unwell(doubt.because)) if acts else self._report_of(found.run, doubt)

    def _give_up(self, run: int, found: Unwell) -> None:
        pid, standing = self._pid, None
        if self._witness is not None and pid and self._witnessed != run:
            self._witnessed = run
            standing = self._witness.look(pid)
        if standing is not None:
            found = replace(found, because=f"{found.because}; {standing.brief}", stands=standing.lines)
        self._report_of(run, found)

    def _report_of(self, run: int, found: Unwell | Blind | Doubt) -> None:
        if run == self._run:
            self._report(found)

    def _report(self, found: Finding) -> None:
        with self._changed:
            self._found.append(found)
        self._wake()


# ---- checks for any command -----------------------------------------------------------------------------------------


class CommandCheck:
    """A shell command that exits with 0 while all is well. Its text may hold a secret, and what is said of it is kept in tables."""

    def __init__(self, text: str, children: set[int]) -> None:
        """`children`: see `run_beside`."""
        self._text = text
        self._children = children

    def look(self, note: str, limit_s: float) -> str:
        try:
            code = run_beside(self._text, self._children, limit_s, extra={}, speaks=False)
        except OSError as error:
            raise CannotTell(str(error)) from error
        except subprocess.TimeoutExpired:
            return f"the health command did not end within {limit_s:g} s"
        if code is None:
            raise CannotTell("it was killed")
        return "" if code == 0 else f"the health command exited with {code}"
