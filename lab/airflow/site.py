"""One installation of Airflow on "hosts" of its own: metadata database, broker where Celery is wanted, settings, API server.

What the hosts share is what real ones share: the database, the broker, the DAG files, the secrets, and a place for the logs of
tasks. Everything else is each component's own: its folder, its log, its Airflow home, its ports and the name of its host.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import signal
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from heirflow.demo.plain_play import heirflow, member_environment, own_folder
from heirflow.demo.screen import Screen
from heirflow.demo.stage import Process, Stage, Trouble
from heirflow.stores import Store, open_store
from lab.airflow.environment import CHECKOUT, AirflowEnvironment, ensure
from lab.rig.rig import store_url
from lab.servers.broker import rabbitmq_missing, rabbitmq_server
from lab.servers.server import Server, ServerTrouble
from lab.servers.servers import free_port, postgres_server

UP_LIMIT_S = 180.0
MIGRATE_LIMIT_S = 300.0
STOP_LIMIT_S = 60.0
EXAMPLES = CHECKOUT / "examples" / "dags"
HOSTNAME_MODULE = "import os\n\n\ndef name() -> str:\n    return os.environ.get('DEMO_HOST', 'localhost')\n"
WATCHER = "heirflow-site"
"""The name of the session by which a site looks at Airflow's tables."""
COORDINATORS = {"etcd": "etcd", "zookeeper": "ZooKeeper"}
"""What can hold the lines beside the metadata database, and its name for people."""
EXECUTORS = {"local": "LocalExecutor", "celery": "CeleryExecutor"}
PARALLELISM = 8
"""Tasks that run at once, of a whole installation."""


