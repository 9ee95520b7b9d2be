"""Real servers, started once for the whole run and only when a test asks for them.

``HEIRFLOW_TEST_POSTGRES_URL`` and ``HEIRFLOW_TEST_MYSQL_URL`` name servers to use for the contract instead of our own,
``HEIRFLOW_TEST_ETCD`` and ``HEIRFLOW_TEST_ZOOKEEPER`` the URL of a coordinator for every test that need not stop it.
"""

from __future__ import annotations

import itertools
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.servers.consul_double import ConsulDouble, consul_double
from lab.servers.etcd import EtcdServer, etcd_missing, etcd_server
from lab.servers.servers import NAME, Server, mariadb_missing, mariadb_server, postgres_server
from lab.servers.zookeeper import Ensemble, zookeeper_missing, zookeeper_server

DatabaseUrl = Callable[[str], str]
COORDINATORS = {"etcd": "HEIRFLOW_TEST_ETCD", "zookeeper": "HEIRFLOW_TEST_ZOOKEEPER", "consul": "HEIRFLOW_TEST_CONSUL"}

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a script: every program that a test interrupts would inherit that deafness.
    signal.signal(signal.SIGINT, signal.default_int_handler)
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL of ours that everybody uses and nobody stops, freezes or fills."""
    # Without autovacuum every transaction in the server's statistics is one of a test.
    with postgres_server(settings={"autovacuum": "off"}) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB of ours that everybody uses and nobody stops, freezes or fills."""
    if (missing := mariadb_missing()) is not None:
        pytest.skip(missing)  # in CI a skip is a failure
    with mariadb_server() as server:
        yield server


@pytest.fixture(scope="session")
def etcd() -> Iterator[EtcdServer]:
    """An etcd of ours that everybody uses and nobody stops, freezes or fills."""
    if (missing := etcd_missing()) is not None:
        pytest.skip(missing)
    with etcd_server() as server:
        yield server


@pytest.fixture(scope="session")
def zookeeper() -> Iterator[Ensemble]:
    """A ZooKeeper of ours that everybody uses and nobody stops, freezes or fills."""
    if (missing := zookeeper_missing()) is not None:
        pytest.skip(missing)
    with zookeeper_server() as ensemble:
        yield ensemble


@pytest.fixture(scope="session")
def consul() -> Iterator[ConsulDouble]:
    """A double of Consul's server that everybody uses and nobody stops, freezes or fills."""
    with consul_double() as server:
        yield server


@pytest.fixture(scope="session")
def new_folder_url(request: pytest.FixtureRequest) -> DatabaseUrl:
    """The URL of an empty folder in a coordinator (``etcd``, ``zookeeper``, ``consul``), another one each time it is asked."""

    def url(kind: str) -> str:
        given = os.environ.get(COORDINATORS[kind])
        if given is None:
            server = request.getfixturevalue(kind)
            given = str(server.store_url if kind == "etcd" else server.url)
        scheme, _, rest = given.partition("://")
        where, mark, options = rest.partition("?")
        hosts = where.partition("/")[0]
        return f"{scheme}://{hosts}/test-{uuid.uuid4().hex[:12]}{mark}{options}"

    return url


@pytest.fixture(scope="session")
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DatabaseUrl:
    """The URL of one shared database for SQLAlchemy's name of a driver (``sqlite``, ``psycopg``, ``psycopg2``, ``pymysql``)."""
    folder: Path = tmp_path_factory.mktemp("sqlite")

    def url(driver: str) -> str:
        if driver == "sqlite":
            return f"sqlite:///{folder / 'line.db'}"
        kind, variable = (
            ("mysql", "HEIRFLOW_TEST_MYSQL_URL") if "mysql" in driver else ("postgresql", "HEIRFLOW_TEST_POSTGRES_URL")
        )
        if given := os.environ.get(variable):
            return f"{kind}+{driver}:{given.partition(':')[2]}"
        server: Server = request.getfixturevalue("mariadb" if kind == "mysql" else "postgres")
        return server.url(driver)

    return url


@pytest.fixture(scope="session")
def new_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DatabaseUrl:
    """The URL of an empty database of its own, on our own server, each time it is asked."""

    def url(driver: str) -> str:
        number = next(_numbers)
        if driver == "sqlite":
            return f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'line.db'}"
        name = f"empty_{number}"
        if "mysql" in driver:
            server: Server = request.getfixturevalue("mariadb")
            server.sql(f"CREATE DATABASE {name}; GRANT ALL ON {name}.* TO {NAME}@'127.0.0.1'")
        else:
            server = request.getfixturevalue("postgres")
            server.sql(f"CREATE DATABASE {name} OWNER {NAME}")
        return server.url(driver, database=name)

    return url
