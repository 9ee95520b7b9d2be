"""A warm standby of an Airflow component: everything imported and looked at, nothing begun, waiting at its gate.

A program for *Airflow's* interpreter, which need not be ours (``python standby.py PROGRAM COMPONENT ARGUMENT…``): it imports
Airflow and nothing of HeirFlow but the file of the gate. It runs ``airflow COMPONENT`` as the console script would, with one
listener more. Airflow calls the listener hook ``on_starting`` when it builds the component's `Job`, which is before the job
row, the health server, the executor and the component's loop exist. There the standby warms up, gives its database connection
back, and stands. A process that it would start before (the triggerer's log server) is started when the gate has opened.

**It fails shut.** Were the hook not called (another Airflow, a broken listener), the component would run without being
elected. So the method that writes the job row refuses until the gate has opened, and the listener raises `SystemExit`, never
an `Exception`, which Airflow 3 would log and pass over. That is also why this is no plugin found by entry point: a plugin that
fails to load is logged and passed over too, and every other ``airflow`` command would pay for its import.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

DATABASE_LIMIT_S = 60.0
"""How long a command waits for Airflow's database. Less than the time that `--health-start` gives it."""
AGAIN_S = 0.2
NO_AIRFLOW = 78
"""Exit code of a standby whose Python has no Airflow: the configuration is wrong, and another try will not help."""


def main() -> None:
    """Stand, then be ``airflow COMPONENT``."""
    program, words = sys.argv[1], sys.argv[2:]
    gate = _gate().Gate.take()
    if gate is None:
        raise SystemExit("heirflow: a standby is started by `heirflow run`, which gives it a gate")
    safe = sys.flags.isolated or getattr(sys.flags, "safe_path", False)
    if not safe:  # as the program itself would find it there
        sys.path[0] = os.getcwd() if program == "-m" else str(Path(program).resolve().parent)
    try:
        from airflow.__main__ import __file__ as its_file
        from airflow.__main__ import main as airflow
    except ModuleNotFoundError as error:
        if error.name not in {"airflow", "airflow.__main__"}:
            raise
        sys.stderr.write(f"heirflow: {sys.executable} has no Airflow; name Airflow's own script by its path\n")
        sys.exit(NO_AIRFLOW)

    sys.argv[:] = [str(its_file) if program == "-m" else program, *words]
    _begin_without_database()
    _Listener(gate, component=words[0]).attach()
    sys.exit(airflow())


def _begin_without_database() -> None:
    """See that a database which is away for a moment does not end a standby that has only just begun.

    Airflow looks at its tables before it does anything. Heirs are wanted most when the database comes back: by then they are to
    be warm, and not to begin. Whoever leads has looked already.
    """
    from airflow.utils import db
    from sqlalchemy.exc import OperationalError

    def patient(look: Callable[..., Any]) -> Callable[..., Any]:
        def looked(*args: Any, **options: Any) -> Any:
            try:
                return look(*args, **options)
            except OperationalError as error:
                sys.stderr.write(
                    f"heirflow: Airflow's database is away, and the standby begins without it: {error.orig}\n"
                )
                return None

        return looked

    for name in ("check_and_run_migrations", "synchronize_log_template"):
        if hasattr(db, name):  # as Airflow 2.11 and 3 call them
            setattr(db, name, patient(getattr(db, name)))


LOGS = ("airflow.utils.serve_logs", "airflow.utils.serve_logs.log_server", "multiprocessing.popen_fork")
AHEAD = {
    "scheduler": (*LOGS, "airflow.utils.scheduler_health", "airflow.callbacks.database_callback_sink"),
    "triggerer": (*LOGS, "airflow.api_fastapi.execution_api.app"),
    # 2.11 uses multiprocessing.connection, and ends where no DAG file has caused its import.
    "dag-processor": (
        "airflow.api_fastapi.execution_api.app",
        "multiprocessing.connection",
        "multiprocessing.popen_fork",
    ),
}
"""What each component imports only once it begins, by any version; absent ones are passed over."""


