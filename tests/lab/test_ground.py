"""The ground of the fault laboratory: what a switch and a freezer do to real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.campaign import ground
from lab.campaign.ground import Freezer, Ground

SENDER = """
import socket, sys, time
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(100000):
    link.sendto(b"x", (sys.argv[1], 9))
    time.sleep(0.005)
"""
RECEIVER = """
import socket, sys
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.bind(("0.0.0.0", 9))
while link.recv(9):
    open(sys.argv[1], "ab").write(b"x")
"""


@pytest.fixture
def two() -> Iterator[Ground]:
    if missing := ground.missing():
        pytest.skip("; ".join(missing))  # in CI a skip is a failure
    made = Ground("trial", 9, ("left", "right"))
    try:
        made.make()
        yield made
    finally:
        made.end()


def growing(path: Path, limit_s: float = 5.0) -> bool:
    """Whether a file grows; waits for it when it should."""
    before, until = path.stat().st_size if path.exists() else 0, time.monotonic() + limit_s
    while time.monotonic() < until:
        if path.exists() and path.stat().st_size > before + 2:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.slow
def test_a_cut_is_silence_in_one_direction_only(two: Ground, tmp_path: Path) -> None:
    started = []
    for here, there in (("left", "right"), ("right", "left")):
        started.append(
            subprocess.Popen([*two.enter(there), sys.executable, "-S", "-c", RECEIVER, str(tmp_path / there)])
        )
        started.append(subprocess.Popen([*two.enter(here), sys.executable, "-S", "-c", SENDER, two.address(there)]))
    assert growing(tmp_path / "left") and growing(tmp_path / "right")
    assert len(ground.processes_in(two.space("left"))) == 2
    cable = two.cables["left"]
    for sent, received in ((True, False), (False, True), (True, True), (False, False)):
        cable.drop_from, cable.drop_to = sent, received
        two.apply()
        assert growing(tmp_path / "right", 0.4 if sent else 5) is not sent
        assert growing(tmp_path / "left", 0.4 if received else 5) is not received
    two.unplug("left", out=True)
    assert not growing(tmp_path / "right", 0.4)
    two.unplug("left", out=False)
    assert growing(tmp_path / "right") and growing(tmp_path / "left")  # they know each other again
    two.severed.add(("right", "left"))
    two.apply()
    assert growing(tmp_path / "right") and not growing(tmp_path / "left", 0.4)
    for host in two.hosts:
        ground.kill_all(two.space(host))
        assert not ground.processes_in(two.space(host))
    assert [process.wait(5) for process in started] == [-9] * 4


@pytest.mark.slow
def test_a_freezer_of_either_version_stops_all_at_once(tmp_path: Path) -> None:
    if missing := ground.missing():
        pytest.skip("; ".join(missing))
    roots = [Path("/sys/fs/cgroup/freezer"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]
    for number, root in enumerate(root for root in roots if (root / "cgroup.procs").exists()):
        freezer, beat = Freezer(root / f"{ground.PREFIX}{ground.own_mark()}-trial"), tmp_path / f"beat-{number}"
        freezer.path.mkdir()
        loop = f"echo $$ > {freezer.path}/cgroup.procs; while true; do echo x >> {beat}; sleep 0.01; done"
        process = subprocess.Popen(["sh", "-c", loop])
        try:
            assert growing(beat)
            freezer.freeze(True)
            time.sleep(0.1)  # what was written before counts
            assert not growing(beat, 0.4)
            freezer.freeze(False)
            assert growing(beat)
        finally:
            freezer.end()
        assert process.wait(5) == -9 and not freezer.path.exists()
