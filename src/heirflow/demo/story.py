"""What happens, in which order, and what came of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from heirflow.cli import tables
from heirflow.cli.history import HEAD, rows_of
from heirflow.demo.airflow_play import AirflowPlay
from heirflow.demo.plain_play import PlainPlay
from heirflow.demo.screen import Screen, tempo_words
from heirflow.demo.stage import Process, Stage, Trouble
from heirflow.demo.warden import descendants
from heirflow.demo.watch import Incident, Watch
from heirflow.election.record import What
from heirflow.status import duration

HOSTS = ("ada", "ben", "cleo")
LOOK_EVERY_S = 0.2
TEMPO_EVERY_S = 5.0
JOIN_LIMIT_S = 180.0
STOP_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person asked for."""

    airflow: bool = True
    keep: bool = False
    folder: Path | None = None
    pause_s: float | None = None
    """How long to look on between two acts; None: as long as the play thinks right."""
    victim: str = "member"
    """What dies: the leader's ``member``, its ``command``, or ``all`` of it at once."""


def perform(wishes: Wishes, console: Console) -> int:
    """From nothing to the summary. Leaves nothing behind, however it ends. Raises `Trouble`."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    os.umask(0o077)  # the password of the user interface is in a file
    with ExitStack() as undo:
        screen = undo.enter_context(Screen(console))
        stage = undo.enter_context(Stage(wishes.folder, keep=wishes.keep))
        try:
            what = "Airflow's scheduler" if wishes.airflow else "a plain program"
            screen.say(f"HeirFlow: three members in line for {what}; the leader will die. Files: {stage.folder}")
            play = (AirflowPlay if wishes.airflow else PlainPlay)(stage, screen, undo)
            store = play.open_store()
            undo.callback(store.close)
            Story(play, stage, screen, Watch(play, store), wishes).tell()
        except KeyboardInterrupt:
            screen.say("Interrupted: everything is being stopped at once.")
            raise
        except Trouble:
            stage.keep()
            raise
        finally:
            _deaf()
            stage.close()
            if stage.stays:
                screen.say(f"Logs are in {stage.folder / 'logs'}")
    return 0


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _deaf() -> None:
    """From here on everything is ended at once; to be interrupted there would leave something behind."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


