"""What a member tells: one line per event on standard error, as text for people or as JSON for machines.

A journal never stops the program that speaks, not even for a moment: a leader that waited for somebody to read its standard
error would let its lease run out. A closed or full standard error loses lines, nothing else, and the next line that gets
through tells how many: `outlet` writes them. Nothing in a line can forge another line or speak to a terminal.

Each line in JSON has the keys of docs/schemas/journal.json, whatever is told: the time twice (RFC 3339 with the zone of this host,
and seconds since 1970), the name of what happened, the full ids, and the sentence. `pid` is the member's own; the command's is
`command_pid`. What a program acts on is the name, and never the sentence.
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any, Protocol, TextIO

from heirflow.election.told import Named
from heirflow.member.outlet import Outlet
from heirflow.text import brief, printable

LINE_LIMIT = 4000
"""Bytes; up to 4,096 a pipe takes a line whole, not mixed with what others write there."""


class Log(Protocol):
    """Where a member's sentences go: a `Journal`, or what a program has in its place."""

    def log(self, sentence: str, *, event: Named, **facts: Any) -> None:
        """What happened."""

    def warn(self, sentence: str, *, event: Named, **facts: Any) -> None:
        """What a person should look at."""


class Journal:
    """Writes lines. Safe to use from several threads.

    `subject` (the election) and `member` stand in each line.
    """

    def __init__(
        self,
        subject: str = "",
        member: str = "",
        *,
        form: str = "text",
        quiet: bool = False,
        out: TextIO | None = None,
    ) -> None:
        self.subject = subject
        self.member = member
        self._form = form
        self._quiet = quiet
        self._out = out
        self._outlet = Outlet() if out is None else None
        self._lost = 0
        self._turn = threading.Lock()

    def log(self, sentence: str, *, event: Named, **facts: Any) -> None:
        """Tell what happened. `event` and `facts` go into the JSON form only, so the sentence must stand alone."""
        if not self._quiet:
            self._write("info", sentence, {"event": event.value, **facts})

    def warn(self, sentence: str, *, event: Named, **facts: Any) -> None:
        """Tell what a person should look at, even when only warnings are wanted."""
        self._write("warning", sentence, {"event": event.value, **facts})

    def _write(self, level: str, sentence: str, facts: dict[str, Any]) -> None:
        with self._turn:
            self._lost += 0 if self._outlet is None else self._outlet.lost()
            if self._lost:
                sentence = f"{sentence} ({self._lost} lines before this one could not be written)"
                facts = {**facts, "lost_lines": self._lost}
            if self._put(self._json(level, sentence, facts) if self._form == "json" else self._text(level, sentence)):
                self._lost = 0
            else:
                self._lost += 1

    def _put(self, line: str) -> bool:
        """Whether the line could be written."""
        if self._outlet is not None:
            return self._outlet.write(line.encode("utf-8", "backslashreplace")[:LINE_LIMIT] + b"\n")
        assert self._out is not None
        try:
            self._out.write(line + "\n")
            self._out.flush()
        except (OSError, ValueError):  # closed, full, or not able to take a character
            return False
        return True

    def _text(self, level: str, sentence: str) -> str:
        who = " ".join(part for part in (self.subject, self.member[-4:]) if part)
        mark = "warning: " if level == "warning" else ""
        return f"{rfc3339(time.time())} heirflow {printable(who)}: {mark}{printable(brief(sentence))}"

    def _json(self, level: str, sentence: str, facts: dict[str, Any]) -> str:
        at, said = time.time(), brief(sentence)
        ours = {
            "time": rfc3339(at),
            "at": at,
            "level": level,
            "event": facts["event"],
            "election": self.subject,
            "member": self.member,
            "pid": os.getpid(),
            "term": facts.get("term"),
        }
        beside = {key: value for key, value in facts.items() if key not in ours and key != "sentence"}
        while True:
            line = json.dumps({**ours, "sentence": said, **beside}, default=str)
            if len(line) <= LINE_LIMIT or not said:
                return line
            said = f"{said[: len(said) // 2 - 1]}…" if len(said) > 3 else ""


def rfc3339(at: float) -> str:
    """A moment, in seconds since 1970, as the clock on the wall of this host has it, with its distance from UTC."""
    whole, ms = divmod(round(at * 1000), 1000)
    local = time.localtime(whole)
    ahead = abs(local.tm_gmtoff) // 60
    sign = "-" if local.tm_gmtoff < 0 else "+"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{ms:03d}{sign}{ahead // 60:02d}:{ahead % 60:02d}"
