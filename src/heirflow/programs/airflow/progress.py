"""Whether an Airflow component moves what waits for it. A component that writes its heartbeat and does nothing looks well in `job`.

The condition is cautious, as a false alarm costs more trust than a late one. A backlog counts only where nothing that can be read
explains it, and only if nothing at all moved meanwhile.

- **scheduler:** a task waits in `scheduled`, or a run in `queued`. What may wait for a reason does not count: in a paused DAG, in a
  pool without enough open slots, in a DAG at `max_active_tasks` or `max_active_runs`, in a DAG with limits per task, or with an
  executor of its own; a backfill; a run by hand, which may be for later. No task counts while as many are queued or run as
  `parallelism` allows. It moved if one that waited does not any more, or if another one was queued, started or ended.
- **dag-processor:** there is an active DAG. It moved if one was parsed, or an import error was written: then a file was parsed that
  fails. The limit is never less than three times `min_file_process_interval`.
- **triggerer:** a trigger of a deferred task has no triggerer, and ours has room for it. It moved if one that waited does not any
  more, or if the triggers of ours changed. Triggers that ours *has* may wait for a day, and nothing in the tables says what for.
  So a triggerer that takes its triggers and never fires one is not seen.

Moments of the database are compared with each other for being the same, never with a clock.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from heirflow.errors import HeirflowError
from heirflow.member.asker import CannotTell, Check
from heirflow.programs.airflow.adopt import job_of
from heirflow.programs.airflow.row import StoreFactory

ROWS = 500
"""The most that are looked at of what waits. One that others push out of sight counts as moved."""
BUSY = ("queued", "running", "restarting")
RUN_TYPES = ("scheduled", "asset_triggered", "dataset_triggered")
INTERVALS = 3
TRIGGER_OF = {"queue": (3, 2), "team_name": (3, 3)}
"""Columns of `trigger` that say that another triggerer may have to take it, and since which Airflow they are there."""
RUN_KEY = 2
"""Words of a run's key; a task's has more."""
Ask = Callable[[Any], list[Any]]
Key = tuple[Any, ...]


@dataclass(slots=True)
class Backlog:
    """What waited at the look before, and by what it would show that something moved. No database, no clock."""

    waiting: frozenset[Key] = frozenset()
    could: frozenset[Key] = frozenset()
    """Those of `waiting` that nothing known holds up."""
    mark: Any = None

    def stands_still(self, waiting: frozenset[Key], could: frozenset[Key], mark: Any) -> frozenset[Key]:
        """Those that could have moved at both looks and did not; empty when anything moved."""
        moved = mark != self.mark or not self.waiting <= waiting
        same = frozenset() if moved else self.could & could
        self.waiting, self.could, self.mark = waiting, could, mark
        return same


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits now. `could`, and how `newest` is used: see `Backlog`."""

    waiting: frozenset[Key]
    could: frozenset[Key]
    newest: Any


@dataclass(frozen=True, slots=True)
class Limits:
    """What Airflow's configuration says; None where it does not."""

    parallelism: int | None = None
    capacity: int | None = None
    min_file_process_interval: int | None = None

    @classmethod
    def of(cls, numbers: Mapping[str, int]) -> Limits:
        return cls(**{name: numbers.get(name) for name in ("parallelism", "capacity", "min_file_process_interval")})


def progress_of(
    component: str, argv: Sequence[str], limits: Limits, version: str, store_factory: StoreFactory, schema: str | None
) -> Check:
    """The check for this component of Airflow's."""
    release = release_of(version)
    tables = Tables.of(schema, modern=release >= (3, 0))
    if component == "scheduler":
        return SchedulerProgress(store_factory, tables, limits.parallelism)
    if component == "dag-processor":
        return ParserProgress(store_factory, tables)
    others = tuple(name for name, since in TRIGGER_OF.items() if release >= since)
    return TriggererProgress(store_factory, tables, _capacity(argv, limits.capacity), others)


