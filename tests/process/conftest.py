from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.stage import NOBODY, Stage, wait_until


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
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    root = next((Path(words[4]) for words in mounts if words[words.index("-") + 1] == "cgroup2"), None)
    if root is None:
        pytest.skip("no cgroup v2 here")
    own = root / f"heirflow-test-{os.getpid()}"
    own.mkdir()
    for path in (own, own / "cgroup.procs", own / "cgroup.subtree_control"):
        os.chown(path, NOBODY, NOBODY)
    yield own
    wait_until(lambda: "populated 0" in (own / "cgroup.events").read_text(), "an empty cgroup")
    for path in sorted((path for path in own.rglob("*") if path.is_dir()), reverse=True):
        path.rmdir()
    own.rmdir()
