"""A thread that asks a health check, one look after the other, so that whoever wants to know need not wait for one that hangs.

A look has a limit of its own, and may break it: a resolver that does not answer, a file system that is gone. Then nothing else
may stand still with it.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


class CannotTell(Exception):
    """Neither well nor unwell: what the check rests on did not answer."""


class Check(Protocol):
    """One way of looking at a command. Used by one thread; `look` may wait, within `limit_s`."""

    def look(self, note: str, limit_s: float) -> str:
        """Empty when the command is well, otherwise half a sentence. `note` is what the command said about itself.

        Raises `CannotTell`.
        """


@runtime_checkable
class Begins(Protocol):
    """A check that wants to know when a command has started: what is there already is not of its making."""

    def begin(self) -> None:
        """Called in the thread of the looks, before the first one of each run."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one look came to."""

    run: int
    """The run of the command that was looked at."""
    unwell: str | None
    """Empty when the command is well; None when the check could not tell."""
    because: str = ""
    """Why it could not tell."""
    broken: bool = False
    """The check itself made a mistake."""


class Asker:
    """Asks `check` in a thread of its own. `begin`, `ask` and `take` never wait."""

    def __init__(self, check: Check, wake: Callable[[], None]) -> None:
        """`wake` is called from the thread when `take` has something."""
        self._check = check
        self._wake = wake
        self._questions: queue.SimpleQueue[tuple[int, str, float] | Callable[[], None] | None] = queue.SimpleQueue()
        self._found: deque[Found] = deque()
        self._thread = threading.Thread(target=self._work, name="heirflow-health", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """A run of the command has begun."""
        if isinstance(self._check, Begins):
            self._questions.put(self._check.begin)

    def ask(self, run: int, note: str, limit_s: float) -> None:
        """Look at this run of the command."""
        self._questions.put((run, note, limit_s))

    def take(self) -> Found | None:
        """The oldest answer that was not taken yet."""
        return self._found.popleft() if self._found else None

    def close(self) -> None:
        """End the thread, without waiting for a look that is under way."""
        self._questions.put(None)

    def _work(self) -> None:
        while (question := self._questions.get()) is not None:
            if callable(question):
                with suppress(Exception):  # the looks will tell
                    question()
                continue
            run, note, limit_s = question
            try:
                found = Found(run, self._check.look(note, limit_s))
            except CannotTell as error:
                found = Found(run, None, str(error) or "it gave no reason")
            except Exception as error:
                found = Found(run, None, repr(error), broken=True)
            self._found.append(found)
            self._wake()
