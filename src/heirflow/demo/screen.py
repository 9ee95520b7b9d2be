"""How the demonstration is shown: a living picture below scrolling lines on a terminal, stamped lines in a pipe."""

from __future__ import annotations

import contextlib
import sys
import termios
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.text import Text

from heirflow.demo.watch import Watch
from heirflow.status import duration
from heirflow.terminal.line import drawn

TEMPO_S = 60
"""How far back the picture of the task starts goes."""
STILL_EVERY_S = 10.0
"""How often a pipe is told that something long is still going on."""
BARS = " ▁▂▃▄▅▆▇█"


class Screen:
    """What the person sees. `say` a sentence, `working` on something long, `watch` the line."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.watches: list[Watch] = []
        self._began = time.monotonic()
        self._busy: tuple[str, float] | None = None
        self._spinner = Spinner("dots")
        self._over = threading.Event()
        self._terminal: list[Any] | None = None
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=8, transient=True)
        self._thread = threading.Thread(target=self._tell_still, daemon=True)

    @property
    def on_terminal(self) -> bool:
        return self.console.is_terminal

    def __enter__(self) -> Screen:  # noqa: PYI034  (Self needs Python 3.11)
        if self.on_terminal:
            self._quiet_terminal()
            self._live.start()
        else:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self.on_terminal:
            self._live.stop()
            if self._terminal is not None:
                with contextlib.suppress(OSError, termios.error, ValueError):
                    termios.tcsetattr(sys.stdin, termios.TCSANOW, self._terminal)

    def _quiet_terminal(self) -> None:
        """A Ctrl-C must not write ^C into the picture; harmless if we never come to undo it."""
        with contextlib.suppress(OSError, termios.error, ValueError):
            self._terminal = termios.tcgetattr(sys.stdin)
            quiet = [*self._terminal]
            quiet[3] &= ~termios.ECHOCTL
            termios.tcsetattr(sys.stdin, termios.TCSANOW, quiet)

    def say(self, sentence: str, style: str = "") -> None:
        """One line, with the time of day."""
        text = Text(f"{time.strftime('%H:%M:%S')}  ", "dim").append_text(Text(sentence, style))
        self.console.print(text, soft_wrap=not self.on_terminal)

    def title(self, sentence: str) -> None:
        """The beginning of an act."""
        self.console.print()
        self.say(sentence, "bold")

    def show(self, part: RenderableType) -> None:
        """A table or a text as it is."""
        self.console.print(part, soft_wrap=not self.on_terminal)

    @contextlib.contextmanager
    def working(self, what: str) -> Iterator[None]:
        """While something takes long: a spinner, or a line every ten seconds; at the end how long it took."""
        began = time.monotonic()
        self.now_working(what)
        try:
            yield
            self.say(f"{what}: done in {time.monotonic() - began:.1f} s")
        finally:
            self._busy = None

    def now_working(self, what: str) -> None:
        """What the work has come to."""
        self._busy = (what, time.monotonic())
        if not self.on_terminal:
            self.say(f"{what} …")

    def _tell_still(self) -> None:
        while not self._over.wait(STILL_EVERY_S):
            if (busy := self._busy) and (for_s := time.monotonic() - busy[1]) >= STILL_EVERY_S * 0.9:
                self.say(f"  still {busy[0].split(':')[0]} ({for_s:.0f} s)")

    def _picture(self) -> RenderableType:
        parts: list[RenderableType] = []
        if snapshots := [watch.snapshot for watch in self.watches if watch.snapshot is not None]:
            below = Group(drawn(snapshots), Text(""), tempo(self.watches[0]))
            title = (
                f"{'the line' if len(snapshots) == 1 else 'the lines'}, {duration(time.monotonic() - self._began)} in"
            )
            parts.append(Panel(below, title=title, title_align="left", border_style="dim"))
        if busy := self._busy:
            self._spinner.update(text=Text(f" {busy[0]} … {time.monotonic() - busy[1]:.0f} s"))
            parts.append(self._spinner)
        return Group(*parts)


def tempo(watch: Watch) -> Text:
    """Starts in each of the last seconds, as bars, and in words."""
    now = time.time()
    counts = [0] * TEMPO_S
    for start in watch.starts:
        if 0 <= (age := now - start.at) < TEMPO_S:
            counts[TEMPO_S - 1 - int(age)] += 1
    most = max(*counts, 1)
    bars = "".join(BARS[0 if not count else max(1, round(count / most * (len(BARS) - 1)))] for count in counts)
    text = Text(f"{watch.did} in each second of the last minute, now at the right: {tempo_words(watch)}\n")
    return text.append(bars, "green").append("|", "dim")


def tempo_words(watch: Watch) -> str:
    """The same for a line of text."""
    now = time.time()
    if not watch.starts:
        return "none yet"
    recent = sum(1 for start in watch.starts if now - start.at < 10)
    last = watch.starts[-1]
    return f"{recent / 10:.1f}/s, {len(watch.starts)} in all, the last {duration(now - last.at)} ago by {last.host}"
