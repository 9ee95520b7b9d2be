"""``--repeat N``: what can only be proved by doing it often is done N times.

A test that takes the fixture `campaign` repeats its own case; every other test in tests/process runs N times.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--repeat", type=int, default=1, metavar="N", help="run each fault N times (make faults-process)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    times = metafunc.config.getoption("repeat")
    if times > 1 and "campaign" not in metafunc.fixturenames and "process" in metafunc.definition.path.parts:
        metafunc.fixturenames.append("time")
        metafunc.parametrize("time", range(1, times + 1))