class _Listener:
    """Registered with Airflow; holds the component's one job at the gate."""

    def __init__(self, gate: Any, *, component: str) -> None:
        self._gate = gate
        self._component = component
        self._job: Any = None
        self._opened = False
        self._postponed: list[Any] = []

    def attach(self) -> None:
        """Be called first when a job is built, and see that no job row is written before the gate has opened."""
        from airflow.jobs.job import Job
        from airflow.listeners import hookimpl
        from airflow.listeners.listener import get_listener_manager

        write_row = Job.prepare_for_execution

        def prepare_for_execution(job: Any, *args: Any, **options: Any) -> Any:
            if not self._opened:
                raise SystemExit("heirflow: Airflow wanted to begin without having stood at the gate")
            written = write_row(job, *args, **options)
            if job is self._job:
                Job.prepare_for_execution = write_row
                self._gate.note(job_id=job.id, job_type=job.job_type)
            return written

        Job.prepare_for_execution = prepare_for_execution

        def on_starting(component: Any) -> None:
            if self._job is None:
                self._stand(component)

        class Hooks:
            pass

        hooks = Hooks()
        hooks.on_starting = hookimpl(tryfirst=True)(on_starting)  # type: ignore[attr-defined]
        get_listener_manager().add_listener(hooks)
        self._let_begin = self._postpone_processes()

    def _postpone_processes(self) -> Callable[[], None]:
        """Nothing is started while the gate is shut; call what is returned to start it."""
        from multiprocessing.process import BaseProcess

        process_class: Any = BaseProcess
        start, terminate = BaseProcess.start, BaseProcess.terminate

        def postpone(process: Any) -> None:
            self._postponed.append(process)

        def end(process: Any) -> None:
            if process not in self._postponed:
                terminate(process)

        def begin() -> None:
            process_class.start, process_class.terminate = start, terminate
            while self._postponed:
                self._postponed.pop(0).start()

        process_class.start, process_class.terminate = postpone, end
        return begin

    def _stand(self, job: Any) -> None:
        self._job = job
        try:
            _warm_up(self._component)
            self._gate.stand()
            _await_database()
            self._let_begin()
            # Both were set when the job was built, which may be days ago.
            job.start_date = job.latest_heartbeat = datetime.now(timezone.utc)
        except Exception as error:
            raise SystemExit(f"heirflow: the standby cannot begin: {type(error).__name__}: {error}") from error
        self._opened = True


def _warm_up(component: str) -> None:
    """Pay now for what the first second would cost. Without a success here the standby only begins more slowly."""
    from airflow import settings

    for name in AHEAD.get(component, ()):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for step in (_map, _look, _load_executor if component == "scheduler" else _nothing):
        try:
            step()
        except Exception as error:  # noqa: BLE001, PERF203  another Airflow than those we know: it can still begin
            sys.stderr.write(f"heirflow: {step.__name__.strip('_')}: {type(error).__name__}: {error}\n")
    # No connection while it waits, and those of later get the name that the gate brings (PGAPPNAME).
    settings.Session.remove()
    settings.engine.dispose()


def _await_database() -> None:
    """Wait until Airflow's database takes writes: what began before would end at once, and the next would have to begin cold.

    After `DATABASE_LIMIT_S` it begins all the same, and tells by its own error what is wrong.
    """
    from airflow import settings
    from sqlalchemy import text
    from sqlalchemy.exc import OperationalError

    postgres = settings.engine.dialect.name == "postgresql"
    ask = text("SELECT NOT pg_is_in_recovery()" if postgres else "SELECT 1")
    limit, told = time.monotonic() + DATABASE_LIMIT_S, False
    while time.monotonic() < limit:
        try:
            with settings.engine.connect() as connection:
                if connection.execute(ask).scalar():
                    return
            why = "it does not take writes yet"
        except OperationalError as error:
            why = str(error.orig).strip()
        if not told:
            sys.stderr.write(f"heirflow: Airflow's database is away, and the command waits for it: {why}\n")
            told = True
        time.sleep(AGAIN_S)


def _nothing() -> None:
    pass


def _map() -> None:
    """Tie all tables to their classes, which SQLAlchemy otherwise does at the first query."""
    from sqlalchemy.orm import configure_mappers

    configure_mappers()


def _look() -> None:
    """A few cheap queries that change and lock nothing: the driver, the dialect and the first statements are ready then."""
    from airflow.jobs.job import Job
    from airflow.models import DagModel, DagRun, Pool, TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        for model in (Job, DagModel, DagRun, TaskInstance, Pool):
            session.query(model).limit(1).all()
        session.rollback()


def _load_executor() -> None:
    """Import the executor's class; it is built, and its workers started, after the gate."""
    from airflow.executors.executor_loader import ExecutorLoader

    executor, _ = ExecutorLoader.import_default_executor_cls()
    if "celery" in executor.__module__:
        importlib.import_module("airflow.providers.celery.executors.celery_executor_utils")


def _gate() -> Any:
    """The gate's file, from where it lies: in Airflow's environment there may be no HeirFlow."""
    place = Path(__file__).resolve().parents[2] / "alone" / "gate.py"
    spec = importlib.util.spec_from_file_location("heirflow_gate", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
