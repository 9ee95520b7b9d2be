"""A real MySQL for the tests of that name: the one that is given, or ours. Where there is neither, they are not collected."""

from __future__ import annotations

import os

from lab.servers.mysql import mysql_missing

GIVEN = "HEIRFLOW_TEST_MYSQL_URL"

collect_ignore = ["test_real_mysql.py"] if mysql_missing() and not os.environ.get(GIVEN) else []


def pytest_report_header() -> str:
    """Which MySQL is tested, where pytest says what it runs on."""
    given = f"the one that {GIVEN} names" if os.environ.get(GIVEN) else "one of ours"
    return f"real MySQL: {mysql_missing() if collect_ignore else given}"
