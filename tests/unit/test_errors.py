"""What is told of an error that a driver raised."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from heirflow.errors import first_line


class Refused(Exception):
    """As drivers raise them."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Refused("permission denied for table x\nDETAIL: more\nHINT: less"), "permission denied for table x"),
        (Refused(1142, "INSERT command denied to user 'a'"), "INSERT command denied to user 'a'"),
        (Refused("\n  it broke \n"), "it broke"),
        (Refused({"S": "FATAL"}), "Refused"),
        (Refused(), "Refused"),
        (sa.exc.DBAPIError("SELECT 1", {}, Refused("no\nmore")), "no"),
    ],
)
def test_the_first_line_of_an_error_is_the_drivers_own(error: BaseException, said: str) -> None:
    assert first_line(error) == said
