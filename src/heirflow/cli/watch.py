"""`heirflow watch`: the line of succession as a page in the terminal that lives, and takes orders."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from heirflow.cli import INTERRUPTED
from heirflow.cli.common import WHERE, duration_option, everywhere, name_argument, settings, settled
from heirflow.steering.places import check_place
from heirflow.steering.reading import Reader
from heirflow.stores import StoreUnavailable
from heirflow.terminal import tables
from heirflow.terminal.keyboard import Terminal
from heirflow.terminal.page import Kind, Page, lines

FIRST_LOOK_S = 2.0
"""For so long the first reading is waited for, so that a name that is wrong is told as by any other command."""
LEAST_EVERY_S = 0.2
TICK_S = 1.0
"""The clock of the page."""


@click.command()
@name_argument
@duration_option("--every", "every_s", default="2s", help="How often the store is read.")
@settings(*WHERE)
def watch(name: str | None, *, every_s: float, **flags: Any) -> int:
    """Watch the elections on a page that lives, and steer them by keys.

    Without NAME: all elections in the store, those that need somebody first. Enter shows the chosen one whole; s switches over,
    p pauses or resumes, d drains the chosen member, each after a question; ? shows all keys; q leaves.

    \b
    heirflow watch
    heirflow watch airflow-scheduler
    heirflow watch --every 500ms
    """
    if not (sys.stdin.isatty() and tables.on_terminal()) or not os.environ.get("TERM"):
        raise click.UsageError("this page needs a terminal; use `heirflow status --watch` here")
    if every_s < LEAST_EVERY_S:
        raise click.UsageError(f"--every must be at least {LEAST_EVERY_S:g}s, for the store's sake")
    config = settled({"name": name, **flags})
    configs = everywhere(config)
    for each in configs:
        check_place(each)
    with _woken() as (reads, wake):
        reader = Reader(configs, every_s, wake, name="watch")
        reader.start()
        try:
            if reader.read_once.wait(FIRST_LOOK_S) and reader.error and not isinstance(reader.error, StoreUnavailable):
                raise reader.error
            with Terminal(sys.stdin.fileno(), sys.stdout.fileno(), sys.stdout.encoding) as terminal, _heard(terminal):
                return _lived(terminal, Page(every_s), reader, reads)
        except _Ended as end:
            return _code(end.number)
        except OSError:  # the terminal is gone
            return 128 + signal.SIGHUP
        finally:
            reader.stop()


ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SIGNALS = (*ENDS, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)


@contextmanager
def _woken() -> Iterator[tuple[int, Any]]:
    """What wakes the page: each signal writes its number into a pipe, and the reader of the stores a zero."""
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    os.set_blocking(writes, False)

    def wake() -> None:
        with suppress(OSError):  # it is full, so the page wakes anyway; or the page is over
            os.write(writes, b"\0")

    before = {number: signal.signal(number, _noted) for number in SIGNALS}
    fd = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    try:
        yield reads, wake
    finally:
        signal.set_wakeup_fd(fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reads)  # the other end stays: a reader that does not end may still write into it


def _noted(_number: int, _frame: object) -> None:
    """Its number is in the pipe."""


class _Ended(Exception):
    """A signal came that ends the page, while nobody took in what it wrote."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def _heard(terminal: Terminal) -> Iterator[None]:
    """Signals that end the page do so also while it is being drawn, which waits for whoever shows it."""

    def heard(number: int, _frame: object) -> None:
        if terminal.draws:
            raise _Ended(number)

    for number in ENDS:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number in ENDS:
            signal.signal(number, _noted)


def _code(number: int) -> int:
    """The exit code of a page that was ended by this signal."""
    return INTERRUPTED if number == signal.SIGINT else 128 + number


def _lived(terminal: Terminal, page: Page, reader: Reader, reads: int) -> int:
    """The page until somebody leaves; returns the exit code."""
    while True:
        while (said := reader.said()) is not None:
            page.tell(said.sentence, well=said.well)
        if reader.seen is not None and reader.seen is not page.seen:
            page.look(reader.seen)
        if reader.broken is not None:
            raise reader.broken
        reader.focus(*([page.chosen.key] if page.chosen is not None else []))
        _draw(terminal, page)
        ready, _, _ = select.select([terminal.keys, reads], [], [], TICK_S - time.time() % TICK_S)
        if reads in ready:
            with suppress(BlockingIOError):
                noted = os.read(reads, 4096)
                for number in ENDS:
                    if number in noted:
                        return _code(number)
                if signal.SIGTSTP in noted:
                    _stop(terminal)
                elif signal.SIGCONT in noted:
                    terminal.enter()
        if terminal.keys in ready:
            keys = terminal.read()
            if keys is None:
                return 128 + signal.SIGHUP
            if _pressed(terminal, page, reader, keys):
                return 0


def _pressed(terminal: Terminal, page: Page, reader: Reader, keys: list[str]) -> bool:
    """Whether somebody leaves."""
    for key in keys:
        wish = page.press(key)
        if wish is not None and wish.kind is Kind.LEAVE:
            return True
        if wish is not None:
            reader.ask(wish)
        if page.question is not None:
            # Nobody has read it yet, so nothing that was typed before is an answer.
            terminal.forget_keys()
            return False
    return False


def _stop(terminal: Terminal) -> None:
    """Ctrl-Z: the shell gets its terminal back, and we stop until it lets us go on."""
    terminal.leave()
    handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, handler)
    terminal.enter()


def _draw(terminal: Terminal, page: Page) -> None:
    width, height = terminal.size()
    terminal.draw([_in_colours(line, width) for line in lines(page, width, height, time.time())])


def _in_colours(line: Text, width: int) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=True, color_system="standard", highlight=False, markup=False, emoji=False
    )
    console.print(line, end="", no_wrap=True, overflow="crop", soft_wrap=True)
    return out.getvalue()
