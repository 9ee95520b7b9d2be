"""The short form of `make faults`: seeded faults on real servers in network namespaces, and nothing left, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lab.campaign import coordinators, ground, pair
from lab.campaign.__main__ import main
from lab.campaign.plan import COORDINATORS
from tests.promises import broken

LAB = [sys.executable, "-m", "lab.campaign"]


@pytest.fixture(autouse=True)
def possible() -> None:
    if missing := ground.missing():
        pytest.skip("; ".join(missing))  # in CI a skip is a failure


def left(mark: str) -> list[str]:
    """What is there of a laboratory: namespaces, freezers, folders, processes."""
    roots = [ground.SPACES, Path("/sys/fs/cgroup/freezer"), Path("/sys/fs/cgroup"), Path(tempfile.gettempdir())]
    found = [str(path) for root in roots for path in root.glob(f"{ground.PREFIX}{mark}-*")]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"{ground.PREFIX}{mark}-".encode() in (entry / "cmdline").read_bytes():
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                pass
    return found


def begun(*words: str) -> tuple[subprocess.Popen[bytes], str]:
    process = subprocess.Popen([*LAB, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mark = f"{process.pid}-{Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    return process, mark


def wait_for_a_command(mark: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while not any(".ticks" in line for line in left(mark)):
        assert time.monotonic() < until and process.poll() is None, "no command ran within 60 s"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_short_campaign_breaks_no_promise(tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    process, mark = None, ""
    words = [*LAB, "--faults", "6", "--minutes", "1", "--seed", "11", "--json", "--picture", str(picture)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, said = process.communicate(timeout=200)
    facts = json.loads(out)
    # Said first: for the rest there is a second chance.
    for promise in ("overlaps", "orphans", "lost_events"):
        assert facts[promise] == 0, broken(f"{promise}: {facts['red']}")
    assert facts["worlds"]["postgres"]["rows_of_a_deposed_term"] == 0, broken(facts["red"])
    assert process.returncode == 0, f"{facts['red']} {facts['troubles']}\n{said}"
    assert facts["faults"] >= 2 and facts["terms"] >= 2 and facts["worlds"]["postgres"]["rows"] > 20
    assert picture.read_text().startswith("<svg")
    assert not left(mark or f"{process.pid}")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_short_campaign_with_two_seats_breaks_no_promise(tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    words = [
        *LAB,
        "--world",
        "seats",
        "--faults",
        "8",
        "--minutes",
        "1",
        "--seed",
        "11",
        "--json",
        "--picture",
        str(picture),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    facts = json.loads(done.stdout)
    for promise in ("overlaps", "orphans", "lost_events"):
        assert facts[promise] == 0, broken(f"{promise}: {facts['red']}")
    assert facts["worlds"]["seats"]["rows_of_a_deposed_term"] == 0, broken(facts["red"])
    assert done.returncode == 0, f"{facts['red']} {facts['troubles']}\n{done.stderr}"
    assert facts["faults"] >= 2 and facts["terms"] >= 3 and facts["worlds"]["seats"]["rows"] > 20
    assert ">dora<" in picture.read_text()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_short_campaign_with_ensembles_breaks_no_promise() -> None:
    for world in COORDINATORS:
        if (absent := coordinators.missing(world)) is not None:
            pytest.skip(absent)
    worlds = [word for world in COORDINATORS for word in ("--world", world)]
    words = [*LAB, *worlds, "--faults", "10", "--minutes", "0.7", "--seed", "11", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    facts = json.loads(done.stdout)
    for promise in ("overlaps", "orphans", "lost_events"):
        assert facts[promise] == 0, broken(f"{promise}: {facts['red']}")
    assert facts["without_a_majority"]["alive_after_it"] == 0, broken(facts["red"])
    assert done.returncode == 0, f"{facts['red']} {facts['troubles']}\n{done.stderr}"
    assert all(facts["worlds"][world]["faults"] >= 2 for world in COORDINATORS) and facts["terms"] >= 2


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_patroni_pair_that_loses_its_primary_makes_no_two_leaders() -> None:
    """One takeover, in which the old primary is cut from etcd and its replica, and members reach it still."""
    if (absent := pair.missing()) is not None:
        pytest.skip(absent)
    words = [*LAB, "--world", "patroni", "--only", "primary parted", "--times", "1", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    facts = json.loads(done.stdout)
    for promise in ("overlaps", "orphans", "lost_events"):
        assert facts[promise] == 0, broken(f"{promise}: {facts['red']}")
    assert facts["worlds"]["patroni"]["rows_of_a_deposed_term"] == 0, broken(facts["red"])
    assert done.returncode == 0, f"{facts['red']} {facts['troubles']}\n{done.stderr}"
    assert facts["takeovers"]["count"] == 1 and facts["terms"] >= 2 and facts["worlds"]["patroni"]["rows"] > 20


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_fail_over_that_forgets_makes_no_two_leaders() -> None:
    """Once each way; `make faults-forgetful` does each 50 times."""
    words = [*LAB, "--only", "forgetful", "--times", "1", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    facts = json.loads(done.stdout)
    assert facts["overlaps"] == 0, broken(facts["red"])
    assert done.returncode == 0, f"{facts['red']} {facts['troubles']}\n{done.stderr}"
    assert facts["worlds"]["postgres"]["faults"] >= 3, facts["skipped"]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_nothing_is_left_after_ctrl_c_nor_by_the_next_after_kill_9() -> None:
    process, mark = begun("--world", "mariadb", "--minutes", "5")
    try:
        wait_for_a_command(mark, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert not left(mark)
        process, mark = begun("--world", "mariadb", "--minutes", "5")
        wait_for_a_command(mark, process)
    finally:
        process.kill()
        process.wait()
    assert left(mark)
    assert any(mark in name for name in ground.clear_away())
    assert not left(mark)


def test_without_root_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert main(["--world", "postgres", "--faults", "1"]) == 3
    said = capfd.readouterr().err
    assert "only root may make network namespaces" in said and "What runs anyway" in said
