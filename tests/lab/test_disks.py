"""Disks that can be made slow: a program waits in its flush, and in nothing else."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.campaign.disks import Disks

FLUSHES = """
import os, sys, time
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
for flush in (os.fsync, os.fdatasync, lambda _: None):
    began = time.monotonic()
    os.write(file, b"x")
    flush(file)
    print(time.monotonic() - began)
"""


def took(disks: Disks, file: Path) -> list[float]:
    words = [*disks.words("here"), sys.executable, "-S", "-c", FLUSHES, str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20)
    return [float(line) for line in done.stdout.split()]


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    made = Disks(tmp_path / "disks")
    if made.program is None:
        pytest.skip("no C compiler, or no seccomp, is here")  # in CI a skip is a failure
    return made


def test_a_flush_waits_and_a_write_does_not(disks: Disks, tmp_path: Path) -> None:
    disks.words("here")
    disks.slow("here", 300)
    fsync, fdatasync, write = took(disks, tmp_path / "file")
    assert fsync >= 0.3 and fdatasync >= 0.3 and write < 0.3
    disks.slow("here", 0)
    assert max(took(disks, tmp_path / "file")) < 0.3


def test_the_helper_ends_with_the_program(disks: Disks, tmp_path: Path) -> None:
    took(disks, tmp_path / "file")
    until = time.monotonic() + 5
    while helpers := [
        entry.name
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and str(disks.program).encode() in _words(entry)
    ]:
        assert time.monotonic() < until, helpers
        time.sleep(0.02)


def _words(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
