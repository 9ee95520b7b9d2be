from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import cgroups
from tests.process.stage import NOBODY, Stage


@pytest.fixture
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Fails the test when it leaves a process behind, and ends that process."""
    if sys.platform != "linux":
        pytest.fail("these tests read /proc: run them on Linux")
    play = Stage(tmp_path)
    yield play
    left = play.sweep()
    assert not left, f"processes were left: {left}"


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup that belongs to an ordinary user, as a service manager delegates one."""
    with cgroups.made() as own:
        for path in (own, own / "cgroup.procs", own / "cgroup.subtree_control"):
            os.chown(path, NOBODY, NOBODY)
        yield own
        cgroups.wait_until_empty(own)
