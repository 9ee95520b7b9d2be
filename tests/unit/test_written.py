"""What tickers write is what the one reader reads, whichever program ticks; and the judgement of spans."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from heirflow.clock import boottime
from heirflow.demo import ticker as demo_ticker
from lab.campaign import command
from lab.rig import ticker, written
from lab.rig.spans import gaps, overlaps, stretches

ROOT = Path(__file__).resolve().parents[2]
NASTY = ROOT / "tests" / "process" / "nasty" / "program.py"
LIMIT_S = 30.0
MINE = {"HEIRFLOW_TERM": "7", "HEIRFLOW_MEMBER": "ada-1"}


def test_the_ticker_has_the_clock_that_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime", float)
    assert boottime() == ticker.CLOCK


@pytest.mark.parametrize(
    ("words", "at_least"),
    [
        ([sys.executable, "-S", "-E", ticker.__file__, "FILE", "1"], 5),
        ([sys.executable, "-I", "-S", demo_ticker.__file__, "FILE"], 2),
        ([sys.executable, "-S", str(NASTY), "ordinary", "FILE", "mark"], 5),
    ],
    ids=["laboratory", "demonstration", "nasty"],
)
def test_every_ticker_writes_the_same_lines(words: list[str], at_least: int, tmp_path: Path) -> None:
    file = tmp_path / "ticks"
    began_s = boottime()
    process = subprocess.Popen([word.replace("FILE", str(file)) for word in words], env=MINE, cwd="/")
    limit = time.monotonic() + LIMIT_S
    try:
        while len(written.ticks_in(file)) < at_least:
            assert process.poll() is None and time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) in {0, -signal.SIGTERM}
    finally:
        process.kill()
        process.wait(LIMIT_S)
    (start,) = written.starts_in(file)
    assert (start.term, start.member, start.pid) == (7, "ada-1", process.pid)
    assert began_s < start.from_s < start.to_s < boottime()


def test_a_start_with_a_file_of_its_own(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-S", "-E", command.__file__, str(tmp_path)], env=MINE, start_new_session=True
    )
    file = tmp_path / ticker.file_name(7, "ada-1", process.pid)
    limit = time.monotonic() + LIMIT_S
    try:
        while len({tick.pid for tick in written.ticks_in(file)}) < 2:  # the command and its descendant
            assert process.poll() is None and time.monotonic() < limit
            time.sleep(0.01)
        assert written.processes(tmp_path).keys() == {tick.pid for tick in written.ticks_in(file)}
    finally:
        process.kill()
        process.wait(LIMIT_S)
        while left := written.processes(tmp_path):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    (start,) = written.starts(tmp_path)
    assert (start.term, start.member, start.pid, start.path) == (7, "ada-1", process.pid, file)


def test_a_half_written_line_is_left_out_and_a_strange_one_is_not_passed_over() -> None:
    assert [tick.pid for tick in written.ticks(b"1000000000 1 7 a\n2000000000 2 7 a\n3000")] == [1, 2]
    with pytest.raises(ValueError, match="unpack"):
        list(written.ticks(b"1000000000 1\n"))


def test_a_long_file_is_read_at_its_ends_only(tmp_path: Path) -> None:
    file = tmp_path / ticker.file_name(1, "ada-1", 5)
    assert written.start_of(file) is None
    file.write_text("".join(f"{number * 10**9} 5 1 ada-1\n" for number in range(1, 2000)))
    start = written.start_of(file)
    assert start is not None
    assert (start.from_s, start.to_s) == (1.0, 1999.0)


def test_one_file_of_several_starts(tmp_path: Path) -> None:
    file = tmp_path / "ticks"
    assert written.starts_in(file) == []
    lines = [
        (1.0, 5, 1, "ada-1"),
        (2.0, 5, 1, "ada-1"),
        (2.5, 6, 1, "ada-1"),
        (4.0, 7, 2, "ben-1"),
        (3.5, 6, 1, "ada-1"),
    ]
    file.write_text("".join(f"{int(at * 1e9)} {pid} {term} {member}\n" for at, pid, term, member in lines))
    found = written.starts_in(file)
    assert [(each.pid, each.from_s, each.to_s) for each in found] == [(5, 1.0, 2.0), (6, 2.5, 3.5), (7, 4.0, 4.0)]
    assert not overlaps(found)
    assert [(gap.from_s, gap.to_s) for gap in gaps(found)] == [(2.0, 2.5), (3.5, 4.0)]
    assert all(later.from_s > earlier.to_s for earlier, later in pairwise(found))


def span(from_s: float, to_s: float) -> Any:
    return written.Start(1, "ada-1", 1, from_s, to_s, Path())


def test_overlaps_and_gaps_look_beyond_the_neighbour() -> None:
    long, short, late = span(0, 10), span(1, 2), span(9, 12)
    assert [(both.earlier, both.later) for both in overlaps([late, short, long])] == [(long, short), (long, late)]
    assert gaps([late, short, long]) == []
    assert [(gap.from_s, gap.to_s) for gap in gaps([late, short, span(3, 4)])] == [(2, 3), (4, 9)]
    assert [both.lasted_s for both in overlaps([span(0, 1), span(1, 2)])] == [0], "one moment is enough"


def test_stretches_end_where_a_pause_is_longer() -> None:
    assert stretches([2.0, 1.0, 1.25, 3.0, 2.25], 0.25) == [(1.0, 1.25), (2.0, 2.25), (3.0, 3.0)]
    assert stretches([], 0.25) == []