class Story:
    """One performance."""

    def __init__(
        self, play: AirflowPlay | PlainPlay, stage: Stage, screen: Screen, watch: Watch, wishes: Wishes
    ) -> None:
        self.play, self.stage, self.screen, self.watch, self.wishes = play, stage, screen, watch, wishes
        self.pause_s = play.pause_s if wishes.pause_s is None else wishes.pause_s
        self.members: dict[str, Process] = {}
        self.incidents: list[Incident] = []
        self._told_at = time.monotonic()

    def tell(self) -> None:
        """All acts. With `keep` it ends by Ctrl-C, as wished."""
        self.line_up()
        self.look_on(self.pause_s)
        self.kill_the_leader()
        self.look_on(self.pause_s)
        self.switch_over()
        self.look_on(self.pause_s * 0.7)
        if self.wishes.keep:
            self.stay()
        self.stop()
        self.sum_up()

    def line_up(self) -> None:
        """The first takes charge; the others join behind it."""
        self.screen.title(f"Three members join the line of {self.play.election}")
        first, *others = HOSTS
        self.members[first] = self.play.start_member(first)
        self._until(lambda: self.watch.leader_host() == first, JOIN_LIMIT_S, f"{first} does not take charge")
        self.screen.watch = self.watch
        for host in others:
            self.members[host] = self.play.start_member(host)
        self._until(lambda: len(self.watch.in_line()) == len(HOSTS), JOIN_LIMIT_S, "the line is not whole")
        with self.screen.working(f"waiting until {HOSTS[0]}'s {self.play.command} is at work"):
            self._until(lambda: len(self.watch.starts) > 1, self.play.warm_up_s, f"no {self.play.noun} start")

    def look_on(self, pause_s: float) -> None:
        """Let the person watch."""
        limit = time.monotonic() + pause_s
        self._until(lambda: time.monotonic() >= limit, pause_s + 1.0, "time stands still")

    def kill_the_leader(self) -> None:
        """-9, at a moment when nobody expects it."""
        host, process = self._leader()
        victims, said = self._victims(process)
        self.screen.title(f"kill -9 {' '.join(map(str, victims))}: {said} of {host}, the leader")
        incident = Incident(f"{host} killed with -9", host)
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._follow(incident)
        if self.wishes.victim != "command":
            self.screen.say(
                f"{host} comes back, as systemd or Kubernetes would bring it back: a new member, at the end of the line."
            )
            self.members[host] = self.play.start_member(host)
        self._until(lambda: len(self.watch.in_line()) == len(HOSTS), JOIN_LIMIT_S, f"{host} does not join again")

    def _victims(self, process: Process) -> tuple[list[int], str]:
        below = descendants(process.pid)
        if self.wishes.victim == "all":
            for pid in [process.pid, *below]:  # frozen first, so that no half of it can act on the death of the other
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            return [*below, process.pid], "every process"
        if self.wishes.victim == "command":
            command = _command_among(below)
            return [command], f"the {self.play.command}"
        return [process.pid], "the wrapper"

    def switch_over(self) -> None:
        """In good order: the old command ends, then the new one begins."""
        host, _ = self._leader()
        self.screen.title("heirflow switchover")
        incident = Incident(f"switchover from {host}", host)
        self.play.order("switchover", self.play.election, "--no-wait")
        self._follow(incident)

    def stay(self) -> None:
        """Until Ctrl-C."""
        self.screen.title("It stays up until Ctrl-C")
        self.screen.say(self.play.farewell(), "bold")
        with suppress(KeyboardInterrupt):
            while True:
                self.look_on(60.0)
        self.screen.say("Ctrl-C")

    def stop(self) -> None:
        """The end of the line first, so that nobody takes charge any more."""
        self.screen.title("Stopping in good order, the end of the line first")
        self.watch.look()
        order = self.watch.in_line()
        for host in sorted(self.members, key=lambda name: order.index(name) if name in order else -1, reverse=True):
            began = time.monotonic()
            self.stage.signal(self.members[host], signal.SIGTERM)
            status = self.stage.wait(self.members[host], STOP_LIMIT_S)
            ended = "was killed, it did not end in time" if status is None else f"left with exit code {status}"
            self.screen.say(f"{host} {ended} ({time.monotonic() - began:.1f} s)")
        self.watch.look()

    def sum_up(self) -> None:
        """Times, and the history that anybody can read with `heirflow history`."""
        self.screen.watch = None
        noun, told = self.play.noun, self.incidents
        usual = self.watch.usual_pause(0.0, told[0].at) if told else None
        rows = [
            ["the heir was in charge after", *(self._charge(each) for each in told)],
            [f"its {self.play.command} was at work after", *(each.after(each.in_loop_at) for each in told)],
            [f"the next of the {noun} started after", *(each.after(each.started_at) for each in told)],
            [f"no {noun} were started for", *(duration(each.pause_s) for each in told)],
        ]
        head = ["", *(each.what for each in told)]
        show, text = self.screen.show, Text
        show(text())
        table = tables.rich_table if self.screen.on_terminal else tables.plain_table
        show(table(head, rows))
        show(
            text(
                f"\nThe usual pause between two {noun} was {duration(usual)}; {len(self.watch.starts)} were started in all."
            )
        )
        show(text(f"\n$ heirflow history {self.play.election}", "bold"))
        show(table(HEAD, rows_of(self.watch.events)))

    def _charge(self, incident: Incident) -> str:
        if incident.charge is None:
            return "–"
        return f"{incident.after(incident.charge.at)} ({incident.successor}, term {incident.charge.term})"

    def _follow(self, incident: Incident) -> None:
        """Watch until work goes on, and say what is seen."""
        self.incidents.append(incident)
        limit = time.monotonic() + self.play.warm_up_s
        told: set[str] = set()

        def tell(key: str, sentence: str) -> None:
            if key not in told:
                told.add(key)
                self.screen.say(sentence, "green")

        while not incident.follow(self.watch) or "start" not in told:
            if time.monotonic() > limit:
                raise Trouble(f"nobody took over after {incident.what}; see the logs in {self.stage.folder / 'logs'}")
            self._look()
            self._date(incident)
            who = incident.successor
            if incident.charge is not None:
                tell(
                    "charge",
                    f"{who} is in charge after {incident.after(incident.charge.at)}, term {incident.charge.term}",
                )
            if incident.in_loop_at is not None:
                tell("loop", f"{who}'s {self.play.command} is at work after {incident.after(incident.in_loop_at)}")
            if incident.start is not None:
                after = incident.after(incident.started_at)
                tell("start", f"{self.play.noun} start again after {after}; none had for {duration(incident.pause_s)}")
            time.sleep(LOOK_EVERY_S)

    def _date(self, incident: Incident) -> None:
        """A switchover began when the order was written, not when a program was started to write it."""
        ordered = [event.at for event in self.watch.events if event.what is What.ORDERED and event.at > incident.at]
        if ordered and incident.charge is None:
            incident.at = ordered[0]

    def _leader(self) -> tuple[str, Process]:
        self._until(lambda: self.watch.leader_host() in self.members, JOIN_LIMIT_S, "nobody leads")
        host = str(self.watch.leader_host())
        return host, self.members[host]

    def _until(self, done: Callable[[], bool], limit_s: float, otherwise: str) -> None:
        limit = time.monotonic() + limit_s
        self._look()
        while not done():
            if time.monotonic() > limit:
                raise Trouble(f"{otherwise} (waited {limit_s:.0f} s); see the logs in {self.stage.folder / 'logs'}")
            time.sleep(LOOK_EVERY_S)
            self._look()

    def _look(self) -> None:
        for event in self.watch.look():
            self.screen.say(f"  term {event.term}: {event.member} {event.what.value}, because: {event.because}", "cyan")
        for host, process in self.members.items():
            if (status := self.stage.status(process)) is not None and status > 0:
                raise Trouble(f"{host} ended with exit code {status}; the end of {process.log}:\n{process.log_end()}")
        now = time.monotonic()
        if not self.screen.on_terminal and now - self._told_at >= TEMPO_EVERY_S and self.watch.snapshot:
            self._told_at = now
            line = ", ".join(f"{row.place} {row.host}" for row in self.watch.snapshot.succession)
            self.screen.say(f"  {line}; {self.watch.snapshot.promise}; {self.watch.noun}: {tempo_words(self.watch)}")


def _command_among(pids: list[int]) -> int:
    """The first of these processes that was told its term."""
    for pid in pids:
        with suppress(OSError):
            if b"HEIRFLOW_TERM=" in Path(f"/proc/{pid}/environ").read_bytes():
                return pid
    raise Trouble("the leader's command cannot be found among its processes")
