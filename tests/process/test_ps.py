"""What `ps` tells of guard and backstop: whose they are, and which is which."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.stage import Stage, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="written in place, in /proc")


def shown(pid: int) -> str:
    return subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()


def test_line_and_role(stage: Stage) -> None:
    stage.run(*stage.command("ordinary"), ttl_s=30)
    stage.wait_for_ticks()
    for role in ("guard", "backstop"):
        words = Path(f"/proc/{stage.role(role)}/cmdline").read_bytes().rstrip(b"\0").decode().split("\0")
        assert [words[-2].strip(), words[-1]] == [role, stage.marker]
        assert Path(f"/proc/{stage.role(role)}/comm").read_text() == f"hf-{role}\n"
    stage.send(15, "command")
    stage.driver.terminate()
    stage.wait_for_nobody()


def test_of_a_member(tmp_path: Path) -> None:
    """The line is named; the database, with its password, is not."""
    url = tmp_path / "db-url"
    url.write_text(f"sqlite:///{tmp_path}/hunter2.db")
    url.chmod(0o600)
    words = [sys.executable, "-m", "heirflow", "run", "--name", "night job", "--db-url-file", str(url)]
    words += ["--run-dir", str(tmp_path / "run"), "--", "sleep", "60"]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as member:

        def below(pid: int) -> list[int]:
            return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

        (backstop,) = wait_until(lambda: below(member.pid), "the backstop")
        (guard,) = wait_until(lambda: below(backstop), "the guard")
        try:
            wait_until(lambda: "guard.py" in shown(guard) and " guard " in shown(guard), f"its role: {shown(guard)}")
            assert shown(guard).endswith("guard    night job") and shown(backstop).endswith("backstop night job")
            assert "hunter2" not in shown(guard) + shown(backstop)
        finally:
            member.terminate()
    assert member.returncode == 0
