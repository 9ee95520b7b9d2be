from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.stage import Stage


@pytest.fixture
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Fails the test when it leaves a process behind, and ends that process."""
    if sys.platform != "linux":
        pytest.fail("these tests read /proc: run them on Linux")
    play = Stage(tmp_path)
    yield play
    left = play.sweep()
    assert not left, f"processes were left: {left}"
