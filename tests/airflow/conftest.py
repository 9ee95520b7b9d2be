"""What tests with real Airflow share: a server, each pinned Airflow that runs on this Python, a stage, a name for a database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from heirflow.demo.stage import Stage
from lab.airflow.environment import VERSIONS, AirflowEnvironment, ensure, fits
from lab.servers.servers import Server, postgres_server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres_server() as running:
        yield running


@pytest.fixture(params=list(VERSIONS))
def airflow(request: pytest.FixtureRequest) -> AirflowEnvironment:
    """Once for each of them."""
    if not fits(request.param):
        pytest.skip("Airflow 2.11 is pinned for Python 3.11 and 3.12")
    return ensure(request.param)


@pytest.fixture
def database_name(request: pytest.FixtureRequest, airflow: AirflowEnvironment) -> str:
    """For a database of this test and this Airflow alone."""
    return f"{request.node.originalname}_{airflow.version.replace('.', '_')}"[-60:]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path / "stage") as made:
        yield made