class Site:
    """Everything of it runs on the stage, and ends with it."""

    def __init__(
        self,
        stage: Stage,
        screen: Screen,
        undo: ExitStack,
        *,
        executor: str = "local",
        dags: Path = EXAMPLES,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        database_settings: Mapping[str, str] | None = None,
        version: str = "3.3",
        store: str = "postgres",
    ) -> None:
        """`executor`: a key of `EXECUTORS`. `settings`: of Airflow's, as ``SECTION__KEY``. `environment`: for everything.

        `store`: where the lines are: in the metadata database, or in one of `COORDINATORS` beside it.

        Raises `Trouble`.
        """
        self._stage, self._screen = stage, screen
        self.executor, self.dags = executor, dags
        if executor == "celery" and (missing := rabbitmq_missing()) is not None:
            raise Trouble(f"{missing}; or show the pair with LocalExecutor: --cluster --executor local")
        with screen.working("looking for Airflow"):
            self.airflow: AirflowEnvironment = ensure(version, progress=screen.now_working)
        with screen.working("starting an embedded PostgreSQL for Airflow's metadata"):
            self.server: Server = undo.enter_context(postgres_server(settings=database_settings))
        broker = None
        if executor == "celery":
            try:
                with screen.working("starting a RabbitMQ of our own for Celery"):
                    broker = undo.enter_context(rabbitmq_server())
            except ServerTrouble as error:
                raise Trouble(str(error)) from error
        self.store_url: str | None = None
        """Of the coordinator that holds the lines; None: the metadata database does."""
        if store in COORDINATORS:
            try:
                with screen.working(f"starting three servers of {COORDINATORS[store]} for the lines"):
                    self.store_url = undo.enter_context(store_url(f"{store}3", stage.folder))
            except ServerTrouble as error:
                raise Trouble(str(error)) from error
        self.home = stage.folder / "airflow"
        self.ui_port = free_port()
        self.env = {**self._environment(broker.url if broker else None, settings or {}), **(environment or {})}
        self.rest: list[tuple[str, Process]] = []
        """What is not in line: the API server and the workers, in the order in which they were started."""
        self._engine, self._connection = _connect(self.server.url("psycopg"))
        undo.callback(self._engine.dispose)
        undo.callback(self._connection.close)
        with screen.working("making Airflow's tables (airflow db migrate)"):
            migration = self.start("migrate", ["airflow", "db", "migrate"])
            if stage.wait(migration, MIGRATE_LIMIT_S) != 0:
                raise Trouble(f"`airflow db migrate` failed; the end of {migration.log}:\n{migration.log_end()}")

    def _environment(self, broker_url: str | None, more: Mapping[str, str]) -> dict[str, str]:
        (self.home / "config").mkdir(parents=True)
        (self.home / "config" / "demo_host.py").write_text(HOSTNAME_MODULE)
        settings = {
            "CORE__EXECUTOR": EXECUTORS[self.executor],
            "CORE__PARALLELISM": str(PARALLELISM),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__DAGS_FOLDER": str(self.dags),
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.ui_port}/execution/",
            "CORE__HOSTNAME_CALLABLE": "demo_host.name",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "DATABASE__SQL_ALCHEMY_CONN": self.server.url("psycopg2"),
            "API__HOST": "127.0.0.1",
            "API__PORT": str(self.ui_port),
            "API__BASE_URL": f"http://127.0.0.1:{self.ui_port}",
            "API__SECRET_KEY": secrets.token_urlsafe(24),
            "API__WORKERS": "1",
            "API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
            "LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            "SCHEDULER__STANDALONE_DAG_PROCESSOR": "True",
        }
        if broker_url is not None:
            settings |= {
                "CELERY__BROKER_URL": broker_url,
                "CELERY__RESULT_BACKEND": f"db+{self.server.url('psycopg2')}",
                "CELERY__WORKER_CONCURRENCY": "4",
            }
        return member_environment(
            self._stage,
            self.store_url,  # where there is none, it is found by asking Airflow
            AIRFLOW_HOME=str(self.home),
            MACHINE_LEARNING_STORE=str(self._stage.folder / "models"),
            PYTHONPATH=str(self.home / "config"),
            PYTHONDONTWRITEBYTECODE="1",  # of DAG files, which lie in the checkout
            PATH=os.pathsep.join([str(self.airflow.folder / "bin"), os.environ.get("PATH", os.defpath)]),
            **{f"AIRFLOW__{name}": value for name, value in {**settings, **more}.items()},
        )

    # ---- what is started ----

    def start(self, name: str, argv: Sequence[str], **own: str) -> Process:
        """Start something with this installation's settings; its log and its folder are named `name`."""
        return self._stage.start(name, argv, {**self.env, **own}, cwd=own_folder(self._stage, name))

    def start_member(self, host: str, component: str, *flags: str, name: str | None = None, **own: str) -> Process:
        """A wrapped component on a host of its own."""
        argv = ["heirflow", "run", "--host", host, *flags, "--", "airflow", component]
        return self.start_alone(name or f"{host}-{component}", host, argv, **own)

    def start_alone(self, name: str, host: str, argv: Sequence[str], **own: str) -> Process:
        """Something of a host's: its Airflow home and its ports are its own."""
        home = own_folder(self._stage, name) / "airflow"
        home.mkdir(exist_ok=True)
        share_config(home, self.home)
        ports = {
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(free_port()),
        }
        return self.start(name, argv, **{"DEMO_HOST": host, "AIRFLOW_HOME": str(home), **ports, **own})

    def start_api(self) -> None:
        """The API server, whose port and passwords are the site's. Raises `Trouble`."""
        api = self.start("api-server", ["airflow", "api-server"])
        self.rest.append(("the API server", api))
        with self._screen.working("starting Airflow's API server"):
            self.wait_for(api, "the API server", lambda: api_answers("127.0.0.1", self.ui_port))

    def start_workers(self, hosts: Iterable[str], **own: str) -> None:
        """Celery workers, one on each of these hosts."""
        # What a worker and the broker have to say to each other is kept short: gossip of workers means nothing to Airflow.
        argv = ["airflow", "celery", "worker", "--skip-serve-logs", "--without-gossip", "--without-mingle"]
        for host in hosts:
            name = f"{host}-worker"
            worker = self.start_alone(name, host, [*argv, "--celery-hostname", f"worker@{host}"], **own)
            self.rest.append((f"{host}'s Celery worker", worker))

    def start_dag_processor(self) -> None:
        """One that is in no line, until it has read all DAG files. Raises `Trouble`."""
        processor = self.start("dag-processor", ["airflow", "dag-processor"])
        self.rest.append(("the DAG processor", processor))
        with self._screen.working("starting Airflow's DAG processor"):
            self.wait_for(processor, "the DAG processor", self.dags_are_known)

    def stop_rest(self) -> None:
        """In good order, the last first; what does not end is left to the stage."""
        for what, process in reversed(self.rest):
            began = time.monotonic()
            self._stage.signal(process, signal.SIGTERM)
            status = self._stage.wait(process, STOP_LIMIT_S)
            ended = "did not end in time, and is killed" if status is None else f"left with exit code {status}"
            self._screen.say(f"{what} {ended} ({time.monotonic() - began:.1f} s)")

    # ---- what is seen ----

    def wait_for(self, process: Process, what: str, done: Callable[[], bool]) -> None:
        """Raises `Trouble` when the process ends, or `done` does not come true in time."""
        limit = time.monotonic() + UP_LIMIT_S
        while not done():
            if (status := self._stage.status(process)) is not None or time.monotonic() > limit:
                why = f"ended with {status}" if status is not None else f"was not ready within {UP_LIMIT_S:.0f} s"
                raise Trouble(f"{what} {why}; the end of {process.log}:\n{process.log_end()}")
            time.sleep(0.2)

    def dags_are_known(self) -> bool:
        """Whether as many DAGs are there as there are DAG files."""
        return int(self.ask("SELECT count(*) FROM dag WHERE NOT is_stale")[0][0]) >= len(list(self.dags.glob("*.py")))

    def ask(self, statement: str, **parameters: Any) -> Sequence[Any]:
        """Rows from the metadata database. Parameters are written as ``:name``."""
        import sqlalchemy as sa

        return self._connection.execute(sa.text(statement), parameters).fetchall()  # type: ignore[no-any-return]

    def open_store(self) -> Store:
        """Where the lines are."""
        store = open_store(self.store_url or self.server.url("psycopg"), call_limit_s=2.0, application_name="demo")
        store.open()
        return store

    def order(self, *words: str) -> str:
        """Carry out ``heirflow <words>`` as a person would and return what it prints."""
        return heirflow([self.airflow.program("heirflow")], words, self.env)

    def start_page(self, place: str) -> Process:
        """The page of `heirflow serve`, in Airflow's environment."""
        return self._stage.start("page", [self.airflow.program("heirflow"), "serve", "--http", place], self.env)

    def farewell(self) -> str:
        """Where the user interface is, and who may enter."""
        try:
            password = json.loads((self.home / "passwords.json").read_text("utf-8"))["admin"]
        except (OSError, ValueError, KeyError):
            password = f"in {self.home / 'passwords.json'}"
        where = f"http://127.0.0.1:{self.ui_port}"
        return f"Airflow's user interface: {where}   user admin   password {password}   the lines: Browse › HeirFlow"


def api_answers(host: str, port: int, limit_s: float = 2.0) -> bool:
    """Whether an API server of Airflow answers there."""
    link = http.client.HTTPConnection(host, port, timeout=limit_s)
    try:
        link.request("GET", "/api/v2/version")
        return link.getresponse().status == 200
    except (http.client.HTTPException, OSError):
        return False
    finally:
        link.close()


def share_config(home: Path, first: Path) -> None:
    """Give an Airflow home the configuration that the first one has made, where both are so far.

    Two that start at once must not write it at once, and a standby is started anew when it changes.
    """
    if not (home / "airflow.cfg").exists() and (first / "airflow.cfg").exists():
        shutil.copy(first / "airflow.cfg", home)


def _connect(url: str) -> tuple[Any, Any]:
    import sqlalchemy as sa
    from sqlalchemy.pool import NullPool

    named = {"application_name": WATCHER}
    engine = sa.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=named)
    return engine, engine.connect()
