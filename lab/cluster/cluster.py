"""A whole Airflow on three hosts, of which any one part may be lost. Root only: each host is a network namespace.

    people ──▶ floating address (keepalived) ──▶ HAProxy ──▶ API server, page
    ada    PostgreSQL (Patroni)  etcd  RabbitMQ  HAProxy  API server  page  worker  scheduler  dag-processor  triggerer
    ben    PostgreSQL (Patroni)  etcd  RabbitMQ  HAProxy  API server  page  worker  scheduler  dag-processor  triggerer
    cleo                         etcd  RabbitMQ  HAProxy                            scheduler (the heir of both seats)

Airflow reaches its database by the HAProxy of its own host, which follows the primary. HeirFlow keeps its lines in the etcd that
Patroni needs anyway, so that a fail-over of the database costs no leader its lease; or in that database.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from heirflow.demo.plain_play import heirflow, member_environment, own_folder
from heirflow.demo.screen import Screen
from heirflow.demo.stage import Process, Stage, Trouble
from heirflow.election.record import Exchange, Reading
from heirflow.errors import HeirflowError
from heirflow.status import Snapshot
from heirflow.stores import Store, open_store
from lab.airflow.environment import AirflowEnvironment, ensure
from lab.airflow.site import api_answers, share_config
from lab.campaign import ground as grounds
from lab.campaign.ground import Ground, GroundTrouble
from lab.cluster import settings
from lab.cluster.parts import Host, Keeper, Part, ProgramPart, ServerPart
from lab.servers import proxy
from lab.servers.broker import rabbitmq_missing
from lab.servers.brokers import BrokerCluster, rabbitmq_cluster
from lab.servers.etcd import EtcdServer, etcd_ensemble, etcd_missing, url_of
from lab.servers.patroni import PatroniCluster, patroni_cluster, patroni_missing
from lab.servers.server import NAME, Place, Server, ServerTrouble

HOSTS = ("ada", "ben", "cleo")
PAIR = HOSTS[:2]
PARTS = ("patroni", "rabbitmq", "api", "workers", "seats")
"""What can be had more than once."""
LINES = ("etcd", "database")
"""Where the lines of succession can be kept: in the etcd that Patroni needs, or beside Airflow's tables."""
UP_LIMIT_S = 180.0
MET_ETCD_S = 6.0
"""Within which each Patroni must have reached etcd."""
NETWORKS = range(100, 200)
COMPONENTS = ("scheduler", "dag-processor", "triggerer")


def missing() -> list[str]:
    """What keeps a cluster from standing here, as sentences."""
    absent = (etcd_missing(), patroni_missing(), rabbitmq_missing(), proxy.proxies_missing())
    return [*grounds.missing(), *(each for each in absent if each is not None)]


