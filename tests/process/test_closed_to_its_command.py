"""What a command can reach in the processes above it, as the same user: nothing with which it could speak in their name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.stage import SOURCE, wait_until
from tests.process.test_another_user import NOBODY, ORDINARY

REACHES_UP = Path(__file__).with_name("nasty") / "reaches_up.py"


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs Linux, and root to become somebody else"
)
def test_a_command_reaches_nothing_of_its_guard_backstop_and_member(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    reached, line = tmp_path / "reached", f"sqlite:///{tmp_path}/line.db"
    words = ["-m", "heirflow", "run", "--name", "closed", "--run-dir", str(tmp_path / "run"), "--ttl", "3s"]
    # The shell starts the interpreter, which may lie in root's own folder.
    command = ["/bin/sh", "-c", 'exec "$@"', "sh", sys.executable, "-S", str(REACHES_UP), str(reached)]
    environ = {**os.environ, "PYTHONPATH": str(SOURCE), "HOME": str(tmp_path), "HEIRFLOW_DB_URL": line}
    with (tmp_path / "journal").open("wb") as journal:
        member = subprocess.Popen(
            [*ORDINARY, sys.executable, *words, "--", *command], cwd=tmp_path, env=environ, stderr=journal
        )
        try:
            wait_until(reached.exists, "what it reached", limit_s=20.0)
        finally:
            member.terminate()
            assert member.wait(20) == 0, (tmp_path / "journal").read_text()
    told = json.loads(reached.read_text())
    assert set(told["own"]) >= {"descriptors", "environ", "mem"}, "nothing else forbids it here"
    assert (told["guard"], told["backstop"], told["member"]) == ([], [], [])
