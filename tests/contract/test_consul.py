"""Consul: the contract on the double, and on a real one where ``CONSUL_HTTP_ADDR`` names it; and each trap of its API."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from heirflow.stores import open_store
from heirflow.testing import seats_contract, store_contract
from lab.servers.consul_double import consul_double

GIVEN = "CONSUL_HTTP_ADDR"
LIMIT_S = 1.5


def given_url() -> str | None:
    """Of the real one; its token is in the variable that Consul's programs read."""
    address = os.environ.get(GIVEN)
    if not address:
        return None
    parts = urlsplit(address if "//" in address else f"http://{address}")
    secure = parts.scheme == "https" or os.environ.get("CONSUL_HTTP_SSL") == "true"
    return f"consul{'s' if secure else ''}://{parts.netloc}/heirflow-test-{os.getpid()}"


@pytest.fixture(scope="module", params=["double", *(["real"] if given_url() else [])])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a server that everybody uses and nobody troubles."""
    if request.param == "real":
        found = given_url()
        assert found is not None
        yield found
        return
    with consul_double() as consul:
        yield consul.url


@pytest.mark.parametrize("check", [*store_contract.CHECKS, *seats_contract.CHECKS], ids=store_contract.name)
def test_the_contract(check: store_contract.Check, url: str) -> None:
    check(lambda: open_store(url, call_limit_s=LIMIT_S))
