"""What happens, in which order, and what came of it.

What is run in the line is given: a `Cast`, which the plain program has here, and real Airflow in the laboratory.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.text import Text

from heirflow.demo.screen import Screen, tempo_words
from heirflow.demo.stage import Process, Stage, Trouble
from heirflow.demo.warden import descendants
from heirflow.demo.watch import Incident, Play, Watch
from heirflow.election.record import What
from heirflow.status import duration
from heirflow.status.history import rows_of
from heirflow.terminal import tables
from heirflow.terminal.history import HEAD, cells_of

LOOK_EVERY_S = 0.2
TEMPO_EVERY_S = 5.0
JOIN_LIMIT_S = 180.0
STOP_LIMIT_S = 60.0
PAGE_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person asked for."""

    keep: bool = False
    folder: Path | None = None
    pause_s: float | None = None
    """How long to look on between two acts; None: as long as the play thinks right."""
    victim: str = "member"
    """What dies: the leader's ``member``, its ``command``, or ``all`` of it at once."""


@dataclass(frozen=True, slots=True)
class Cast:
    """What a performance shows."""

    subject: str
    """In half a sentence."""
    plays: Callable[[Stage, Screen, ExitStack], Sequence[Play]]
    """Makes what is played, the main one first. What must be undone at the end is given to the `ExitStack`. Raises `Trouble`."""


def perform(wishes: Wishes, console: Console, cast: Cast) -> int:
    """From nothing to the summary. Leaves nothing behind, however it ends. Raises `Trouble`."""
    listen()
    os.umask(0o077)  # the password of the user interface is in a file
    with ExitStack() as undo:
        screen = undo.enter_context(Screen(console))
        stage = undo.enter_context(Stage(wishes.folder, keep=wishes.keep))
        try:
            screen.say(f"HeirFlow: {cast.subject}. Files: {stage.folder}")
            parts = []
            for play in cast.plays(stage, screen, undo):
                store = play.open_store()
                undo.callback(store.close)
                parts.append(Part(play, Watch(play, store)))
            Story(parts, stage, screen, wishes).tell()
        except KeyboardInterrupt:
            screen.say("Interrupted: everything is being stopped at once.")
            raise
        except Trouble:
            stage.keep()
            raise
        finally:
            deaf()
            stage.close()
            if stage.stays:
                screen.say(f"Logs are in {stage.folder / 'logs'}")
    return 0


def listen() -> None:
    """From here on a TERM or a closed terminal is a Ctrl-C: all of it ends, and nothing is left behind."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def deaf() -> None:
    """From here on everything is ended at once; to be interrupted there would leave something behind."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@dataclass(slots=True)
class Part:
    """One line, and who stands in it."""

    play: Play
    watch: Watch
    members: dict[str, Process] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return len(self.watch.in_line()) == len(self.play.hosts)


