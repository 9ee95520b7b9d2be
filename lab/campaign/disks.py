"""Disks that can be made slow while servers run, each host's its own.

A small program of ours (``slow_sync.c``) starts the server and stands between it and its fsync. It needs a C compiler and
seccomp; without them no disk is slow, and the laboratory says so.
"""

from __future__ import annotations

import mmap
import struct
import subprocess
from pathlib import Path

from lab.campaign.compiled import compiled

SOURCE = Path(__file__).with_name("slow_sync.c")


class Disks:
    """The disks of hosts. `program` is None where it cannot be made, or the kernel does not let it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        self.program = compiled(SOURCE, folder / "slow_sync")
        if self.program is not None and subprocess.run([*self.words("trial"), "/bin/true"], check=False).returncode:
            self.program = None

    def words(self, host: str) -> tuple[str, ...]:
        """What a server's program on this host is started by."""
        if self.program is None:
            return ()
        page = self._folder / host
        if not page.exists():
            page.write_bytes(bytes(mmap.PAGESIZE))
            page.chmod(0o644)
        return str(self.program), str(page)

    def slow(self, host: str, delay_ms: int) -> None:
        """Each flush waits so long from now on; 0: as it is."""
        with (self._folder / host).open("r+b") as file:
            file.write(struct.pack("q", delay_ms))
