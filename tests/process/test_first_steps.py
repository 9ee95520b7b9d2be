"""The commands of docs/first-steps.md, pasted into two real shells on two real terminals, and what the page says is to be seen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "first-steps.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(sh|text)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
TAKES_IT = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
TICK = re.compile(r"^\S+ works, term \d+\n", re.MULTILINE)
"""What the program in the background writes in between."""
LIMIT_S = 30.0
INSTALL_LIMIT_S = 240.0


class Shell:
    """A shell on a terminal of its own, into which somebody pastes."""

    def __init__(self, folder: Path, home: Path) -> None:
        self._end, other = pty.openpty()
        quiet = termios.tcgetattr(other)
        quiet[3] &= ~termios.ECHO
        termios.tcsetattr(other, termios.TCSANOW, quiet)
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEIRFLOW_", "XDG_", "PYTHON", "VIRTUAL_ENV"))}
        for pip in (".config/pip/pip.conf", ".pip/pip.conf"):  # this machine's index, which pip looks for in its home
            if (Path.home() / pip).exists():
                kept.setdefault("PIP_CONFIG_FILE", str(Path.home() / pip))
        own = {"HOME": str(home), "TERM": "dumb", "PS1": "", "VIRTUAL_ENV_DISABLE_PROMPT": "1", "COLUMNS": "200"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", TAKES_IT, "bash", "--norc", "--noprofile", "--noediting", "-i"],
            cwd=folder,
            env={**kept, **own},
            stdin=other, stdout=other, stderr=other, start_new_session=True,
        )  # fmt: skip
        os.close(other)
        self._said, self._read_to = "", 0
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._end, 65536):
                self._said += data.decode("utf-8", "replace")
        except OSError:  # nobody is at the other end any more
            return

    def paste(self, text: str) -> None:
        self._read_to = len(self._said)
        os.write(self._end, text.encode())

    @property
    def seen(self) -> str:
        """What was written since somebody pasted."""
        return self._said[self._read_to :].replace("\r", "")

    def shows(self, pattern: str, limit_s: float = LIMIT_S) -> None:
        """Wait for what must be seen after what was pasted last."""
        limit = time.monotonic() + limit_s
        ticks = "works" in pattern
        while not re.search(pattern, self.seen if ticks else TICK.sub("", self.seen), re.MULTILINE):
            assert time.monotonic() < limit, f"{pattern!r} is not seen in:\n{self.seen}"
            time.sleep(0.02)

    def close(self) -> None:
        """As a window that is closed: what runs in it is stopped in order."""
        os.write(self._end, b"\x03\nkill $(jobs -p) 2>/dev/null; wait; exit\n")
        try:
            self._process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(LIMIT_S)
        os.close(self._end)


@contextmanager
def shell(folder: Path, home: Path) -> Iterator[Shell]:
    made = Shell(folder, home)
    try:
        yield made
    finally:
        made.close()


def like(shown: str) -> str:
    """A pattern for what the page shows: ids, dates and durations are others each time, and columns may be wider."""
    lines = []
    for line in shown.splitlines():
        words = line.split()
        patterns = []
        for word, after in zip(words, [*words[1:], ""], strict=True):
            if member := re.fullmatch(r"(ada|ben)-[0-9a-f]{6}(\S*)", word):
                patterns.append(f"{member[1]}-[0-9a-f]{{6}}{re.escape(member[2])}")
            elif re.fullmatch(r"[\d:-]{8,10}", word):
                patterns.append(r"[\d:-]{8,10}")
            elif after.rstrip(",;") in {"ms", "s"}:
                patterns.append(r"[\d.]+")
            else:
                patterns.append("m?s" if word in {"ms", "s"} else re.escape(word))
        lines.append(" +".join(patterns) + " *$")
    return "^" + "\n".join(lines)


@pytest.mark.slow
def test_the_page_by_copy_and_paste(tmp_path: Path) -> None:
    blocks = iter(BLOCKS)

    def block(kind: str) -> str:
        found, text = next(blocks)
        assert found == kind, text
        return text

    with shell(ROOT, tmp_path) as one, shell(tmp_path, tmp_path) as two:
        one.paste(block("sh") + "command -v heirflow\n")
        one.shows(r"heirflow-first-steps/venv/bin/heirflow$", INSTALL_LIMIT_S)
        one.paste(block("sh"))
        one.paste(block("sh"))
        one.shows(like(block("text")))

        two.paste(block("sh"))
        ask = block("sh")
        until(one, ask, r"^heir +ben-")
        one.shows(like(block("text")))

        one.paste(block("sh"))
        two.shows(like(block("text")))

        one.paste(block("sh"))
        until(one, "heirflow status tick\n", r"^heir +ada-")
        one.paste(block("sh"))
        one.shows(like(block("text")))
        one.paste(block("sh"))
        one.shows(like(block("text")))
        one.shows(r"^ada-[0-9a-f]{6} works, term 3$")

        two.paste("")
        one.paste(block("sh"))
        two.shows(r"^ben-[0-9a-f]{6} works, term 4$")
        two.paste("\x03")
        until(one, "heirflow history tick\n", r" 4 +released +ben-[0-9a-f]{6} +.* left the line: ")
    assert next(blocks, None) is None, "a block of the page was not pasted"


def until(shell: Shell, ask: str, pattern: str) -> None:
    """Ask again, as the page says, until this is seen."""
    limit = time.monotonic() + LIMIT_S
    while True:
        shell.paste(ask + "echo asked\n")
        shell.shows(r"^asked$")
        if re.search(pattern, shell.seen, re.MULTILINE):
            return
        assert time.monotonic() < limit, f"{pattern!r} is not seen in:\n{shell.seen}"
