"""Runs worlds beside each other, each in a thread, and gathers what the judge says while they go on."""

from __future__ import annotations

import itertools
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heirflow.errors import first_line
from lab.campaign.judging import Red, Verdict, judge
from lab.campaign.machine import Machine
from lab.campaign.plan import SEATS, Fault
from lab.campaign.report import FENCED
from lab.campaign.world import World
from lab.rig.rig import RigError, now_s

TROUBLES_LIMIT = 5
JUDGED_EVERY = 4
"""Faults: while a run goes on, the judge looks at all that was written so far as often as this."""


@dataclass
class Runner:
    """One world after the other of one kind, should the laboratory itself stumble; one plan."""

    kind: str
    number: int
    folder: Path
    plan: Iterable[Fault]
    until: Callable[[], bool]
    ending: threading.Event
    verdicts: list[Verdict] = field(default_factory=list)
    """Of the acts that are over; `current` is the one that is on."""
    current: Verdict | None = None
    troubles: list[str] = field(default_factory=list)
    now: str = "starting"
    machine: Machine | None = None
    on_red: Callable[[str, Red], None] = lambda _kind, _red: None
    _told: set[tuple[str, float]] = field(default_factory=set)

    def run(self) -> None:
        """Until the plan or the time is over. What the laboratory itself cannot do is kept in `troubles`, never raised."""
        faults = iter(self.plan)
        for act in itertools.count(1):
            if self.ending.is_set() or self.until() or len(self.troubles) >= TROUBLES_LIMIT:
                break
            world = None
            try:
                with World(self.kind, self.number, self.folder / f"{self.kind}-{act}", self.ending) as world:
                    world.after = self._after
                    self._play(world, faults)
            except Exception as trouble:  # noqa: BLE001  whatever it is: the plan goes on in a new world
                self.troubles.append(f"{self.kind}, act {act}: {_sentence(trouble)}")
                (self.folder / f"trouble-{self.kind}-{act}").write_text(traceback.format_exc())
                if self.current is not None:
                    self.verdicts.append(self.current)
            self.current = None
            fault = next(faults, None)
            if fault is None:
                break
            faults = itertools.chain([fault], faults)
        self.now = "over"

    def _play(self, world: World, faults: Iterable[Fault]) -> None:
        try:
            world.play(self._announced(faults), self.until)
        except Exception as error:
            try:
                self._judge(world, asked=True)
            except Exception:  # noqa: BLE001  the database may be what is in trouble
                self._judge(world, asked=False)
            if not isinstance(error, RigError):
                raise
            assert self.current is not None
            number = next((mark.number for mark in reversed(world.marks) if mark.number), 0)
            (self.folder / f"red-{self.kind}-{number}").write_text(str(error))
            red = Red("the line stands again", first_line(error), number, now_s())
            self.current.red.append(red)
            self._tell(red)
        else:
            self._judge(world, asked=True)
        assert self.current is not None
        self.verdicts.append(self.current)

    def _announced(self, faults: Iterable[Fault]) -> Iterable[Fault]:
        for fault in faults:
            self.now = f"{fault}, with {fault.beside}" if fault.beside else str(fault)
            yield fault

    def _after(self, world: World, fault: Fault) -> None:
        if fault.number % JUDGED_EVERY < 2:  # numbers go on by one or two
            self._judge(world, asked=False)

    def _judge(self, world: World, *, asked: bool) -> None:
        """`asked`: whether the database is asked too."""
        facts: dict[str, Any] = {}
        if asked:
            time.sleep(0.1)
            base = world.store
            facts = {"late": base.late_rows(), "rows": base.rows(), "took": base.took_charge(world.election)}
        runs = world.ledger.runs()
        self.current = judge(
            self.kind,
            world.marks,
            runs,
            fenced=FENCED[self.kind],
            machine=self.machine,
            seats=SEATS.get(self.kind, 1),
            **facts,
        )
        self.current.most = dict(world.most)
        for red in self.current.red:
            self._tell(red)

    def _tell(self, red: Red) -> None:
        if (red.promise, red.at_s) not in self._told:
            self._told.add((red.promise, red.at_s))
            self.on_red(self.kind, red)

    def all(self) -> list[Verdict]:
        """What is judged by now."""
        current = self.current
        return [*self.verdicts, *([current] if current is not None and current not in self.verdicts else [])]


def _sentence(trouble: BaseException) -> str:
    lines = str(trouble).strip().splitlines()
    return f"{type(trouble).__name__}: {lines[0][:300]}" if lines else type(trouble).__name__
