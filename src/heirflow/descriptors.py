"""Standard input, output and error are there, also where whoever started us had closed them.

A descriptor that is opened gets the lowest free number. So in a process without standard output, a pipe or a database
connection of ours would be number 1: the command would inherit it, and whatever writes to "standard output" would write
into it. Called before anything else, `fill` puts /dev/null into each empty place. Guard, backstop and command inherit it, and
what an embedded callable starts.
"""

from __future__ import annotations

import os
import select
import sys
from typing import TextIO, cast

STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
"""By their number: the name in `sys`, and how it is opened."""


def fill() -> None:
    """Open /dev/null for each of 0, 1 and 2 that is closed, and give Python the stream that it lacks then."""
    for number, (name, mode) in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            _put_null(number)
        if getattr(sys, name) is None:  # Python found it closed when it started
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, cast("TextIO", stream))


def takes(number: int, limit_s: float = 1.0) -> bool:
    """Whether this descriptor takes a sentence, or does so soon: a pipe that nobody reads holds up no end of ours."""
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return bool(poll.poll(1000 * limit_s))


def _put_null(number: int) -> None:
    try:
        null = os.open(os.devnull, os.O_RDWR)
    except OSError:  # a root without devices: what can neither be read nor written holds the place as well
        null = os.open("/", os.O_RDONLY)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    os.set_inheritable(number, True)  # the command has it too
