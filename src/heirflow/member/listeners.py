"""Who hears of a member's changes beside its journal: the service manager, and the programs of ``--on-promote`` and its like.

The member shows its state after every turn of its loop; a listener compares it with what it told last and never makes the loop
wait.
"""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from heirflow.clock import boottime
from heirflow.election.line import FOREVER
from heirflow.election.state import NEVER, Seat, State
from heirflow.election.told import Named
from heirflow.member.journal import Journal
from heirflow.member.shell import run_beside
from heirflow.text import printable

HOOK_LIMIT_S = 30.0


class Listener(Protocol):
    """One listener. Its methods are called from the member's loop."""

    def look(self, state: State, facts: Callable[[], Mapping[str, Any]]) -> None:
        """The state after a turn of the loop; `facts` works out what `report.describe` says of it."""

    def wake_at(self) -> float:
        """When the loop must turn again for this one's sake, on `boottime`; infinite when it need not."""

    def close(self) -> None:
        """The member has left. May wait, within a limit."""


class ServiceManager:
    """systemd's notifications: ready once in the line (an heir is as ready as a service gets), its place as status, and the
    watchdog's sign of life while the loop turns.
    """

    def __init__(self, address: str, watchdog_s: float | None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._every_s = None if watchdog_s is None else watchdog_s / 3
        self._alive_at = boottime()
        self._told: tuple[object, ...] = ()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    @classmethod
    def of(cls, env: Mapping[str, str]) -> ServiceManager | None:
        """The one that started us, by its variables; None without one."""
        address = env.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return None
        interval, pid = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", str(os.getpid()))
        watched = interval.isdigit() and int(interval) > 0 and pid == str(os.getpid())
        return cls(address, int(interval) / 1e6 if watched else None)

    def look(self, state: State, facts: Callable[[], Mapping[str, Any]]) -> None:
        seen = (
            state.joined,
            state.leaving is not None,
            state.term,
            (state.idle, state.working),
            state.record,
            state.members,
            state.standby_ready,
            state.withstands,
        )
        lines = []
        if seen != self._told:
            self._told = seen
            lines.append(f"STATUS={printable(facts()['sentence'])}")
            lines += ["READY=1"] if state.checked_in_at != NEVER else []
            lines += ["STOPPING=1"] if state.leaving is not None else []
        if self._every_s is not None and boottime() >= self._alive_at:
            self._alive_at = boottime() + self._every_s
            lines.append("WATCHDOG=1")
        if lines:
            with suppress(OSError):  # it is being restarted, or its queue is full: the next word says it all again
                self._socket.sendto("\n".join(lines).encode(), self._address)

    def wake_at(self) -> float:
        return FOREVER if self._every_s is None else self._alive_at

    def close(self) -> None:
        self._socket.close()


class Hooks:
    """Shell commands that run beside the line, one after the other, in the order of what happened.

    They are told, not asked: nothing waits for them, and one that fails changes nothing. A member that is killed runs none.
    """

    def __init__(
        self, commands: Mapping[str, str], environment: Mapping[str, str], children: set[int], journal: Journal
    ):
        """`commands`: by event (``promote``, ``demote``, ``leader``), and under ``event`` the one for all of them."""
        self._commands = commands
        self._environment = environment
        self._children = children
        self._journal = journal
        self._term: int | None = None
        self._leads: dict[int, tuple[str | None, int]] = {}
        """Who leads which seat, and its term."""
        self._waiting: queue.Queue[tuple[str, str, dict[str, str]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="heirflow-hooks", daemon=True)
        self._thread.start()

    def look(self, state: State, facts: Callable[[], Mapping[str, Any]]) -> None:
        over = state.term != self._term or state.done  # done, and the store never heard of it: the lease runs out
        if self._term is not None and over and state.idle:
            self._queue("demote", state.seat, self._term)
            self._term = None
        if self._term is None and state.term is not None and state.working:
            self._term = state.term
            self._queue("promote", state.seat, state.term)
        for seat in state.all_seats:
            record = seat.record
            if record is not None and (record.leader, record.term) != self._leads.get(seat.number, (None, 0)):
                self._leads[seat.number] = (record.leader, record.term)
                self._queue("leader", seat, record.term)

    def _queue(self, event: str, seat: Seat, term: int) -> None:
        record = seat.record
        extra = {
            **self._environment,
            "HEIRFLOW_EVENT": event,
            "HEIRFLOW_TERM": str(term),
            "HEIRFLOW_SEAT": str(seat.number),
            "HEIRFLOW_LEADER": _told((record.leader if record else None) or ""),
            "HEIRFLOW_BECAUSE": _told(record.because if record else ""),
        }
        for name in (event, "event"):
            if text := self._commands.get(name):
                self._waiting.put((f"--on-{name}", text, extra))

    def wake_at(self) -> float:
        return FOREVER

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join(HOOK_LIMIT_S)

    def _run(self) -> None:
        while (job := self._waiting.get()) is not None:
            flag, text, extra = job
            try:
                code = run_beside(text, self._children, HOOK_LIMIT_S, extra=extra, speaks=True)
            except subprocess.TimeoutExpired:
                self._warn(f"{flag} did not end within {HOOK_LIMIT_S:g} s and was killed")
            except (OSError, ValueError) as error:  # ValueError: a character that cannot stand in an environment here
                self._warn(f"{flag} could not be started: {getattr(error, 'strerror', None) or error}")
            else:
                if code != 0:
                    how = "was killed" if code is None else f"exited with {code}"
                    self._warn(f"{flag} {how}")

    def _warn(self, sentence: str) -> None:
        self._journal.warn(sentence, event=Named.HOOK_FAILED)


def _told(text: str) -> str:
    """A text of the tables as a variable: short enough, without what a terminal obeys, in letters that a program can be given."""
    shown, letters = printable(text.replace("\0", "")), sys.getfilesystemencoding()
    return shown.encode(letters, "backslashreplace").decode(letters)
