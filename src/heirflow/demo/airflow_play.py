"""The play with real Airflow: its database, API server and DAG processor, and a wrapped scheduler on each "host".

Every scheduler has its own folder, log and ports, as on machines of their own. What they share is what real installations
share: the database, the DAG files, and a place for the logs of tasks.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import urllib.error
import urllib.request
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from heirflow.demo.environment import CHECKOUT, AirflowEnvironment, ensure
from heirflow.demo.plain_play import heirflow, member_environment, own_folder
from heirflow.demo.screen import Screen
from heirflow.demo.stage import Process, Stage, Trouble
from heirflow.demo.watch import Start
from heirflow.stores import Store, open_store
from heirflow.testing.servers import Server, free_port, postgres_server

UP_LIMIT_S = 180.0
MIGRATE_LIMIT_S = 300.0
DAGS = CHECKOUT / "examples" / "dags"
HOSTNAME_MODULE = "import os\n\n\ndef name() -> str:\n    return os.environ.get('DEMO_HOST', 'localhost')\n"


class AirflowPlay:
    """See `watch.Play`."""

    election = "airflow-scheduler"
    noun = "tasks"
    command = "scheduler"
    pause_s = 15.0
    warm_up_s = 180.0

    def __init__(self, stage: Stage, screen: Screen, undo: ExitStack) -> None:
        self._stage, self._screen = stage, screen
        with screen.working("looking for Airflow 3.3.2"):
            self._airflow: AirflowEnvironment = ensure("3.3", progress=screen.now_working)
        with screen.working("starting an embedded PostgreSQL for Airflow's metadata"):
            self._server: Server = undo.enter_context(postgres_server())
        self._home = stage.folder / "airflow"
        self.ui_port = free_port()
        self._env = self._environment()
        self._engine, self._connection = _connect(self._server.url("psycopg"))
        undo.callback(self._engine.dispose)
        undo.callback(self._connection.close)
        self._migrate()
        self._start_the_rest()

    def _environment(self) -> dict[str, str]:
        (self._home / "config").mkdir(parents=True)
        (self._home / "config" / "demo_host.py").write_text(HOSTNAME_MODULE)
        settings = {
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "8",
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__DAGS_FOLDER": str(DAGS),
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.ui_port}/execution/",
            "CORE__HOSTNAME_CALLABLE": "demo_host.name",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._home / "passwords.json"),
            "DATABASE__SQL_ALCHEMY_CONN": self._server.url("psycopg2"),
            "API__HOST": "127.0.0.1",
            "API__PORT": str(self.ui_port),
            "API__BASE_URL": f"http://127.0.0.1:{self.ui_port}",
            "API__SECRET_KEY": secrets.token_urlsafe(24),
            "API__WORKERS": "1",
            "API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
            "LOGGING__BASE_LOG_FOLDER": str(self._home / "logs"),
        }
        return member_environment(
            self._stage,
            None,  # it is found by asking Airflow
            AIRFLOW_HOME=str(self._home),
            MACHINE_LEARNING_STORE=str(self._stage.folder / "models"),
            PYTHONPATH=str(self._home / "config"),
            PYTHONDONTWRITEBYTECODE="1",  # of DAG files, which lie in the checkout
            PATH=os.pathsep.join([str(self._airflow.folder / "bin"), os.environ.get("PATH", os.defpath)]),
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        )

    def _migrate(self) -> None:
        with self._screen.working("making Airflow's tables (airflow db migrate)"):
            process = self._start("migrate", ["airflow", "db", "migrate"])
            status = self._stage.wait(process, MIGRATE_LIMIT_S)
        if status != 0:
            raise Trouble(f"`airflow db migrate` failed; the end of {process.log}:\n{process.log_end()}")

    def _start_the_rest(self) -> None:
        api, processor = (self._start(name, ["airflow", name]) for name in ("api-server", "dag-processor"))
        with self._screen.working("starting Airflow's API server and DAG processor"):
            self._await(api, "the API server", self._api_answers)
            self._await(processor, "the DAG processor", self._dags_are_known)

    def _await(self, process: Process, what: str, done: Any) -> None:
        limit = time.monotonic() + UP_LIMIT_S
        while not done():
            if (status := self._stage.status(process)) is not None or time.monotonic() > limit:
                why = f"ended with {status}" if status is not None else f"was not ready within {UP_LIMIT_S:.0f} s"
                raise Trouble(f"{what} {why}; the end of {process.log}:\n{process.log_end()}")
            time.sleep(0.2)

    def _api_answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ui_port}/api/v2/version", timeout=2.0) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _dags_are_known(self) -> bool:
        return int(self._ask("SELECT count(*) FROM dag WHERE NOT is_stale")[0][0]) >= len(list(DAGS.glob("*.py")))

    def _start(self, name: str, argv: list[str], **own: str) -> Process:
        return self._stage.start(name, argv, {**self._env, **own}, cwd=own_folder(self._stage, name))

    def _ask(self, statement: str, **parameters: Any) -> Sequence[Any]:
        import sqlalchemy as sa

        return self._connection.execute(sa.text(statement), parameters).fetchall()  # type: ignore[no-any-return]

    def open_store(self) -> Store:
        store = open_store(self._server.url("psycopg"), call_limit_s=2.0, application_name="demo")
        store.open()
        return store

    def start_member(self, host: str) -> Process:
        return self._start(
            host,
            ["heirflow", "run", "--host", host, "--", "airflow", "scheduler"],
            DEMO_HOST=host,
            AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT=str(free_port()),
            AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT=str(free_port()),
        )

    def starts(self, after: float) -> Sequence[Start]:
        rows = self._ask(
            "SELECT extract(epoch FROM start_date), hostname, dag_id || '.' || task_id FROM task_instance "
            "WHERE start_date > to_timestamp(:after) ORDER BY start_date",
            after=after + 1e-6,
        )
        return [Start(float(at), host or "?", what) for at, host, what in rows]

    def in_loop_at(self, after: float) -> float | None:
        found = self._ask(
            "SELECT extract(epoch FROM min(start_date)) FROM job "
            "WHERE job_type = 'SchedulerJob' AND start_date > to_timestamp(:after)",
            after=after,
        )[0][0]
        return None if found is None else float(found)

    def order(self, *words: str) -> str:
        return heirflow([self._airflow.program("heirflow")], words, self._env)

    def farewell(self) -> str:
        """Where the user interface is, and who may enter."""
        try:
            password = json.loads((self._home / "passwords.json").read_text("utf-8"))["admin"]
        except (OSError, ValueError, KeyError):
            password = f"in {self._home / 'passwords.json'}"
        return f"Airflow's user interface: http://127.0.0.1:{self.ui_port}   user admin   password {password}"


def _connect(url: str) -> tuple[Any, Any]:
    import sqlalchemy as sa
    from sqlalchemy.pool import NullPool

    engine = sa.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    return engine, engine.connect()
