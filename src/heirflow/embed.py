"""The same line of succession inside a Python program: a callable that runs in one process at a time.

    from heirflow import Election

    def work(lead):
        while not lead.stopping.wait(1.0):
            ...

    Election("reports", db_url="postgresql://…").run(work)

What this cannot promise: a thread cannot be killed. `heirflow run` kills a program's whole process tree in time; here the
callable is only *told* to stop, through `Lead.stopping`. A callable that has not returned when its lease ends would be a
second leader, so by default the whole process then ends itself at once, with exit code 75 and without cleaning up
(``overrun="exit"``). With ``overrun="warn"`` it goes on, and two may run at the same time. A callable that holds the
interpreter (a long call in C that does not let go of the GIL), or a process that is frozen, is stopped later than that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from heirflow import descriptors
from heirflow.clock import boottime
from heirflow.config.resolve import default_url
from heirflow.election.state import NEVER, Policy
from heirflow.election.steps import EXIT_LOST
from heirflow.election.timings import Timings
from heirflow.guard.why import Why
from heirflow.member.guard_events import Ending, Gone, GuardEvent, Started
from heirflow.member.loop import Identity, Member
from heirflow.stores import open_store

Overrun = Literal["exit", "warn"]


@dataclass(slots=True)
class Lead:
    """What a callable gets for the time that it leads."""

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


class Election:
    """An election by its name, in the store at `db_url` (a SQLite file of this user when none is given).

    Raises `UnsafeTimings` when the numbers cannot keep the promises.
    """

    def __init__(
        self,
        name: str,
        *,
        db_url: str | None = None,
        ttl_s: float = 10.0,
        check_in_s: float | None = None,
        margin_s: float | None = None,
        stop_timeout_s: float = 30.0,
        host: str | None = None,
        label: str = "",
        overrun: Overrun = "exit",
    ) -> None:
        self.name = name
        self._db_url = db_url if db_url is not None else default_url(os.environ)
        self._timings = Timings.of(ttl_s, check_in_s=check_in_s, margin_s=margin_s, stop_timeout_s=stop_timeout_s)
        self._host = host or socket.gethostname()
        self._label = label
        self._overrun: Overrun = overrun

    def run(self, work: Callable[[Lead], object], *, once: bool = False) -> int:
        """Stand for this election and run `work` whenever it is won, until `Member.stop`; returns the exit code.

        A `work` that returns by itself hands over to a ready heir, or is called again; with ``once=True`` the member then
        leaves. An exception in `work` counts as exit code 1 and is printed.
        """
        return self._member(work, once).run()

    @contextlib.contextmanager
    def member(self, work: Callable[[Lead], object], *, once: bool = False) -> Iterator[Member]:
        """The same in a thread of its own; leaving the block is an orderly stop."""
        member = self._member(work, once)
        thread = threading.Thread(target=member.run, name=f"heirflow-{self.name}", daemon=True)
        thread.start()
        try:
            yield member
        finally:
            member.stop("the program leaves the line")
            thread.join()

    def _member(self, work: Callable[[Lead], object], once: bool) -> Member:
        descriptors.fill()  # what the callable starts inherits these three
        identity = Identity.new(self._host, self._label)
        application_name = f"member/{identity.id}"
        call_limit_s = self._timings.call_limit_s
        return Member(
            election=self.name,
            identity=identity,
            keeper_factory=lambda: ThreadKeeper(work, self._overrun),
            store_factory=lambda: open_store(
                self._db_url, call_limit_s=call_limit_s, application_name=application_name
            ),
            timings=self._timings,
            policy=Policy(exit_with_command=once),
            journal=LogJournal(self.name),
        )


class LogJournal:
    """Tells each sentence to the logger ``heirflow``."""

    def __init__(self, election: str) -> None:
        self._election = election
        self._log = logging.getLogger("heirflow")

    def log(self, sentence: str, **facts: Any) -> None:
        self._log.info("%s: %s", self._election, sentence, extra={"heirflow": facts})

    def warn(self, sentence: str, **facts: Any) -> None:
        self._log.warning("%s: %s", self._election, sentence, extra={"heirflow": facts})


class ThreadKeeper:
    """Keeps a callable as a guard keeps a command, as far as a thread can be kept."""

    def __init__(self, work: Callable[[Lead], object], overrun: Overrun) -> None:
        self._work = work
        self._overrun = overrun
        self._lead: Lead | None = None
        self._thread: threading.Thread | None = None
        self._status = 0
        self._returned = False
        self._term_at = self._kill_at = float("inf")
        self._told: list[GuardEvent] = []
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)

    def spawn(self) -> None:
        """Nothing to prepare."""

    def fileno(self) -> int:
        return self._reader.fileno()

    def standby(self, *, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """A callable is warm as it is."""

    def start(self, *, env: Mapping[str, str], term_at: float, kill_at: float) -> None:
        self._lead = Lead(env["HEIRFLOW_ELECTION"], env["HEIRFLOW_MEMBER"], int(env["HEIRFLOW_TERM"]))
        self.lease(term_at=term_at, kill_at=kill_at)
        self._status, self._returned = 0, False
        self._thread = threading.Thread(target=self._call, args=(self._lead,), name=f"heirflow-term-{self._lead.term}")
        self._thread.daemon = True
        self._thread.start()
        self._told.append(Started(os.getpid()))
        self._nudge()

    def lease(self, *, term_at: float, kill_at: float) -> None:
        self._term_at, self._kill_at = term_at, kill_at
        if self._lead is not None:
            self._lead.trusted_until = kill_at

    def stop(self, *, grace_s: float, again_s: float | None = None) -> None:
        """Ask the callable to return. There is no way to force it: the lease goes on until it has."""
        if self._lead is not None:
            self._lead.stopping.set()

    def kill(self) -> None:
        """A thread cannot be killed; past its lease, `_overrun` says what happens instead."""
        self.stop(grace_s=0)
        self._watch(boottime())

    def signal(self, number: int) -> None:
        """A callable gets no signals."""

    def will(self, payload: dict[str, Any] | None) -> None:
        """Nobody outlives this process to carry out a will: the lease runs out."""

    def poll(self, now: float) -> list[GuardEvent]:
        with contextlib.suppress(BlockingIOError):
            self._reader.recv(4096)
        self._watch(now)
        told, self._told = self._told, []
        return told

    def wake_at(self) -> float:
        moments = (moment for moment in (self._term_at, self._kill_at) if self._lead is not None)
        return min((moment for moment in moments if moment > boottime()), default=float("inf"))

    def close(self) -> None:
        self.stop(grace_s=0)
        if self._lead is not None and not self._returned:  # an exception ended the member, not an orderly stop
            try:
                threading.Thread(target=self._watch_to_the_end, name="heirflow-lease", daemon=True).start()
            except RuntimeError:  # no thread to be had
                self._watch_to_the_end()
        self._reader.close()
        self._writer.close()

    def _watch_to_the_end(self) -> None:
        while self._lead is not None:
            self._watch(boottime())
            time.sleep(0.02)

    def _watch(self, now: float) -> None:
        lead, thread = self._lead, self._thread
        if lead is None or thread is None:
            return
        if self._returned:
            self._lead = self._thread = None
            self._told.append(Gone(self._status, Why.RETURNED if self._status == 0 else Why.RAISED))
        elif now >= self._kill_at and self._overrun == "exit":
            message = f"heirflow: {lead.election}: the callable did not return before its lease ended: this process ends now\n"
            with contextlib.suppress(OSError):
                os.write(2, message.encode())
            os._exit(EXIT_LOST)
        elif now >= self._term_at and not lead.stopping.is_set():
            lead.stopping.set()
            self._told.append(Ending())

    def _call(self, lead: Lead) -> None:
        try:
            self._work(lead)
        except Exception:
            self._status = 1
            sys.excepthook(*sys.exc_info())
        finally:
            self._returned = True
            self._nudge()

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):  # closed: nobody is there to look
            self._writer.send(b".")
