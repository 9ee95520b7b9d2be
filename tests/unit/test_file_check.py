"""A health check that looks at a file's time of modification: what counts as a sign of life, and what does not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from heirflow.member.asker import CannotTell
from heirflow.member.file_check import FileCheck
from heirflow.member.health import Blind, Lookout, Patience, Unwell

DAY_NS = 86_400 * 10**9


def touch(path: Path, *, ahead_ns: int = 0) -> None:
    """Now, by a clock that is ahead."""
    path.touch()
    at = time.time_ns() + ahead_ns
    os.utime(path, ns=(at, at))


def begun(path: Path) -> FileCheck:
    check = FileCheck(str(path))
    check.begin()
    return check


def test_it_is_well_while_the_file_goes_on_changing(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    check = begun(path)
    assert check.look("", 1.0) == f"{path} is not there"
    touch(path)
    assert check.look("", 1.0) == ""
    assert check.look("", 1.0) == f"{path} has not been written to"
    touch(path)
    assert check.look("", 1.0) == ""
    path.unlink()
    assert check.look("", 1.0) == f"{path} is not there"


def test_a_file_that_an_earlier_run_left_is_no_sign_of_life(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    touch(path)
    check = begun(path)
    assert check.look("", 1.0) == f"{path} has not been written to"
    touch(path)
    check.begin()  # started again in place, before anybody looked
    assert check.look("", 1.0) == f"{path} has not been written to"
    touch(path)
    assert check.look("", 1.0) == ""


@pytest.mark.parametrize("ahead_ns", [DAY_NS, -DAY_NS])
def test_a_clock_that_jumps_neither_kills_nor_hides(tmp_path: Path, ahead_ns: int) -> None:
    path = tmp_path / "alive"
    touch(path)
    check = begun(path)
    touch(path, ahead_ns=ahead_ns)
    assert check.look("", 1.0) == ""
    assert check.look("", 1.0) != "", "a time in the future says nothing of now"
    touch(path)
    assert check.look("", 1.0) == ""


def test_a_file_that_is_replaced_has_been_written(tmp_path: Path) -> None:
    path, new = tmp_path / "alive", tmp_path / "alive.new"
    path.write_text("1")
    check = begun(path)
    new.write_text("2")
    os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    new.replace(path)
    assert check.look("", 1.0) == ""


def test_what_cannot_be_looked_at_is_not_the_commands_fault(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    path.symlink_to(path)
    check = begun(path)
    with pytest.raises(CannotTell, match="Too many levels"):
        check.look("", 1.0)
    path.unlink()
    touch(path)
    assert check.look("", 1.0) == f"{path} has not been written to", "whether it is older than the command is not known"
    touch(path)
    assert check.look("", 1.0) == ""


def test_a_path_is_one_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    here, home = FileCheck("alive"), FileCheck("~/alive")
    monkeypatch.chdir("/")
    touch(tmp_path / "alive")
    for check in (here, home):
        assert check.look("", 1.0) == f"{tmp_path / 'alive'} has not been written to"


def found_within(lookout: Lookout, limit_s: float) -> list[object]:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if found := lookout.take():
            return [*found]
        time.sleep(0.01)
    return []


def test_a_first_write_just_after_the_start_is_seen_by_the_first_look(tmp_path: Path) -> None:
    """Also where --health-start is shorter than the time between two looks."""
    path = tmp_path / "alive"
    lookout = Lookout(check=FileCheck(str(path)), patience=Patience(timeout_s=4.0, start_s=0.0))
    lookout.begin(lambda: None)
    lookout.command(os.getpid())
    time.sleep(0.3)
    touch(path)
    assert found_within(lookout, 2.0) == []
    (found,) = found_within(lookout, 8.0)
    lookout.close()
    assert isinstance(found, Unwell) and f"{path} has not been written to" in found.because


def test_a_mount_that_is_dead_holds_up_nothing_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "alive"
    real = os.stat

    def dead(where: object, *words: object, **more: object) -> os.stat_result:
        if str(where) == str(path):
            time.sleep(30.0)
        return real(where, *words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", dead)
    lookout = Lookout(check=FileCheck(str(path)), patience=Patience(timeout_s=0.4, start_s=0.4))
    began = time.monotonic()
    lookout.begin(lambda: None)
    lookout.command(os.getpid())
    (found,) = found_within(lookout, 5.0)
    lookout.close()
    assert time.monotonic() - began < 5.0
    assert isinstance(found, Blind) and "a command that hangs is not seen" in found.because
