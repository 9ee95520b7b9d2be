"""The short form of `make proof`: the model of the protocol is whole, and each planted fault breaks what it must."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).resolve().parents[2] / "proof" / "check.py"


@pytest.mark.slow
@pytest.mark.timeout(900)  # half a minute on two idle processors, most of it compiling; other tests may share them
def test_the_model_holds_and_every_planted_fault_breaks_what_it_must() -> None:
    missing = [name for name in ("spin", "gcc") if shutil.which(name) is None]
    if missing:
        # In CI a skip is a failure.
        pytest.skip(f"{' and '.join(missing)} not found: apt-get install {' '.join(missing)}")
    done = subprocess.run([sys.executable, str(CHECK), "--short"], capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