class Cluster:
    """Everything of it ends with the `ExitStack` that it is given. `lab.airflow.line` sees in it an installation like `Site`."""

    def __init__(
        self,
        stage: Stage,
        screen: Screen,
        undo: ExitStack,
        *,
        dags: Path,
        parts: Collection[str] = PARTS,
        lines: str = LINES[0],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`parts`: those of `PARTS` that are there more than once. `lines`: one of `LINES`.

        `environment`: for every program. Raises `Trouble`.
        """
        if absent := missing():
            raise Trouble("a highly available cluster cannot stand here: " + "; ".join(absent))
        self._stage, self._screen, self._undo, self.parts = stage, screen, undo, frozenset(parts)
        with screen.working("looking for Airflow"):
            self.airflow: AirflowEnvironment = ensure(progress=screen.now_working)
        self.seats = 2 if "seats" in parts else 1
        grounds.clear_away()
        self.ground = _ground(undo)
        self.hosts = {name: Host(name, self.ground.address(name)) for name in HOSTS}
        self.notes: list[tuple[float, str]] = []
        """What happened by itself: since 1970, and a sentence."""
        try:
            self._start_servers()
        except (ServerTrouble, GroundTrouble) as error:
            raise Trouble(str(error)) from error
        self.home, self.dags = stage.folder / "airflow", dags
        self.password = settings.prepare(self.home)
        self.lines_url = url_of(list(self.etcd.values())) if lines == "etcd" else self.database.url("psycopg")
        """Where the lines are."""
        # In the database, members and the page inside Airflow learn its place from Airflow.
        self._of_members = {"HEIRFLOW_DB_URL": self.lines_url} if lines == "etcd" else {}
        self.env = member_environment(
            stage,
            None,
            PYTHONPATH=str(self.home / "config"),
            PYTHONDONTWRITEBYTECODE="1",
            PATH=f"{self.airflow.folder / 'bin'}:{proxy.SBIN}",
            **{
                **settings.airflow(
                    self.home, dags, brokers=self.brokers.urls if self.brokers else None, floating=self.ground.floating,
                    lines=lines,
                ),
                **(environment or {}),
            },
        )  # fmt: skip
        self._start_proxies()
        self._engine = _engine(self.database.url("psycopg"))
        undo.callback(self._engine.dispose)
        with screen.working("making Airflow's tables (airflow db migrate)"):
            migration = self.start_on("ada", "migrate", ["airflow", "db", "migrate"])
            if stage.wait(migration, UP_LIMIT_S) != 0:
                raise Trouble(f"`airflow db migrate` failed; the end of {migration.log}:\n{migration.log_end()}")
        self._start_airflow()
        undo.enter_context(Keeper(self.all_parts, self.note))

    # ---- how it is built ----

    def _start_servers(self) -> None:
        twice = PAIR if "patroni" in self.parts else PAIR[:1]
        thrice = HOSTS if "patroni" in self.parts else HOSTS[:1]
        with self._screen.working(f"starting {_so_many(thrice)} etcd for Patroni"):
            servers = self._undo.enter_context(
                etcd_ensemble(len(thrice), places=self._places(thrice, 2379), heartbeat_interval="100", election_timeout="1000")
            )  # fmt: skip
        self.etcd: dict[str, EtcdServer] = dict(zip(thrice, servers, strict=True))
        with (
            ThreadPoolExecutor(2) as pool,
            self._screen.working("starting PostgreSQL by Patroni, and what tasks are sent by"),
        ):
            database = pool.submit(self._start_database, twice)
            brokers = pool.submit(self._start_brokers)
            self.database: PatroniCluster = database.result()
            self.brokers: BrokerCluster | None = brokers.result()
        there: list[tuple[str, Sequence[str], Sequence[Server]]] = [
            ("etcd", thrice, servers),
            ("PostgreSQL", twice, self.database.nodes),
        ]
        if self.brokers is not None:
            there.append(("RabbitMQ", HOSTS, self.brokers.nodes))
        for kind, hosts, some in there:
            for host, server in zip(hosts, some, strict=False):
                self.hosts[host].parts.append(ServerPart(kind, host, server))

    def _start_database(self, hosts: Sequence[str]) -> PatroniCluster:
        return self._undo.enter_context(
            patroni_cluster(
                [server.endpoint for server in self.etcd.values()], names=hosts, places=self._places(hosts, 5432),
                synchronous=len(hosts) > 1,
            )
        )  # fmt: skip

    def _start_brokers(self) -> BrokerCluster | None:
        """None: tasks run beside their scheduler (LocalExecutor)."""
        if not self.parts & {"rabbitmq", "workers"}:
            return None
        hosts = HOSTS if "rabbitmq" in self.parts else HOSTS[:1]
        return self._undo.enter_context(rabbitmq_cluster(names=hosts, places=self._places(hosts, 5672)))

    def _places(self, hosts: Iterable[str], port: int) -> list[Place]:
        network = self.ground.network
        return [Place(self.ground.space(host), port, network, self.ground.address(host)) for host in hosts]

    def _start_proxies(self) -> None:
        databases = [(node.name, node.address, node.port, node.rest_port) for node in self.database.nodes]
        both = [(host, self.ground.address(host)) for host in (PAIR if "api" in self.parts else PAIR[:1])]
        text = proxy.haproxy_text(entries(databases, both))
        for number, (name, host) in enumerate(self.hosts.items()):
            folder = own_folder(self._stage, f"{name}-proxy")
            others = [other.address for other in self.hosts.values() if other is not host]
            (folder / "haproxy.cfg").write_text(text)
            (folder / "keepalived.conf").write_text(
                proxy.keepalived_text(
                    own=host.address,
                    peers=others,
                    floating=self.ground.floating,
                    priority=100 - number,
                    port=settings.ENTRY,
                )
            )
            self._program("HAProxy", name, proxy.haproxy_words(folder))
            self._program("keepalived", name, proxy.keepalived_words(folder))

    def _start_airflow(self) -> None:
        both = PAIR if "api" in self.parts else PAIR[:1]
        workers: Sequence[str] = PAIR if "workers" in self.parts else PAIR[:1]
        if self.brokers is None:
            workers = ()
        page = ["heirflow", "serve", "--http", f"0.0.0.0:{settings.PAGE_PORT}"]
        worker = ["airflow", "celery", "worker", "--without-gossip", "--without-mingle"]
        with self._screen.working("starting Airflow's API servers, its workers and the page"):
            for host in both:
                self._program("API server", host, ["airflow", "api-server"], **self._of_members)
            for host in workers:
                self._program("worker", host, [*worker, "--celery-hostname", f"worker@{host}"])
            self._until(self.entry_answers, "the API server")
            for host in both:
                self._program("page", host, page, HEIRFLOW_DB_URL=self.lines_url)
        with self._screen.working(f"starting the members of three lines, {self.seats + 1} of them schedulers"):
            for component in COMPONENTS:
                for host in HOSTS if component == "scheduler" and self.seats > 1 else PAIR:
                    self._program(component, host, self._member_words(host, component), **self._of_members)
            self._until(self.dags_are_known, "the line of the dag-processor")
            self._until(lambda: not self.unwell(), "the cluster")

    def _member_words(self, host: str, component: str) -> list[str]:
        seats = ["--seats", str(self.seats)] if component == "scheduler" and self.seats > 1 else []
        return ["heirflow", "run", "--host", host, *seats, "--", "airflow", component]

    def _program(self, kind: str, host: str, words: Sequence[str], **more: str) -> None:
        name = f"{host}-{kind.lower().replace(' ', '-')}"
        part = ProgramPart(kind, host, self._stage, lambda: self.start_on(host, name, words, **more))
        self.hosts[host].parts.append(part)
        part.up()

    def start_on(self, host: str, name: str, words: Sequence[str], **more: str) -> Process:
        """Start a program on a host; its log and folder are named `name`."""
        folder = own_folder(self._stage, name)
        home = folder / "airflow"
        home.mkdir(exist_ok=True)
        share_config(home, self._stage.folder / "hosts" / "migrate" / "airflow")
        # A host's own HAProxy first.
        proxies = sorted(
            (each.address for each in self.hosts.values()), key=lambda each: each != self.hosts[host].address
        )
        own = {
            **settings.database(NAME, self.database.nodes[0].password, NAME, proxies),
            "DEMO_HOST": host,
            "CLUSTER_ADDRESS": self.hosts[host].address,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(own_folder(self._stage, f"{host}-logs")),
        }
        return self._stage.start(name, [*self.ground.enter(host), *words], {**self.env, **own, **more}, cwd=folder)

    def _until(self, done: Callable[[], bool], what: str) -> None:
        limit = time.monotonic() + UP_LIMIT_S
        while not done():
            if time.monotonic() > limit:
                raise Trouble(f"{what} was not ready within {UP_LIMIT_S:.0f} s; see {self._stage.folder / 'logs'}")
            time.sleep(0.2)

    # ---- what is there ----

    def all_parts(self) -> list[Part]:
        return [part for host in self.hosts.values() for part in host.parts]

    def part(self, kind: str, host: str) -> Part:
        """Raises `KeyError`."""
        found = next((part for part in self.hosts[host].parts if part.kind == kind), None)
        if found is None:
            raise KeyError(f"{host} has no {kind}")
        return found

    def having(self, kind: str) -> list[str]:
        """The hosts that have one."""
        return [host.name for host in self.hosts.values() if any(part.kind == kind for part in host.parts)]

    def mend(self) -> None:
        """Restart what stays broken by itself: a RabbitMQ that is at odds with the others, as its operator would."""
        if self.brokers is not None and (node := self.brokers.mend()) is not None:
            self.note(f"RabbitMQ on {node.name} was at odds with the others, and is restarted")

    @property
    def spare_host(self) -> bool:
        """Whether any host may be lost as a whole."""
        return self.parts >= set(PARTS)

    def stop(self) -> None:
        """Every part in good order, the last that was started first. Nothing is started again from now on."""
        parts = self.all_parts()
        for part in parts:
            part.wanted = False
        for kind in reversed(dict.fromkeys(part.kind for part in parts)):
            with self._screen.working(f"stopping {kind}"), ThreadPoolExecutor(len(HOSTS)) as pool:
                list(pool.map(lambda part: part.stop(), [part for part in parts if part.kind == kind]))

    def carrier(self) -> str | None:
        """The host that has people's address now."""
        return next((host for host in HOSTS if self.ground.has_floating(host)), None)

    def leaders(self, component: str) -> list[str]:
        """The hosts of those who lead its line."""
        reading = self._reading(component)
        hosts = {row.id: row.host for row in reading.members}
        found = [place.record.leader for place in reading.places if place.record is not None]
        return [hosts[leader] for leader in found if leader is not None and leader in hosts]

    def note(self, sentence: str) -> None:
        self.notes.append((time.time(), sentence))

    @property
    def ui(self) -> str:
        return f"http://{self.ground.floating}:{settings.ENTRY}"

    @property
    def page(self) -> str:
        return f"http://{self.ground.floating}:{settings.PAGE_ENTRY}"

    def entry_answers(self, limit_s: float = 2.0) -> bool:
        """Whether the address that people use leads to an API server."""
        return api_answers(self.ground.floating, settings.ENTRY, limit_s)

    def dags_are_known(self) -> bool:
        with suppress(Exception):
            return int(self.ask("SELECT count(*) FROM dag WHERE NOT is_stale")[0][0]) >= len(
                list(self.dags.glob("*.py"))
            )
        return False

    def unwell(self) -> list[str]:
        """What is not as it should be, as half sentences; empty: one more part may be lost."""
        found = [f"{part.name} does not run" for part in self.all_parts() if not part.runs()]
        try:
            if not self.database.is_whole(time.time() - MET_ETCD_S):
                found.append("the pair of PostgreSQL is not whole")
            found += self._lines()
        except (HeirflowError, ServerTrouble):
            return [*found, "the database does not answer"]
        if not self.entry_answers():
            found.append("the user interface does not answer")
        # To ask it costs two seconds of a processor: only when all else is well.
        if not found and self.brokers is not None and (why := self.brokers.why_not_whole()) is not None:
            found.append(f"the cluster of RabbitMQ is not whole: {why.splitlines()[0]}")
        return found

    def _lines(self) -> list[str]:
        found = []
        for component in COMPONENTS:
            reading = self._reading(component)
            rows = Snapshot.of(f"airflow-{component}", reading).succession
            leaders = sum(place.record is not None and place.record.leader is not None for place in reading.places)
            wanted = self.seats if component == "scheduler" else 1
            if leaders < wanted:
                found.append(f"{leaders} of {wanted} of the {component} lead")
            if not any(row.rank is not None and row.rank > 1 for row in rows):
                found.append(f"the {component} has no heir")
        return found

    def _reading(self, component: str) -> Reading:
        """What its members see. Raises `StoreUnavailable`."""
        with closing(self.open_store()) as store:
            return store.exchange(f"airflow-{component}", Exchange())

    def ask(self, statement: str, **parameters: Any) -> Sequence[Any]:
        """Rows from the metadata database; a primary that is away is asked for again, for a minute. Parameters: ``:name``."""
        import sqlalchemy as sa

        limit = time.monotonic() + 60.0
        while True:
            try:
                with self._engine.connect() as connection:
                    return connection.execute(sa.text(statement), parameters).fetchall()  # type: ignore[no-any-return]
            except sa.exc.DBAPIError:  # noqa: PERF203  (that is what the loop is for)
                if time.monotonic() > limit:
                    raise
                time.sleep(0.5)

    def open_store(self) -> Store:
        store = open_store(self.lines_url, call_limit_s=5.0, application_name="demo")
        store.open()
        return store

    def start_member(self, host: str, component: str, *_flags: str, **_own: str) -> Process:
        """Start the one that is a part of this host."""
        part = self.part(component, host)
        part.up()
        assert isinstance(part, ProgramPart)
        assert part.process is not None
        return part.process

    def order(self, *words: str) -> str:
        """Carry out ``heirflow <words>`` as a person would and return what it prints."""
        return heirflow([self.airflow.program("heirflow")], words, {**self.env, "HEIRFLOW_DB_URL": self.lines_url})


def entries(databases: Sequence[tuple[str, str, int, int]], servers: Sequence[tuple[str, str]]) -> list[proxy.Entry]:
    """What HAProxy listens for on every host.

    `databases`: name, address, port of PostgreSQL and of its Patroni. `servers`: name and address of the API servers' hosts.
    """

    def behind(port: int) -> list[tuple[str, str]]:
        return [(name, f"{address}:{port}") for name, address in servers]

    primary = [(name, f"{address}:{port}") for name, address, port, _ in databases]
    return [
        proxy.Entry(
            "postgresql", f":{settings.DATABASE_PORT}", primary, "/primary", databases[0][3], speaks_http=False
        ),
        proxy.Entry("airflow", f":{settings.ENTRY}", behind(settings.API_PORT), "/api/v2/version"),
        proxy.Entry("page", f":{settings.PAGE_ENTRY}", behind(settings.PAGE_PORT), "/healthz"),
    ]


def _ground(undo: ExitStack) -> Ground:
    """Three hosts on a network that nobody else on this machine has."""
    for number in NETWORKS:
        ground = Ground("ha", number, HOSTS)
        undo.callback(ground.end)
        try:
            ground.make()
            ground.join()
        except GroundTrouble as error:
            ground.end()
            if "File exists" in str(error):
                continue
            raise Trouble(str(error)) from error
        return ground
    raise Trouble("all networks for clusters are in use on this machine")


def _so_many(hosts: Sequence[str]) -> str:
    return {1: "one", 2: "two", 3: "three"}[len(hosts)]


def _engine(url: str) -> Any:
    import sqlalchemy as sa
    from sqlalchemy.pool import NullPool

    named = {"application_name": "heirflow-site", "connect_timeout": 3}
    return sa.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=named)
