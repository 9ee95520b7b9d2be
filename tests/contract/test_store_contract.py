"""One suite that every store passes, on the real servers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heirflow.stores import open_store
from heirflow.testing import seats_contract, store_contract
from tests.contract.drivers import ALL


@pytest.mark.parametrize("driver", ALL)
@pytest.mark.parametrize("check", [*store_contract.CHECKS, *seats_contract.CHECKS], ids=store_contract.name)
def test_the_contract(check: store_contract.Check, driver: str, database_url: Callable[[str], str]) -> None:
    check(lambda: open_store(database_url(driver), call_limit_s=1.5))
