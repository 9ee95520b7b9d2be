"""The product on a kernel that has no list of a process's children: what is lost is found and collected all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted.planting import Fault, run

LEFT = "process/test_nobody_is_left.py::test_"
TESTS = [f"{LEFT}killed_with_9[{killed}-walk]" for killed in ("backstop", "guard+backstop", "member+guard", "command")]
NO_LIST = Fault("there is no list of children", "guard/processes.py", 'LIST = "children"', 'LIST = "absent"', "", "")


@pytest.mark.slow
@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.partition("[")[2].strip("]"))
def test_nobody_is_left(test: str, tmp_path: Path) -> None:
    done = run(tmp_path / "copy", [test], fault=NO_LIST)
    [call] = [told for told in done.told if told["when"] == "call"]
    assert call["outcome"] == "passed", done.output
