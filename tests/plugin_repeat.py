"""``--repeat N`` runs every chosen test N times: for faults whose outcome depends on the moment they strike.

A test that asks for `campaign` (tests/faults) runs once and repeats its own case, beside the others.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--repeat", type=int, default=1, metavar="N", help="run every chosen test N times")


@pytest.fixture
def repetition(request: pytest.FixtureRequest) -> int:
    """Which time this is, from 0."""
    return getattr(request, "param", 0)


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    times = metafunc.config.getoption("--repeat")
    if times > 1 and "campaign" not in metafunc.fixturenames:
        if "repetition" not in metafunc.fixturenames:
            metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(times), indirect=True, ids=lambda number: f"time-{number + 1}")
