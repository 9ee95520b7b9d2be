"""Wall clocks that can be made to jump while processes run, each host's its own.

A small library of ours (``clock.c``) is preloaded and adds what stands in a shared page to CLOCK_REALTIME. It needs a C
compiler; without one there are no jumps, and the laboratory says so.
"""

from __future__ import annotations

import mmap
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from lab.campaign.compiled import compiled

SOURCE = Path(__file__).with_name("clock.c")


class Clocks:
    """The wall clocks of hosts. `library` is None where it cannot be made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        self.library = compiled(SOURCE, folder / "clock.so", "-shared", "-fPIC")

    def env(self, host: str) -> Mapping[str, str]:
        """What a process on this host is started with."""
        if self.library is None:
            return {}
        page = self._folder / host
        if not page.exists():
            page.write_bytes(bytes(mmap.PAGESIZE))
            page.chmod(0o644)
        return {"LD_PRELOAD": str(self.library), "HFLAB_CLOCK": str(page)}

    def jump(self, host: str, offset_s: int) -> None:
        """Set a host's wall clock to the true one plus so many seconds."""
        with (self._folder / host).open("r+b") as file:
            file.write(struct.pack("q", offset_s))

    def offset_s(self, host: str) -> float:
        """How far the wall clock of a process that starts on this host now is from the true one."""
        words = [sys.executable, "-S", "-E", "-c", "import time; print(time.time())"]
        said = subprocess.run(words, env={**self.env(host)}, capture_output=True, check=True).stdout
        return float(said) - time.time()
