"""``--tell FILE``: how each phase of each test ended, by what kind of error and where, one JSON object a line.

Loaded by the runs that have a fault planted (`planting`), so that "red" can be told from "red for another reason".
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

import heirflow


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tell", type=Path, metavar="FILE", help="tell how each phase of each test ended")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if (file := item.config.getoption("--tell")) is not None:
        crash = getattr(report.longrepr, "reprcrash", None)
        facts = {
            "test": report.nodeid,
            "when": report.when,
            "outcome": report.outcome,
            "kind": "" if call.excinfo is None else call.excinfo.type.__name__,
            "where": "" if crash is None else crash.path,
            "text": report.longreprtext,
            "package": str(Path(heirflow.__file__).parent),
            "pid": os.getpid(),
        }
        with file.open("a") as lines:
            lines.write(json.dumps(facts) + "\n")
    return report
