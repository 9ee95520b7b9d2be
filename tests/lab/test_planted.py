"""A laboratory that finds nothing is broken: with a planted defect it must be red, and say what."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import heirflow
from heirflow.testing.lab import ground

PLANTED = {
    # A leader that trusts itself for a ttl too long runs its command beside its heir's.
    "overlap": (
        "election/rules.py",
        "trusted_until = ask.asked_at + swap.record.ttl_s - timings.margin_s",
        "trusted_until = ask.asked_at + 2 * swap.record.ttl_s - timings.margin_s",
        ["--world", "mariadb", "--only", "cut both", "--faults", "6"],
    ),
    # A leader that ends no sessions: what a dead command had sent arrives when the network heals.
    "deposed write": (
        "stores/fence.py",
        "        if self._reign != (election, leader, term):",
        "        return ()\n        if self._reign != (election, leader, term):",
        ["--world", "postgres", "--only", "cut from", "--faults", "6"],
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("promise", PLANTED, ids=["trusts itself too long", "ends no session"])
def test_a_planted_defect_is_found(promise: str, tmp_path: Path) -> None:
    if missing := ground.missing():
        pytest.skip("; ".join(missing))  # in CI a skip is a failure
    name, right, wrong, words = PLANTED[promise]
    copy = tmp_path / "heirflow"
    shutil.copytree(Path(heirflow.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / name).read_text()
    assert text.count(right) == 1
    (copy / name).write_text(text.replace(right, wrong))
    done = subprocess.run(
        [sys.executable, "-m", "heirflow.testing.lab", "--seed", "4", "--json", *words],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    facts = json.loads(done.stdout)
    assert done.returncode == 1
    assert promise in {red["promise"] for red in facts["red"]}, facts
    assert "replay:" in done.stderr
    kept = next(line for line in done.stderr.splitlines() if line.startswith("Journals")).rpartition(" ")[2]
    shutil.rmtree(kept)
