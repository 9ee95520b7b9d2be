"""Small C programs of the laboratory, compiled where it stands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def compiled(source: Path, target: Path, *flags: str) -> Path | None:
    """The program or library; None where there is no C compiler, or it cannot be made."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    done = subprocess.run([compiler, "-O2", *flags, "-o", str(target), str(source)], capture_output=True, check=False)
    if done.returncode != 0:
        return None
    target.chmod(0o755)  # whoever a server runs as must read it
    return target
