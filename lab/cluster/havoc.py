"""Lose one part after another of a cluster while DAG runs go, and judge what came of it.

with scene(load, parts) as (cluster, files): …
blows = campaign(cluster, files, plan(seed, 30, parts), …)
verdict(…)
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from statistics import median

from rich.console import Console

from heirflow.demo.screen import Screen
from heirflow.demo.stage import Stage, Trouble
from lab.airflow import chaos, ledger
from lab.airflow.chaos import Files, Load, lay_out
from lab.airflow.seated import Seats
from lab.cluster.cluster import HOSTS, Cluster
from lab.cluster.losses import Kind, NotNow, inflict

PROBE_S = 0.25
WHOLE_LIMIT_S = 240.0
WINDOW_S = 5.0
TELL_EVERY_S = 20.0
QUIET_S = 5.0
"""How long the cluster is left alone before each loss, at least."""
Tell = Callable[[str], None]


@dataclass(slots=True)
class Loss:
    """What was lost, and what it cost. Moments in seconds since 1970."""

    kinds: tuple[str, ...]
    what: str
    limit_s: float
    at: float
    back_at: float = 0.0
    """When it was brought back."""
    whole_at: float | None = None
    """When one more part could be lost again; None: it did not become so in time."""
    unwell: list[str] = field(default_factory=list)
    """What was not well then."""
    usual_s: float = 0.0
    """The longest time without a task start while nothing was lost."""
    again_s: float = 0.0
    """From the loss until tasks started again, and went on to start at half of their usual pace or more."""
    pause_s: float = 0.0
    """The longest time without a task start, counted from the loss, while it was lost."""
    return_pause_s: float = 0.0
    """The same from its return until all is whole."""
    ui_s: float = 0.0
    """The longest time in which people's address gave no answer."""

    @property
    def name(self) -> str:
        return " and ".join(self.kinds)

    @property
    def whole_s(self) -> float | None:
        """From its return until one more part could be lost."""
        return None if self.whole_at is None else self.whole_at - self.back_at

    @property
    def broken(self) -> list[str]:
        """Which limits it broke."""
        found = []
        if (worst := max(self.again_s, self.pause_s)) > self.limit_s + self.usual_s:
            found.append(
                f"tasks did not start for {worst:.1f} s (limit {self.limit_s:.0f} s and the usual {self.usual_s:.1f} s)"
            )
        if self.ui_s > self.limit_s + 1:
            found.append(f"the user interface did not answer for {self.ui_s:.1f} s (limit {self.limit_s:.0f} s)")
        if self.whole_at is None:
            found.append("the cluster was not whole again: " + "; ".join(self.unwell))
        return found


