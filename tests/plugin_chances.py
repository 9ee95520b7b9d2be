"""Says at the end which failures get no second chance; tools/run_tests.sh reads these lines.

A promise that is broken once in two runs is broken, and a world that has a seed comes out the same the second time. The whole
report of a test is read: the closing summary shows the first line of its message only, cut to the width of a terminal.
"""

from __future__ import annotations

import pytest

from tests.promises import BROKEN

NO_CHANCE = "no second chance: "
SEEDED = "tests/simulation/"


def why_none(name: str, report: str) -> str | None:
    """Why a test that failed with this report is not run again; None when it may be."""
    if BROKEN in report:
        return BROKEN
    return "nothing in it is left to the machine" if name.startswith(SEEDED) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for kind in ("failed", "error"):
        for report in terminalreporter.stats.get(kind, ()):
            if why := why_none(report.nodeid, report.longreprtext):
                terminalreporter.write_line(f"{NO_CHANCE}{report.nodeid}: {why}")
