"""What memory a process takes, by the kernel's own sums."""

from __future__ import annotations

from pathlib import Path


def memory_mb(pid: int, what: str) -> float:
    """`what`: ``Rss``, resident memory, or ``Pss``, in which what several share is divided among them.

    Raises OSError when the process is gone.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{what}:")), 0) / 1024
