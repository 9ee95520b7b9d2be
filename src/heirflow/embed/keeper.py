"""Keeps a callable as a guard keeps a command, as far as a thread can be kept."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from heirflow.clock import boottime
from heirflow.election.steps import EXIT_LOST
from heirflow.embed.lead import Lead
from heirflow.guard.why import Why
from heirflow.member.guard_events import Ending, Gone, GuardEvent, Started

Overrun = Literal["exit", "warn"]
FOREVER = float("inf")


class ThreadKeeper:
    """A `member.keeper.Keeper` of a callable.

    `raised` is what the program itself must hear of when its member has left: with `once` any exception of the callable, and always
    one that asks for the end of the program (`SystemExit`, `KeyboardInterrupt`). Such a one calls `leave`.
    """

    def __init__(
        self, work: Callable[[Lead], object], overrun: Overrun, *, once: bool, leave: Callable[[str], None]
    ) -> None:
        self.raised: BaseException | None = None
        self._work = work
        self._overrun = overrun
        self._once = once
        self._leave = leave
        self._lead: Lead | None = None
        self._thread: threading.Thread | None = None
        self._status = 0
        self._returned = False
        self._term_at = self._kill_at = self._stop_at = FOREVER
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
        if self.raised is not None:  # it ended a lead that was lost, and the program goes on
            _show(self.raised)
        who, seat = (env["HEIRFLOW_ELECTION"], env["HEIRFLOW_MEMBER"]), int(env["HEIRFLOW_SEAT"])
        self._lead = Lead(*who, int(env["HEIRFLOW_TERM"]), seat=seat)
        self.lease(term_at=term_at, kill_at=kill_at)
        self._status, self._returned, self._stop_at, self.raised = 0, False, FOREVER, None
        self._thread = threading.Thread(target=self._call, args=(self._lead,), name=f"heirflow-term-{self._lead.term}")
        self._thread.daemon = True
        self._thread.start()
        self._told.append(Started(os.getpid()))
        self._nudge()

    def lease(self, *, term_at: float, kill_at: float) -> None:
        self._term_at, self._kill_at = term_at, kill_at
        if self._lead is not None:
            self._lead.stopping.until = kill_at

    def stop(self, *, grace_s: float, again_s: float | None = None) -> None:
        """Ask the callable to return. Meanwhile the lease goes on; after the grace, `overrun` says what happens."""
        self._ask()
        self._stop_at = min(self._stop_at, boottime() + grace_s)

    def kill(self) -> None:
        """A thread cannot be killed: its process ends, unless the callable has ended by itself."""
        self._ask()
        self._stop_at = boottime()
        self._watch(self._stop_at)

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
        moments = (self._term_at, self._kill_at, self._stop_at) if self._lead is not None else ()
        return min((moment for moment in moments if moment > boottime()), default=FOREVER)

    def close(self) -> None:
        self._ask()
        if self._lead is not None and not self._returned:  # an exception ended the member, not an orderly stop
            try:
                threading.Thread(target=self._watch_to_the_end, name="heirflow-lease", daemon=True).start()
            except RuntimeError:  # no thread to be had
                self._watch_to_the_end()
        self._reader.close()
        self._writer.close()

    def _ask(self) -> None:
        if self._lead is not None:
            self._lead.stopping.set()

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
        elif now >= min(self._kill_at, self._stop_at) and self._overrun == "exit":
            when = "before its lease ended" if now >= self._kill_at else "in time after it was asked to stop"
            message = f"heirflow: {lead.election}: the callable did not return {when}: this process ends now\n"
            with contextlib.suppress(OSError):
                os.write(2, message.encode())
            os._exit(EXIT_LOST)
        elif now >= self._term_at and not lead.stopping.asked:
            lead.stopping.set()
            self._told.append(Ending())

    def _call(self, lead: Lead) -> None:
        try:
            self._work(lead)
        except (SystemExit, KeyboardInterrupt) as error:
            self._status, self.raised = 1, error
            self._leave(f"the callable raised {type(error).__name__}")
            lead.stopping.wait()  # first the member is to hear that it leaves: then nothing is started again
        except BaseException as error:  # a cancellation too: nobody has asked the program to end
            self._status = 1
            if self._once:
                self.raised = error
            else:
                _show(error)
        finally:
            self._returned = True
            self._nudge()

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):  # closed: nobody is there to look
            self._writer.send(b".")


def _show(error: BaseException) -> None:
    sys.excepthook(type(error), error, error.__traceback__)