def release_of(version: str) -> tuple[int, int]:
    """Airflow's first two numbers; of what cannot be read, the newest that is known."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (3, 3)


def least_limit_s(component: str, limits: Limits) -> float:
    """A shorter time than this without progress is nothing unusual."""
    return INTERVALS * (limits.min_file_process_interval or 30) if component == "dag-processor" else 0.0


def _capacity(argv: Sequence[str], configured: int | None) -> int | None:
    for word, value in zip(argv, (*argv[1:], ""), strict=False):
        name, equals, given = word.partition("=")
        if name == "--capacity":
            text = given if equals else value
            return int(text) if text.isdigit() else None
    return configured


@dataclass(frozen=True, slots=True)
class Tables:
    """The columns of Airflow's that are read here, the same in 2.11 and 3.3 but for the one that says which DAGs are there."""

    task: sa.Table
    run: sa.Table
    dag: sa.Table
    pool: sa.Table
    error: sa.Table
    trigger: sa.Table
    modern: bool

    @classmethod
    def of(cls, schema: str | None, *, modern: bool) -> Tables:
        about = sa.MetaData(schema=schema)

        def table(name: str, texts: str, numbers: str = "", moments: str = "", flags: str = "") -> sa.Table:
            kinds = (
                (texts, sa.String),
                (numbers, sa.Integer),
                (moments, sa.TIMESTAMP(timezone=True)),
                (flags, sa.Boolean),
            )
            return sa.Table(
                name, about, *(sa.Column(column, kind) for words, kind in kinds for column in words.split())
            )

        return cls(
            table(
                "task_instance",
                "dag_id run_id task_id state pool executor",
                "map_index pool_slots trigger_id",
                "queued_dttm",
            ),
            table("dag_run", "dag_id run_id state run_type", "", "start_date"),
            table(
                "dag",
                "dag_id",
                "max_active_tasks max_active_runs",
                "last_parsed_time",
                "is_paused has_task_concurrency_limits is_stale is_active",
            ),
            table("slot_pool", "pool", "slots", "", "include_deferred"),
            table("import_error", "", "id", "timestamp"),
            table("trigger", "queue team_name", "id triggerer_id"),
            modern,
        )

    @property
    def active(self) -> Any:
        return self.dag.c.is_stale.is_(sa.false()) if self.modern else self.dag.c.is_active.is_(sa.true())


@contextmanager
def _asking(store_factory: StoreFactory) -> Iterator[Ask]:
    """One connection for the statements of a look. Raises `CannotTell`."""
    store = store_factory()
    try:
        yield store.ask
    except HeirflowError as error:
        raise CannotTell(str(error)) from error
    finally:
        store.close()


@dataclass(slots=True)
class SchedulerProgress:
    """A `Check`: see the top."""

    store_factory: StoreFactory
    tables: Tables
    parallelism: int | None
    backlog: Backlog = field(default_factory=Backlog)

    def look(self, note: str, limit_s: float) -> str:
        with _asking(self.store_factory) as ask:
            tasks, runs = self._tasks(ask), self._runs(ask)
        same = self.backlog.stands_still(
            tasks.waiting | runs.waiting, tasks.could | runs.could, (tasks.newest, runs.newest)
        )
        if still := [".".join((key[0], key[2])) for key in same if len(key) > RUN_KEY]:
            return f"{_many(still, 'task')} in `scheduled` though there is room, and none is queued"
        if still := [key[0] for key in same]:
            return f"{_many(still, 'run')} in `queued` though more may run, and none is started"
        return ""

    def _tasks(self, ask: Ask) -> Waiting:
        task, run, dag = self.tables.task.c, self.tables.run.c, self.tables.dag.c
        executing = ask(
            sa.select(task.dag_id, sa.func.count(), sa.func.max(task.queued_dttm))
            .where(task.state.in_(BUSY))
            .group_by(task.dag_id)
        )
        key = (task.dag_id, task.run_id, task.task_id, task.map_index)
        ours = self.tables.task.join(
            self.tables.run, sa.and_(run.dag_id == task.dag_id, run.run_id == task.run_id)
        ).join(self.tables.dag, dag.dag_id == task.dag_id)
        waiting = ask(
            sa.select(*key, task.pool, task.pool_slots, dag.max_active_tasks)
            .select_from(ours)
            .where(task.state == "scheduled", run.state == "running", dag.is_paused.is_(sa.false()), self.tables.active)
            .where(dag.has_task_concurrency_limits.is_(sa.false()), task.executor.is_(None))
            .order_by(*key)
            .limit(ROWS)
        )
        busy = {row[0]: row[1] for row in executing}
        open_slots = self._open_slots(ask) if waiting and self._has_room(sum(busy.values())) else {}
        could = frozenset(
            (*row[:4],)
            for row in waiting
            if open_slots.get(row[4], 0) >= row[5] and busy.get(row[0], 0) < (row[6] or 0)
        )
        return Waiting(frozenset((*row[:4],) for row in waiting), could, _newest(executing))

    def _has_room(self, busy: int) -> bool:
        """Whether the executor has, for sure. A parallelism of 0 is none, and one that is not known may be used up by one task."""
        if self.parallelism is None:
            return busy == 0
        return self.parallelism == 0 or busy < self.parallelism

    def _open_slots(self, ask: Ask) -> dict[str, float]:
        task, pool = self.tables.task.c, self.tables.pool.c
        used = {
            (row[0], row[1]): int(row[2] or 0)
            for row in ask(
                sa.select(task.pool, task.state, sa.func.sum(task.pool_slots))
                .where(task.state.in_((*BUSY, "deferred")))
                .group_by(task.pool, task.state)
            )
        }
        found = {}
        for name, slots, include_deferred in ask(sa.select(pool.pool, pool.slots, pool.include_deferred)):
            taken = sum(used.get((name, state), 0) for state in ((*BUSY, "deferred") if include_deferred else BUSY))
            found[name] = math.inf if slots == -1 else slots - taken
        return found

    def _runs(self, ask: Ask) -> Waiting:
        run, dag = self.tables.run.c, self.tables.dag.c
        running = ask(
            sa.select(run.dag_id, sa.func.count(), sa.func.max(run.start_date))
            .where(run.state == "running")
            .group_by(run.dag_id)
        )
        waiting = ask(
            sa.select(run.dag_id, run.run_id, dag.max_active_runs)
            .select_from(self.tables.run.join(self.tables.dag, dag.dag_id == run.dag_id))
            .where(
                run.state == "queued", run.run_type.in_(RUN_TYPES), dag.is_paused.is_(sa.false()), self.tables.active
            )
            .order_by(run.dag_id, run.run_id)
            .limit(ROWS)
        )
        busy = {row[0]: row[1] for row in running}
        could = frozenset((*row[:RUN_KEY],) for row in waiting if busy.get(row[0], 0) < (row[2] or 0))
        return Waiting(frozenset((*row[:RUN_KEY],) for row in waiting), could, _newest(running))


