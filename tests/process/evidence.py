"""What processes are doing, for the message of a test that fails because one of them does not end."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

from heirflow.guard import processes

TOLD = ("State:", "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:")
PATIENCE_S = 20.0


def of(root: int) -> str:
    """Of this process and all below it: what each thread waits for, its signals, and its Python stacks where py-spy is there."""
    return "\n".join(_of_one(pid) for pid in (root, *processes.descendants(root)))


def _of_one(pid: int) -> str:
    words = _read(pid, "cmdline").replace("\0", " ")[:200]
    told = [f"---- process {pid}: {words}"]
    with contextlib.suppress(OSError):
        for thread in sorted(Path(f"/proc/{pid}/task").iterdir()):
            inside = f"task/{thread.name}"
            lines = [line for line in _read(pid, f"{inside}/status").splitlines() if line.startswith(TOLD)]
            told.append(f"thread {thread.name} waits in {_read(pid, f'{inside}/wchan') or '?'}: {' '.join(lines)}")
    return "\n".join([*told, *_stacks(pid)])


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace").replace("\t", " ")
    except OSError as error:
        return f"({error.strerror})"


def _stacks(pid: int) -> list[str]:
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if program is None:
        return []
    try:
        found = subprocess.run(
            [program, "dump", "--pid", str(pid)], capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [found.stdout.rstrip()] if found.returncode == 0 else []
