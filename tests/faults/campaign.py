"""Many waits at once: cases run in lanes beside each other, and each test waits for its own case only.

Nearly all of a fault's time is waiting for a lease to run out. So everything that needs the same members and the same
database is a *lane*, a thread of its own that carries out its cases one after the other; the lanes of all selected tests run
together. A case that fails ends the members of its lane, and the next case begins with new ones.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Run:
    """What came of one run of a case. All that was promised and did not come about stands in `wrong`."""

    gap_s: float | None = None
    """How long no command ran."""
    late: bool = False
    """Whether that was longer than promised for a machine that is not busy."""
    overlaps: int = 0
    orphans: int = 0
    instant_s: float | None = None
    """After a thaw: how long the old command still wrote. The documented exception."""
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """One fault in one lane."""

    lane: str
    fault: str
    open: Callable[[], AbstractContextManager[Any]] = field(compare=False)
    """Makes what the cases of this lane share. Called again after a failure."""
    run: Callable[[Any], Run] = field(compare=False)

    def __str__(self) -> str:
        return f"{self.fault}-{self.lane}".replace(" ", "_")


class Campaign:
    """Runs cases; `result` waits for one of them."""

    def __init__(self, cases: list[Case], *, repeat: int = 1, lanes_at_once: int = 8) -> None:
        self.runs: dict[Case, list[Run]] = {case: [] for case in cases}
        self._repeat = repeat
        self._ending = threading.Event()
        self._futures: dict[Case, Future[None]] = {case: Future() for case in cases}
        self._pool = ThreadPoolExecutor(max_workers=lanes_at_once, thread_name_prefix="lane")
        lanes: dict[str, list[Case]] = {}
        for case in cases:
            lanes.setdefault(case.lane, []).append(case)
        for lane in sorted(lanes.values(), key=len, reverse=True):
            self._pool.submit(self._lane, lane)

    def result(self, case: Case, limit_s: float) -> list[Run]:
        """The runs of a case, all as promised. Raises what went wrong in the first that was not."""
        self._futures[case].result(limit_s)
        return self.runs[case]

    def close(self) -> None:
        self._ending.set()
        self._pool.shutdown(cancel_futures=True)

    def _lane(self, cases: list[Case]) -> None:
        with ExitStack() as stack:
            stage: Any = None
            for case in cases:
                if self._ending.is_set():
                    return
                failed: BaseException | None = None
                for _ in range(self._repeat):
                    try:
                        if stage is None:
                            stage = stack.enter_context(case.open())
                        run = case.run(stage)
                        self.runs[case].append(run)
                        if run.wrong:
                            raise AssertionError("\n".join(run.wrong))
                    except BaseException as error:
                        failed = failed or error
                        stage = None
                        try:
                            stack.close()
                        except Exception as trouble:
                            failed.__context__ = failed.__context__ or trouble
                    if self._ending.is_set():
                        break
                future = self._futures[case]
                future.set_exception(failed) if failed else future.set_result(None)

    def table(self) -> list[str]:
        """One line for each fault, over all its lanes."""
        rows: dict[str, list[Run]] = {}
        for case, runs in self.runs.items():
            rows.setdefault(case.fault, []).extend(runs)
        rows = {fault: runs for fault, runs in rows.items() if runs}
        if not rows:
            return []
        head = ("fault", "runs", "overlaps", "orphans", "no command: median", "max", "later than promised", "instant")
        lines = [head]
        for fault, runs in rows.items():
            gaps = [run.gap_s for run in runs if run.gap_s is not None]
            instants = [run.instant_s for run in runs if run.instant_s is not None]
            lines.append((
                fault,
                str(len(runs)),
                str(sum(run.overlaps for run in runs)),
                str(sum(run.orphans for run in runs)),
                f"{statistics.median(gaps):.2f} s" if gaps else "–",
                f"{max(gaps):.2f} s" if gaps else "–",
                str(sum(run.late for run in runs)),
                f"at most {1000 * max(instants):.0f} ms" if instants else "",
            ))  # fmt: skip
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        return ["  ".join(f"{word:{'>' if n else '<'}{widths[n]}}" for n, word in enumerate(line)) for line in lines]
