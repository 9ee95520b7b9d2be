"""etcd: the contract on one server and on three."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest

from heirflow.stores import open_store
from heirflow.testing import seats_contract, store_contract
from lab.servers.etcd import EtcdServer, etcd_ensemble, etcd_missing, etcd_server, url_of

GIVEN = "HEIRFLOW_TEST_ETCD"
pytestmark = pytest.mark.skipif(etcd_missing() is not None, reason=str(etcd_missing()))


@pytest.fixture(scope="module")
def one() -> Iterator[str]:
    """The URL of one server."""
    if given := os.environ.get(GIVEN):
        yield given
        return
    with etcd_server() as server:
        yield server.store_url


@pytest.fixture(scope="module")
def three() -> Iterator[str]:
    """The URL of a cluster of three."""
    with etcd_ensemble() as servers:
        yield url_of(servers)


@pytest.mark.parametrize("check", [*store_contract.CHECKS, *seats_contract.CHECKS], ids=store_contract.name)
def test_the_contract_on_one_server(check: store_contract.Check, one: str) -> None:
    check(lambda: open_store(one, call_limit_s=1.5))


@pytest.mark.parametrize("check", [*store_contract.CHECKS, *seats_contract.CHECKS], ids=store_contract.name)
def test_the_contract_on_three_servers(check: store_contract.Check, three: str) -> None:
    check(lambda: open_store(three, call_limit_s=1.5))
