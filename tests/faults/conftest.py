"""The campaign of all selected cases, and the table at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.servers.etcd import etcd_missing
from lab.servers.zookeeper import zookeeper_missing
from tests.faults.campaign import Campaign, Case

CAMPAIGN = pytest.StashKey[Campaign]()
SHARED: dict[str, str] = {}
"""The URLs of the shared servers, and the folder of all scenes."""
OWN = [kind for kind, missing in (("etcd", etcd_missing()), ("zookeeper", zookeeper_missing())) if missing is None]
"""Coordinators that can be started here; without one its cases are not in the list, and pytest's header says so."""
COORDINATORS = [*OWN, "consul"]
"""With the double of Consul's server, which stands in this process."""


def pytest_report_header() -> list[str]:
    return [f"no faults on it: {missing}" for missing in (etcd_missing(), zookeeper_missing()) if missing]


@pytest.fixture(scope="session")
def campaign(request: pytest.FixtureRequest) -> Iterator[Campaign]:
    """All selected cases, in lanes that run beside each other from the first test that asks."""
    given = (getattr(item, "callspec", None) for item in request.session.items)
    cases = [case for spec in given if spec and isinstance(case := spec.params.get("case"), Case)]
    for name in ("postgres", "mariadb"):
        if any(name in case.lane.split() for case in cases):
            url = request.getfixturevalue(name).url
            SHARED[name] = url("psycopg" if name == "postgres" else "pymysql")
    for name in COORDINATORS:
        if any(name in case.lane.split() for case in cases):
            SHARED[name] = request.getfixturevalue("new_folder_url")(name)
    for name, driver in (("postgres", "psycopg"), ("mariadb", "pymysql")):
        if any(case.fault == f"ten at once on {name}" for case in cases):
            SHARED[f"empty {name}"] = request.getfixturevalue("new_database")(driver)
    SHARED["folder"] = str(request.getfixturevalue("tmp_path_factory").mktemp("faults"))
    running = Campaign(cases, repeat=request.config.getoption("repeat"))
    request.config.stash[CAMPAIGN] = running
    yield running
    running.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    running = config.stash.get(CAMPAIGN, None)
    if running is not None and (lines := running.table()):
        terminalreporter.section("faults of processes and databases")
        for line in lines:
            terminalreporter.line(line)