@dataclass(slots=True)
class ParserProgress:
    """A `Check` of the dag-processor: see the top."""

    store_factory: StoreFactory
    tables: Tables
    before: Any = None

    def look(self, note: str, limit_s: float) -> str:
        dag, error = self.tables.dag.c, self.tables.error.c
        with _asking(self.store_factory) as ask:
            parsed, dags = ask(sa.select(sa.func.max(dag.last_parsed_time), sa.func.count()).where(self.tables.active))[
                0
            ]
            errors = ask(sa.select(sa.func.max(error.timestamp), sa.func.count(), sa.func.max(error.id)))[0]
        now = (parsed, dags, *errors)
        moved, self.before = now != self.before, now
        if moved or not dags or parsed is None:
            return ""
        return f"none of {_counted(dags, 'DAG')} was parsed again"


@dataclass(slots=True)
class TriggererProgress:
    """A `Check`: see the top."""

    store_factory: StoreFactory
    tables: Tables
    capacity: int | None
    of_others: tuple[str, ...]
    """Those of `TRIGGER_OF` that this Airflow has."""
    backlog: Backlog = field(default_factory=Backlog)

    def look(self, note: str, limit_s: float) -> str:
        named = job_of(note)
        if named is None:
            raise CannotTell("it has not written its row in Airflow's job table")
        task, trigger = self.tables.task.c, self.tables.trigger.c
        with _asking(self.store_factory) as ask:
            held = ask(sa.select(sa.func.count(), sa.func.max(trigger.id)).where(trigger.triggerer_id == named[0]))[0]
            waiting = ask(
                sa.select(trigger.id)
                .select_from(self.tables.trigger.join(self.tables.task, task.trigger_id == trigger.id))
                .where(trigger.triggerer_id.is_(None), task.state == "deferred")
                .where(*(trigger[name].is_(None) for name in self.of_others))
                .order_by(trigger.id)
                .limit(ROWS)
            )
        keys = frozenset((row[0],) for row in waiting)
        has_room = held[0] < self.capacity if self.capacity is not None else held[0] == 0
        same = self.backlog.stands_still(keys, keys if has_room else frozenset(), (named, *held))
        return f"{_counted(len(same), 'deferred task')} without a triggerer, and it takes none" if same else ""


def _newest(rows: list[Any]) -> Any:
    return max((row[2] for row in rows if row[2] is not None), default=None)


def _many(names: list[str], what: str) -> str:
    return f"{_counted(len(names), what)} ({min(names)}{', …' if len(names) > 1 else ''}) {'waits' if len(names) == 1 else 'wait'}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
