"""A command is born in its cgroup where the kernel can do that, and moves into it where not."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from heirflow.guard import processes
processes.SYS_CLONE3 = int(sys.argv[1])
cgroup = processes.Cgroup(f"heirflow-{os.getpid()}")
reader, writer = os.pipe()
pid, born_there = processes.fork(cgroup)
if pid == 0:
    os.write(writer, open("/proc/self/cgroup", "rb").read())
    os._exit(7)
_, status = os.waitpid(pid, 0)
inside = f"/heirflow-{os.getpid()}" in os.read(reader, 4096).decode()
print(born_there, inside, os.waitstatus_to_exitcode(status), processes.signal.pthread_sigmask(processes.signal.SIG_BLOCK, ()))
cgroup.remove(cgroup.path)
"""


@pytest.mark.parametrize(("number", "born_there"), [(435, True), (9999, False)], ids=["clone3", "no clone3"])
def test_it_is_born_there_or_forked_outside(number: int, born_there: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(number)], capture_output=True, text=True, timeout=30, check=False
    )
    if "no cgroup v2 here" in done.stderr or "Permission denied" in done.stderr or "Read-only" in done.stderr:
        pytest.fail("these tests make a cgroup of their own: run them where that is allowed")
    assert done.stdout == f"{born_there} {born_there} 7 set()\n", done.stderr
