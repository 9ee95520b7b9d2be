"""What a command's sessions are named after: the member, and before its gate opens only its standby."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from heirflow.member.loop import Identity
from lab.rig.rig import Rig

SEEN = """
import os, pathlib, time
pathlib.Path("seen-before").open("a").write(os.environ["PGAPPNAME"] + "\\n")
if __name__ == "__main__":
    pathlib.Path("seen-after").open("a").write(os.environ["PGAPPNAME"] + "\\n")
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_standby_has_a_name_of_its_own_until_its_gate_opens(tmp_path: Path) -> None:
    (tmp_path / "named.py").write_text(SEEN)
    command = [sys.executable, "-m", "named"]
    with Rig(f"sqlite:///{tmp_path / 'line.db'}", tmp_path, command=command, options=["--preload", "named"]) as rig:
        rig.add("ada")
        leader = rig.wait_for_leader()
        me = (leader.ask() or {})["member"]
        rig.wait_for((tmp_path / "seen-after").exists, "the command's own line", 20)
        assert (tmp_path / "seen-after").read_text() == f"heirflow/{me}/1\n"
        assert (tmp_path / "seen-before").read_text().splitlines()[0] == f"heirflow-standby/{me}"


@pytest.mark.parametrize("host", ["web-1", "x" * 300, "hôtel", "a b\x1b[31m/%'", "日本"])
def test_an_id_fits_into_a_sessions_name(host: str) -> None:
    identity = Identity.new(host)
    assert len(f"heirflow/{identity.id}/9999999".encode()) <= 63
    name = f"heirflow-standby/{identity.id}"
    assert len(name.encode()) <= 63 and name.isascii() and name.isprintable() and " " not in name
    assert identity.host == host
