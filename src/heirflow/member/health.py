"""Whether the command does its work, and whether the standby is still the right one: looked at beside the loop.

One thread asks, at its own pace; what it finds wakes the member's loop, which never waits for it. A check answers one of
three things: well, not well, or that it cannot tell. A command is given up when it was not found well for a whole timeout
*while the check could tell*: an outage of what the check rests on starts the wait again, and is never the command's fault.
Whatever the clock is, only this thread's own counts.

A command that was *stopped* (SIGSTOP) is seen at once, in ``/proc``, without asking anybody: it holds what it holds, locks in the
database perhaps, and does nothing. So it is given up after a shorter time, and has a shorter time to end in order.
"""

from __future__ import annotations

import math
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from heirflow.clock import boottime
from heirflow.guard.processes import stat_of
from heirflow.member.shell import run_beside
from heirflow.text import masked_url

LOOKS_PER_TIMEOUT = 4
SLOWEST_LOOK_S = 15.0
FRESHNESS_EVERY_S = 30.0
STANDSTILL_EVERY_S = 1.0


class CannotTell(Exception):
    """Neither well nor unwell: what the check rests on did not answer."""


class Check(Protocol):
    """One way of looking at a command. Used by one thread; `look` may wait, within `limit_s`."""

    def look(self, note: str, limit_s: float) -> str:
        """Empty when the command is well, otherwise half a sentence. `note` is what the command said about itself.

        Raises `CannotTell`.
        """


@dataclass(frozen=True, slots=True)
class Unwell:
    """The command was not found well for too long; `still`: it was stopped (SIGSTOP)."""

    because: str
    still: bool = False


@dataclass(frozen=True, slots=True)
class Blind:
    """The check itself is broken: until this is mended, nobody looks."""

    because: str


@dataclass(frozen=True, slots=True)
class Stale:
    """What the standby imported is not what would be imported now."""

    because: str


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
    ) -> None:
        """`fingerprint`: everything that a standby depends on, by name; a standby that was started with another one is stale.

        `standstill_s`: how long a command with a `check` may be stopped.
        """
        self._check = check
        self._patience = patience or Patience()
        self._standstill_s = standstill_s
        self._fingerprint = fingerprint
        self._fingerprint_every_s = fingerprint_every_s
        self._changed = threading.Condition()
        self._found: deque[Unwell | Blind | Stale] = deque()
        self._run = 0  # number of the command's run, 0 while none runs: a verdict on an earlier one is void
        self._runs = 0
        self._pid = 0
        self._note = ""
        self._standby = 0
        self._ending = self._blind = False
        self._wake: Callable[[], None] = lambda: None

    def begin(self, wake: Callable[[], None]) -> None:
        """Start looking. `wake` is called from the thread when `take` has something."""
        self._wake = wake
        if self._check is not None or self._fingerprint is not None:
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

    def take(self) -> list[Unwell | Blind | Stale]:
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

    # ---- the thread ----

    def _watch(self) -> None:
        run = standby = 0
        judge = Judge(self._patience, boottime())
        health_at = fresh_at = still_at = float("inf")
        standstill = Standstill(self._standstill_s)
        print_before: dict[str, Any] = {}
        while True:
            with self._changed:
                if self._ending:
                    return
                due = min(
                    min(health_at, still_at) if self._run else float("inf"),
                    fresh_at if self._fingerprint else float("inf"),
                )
                if (run, standby) == (self._run, self._standby) and due > boottime():
                    self._changed.wait(None if due == float("inf") else max(0.0, due - boottime()))
                begun, note, before = self._run != run, self._note, standby
                run, standby = self._run, self._standby
            now = boottime()
            if begun and run and self._check is not None:
                judge, health_at = Judge(self._patience, now), now + self._patience.every_s
                standstill, still_at = Standstill(self._standstill_s), now
            if run and now >= still_at:
                still_at = now + STANDSTILL_EVERY_S
                if because := standstill.look(self._pid, now):
                    self._tell_of(run, Unwell(because, still=True))
            if run and now >= health_at and self._check is not None:
                self._look(self._check, judge, run, note)
                health_at = boottime() + self._patience.every_s
            if self._fingerprint is not None and (standby != before or now >= fresh_at):
                print_now = {name: value for name, value in self._fingerprint().items() if value is not None}
                changed = sorted(name for name, value in print_now.items() if print_before.get(name, value) != value)
                if standby == before and changed:
                    self._tell(Stale(f"{' and '.join(changed)} changed"))
                print_before = {**print_before, **print_now}
                fresh_at = boottime() + self._fingerprint_every_s

    def _look(self, check: Check, judge: Judge, run: int, note: str) -> None:
        try:
            unwell: str | None = check.look(note, self._patience.every_s)
        except CannotTell:
            unwell = None
        except Exception as error:
            unwell = None
            if not self._blind:
                self._tell(Blind(f"the health check is broken, so a command that hangs is not seen: {error!r}"))
            self._blind = True
        verdict = judge.hear(boottime(), unwell)
        if verdict is not None:
            self._tell_of(run, Unwell(verdict))

    def _tell_of(self, run: int, unwell: Unwell) -> None:
        if run == self._run:
            self._tell(unwell)

    def _tell(self, found: Unwell | Blind | Stale) -> None:
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


class UrlCheck:
    """An address that answers a GET with a status below 400 while all is well."""

    def __init__(self, url: str) -> None:
        self._url, self._shown = url, masked_url(url)

    def look(self, note: str, limit_s: float) -> str:
        import http.client  # some megabytes, which most members never need
        import urllib.error
        import urllib.request

        request = urllib.request.Request(self._url, headers={"User-Agent": "heirflow"})  # noqa: S310  http(s), see options
        try:
            with urllib.request.urlopen(request, timeout=limit_s):  # noqa: S310
                return ""
        except urllib.error.HTTPError as error:
            error.close()
            return f"{self._shown} answered {error.code}"
        except http.client.HTTPException as error:
            return f"{self._shown} did not answer as HTTP does: {type(error).__name__}"
        except (OSError, ValueError) as error:
            return f"{self._shown} did not answer: {getattr(error, 'reason', error)}"
