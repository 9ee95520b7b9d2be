"""The parts of a cluster, and the hosts that they stand on: started in order, lost one by one or with their host, brought back.

A part that ends by itself is started again after `RESTART_S`, as systemd's ``Restart=always`` does on real hosts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from heirflow.demo.stage import Process, Stage
from heirflow.demo.warden import descendants
from lab.campaign.ground import Ground, GroundTrouble, kill_all
from lab.servers.server import Server, ServerTrouble

RESTART_S = 1.0
LOOK_S = 0.25
START_LIMIT_S = 120.0
Note = Callable[[str], None]


class Part(ABC):
    """One server or program on one host."""

    def __init__(self, kind: str, host: str) -> None:
        self.kind, self.host = kind, host
        self.wanted = False
        """Whether it is to run: one that is not there then is started again."""
        self.lock = threading.Lock()
        """Held while it is started or ended."""

    @property
    def name(self) -> str:
        return f"{self.host}'s {self.kind}"

    def up(self) -> None:
        """Start it, and have it started again from now on. Raises `ServerTrouble` or `Trouble`."""
        with self.lock:
            self.wanted = True
            self._start()

    def lose(self) -> None:
        """Kill all of it at once, and leave it dead."""
        self.wanted = False
        with self.lock:
            self._kill()

    @abstractmethod
    def _start(self) -> None: ...
    @abstractmethod
    def _kill(self) -> None: ...
    @abstractmethod
    def runs(self) -> bool:
        """Whether its process is there."""

    @abstractmethod
    def stop(self) -> None:
        """In good order, for good."""

    @abstractmethod
    def freeze(self) -> None:
        """Stop all of it where it stands."""

    @abstractmethod
    def thaw(self) -> None:
        """Undo `freeze`."""


class ServerPart(Part):
    """A server of lab.servers, which runs already."""

    def __init__(self, kind: str, host: str, server: Server) -> None:
        super().__init__(kind, host)
        self.server = server
        self.wanted = True

    def _start(self) -> None:
        self.server.start()

    def _kill(self) -> None:
        self.server.crash()

    def runs(self) -> bool:
        return self.server.pid is not None

    def stop(self) -> None:
        self.wanted = False
        with self.lock:
            self.server.stop()

    def freeze(self) -> None:
        self.server.freeze()

    def thaw(self) -> None:
        self.server.thaw()


class ProgramPart(Part):
    """A program that a stage runs."""

    def __init__(self, kind: str, host: str, stage: Stage, start: Callable[[], Process]) -> None:
        super().__init__(kind, host)
        self._stage, self._begin = stage, start
        self.process: Process | None = None

    def _start(self) -> None:
        if not self.runs():
            self.process = self._begin()

    def runs(self) -> bool:
        return self.process is not None and self._stage.status(self.process) is None

    def pids(self) -> list[int]:
        """Everything of it."""
        return [self.process.pid, *descendants(self.process.pid)] if self.process is not None and self.runs() else []

    def _kill(self) -> None:
        self._signal(signal.SIGSTOP)  # no half of it can act on the death of the other
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self._stage.wait(self.process, 10.0)

    def behead(self) -> None:
        """Kill its first process only, and leave it dead; what that one has started ends by itself, or does not."""
        self.wanted = False
        with self.lock:
            if self.process is not None:
                self._stage.signal(self.process, signal.SIGKILL)
                self._stage.wait(self.process, 10.0)

    def stop(self) -> None:
        self.wanted = False
        with self.lock:
            if self.process is not None and self.runs():
                self._stage.signal(self.process, signal.SIGTERM)
                if self._stage.wait(self.process, 30.0) is None:
                    self._kill()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


@dataclass(slots=True)
class Host:
    """One machine of the cluster."""

    name: str
    address: str
    parts: list[Part] = field(default_factory=list)
    """In the order in which they are started."""


class Keeper:
    """Starts again what ended by itself, until it is closed."""

    def __init__(self, parts: Callable[[], list[Part]], note: Note) -> None:
        self._parts, self._note = parts, note
        self._over = threading.Event()
        self._missed: dict[str, float] = {}
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def __enter__(self) -> Keeper:  # noqa: PYI034  Python 3.10 has no Self
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for thread in self._threads:
            thread.join(START_LIMIT_S)

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            for part in self._parts():
                self._look_at(part)

    def _look_at(self, part: Part) -> None:
        if not part.wanted or part.lock.locked() or part.runs():
            self._missed.pop(part.name, None)
            return
        since = self._missed.setdefault(part.name, time.monotonic())
        if time.monotonic() - since >= RESTART_S:
            self._missed.pop(part.name)
            self._note(f"{part.name} had ended, and is started again")
            thread = threading.Thread(target=self._bring_back, args=(part,), name=f"starts {part.name}", daemon=True)
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]
            thread.start()

    def _bring_back(self, part: Part) -> None:
        with part.lock:
            if not part.wanted or part.runs() or self._over.is_set():
                return
            try:
                part._start()
            except (ServerTrouble, RuntimeError, OSError) as error:
                self._note(f"{part.name} does not start: {str(error).splitlines()[0]}")


def power_off(ground: Ground, host: Host) -> None:
    """The whole host is gone: nothing of it is heard, everything on it is dead, and its address is nobody's."""
    cable = ground.cables[host.name]
    cable.drop_from = cable.drop_to = True
    ground.apply()
    for part in host.parts:
        part.wanted = False
    kill_all(ground.space(host.name))
    for part in host.parts:
        part.lose()  # what remembers its process is told that it ended
    ground.drop_floating(host.name)


def power_on(ground: Ground, host: Host) -> None:
    """It boots: the network first, then all parts beside each other, as a service manager starts them."""
    cable = ground.cables[host.name]
    cable.drop_from = cable.drop_to = False
    ground.apply()
    with ThreadPoolExecutor(len(host.parts)) as pool:
        list(pool.map(Part.up, host.parts))


@contextlib.contextmanager
def cut_off(ground: Ground, host: Host) -> Iterator[None]:
    """Everything on it lives, and hears nobody."""
    cable = ground.cables[host.name]
    cable.drop_from = cable.drop_to = True
    ground.apply()
    try:
        yield
    finally:
        cable.drop_from = cable.drop_to = False
        with contextlib.suppress(GroundTrouble):
            ground.apply()
