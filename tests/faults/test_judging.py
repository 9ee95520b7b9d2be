"""The judge of these scenes: what was written is judged before it is forgotten, and only a thaw's instant is forgiven."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.rig import written
from lab.rig.written import Start
from tests.faults.campaign import Run
from tests.faults.scene import Scene
from tests.promises import BROKEN


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Scene]:
    """A scene without members: the commands' files are written by the tests."""
    with Scene("sqlite://", tmp_path / "scene", hosts=()) as scene:
        yield scene


def start(play: Scene, term: int, *stretches: tuple[float, float]) -> Start:
    path = play.ticks / f"{term}.ada-{term}.{1000 + term}.ticks"
    stamps = [stamp for stretch in stretches for stamp in stretch]
    path.write_text("".join(f"{int(stamp * 1e9)} 1 {term} ada-{term}\n" for stamp in stamps))
    found = written.start_of(path)
    assert found is not None
    return found


def left(play: Scene) -> list[int]:
    return [each.term for each in written.starts(play.ticks)]


def test_a_line_in_order_is_forgotten_but_for_its_last_start(play: Scene) -> None:
    run = Run()
    start(play, 1, (10, 20))
    play.judge(start(play, 2, (21, 30)), run)
    assert (run.wrong, run.overlaps, run.orphans, left(play)) == ([], 0, 0, [2])


def test_a_start_beside_another_is_told_before_it_is_forgotten(play: Scene) -> None:
    """A member that is thawed begins its command anew, for a second, when the heir's has long run."""
    run = Run()
    start(play, 1, (10, 20))
    current = start(play, 3, (21, 60))
    start(play, 2, (40, 41))
    play.judge(current, run)
    assert (run.overlaps, left(play)) == (1, [3])
    assert run.wrong[0] == f"{BROKEN}: 2.ada-2.1002.ticks began 1.000 s before 3.ada-3.1003.ticks ended"


def test_a_process_of_another_start_is_an_orphan(play: Scene) -> None:
    run, old = Run(), start(play, 1, (10, 20))
    words = [sys.executable, "-S", "-c", "import time; print(flush=True); time.sleep(60)", str(old.path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        play.judge(start(play, 2, (21, 30)), run)
        process.kill()
    assert run.orphans == 1
    assert run.wrong[0].startswith(f"{BROKEN}: left behind: {{{process.pid}: ")


@pytest.mark.parametrize(("until", "overlaps"), [(20, 0), (31, 1)], ids=["only then", "before as well"])
def test_what_a_thawed_command_wrote_from_then_on_is_forgiven(play: Scene, until: float, overlaps: int) -> None:
    run, old = Run(), start(play, 1, (10, until), (50, 50.02))
    play.forgive(old, 50)
    play.judge(start(play, 2, (30, 60)), run)
    assert run.overlaps == overlaps


def test_what_is_waited_for_in_vain_is_told_with_the_overlaps(play: Scene) -> None:
    start(play, 1, (10, 20))
    start(play, 2, (19, 30))
    with pytest.raises(AssertionError, match=f"waited 0.01 s for a leader\n{BROKEN}: 2.ada"):
        play.wait_for(lambda: None, "a leader", 0.01)