class Story:
    """One performance. The first part is the main one."""

    def __init__(self, parts: list[Part], stage: Stage, screen: Screen, wishes: Wishes) -> None:
        self.parts, self.stage, self.screen, self.wishes = parts, stage, screen, wishes
        self.incidents: list[Incident] = []
        self.page = ""
        """Where it is; empty: it cannot be had here."""
        self._told_at = time.monotonic()

    def tell(self) -> None:
        """All acts. With `keep` it ends by Ctrl-C, as wished."""
        self.line_up()
        self.show_page()
        for part in self.parts:
            self.look_on(part)
            self.kill_the_leader(part)
        main = self.parts[0]
        self.look_on(main)
        self.switch_over(main)
        self.look_on(main, 0.7)
        if self.wishes.keep:
            self.stay()
        self.stop()
        self.sum_up()

    def line_up(self) -> None:
        """The first takes charge; the others join behind it."""
        for part in self.parts:
            hosts = part.play.hosts
            count = {2: "Two", 3: "Three"}[len(hosts)]
            self.screen.title(f"{count} members join the line of {part.play.election}")
            part.members[hosts[0]] = part.play.start_member(hosts[0])
        for part in self.parts:
            first, *others = part.play.hosts
            self._until(
                lambda p=part, f=first: p.watch.leader_host() == f,  # type: ignore[misc]
                JOIN_LIMIT_S,
                f"{part.play.called(first)} does not take charge",
            )
            self.screen.watches.append(part.watch)
            for host in others:
                part.members[host] = part.play.start_member(host)
        for part in self.parts:
            self._until(lambda p=part: p.whole, JOIN_LIMIT_S, f"the line of {part.play.election} is not whole")  # type: ignore[misc]
        for part in self.parts:
            play = part.play
            with self.screen.working(f"waiting until the {play.command} of {play.hosts[0]} is at work"):
                self._until(lambda p=part: len(p.watch.starts) > 1, play.warm_up_s, f"no {play.noun} {play.verb}")  # type: ignore[misc]

    def show_page(self) -> None:
        """Where a browser shows all of it while it happens. Where the page cannot be had, the play goes on without it."""
        with socket.create_server(("127.0.0.1", 0)) as found:
            place = f"127.0.0.1:{found.getsockname()[1]}"
        page = self.parts[0].play.start_page(place)
        limit = time.monotonic() + PAGE_LIMIT_S
        while time.monotonic() < limit and self.stage.status(page) is None:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", int(place.rpartition(":")[2])), 1.0).close()
                self.page = f"http://{place}/"
                self.screen.say(f"See it in a browser, as long as this runs: {self.page}", "bold")
                return
            time.sleep(LOOK_EVERY_S)
        self.screen.say(f"There is no page for a browser: {page.log_end(1) or 'it takes too long to start'}")

    def look_on(self, part: Part, share: float = 1.0) -> None:
        """Let the person watch."""
        pause_s = share * (part.play.pause_s if self.wishes.pause_s is None else self.wishes.pause_s)
        limit = time.monotonic() + pause_s
        self._until(lambda: time.monotonic() >= limit, pause_s + 1.0, "time stands still")

    def kill_the_leader(self, part: Part) -> None:
        """-9, at a moment when nobody expects it."""
        host, process = self._leader(part)
        victims, said = self._victims(part, process)
        called = part.play.called(host)
        self.screen.title(f"kill -9 {' '.join(map(str, victims))}: {said} of {called}, the leader")
        incident = Incident(f"{called} killed with -9", host, part.watch)
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._follow(part, incident)
        if self.wishes.victim != "command":
            self.screen.say(
                f"{called} comes back, as systemd or Kubernetes would bring it back: a new member, at the end of the line."
            )
            part.members[host] = part.play.start_member(host)
        self._until(lambda: part.whole, JOIN_LIMIT_S, f"{called} does not join again")

    def _victims(self, part: Part, process: Process) -> tuple[list[int], str]:
        below = descendants(process.pid)
        if self.wishes.victim == "all":
            for pid in [process.pid, *below]:  # frozen first, so that no half of it can act on the death of the other
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            return [*below, process.pid], "every process"
        if self.wishes.victim == "command":
            return [command_among(below)], f"the {part.play.command}"
        return [process.pid], "the wrapper"

    def switch_over(self, part: Part) -> None:
        """In good order: the old command ends, then the new one begins."""
        host, _ = self._leader(part)
        self.screen.title("heirflow switchover")
        incident = Incident(f"switchover from {part.play.called(host)}", host, part.watch)
        part.play.order("switchover", part.play.election, "--no-wait")
        self._follow(part, incident)

    def stay(self) -> None:
        """Until Ctrl-C."""
        self.screen.title("It stays up until Ctrl-C")
        self.screen.say(self.parts[0].play.farewell(), "bold")
        if self.page:
            self.screen.say(f"The page: {self.page}", "bold")
        with suppress(KeyboardInterrupt):
            while True:
                self.look_on(self.parts[0])
        self.screen.say("Ctrl-C")

    def stop(self) -> None:
        """The end of each line first, so that nobody takes charge any more."""
        self.screen.title("Stopping in good order, the end of the line first")
        for part in self.parts:
            part.watch.look()
            order = part.watch.in_line()
            for host in sorted(
                part.members, key=lambda name: order.index(name) if name in order else len(order), reverse=True
            ):
                began = time.monotonic()
                self.stage.signal(part.members[host], signal.SIGTERM)
                status = self.stage.wait(part.members[host], STOP_LIMIT_S)
                ended = "was killed, it did not end in time" if status is None else f"left with exit code {status}"
                self.screen.say(f"{part.play.called(host)} {ended} ({time.monotonic() - began:.1f} s)")
            part.watch.look()
        self.parts[0].play.stop_rest()

    def sum_up(self) -> None:
        """Times, and the history that anybody can read with `heirflow history`."""
        self.screen.watches.clear()
        told, main = self.incidents, self.parts[0].watch
        usual = main.usual_pause(0.0, told[0].at) if told else None
        several = len(self.parts) > 1
        noun, verb = main.play.noun, main.play.verb
        rows = [
            ["the heir was in charge after", *(self._charge(each) for each in told)],
            ["its command was at work after", *(each.after(each.in_loop_at) for each in told)],
            *([["what is seen of its work", *(each.watch.did for each in told)]] if several else []),
            [f"the next of {'them' if several else f'the {noun}'} after", *(each.after(each.started_at) for each in told)],
            [f"no {'such work' if several else noun} for", *(duration(each.pause_s) for each in told)],
        ]  # fmt: skip
        show, text = self.screen.show, Text
        show(text())
        table = tables.rich_table if self.screen.on_terminal else tables.plain_table
        show(table(["", *(each.what for each in told)], rows))
        show(
            text(f"\nThe usual pause between two {noun} was {duration(usual)}; {len(main.starts)} were {verb} in all.")
        )
        for part in self.parts:
            show(text(f"\n$ heirflow history {part.play.election}", "bold"))
            show(table(HEAD, [cells_of(row) for row in rows_of(part.watch.events)]))

    def _charge(self, incident: Incident) -> str:
        if incident.charge is None:
            return "–"
        return f"{incident.after(incident.charge.at)} ({incident.successor}, term {incident.charge.term})"

    def _follow(self, part: Part, incident: Incident) -> None:
        """Watch until work goes on, and say what is seen."""
        self.incidents.append(incident)
        play = part.play
        limit = time.monotonic() + play.warm_up_s
        told: set[str] = set()

        def tell(key: str, sentence: str) -> None:
            if key not in told:
                told.add(key)
                self.screen.say(sentence, "green")

        while not incident.follow() or "start" not in told:
            if time.monotonic() > limit:
                raise Trouble(f"nobody took over after {incident.what}; see the logs in {self.stage.folder / 'logs'}")
            self._look()
            self._date(incident)
            who, after = incident.successor, incident.after
            if (charge := incident.charge) is not None:
                tell("charge", f"{who} is in charge after {after(charge.at)}, term {charge.term}")
            if incident.in_loop_at is not None:
                tell("loop", f"{who}'s {play.command} is at work after {after(incident.in_loop_at)}")
            if incident.start is not None:
                again = f"{play.noun} are {play.verb} again" if play.verb != "finished" else f"{play.noun} finish again"
                tell("start", f"{again} after {after(incident.started_at)}; none for {duration(incident.pause_s)}")
            time.sleep(LOOK_EVERY_S)

    def _date(self, incident: Incident) -> None:
        """A switchover began when the order was written, not when a program was started to write it."""
        events = incident.watch.events
        ordered = [event.at for event in events if event.what is What.ORDERED and event.at > incident.at]
        if ordered and incident.charge is None:
            incident.at = ordered[0]

    def _leader(self, part: Part) -> tuple[str, Process]:
        self._until(lambda: part.watch.leader_host() in part.members, JOIN_LIMIT_S, "nobody leads")
        host = str(part.watch.leader_host())
        return host, part.members[host]

    def _until(self, done: Callable[[], bool], limit_s: float, otherwise: str) -> None:
        limit = time.monotonic() + limit_s
        self._look()
        while not done():
            if time.monotonic() > limit:
                raise Trouble(f"{otherwise} (waited {limit_s:.0f} s); see the logs in {self.stage.folder / 'logs'}")
            time.sleep(LOOK_EVERY_S)
            self._look()

    def _look(self) -> None:
        tell = not self.screen.on_terminal and time.monotonic() - self._told_at >= TEMPO_EVERY_S * len(self.parts)
        if tell:
            self._told_at = time.monotonic()
        for part in self.parts:
            where = f"{part.play.command}, " if len(self.parts) > 1 else ""
            for event in part.watch.look():
                said = f"  {where}term {event.term}: {event.member} {event.word}, because: {event.because}"
                self.screen.say(said, "cyan")
            for host, process in part.members.items():
                if (status := self.stage.status(process)) is not None and status > 0:
                    ended = f"{part.play.called(host)} ended with exit code {status}"
                    raise Trouble(f"{ended}; the end of {process.log}:\n{process.log_end()}")
            if tell and (now := part.watch.snapshot) and now.succession:
                line = ", ".join(f"{row.place} {row.host}" for row in now.succession)
                self.screen.say(f"  {where}{line}; {now.promise}; {part.watch.did}: {tempo_words(part.watch)}")


def command_among(pids: list[int]) -> int:
    """The first of these processes that was told its term."""
    for pid in pids:
        with suppress(OSError):
            if b"HEIRFLOW_TERM=" in Path(f"/proc/{pid}/environ").read_bytes():
                return pid
    raise Trouble("the leader's command cannot be found among its processes")