class Prober:
    """Asks people's address again and again, as a browser would."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._over = threading.Event()
        self.answers: list[tuple[float, bool]] = []
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)

    def __enter__(self) -> Prober:  # noqa: PYI034  Python 3.10 has no Self
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(PROBE_S):
            at = time.time()
            self.answers.append((at, self._cluster.entry_answers(1.0)))

    def silent_s(self, from_s: float, to_s: float) -> float:
        """The longest time in which it did not answer."""
        longest, since = 0.0, None
        for at, answered in [each for each in self.answers if from_s - 1 <= each[0] <= to_s]:
            if answered:
                since = None
            else:
                since = at if since is None else since
                longest = max(longest, at - since + PROBE_S)
        return longest


@contextmanager
def scene(
    load: Load,
    parts: Collection[str],
    *,
    lines: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[Cluster, Stage, Files]]:
    """A whole cluster at work. Progress goes to stderr."""
    with ExitStack() as undo:
        stage = undo.enter_context(Stage(folder))
        screen = undo.enter_context(Screen(Console(file=sys.stderr)))
        files, told_to_dags = lay_out(stage.folder, load)
        cluster = Cluster(
            stage, screen, undo, dags=stage.folder / "dags", parts=parts, lines=lines,
            environment={**told_to_dags, **(environment or {})},
        )  # fmt: skip
        yield cluster, stage, files


def await_starts(files: Files, limit_s: float = 180.0) -> None:
    """Wait until tasks start. Raises `Trouble`."""
    limit = time.monotonic() + limit_s
    while len(ledger.attempts(files.tasks)) < 5:
        if time.monotonic() > limit:
            raise Trouble(f"no task started within {limit_s:.0f} s; see the logs (--dir keeps them)")
        time.sleep(0.5)


def campaign(
    cluster: Cluster, files: Files, losses: Sequence[tuple[Kind, ...]], *, seed: int, prober: Prober, tell: Tell
) -> list[Loss]:
    """Each loss when the cluster is whole again after the one before. One that does not become whole ends the campaign."""
    chance = random.Random(seed)
    found: list[Loss] = []
    for number, kinds in enumerate(losses, 1):
        quiet_from = time.time()
        time.sleep(QUIET_S + chance.uniform(0.0, 3.0))
        name = " and ".join(kind.name for kind in kinds)
        loss = None
        try:
            with inflict(cluster, kinds, chance) as what:
                loss = Loss(tuple(kind.name for kind in kinds), what, max(kind.limit_s for kind in kinds), time.time())
                found.append(loss)
                time.sleep(max(kind.hold_s for kind in kinds))
        except NotNow as error:
            tell(f"{number:>3}/{len(losses)} {name}: left out, {error}")
            continue
        loss.back_at = time.time()
        settle(cluster, loss, tell)
        measure(loss, files, prober, quiet_from)
        tell(f"{number:>3}/{len(losses)} {told(loss)}")
        if loss.whole_at is None:
            break
    return found


def settle(cluster: Cluster, loss: Loss, tell: Tell, limit_s: float = WHOLE_LIMIT_S) -> None:
    """Wait until one more part may be lost."""
    limit, tell_at = time.monotonic() + limit_s, time.monotonic() + TELL_EVERY_S
    while time.monotonic() < limit:
        loss.unwell = cluster.unwell()
        if not loss.unwell:
            loss.whole_at = time.time()
            return
        if time.monotonic() > tell_at:
            cluster.mend()
            tell_at = time.monotonic() + TELL_EVERY_S
            tell(f"    not whole yet: {'; '.join(loss.unwell)}")
        time.sleep(0.5)


def measure(loss: Loss, files: Files, prober: Prober, quiet_from: float) -> None:
    """What it cost."""
    starts = sorted(each.began for each in ledger.attempts(files.tasks))
    end = loss.whole_at or time.time()
    loss.usual_s = _pause([at for at in starts if at < loss.at], quiet_from, loss.at)
    loss.again_s = _again(starts, quiet_from, loss.at, end)
    loss.pause_s = _pause(starts, loss.at, loss.back_at)
    loss.return_pause_s = _pause(starts, loss.back_at, end)
    loss.ui_s = prober.silent_s(loss.at, end)


def _pause(starts: Sequence[float], from_s: float, to_s: float) -> float:
    """The longest time without a start between two moments; one that began before counts from the first moment."""
    inside = [from_s, *(at for at in starts if from_s < at < to_s)]
    # A pause that lasts on at the end counts as long as it lasts.
    after = [at for at in starts if at >= to_s][:1] or [to_s]
    return max(later - earlier for earlier, later in pairwise([*inside, *after]))


def _again(starts: Sequence[float], quiet_from: float, at: float, end: float) -> float:
    """One start alone is not it: in the window behind it there must be half as many as before the loss."""
    usual = sum(quiet_from <= each < at for each in starts) / (at - quiet_from)
    for each in starts:
        if each >= at and sum(each <= other < each + WINDOW_S for other in starts) >= usual * WINDOW_S / 2:
            return each - at
    return end - at


def told(loss: Loss) -> str:
    """One line."""
    whole = "not whole again" if loss.whole_s is None else f"whole {loss.whole_s:.0f} s after its return"
    return (
        f"{loss.name}: {loss.what}: tasks start again after {loss.again_s:.1f} s, no start for {loss.pause_s:.1f} s "
        f"(usual {loss.usual_s:.1f} s), at its return {loss.return_pause_s:.1f} s, no answer for {loss.ui_s:.1f} s, {whole}"
    )


@dataclass(frozen=True, slots=True)
class Figures:
    """Of all losses of one kind. Seconds."""

    name: str
    count: int
    limit_s: float
    again_s: tuple[float, float]
    """Median and worst."""
    pause_s: tuple[float, float]
    return_s: tuple[float, float]
    ui_s: tuple[float, float]
    whole_s: tuple[float, float] | None


def figures(losses: Sequence[Loss]) -> list[Figures]:
    """One row for each kind; two at once are a kind of their own."""
    names = list(dict.fromkeys("two at once" if len(loss.kinds) > 1 else loss.name for loss in losses))
    rows = []
    for name in names:
        some = [loss for loss in losses if ("two at once" if len(loss.kinds) > 1 else loss.name) == name]
        wholes = [loss.whole_s for loss in some if loss.whole_s is not None]
        rows.append(
            Figures(
                name, len(some), max(loss.limit_s for loss in some), _both([loss.again_s for loss in some]),
                _both([loss.pause_s for loss in some]),
                _both([loss.return_pause_s for loss in some]), _both([loss.ui_s for loss in some]),
                _both(wholes) if wholes else None,
            )
        )  # fmt: skip
    return rows


def _both(values: Sequence[float]) -> tuple[float, float]:
    return median(values), max(values)


def verdict(
    cluster: Cluster, stage: Stage, files: Files, load: Load, *, limit_s: float, tell: Tell
) -> tuple[ledger.Verdict, ledger.Verdict]:
    """Let all runs end, and judge them: the many short tasks, with when the schedulers ran, and the slow ones."""
    line = Seats(cluster, stage, "scheduler", HOSTS, cluster.seats)
    try:
        short = chaos.verdict(cluster, line, files, load, limit_s=limit_s, tell=tell)
    finally:
        line.close()
    until = datetime.now(timezone.utc) - timedelta(seconds=load.slow_s + load.slow_every_s)
    limit = time.monotonic() + limit_s
    while ledger.unfinished(cluster.ask, "slow", until) and time.monotonic() < limit:
        time.sleep(1.0)
    slow = ledger.judge(cluster.ask, files.tasks, dag="slow", until=until, every_s=load.slow_every_s, tasks_per_run=1)
    return short, slow
