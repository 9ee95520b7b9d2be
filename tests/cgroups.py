"""A cgroup made by hand, as a service manager makes one for a unit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.stage import wait_until


@contextlib.contextmanager
def made() -> Iterator[Path]:
    """For a while; whatever is left in it at the end is killed."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a cgroup")  # in CI a skip is a failure
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    root = next((Path(words[4]) for words in mounts if words[words.index("-") + 1] == "cgroup2"), None)
    if root is None:
        pytest.skip("no cgroup v2 here")
    own = root / f"heirflow-test-{os.getpid()}"
    own.mkdir()
    try:
        yield own
    finally:
        kill_all(own)
        for path in [*sorted(own.rglob("*"), reverse=True), own]:
            if path.is_dir():
                path.rmdir()


def kill_all(cgroup: Path) -> None:
    (cgroup / "cgroup.kill").write_text("1")
    wait_until_empty(cgroup)


def wait_until_empty(cgroup: Path) -> None:
    wait_until(lambda: "populated 0" in (cgroup / "cgroup.events").read_text(), "an empty cgroup")
