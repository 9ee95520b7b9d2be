"""What a member does with each signal; docs/operations.md has the same in a table.

* TERM and INT ask for an orderly stop. A second one kills the command, unless it comes within `ONE_ORDER_S` of the first:
  process managers signal a whole group and then its first process again, which is one order and not two.
* HUP is two things under one name. Where the terminal in which the member was started is gone, it is an orderly stop. Otherwise
  somebody means the command, as daemons read their configuration again, and it is passed on. A shell that ends may send it
  just before its terminal goes, so a member with a terminal looks again after `GOING_S`.
* QUIT, USR1, USR2 and WINCH are passed on.
* What was ignored when the member started stays ignored (nohup; a script's job in the background), but for TERM. What was
  blocked is not any more: whoever started us with TERM blocked would have to kill us.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from heirflow.clock import boottime

STOPPING = ("SIGTERM", "SIGINT")
FORWARDED = ("SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGWINCH")
ONE_ORDER_S = 1.0
GOING_S = 0.5


class Hears(Protocol):
    """A `Member`, whose methods here may be called from a signal handler and from any thread."""

    def stop(self, because: str) -> None: ...

    def forward(self, number: int) -> None: ...


def handle_signals(member: Hears) -> None:
    """From now on this process hears signals, and `member` is told."""
    had_terminal, ask = has_terminal(), _asks(member)

    def forward(number: int, _frame: object) -> None:
        member.forward(number)

    def look_at_terminal() -> None:
        if has_terminal():
            member.forward(signal.SIGHUP)
        else:
            ask("stopped by SIGHUP, because its terminal is gone")

    def hang_up(number: int, _frame: object) -> None:
        if not had_terminal:
            member.forward(number)
        elif not has_terminal():
            look_at_terminal()
        else:
            again = threading.Timer(GOING_S, look_at_terminal)
            again.daemon = True
            try:
                again.start()
            except RuntimeError:  # no thread to be had just now
                look_at_terminal()

    for name in STOPPING:
        _hear(name, _stops(ask))
    for name in FORWARDED:
        _hear(name, forward)
    _hear("SIGHUP", hang_up)
    # A terminal with `stty tostop` stops whoever writes to it from the background: a journal would freeze its member.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


@contextlib.contextmanager
def waking(end: int) -> Iterator[None]:
    """Within this block, each signal that is handled also writes a byte to this descriptor, at the moment when it comes.

    Handlers run in the main thread, when Python gets to it. One that waits in the kernel is not woken by a signal that came
    just before it went there, nor by one that came to another thread: then it sleeps on to the end of its time.

    A program that has such a descriptor of its own keeps it, and outside the main thread nothing changes.
    """
    if not _in_main_thread():
        yield
        return
    own = os.dup(end)  # whoever owns `end` may close it meanwhile, and its number may be given to another file
    before = signal.set_wakeup_fd(own, warn_on_full_buffer=False)
    if before >= 0:
        signal.set_wakeup_fd(before)
    try:
        yield
    finally:
        if before < 0:
            signal.set_wakeup_fd(-1)
        os.close(own)


@contextlib.contextmanager
def stop_on_signals(member: Hears) -> Iterator[None]:
    """In a program that is not ours, TERM and INT ask for an orderly stop within this block.

    What the program handles itself, or ignores, is left to it. Outside the main thread, which alone hears signals, nothing changes.
    """
    stop, before = _stops(_asks(member)), {}
    if _in_main_thread():
        numbers = (getattr(signal, name) for name in STOPPING)
        before = {number: signal.getsignal(number) for number in numbers}
        before = {number: old for number, old in before.items() if old in (signal.SIG_DFL, signal.default_int_handler)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class _Heard:
    """A program's own handler of a signal: it is called as ever, and we know that it was."""

    def __init__(self, handler: Callable[[int, Any], Any]) -> None:
        self._handler = handler
        self.users = 0
        self.at = -math.inf

    def __call__(self, number: int, frame: Any) -> Any:
        self.at = boottime()
        return self._handler(number, frame)

    def left(self, number: int) -> None:
        """One user less. After the last one the program has its handler back, unless it has put another one there."""
        self.users -= 1
        there: object = signal.getsignal(number)
        if self.users == 0 and there is self and _in_main_thread():
            signal.signal(number, self._handler)


@contextlib.contextmanager
def hear_signals() -> Iterator[Callable[[], str]]:
    """What to say of a program that leaves within this block: by which of TERM and INT, where a handler of its own had one.

    Python's own handler of INT stays in place, for asyncio looks whether it does; it raises `KeyboardInterrupt`, which tells.
    """
    since, heard = boottime(), dict[int, _Heard]()
    for number in [getattr(signal, name) for name in STOPPING] if _in_main_thread() else []:
        handler = signal.getsignal(number)
        if isinstance(handler, _Heard):
            heard[number] = handler
        elif callable(handler) and handler is not signal.default_int_handler:
            heard[number] = _Heard(handler)
            signal.signal(number, heard[number])
    for each in heard.values():
        each.users += 1

    def said() -> str:
        number = max(heard, key=lambda each: heard[each].at, default=None)
        return "" if number is None or heard[number].at < since else stopped_by(number)

    try:
        yield said
    finally:
        for number, each in heard.items():
            each.left(number)


def stopped_by(number: int) -> str:
    """Why a member leaves that this signal stops."""
    return f"stopped by {signal.Signals(number).name}"


def _asks(member: Hears) -> Callable[[str], None]:
    """Asks for a stop, and again for a second order, which does not come within `ONE_ORDER_S` of the first."""
    asked_at: list[float] = []

    def ask(because: str) -> None:
        now = boottime()
        if not asked_at or now >= asked_at[0] + ONE_ORDER_S:
            asked_at.append(now)
            member.stop(because)

    return ask


def _stops(ask: Callable[[str], None]) -> Callable[[int, object], None]:
    """The handler of a signal that asks for a stop."""

    def stop(number: int, _frame: object) -> None:
        ask(stopped_by(number))

    return stop


def has_terminal() -> bool:
    """Whether this process has a controlling terminal, and it is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _in_main_thread() -> bool:
    """Whether signals can be handled from here."""
    return threading.current_thread() is threading.main_thread()


def _hear(name: str, handler: signal._HANDLER) -> None:
    number = getattr(signal, name)
    if name == "SIGTERM" or signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, handler)
