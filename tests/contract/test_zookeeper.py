"""The contract in a real ZooKeeper, alone and of three servers."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from heirflow.stores import open_store
from heirflow.testing import seats_contract, store_contract
from lab.servers.zookeeper import Ensemble, zookeeper_ensemble, zookeeper_missing, zookeeper_server

GIVEN = "HEIRFLOW_TEST_ZOOKEEPER"
"""Names a server for the contract instead of ours."""
LIMIT_S = 1.5


@pytest.fixture(scope="session")
def alone() -> Iterator[Ensemble]:
    """One server that nobody stops."""
    if (missing := zookeeper_missing()) is not None:
        pytest.skip(missing)  # in CI a skip is a failure
    with zookeeper_server() as ensemble:
        yield ensemble


@pytest.fixture(scope="session")
def three() -> Iterator[Ensemble]:
    """Three that nobody stops."""
    if (missing := zookeeper_missing()) is not None:
        pytest.skip(missing)
    with zookeeper_ensemble(3) as ensemble:
        yield ensemble


@pytest.mark.parametrize("servers", ["alone", "three"])
@pytest.mark.parametrize("check", [*store_contract.CHECKS, *seats_contract.CHECKS], ids=store_contract.name)
def test_the_contract(check: store_contract.Check, servers: str, request: pytest.FixtureRequest) -> None:
    url = os.environ.get(GIVEN) or request.getfixturevalue(servers).url
    check(lambda: open_store(url, call_limit_s=LIMIT_S))
