"""Commands as people give them, where somebody else has prepared the ground."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import until

NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_strangers_file_in_the_working_folder_runs_nothing(
    start: Callable, heirflow: Callable, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, place = home / "ran", home / "place"
    place.mkdir()
    (place / "heirflow.toml").write_text(f'on-event = "touch {ran}"\ndb-url = "sqlite:///{home}/strangers.db"\n')
    os.chown(place / "heirflow.toml", NOBODY, NOBODY)
    monkeypatch.chdir(place)
    monkeypatch.delenv("HEIRFLOW_DB_URL")
    answer = heirflow("status")
    assert answer.code == 78
    assert f"{place}/heirflow.toml is not used" in answer.err and "belongs to the user nobody" in answer.err
    member = start("--name", "h", "--", "sleep", "600")
    assert member.process.wait(20) == 78
    assert "is not used" in member.told
    assert not ran.exists()
    assert not (home / "strangers.db").exists()


def test_run_says_which_file_it_read(start: Callable, home: Path) -> None:
    (home / "heirflow.toml").write_text('label = "x"\n')
    member = start("--name", "h", "--", "sleep", "600")
    until(lambda: f"reads its settings from {home}/heirflow.toml" in member.told, "it says which file it read")
