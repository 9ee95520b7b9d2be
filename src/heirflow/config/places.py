"""Where things are on this machine when nobody says: the home, the default database, the folder for sockets."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path


def default_run_dir(env: Mapping[str, str]) -> Path:
    """A folder of this user alone, gone after a restart of the machine."""
    runtime = env.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and _is_own_folder(Path(runtime)):  # `su` keeps the variable of who was before
        return Path(runtime) / "heirflow"
    import tempfile  # slow to import, and seldom needed

    try:
        folder = tempfile.gettempdir()
    except OSError:  # nothing may be written (a read-only root): who makes the folder says so
        folder = "/tmp"  # noqa: S108
    return Path(folder) / f"heirflow-{os.getuid()}"


def _is_own_folder(folder: Path) -> bool:
    try:
        state = folder.stat()
    except OSError:
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid()


def default_url(env: Mapping[str, str]) -> str:
    """An SQLite file in this user's state folder."""
    state = env.get("XDG_STATE_HOME", "")
    folder = Path(state) if state.startswith("/") else home_of(env) / ".local" / "state"
    return f"sqlite:///{folder / 'heirflow' / 'heirflow.db'}"


def home_of(env: Mapping[str, str]) -> Path:
    """This user's home; the root folder where nobody knows one."""
    try:
        return Path(env["HOME"]) if env.get("HOME") else Path.home()
    except RuntimeError:
        return Path("/")
