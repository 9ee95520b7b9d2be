"""`bench/scale.py` measures what it says, on each kind of store: a small line, once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab.servers.servers import mariadb_missing

SCRIPT = Path(__file__).parents[2] / "bench" / "scale.py"
SESSIONS = {"postgres": 30, "mysql": 30, "sqlite": None}


@pytest.mark.parametrize("store", SESSIONS)
def test_a_small_line_is_measured(store: str) -> None:
    if store == "mysql" and (missing := mariadb_missing()) is not None:
        pytest.skip(missing)
    command = [sys.executable, str(SCRIPT), "--members", "30", "--seconds", "2", "--json", "--store", store]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["machine"] and told["processors"] and "30 members: measuring" in done.stderr
    [size] = told["sizes"]
    assert size["wanted_per_s"] == 15
    assert 14 <= size["check_ins_per_s"] <= 16, size
    assert (size["unanswered"], size["connections"]) == (0, SESSIONS[store])
    assert 0 < size["latency_ms"]["median"] <= size["latency_ms"]["p99"]
    assert 0 <= size["lateness_ms"]["median"] <= size["lateness_ms"]["p99"]
    assert size["member_ms_per_check_in"] > 0 and size["members_mb"] > 0
    assert (size["server_ms_per_check_in"] > 0) == (size["server_mb"] > 0) == (store != "sqlite")
    if store == "postgres":
        assert 50 < size["wal_bytes_per_check_in"] < 500
