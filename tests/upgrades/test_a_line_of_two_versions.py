"""A line of the version before and this one: upgraded host by host and taken back, each handover as short as any, never two.

Both are wheels, as people install them; the older one is kept here. docs/upgrading.md promises what
is played here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from heirflow import __version__
from lab.rig.rig import Member, Rig
from lab.rig.spans import gaps, overlaps
from lab.rig.written import starts_in, words_of

ROOT = Path(__file__).resolve().parents[2]
BEFORE = Path(__file__).with_name("heirflow-0.2.0-py3-none-any.whl")
"""Version 0.2.0, built from commit a2f8660, its last one: kept, as a checkout may come without its history."""
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
TTL_S = 10.0
HANDOVER_S = 4.0
"""The longest gap that is right: some 50 ms here as a rule, and far below what a lease that had to run out would take."""
LIMIT_S = 60.0


def installed(folder: Path) -> Path:
    """The folder of a wheel that is built from this checkout."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return unpacked(wheel, folder / "installed")


def unpacked(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        "older": unpacked(BEFORE, tmp_path_factory.mktemp("older")),
        "newer": installed(tmp_path_factory.mktemp("newer")),
    }


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    for name in [name for name in os.environ if name.startswith("HEIRFLOW_")]:
        monkeypatch.delenv(name)
    folder = Path(tempfile.mkdtemp(prefix="hf-"))  # short: the paths of sockets must be
    with Rig(f"sqlite:///{folder}/line.db", folder, ttl_s=TTL_S) as rig:
        yield rig
    shutil.rmtree(folder)


def asked(rig: Rig, version: Path, *words: str) -> str:
    """What the command line of this version says to the same line."""
    done = subprocess.run(
        [sys.executable, "-m", "heirflow", *words, "--db-url", rig.url],
        env={**os.environ, "PYTHONPATH": str(version)},
        cwd=rig.folder,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}\n{rig.story()}"
    return done.stdout


def add(rig: Rig, host: str, version: Path, *, size: int) -> Member:
    """A member of this version, once it stands in a line of this many."""
    member = rig.add(host, env={"PYTHONPATH": str(version)})
    rig.wait_for_line(size, LIMIT_S)
    return member


def check_leader(rig: Rig, host: str, version: Path) -> None:
    """That this host leads, with a guard of this version."""
    leader = rig.wait_for_leader(LIMIT_S)
    assert leader.host == host, rig.story()
    leader.ask()
    assert str(version) in words_of(leader.seen["guard"]), "another version runs than is meant"


def kill(rig: Rig, host: str) -> None:
    """With -9; its guard, of one version, then carries out the will, and the heir, of the other version, takes charge."""
    leader = rig.members[host]
    leader.kill("member")
    rig.wait_for_leader(LIMIT_S, other_than=leader)


def both_see(rig: Rig, versions: Mapping[str, Path], leader: str) -> None:
    for version in versions.values():
        (seen,) = json.loads(asked(rig, version, "status", "rig", "--json"))["elections"]
        assert {each["host"] for each in seen["succession"]} == {"a", "b"}
        assert seen["leader"].startswith(leader)


def test_the_two_are_two(versions: Mapping[str, Path]) -> None:
    said = {
        name: subprocess.run(
            [sys.executable, "-m", "heirflow", "--version"],
            env={**os.environ, "PYTHONPATH": str(path)},
            cwd=path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name, path in versions.items()
    }
    assert said == {"older": "heirflow 0.2.0\n", "newer": f"heirflow {__version__}\n"}


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [("older", "newer"), ("newer", "older")])
def test_host_by_host_with_the_leader_last(first: str, then: str, rig: Rig, versions: Mapping[str, Path]) -> None:
    old, new = versions[first], versions[then]
    add(rig, "a", old, size=1)
    heir = add(rig, "b", old, size=2)
    check_leader(rig, "a", old)

    heir.process.send_signal(signal.SIGTERM)
    assert heir.process.wait(LIMIT_S) == 0
    add(rig, "b", new, size=2)
    both_see(rig, versions, "a")
    for version in (old, new):  # either may order, whoever leads
        asked(rig, version, "pause", "rig")
        asked(rig, version, "resume", "rig")

    asked(rig, new, "switchover", "rig", "--to", "b")
    rig.wait_for_line(2, LIMIT_S)
    check_leader(rig, "b", new)
    both_see(rig, versions, "b")

    # Before the last host has changed too, things go wrong, both ways round.
    kill(rig, "b")
    check_leader(rig, "a", old)
    add(rig, "b", new, size=2)
    kill(rig, "a")
    check_leader(rig, "b", new)

    add(rig, "a", new, size=2)
    both_see(rig, versions, "b")
    assert "Traceback" not in rig.story()
    starts = starts_in(rig.ticks)
    assert [(start.term, start.member[0]) for start in starts] == [(1, "a"), (2, "b"), (3, "a"), (4, "b")], rig.story()
    assert not overlaps(starts)
    long = [gap for gap in gaps(starts) if gap.lasted_s > HANDOVER_S]
    assert not long, rig.story()
