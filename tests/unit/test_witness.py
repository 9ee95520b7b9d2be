"""Where a command stands that is about to be stopped for its health: real processes, and what may hold up the look."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heirflow.guard.processes import PROC, stat_of
from heirflow.member import witness
from heirflow.member.health import Lookout, Patience, Unwell
from heirflow.member.telling import tell_of_health
from heirflow.member.witness import Standing, Witness
from tests.unit.test_rules_health import Always, wait_for_finding
from tests.unit.test_told import Lines

needs_proc = pytest.mark.skipif(not PROC, reason="only Linux tells in /proc where a process stands")
BESIDE = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
needs_py_spy = pytest.mark.skipif(shutil.which("py-spy", path=BESIDE) is None, reason="py-spy is not installed here")
HANGS = """
import threading
def waits_for_nobody():
    print("there", flush=True)
    threading.Event().wait()
def main_loop():
    waits_for_nobody()
main_loop()
"""


@contextmanager
def process(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as started:
        try:
            assert started.stdout is not None
            started.stdout.readline()
            time.sleep(0.1)
            yield started
        finally:
            started.kill()


def py_spy(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """What is found as py-spy from now on; an empty script: none is."""
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    if script:
        (folder / "py-spy").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "py-spy").chmod(0o755)


@needs_proc
def test_without_py_spy_the_kernel_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    py_spy(tmp_path, monkeypatch, "")
    with process("/bin/sh", "-c", "echo there; sleep 600 & wait") as shell:
        standing = Witness(set()).look(shell.pid)
        assert standing is not None
        assert [line.split(": ")[1].split()[0] for line in standing.lines] == ["sleeps", "sleeps"], standing
        first, second = standing.lines
        assert first.startswith(f"sh ({shell.pid}): ") and second.startswith("sleep (")
        assert standing.brief == f"its main thread {first.partition(': ')[2]}"
        os.kill(shell.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, shell.pid, os.WSTOPPED)
        still = Witness(set()).look(shell.pid)
        assert still is not None and "is stopped" in still.lines[0]
        for child in witness.processes.children(shell.pid):
            os.kill(child, signal.SIGKILL)


@needs_proc
def test_names_that_a_command_chose_break_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    py_spy(tmp_path, monkeypatch, "")
    odd = tmp_path / "a\n\x1b[2J\xff"
    shutil.copy(shutil.which("sleep") or "", odd)
    with subprocess.Popen([str(odd), "600"]) as started:
        time.sleep(0.1)
        standing = Witness(set()).look(started.pid)
        started.kill()
    assert standing is not None and standing.lines
    assert all(line.isprintable() for line in (*standing.lines, standing.brief))


@needs_py_spy
def test_with_py_spy_the_functions_are_named() -> None:
    children: set[int] = set()
    with process(sys.executable, "-S", "-c", HANGS) as hangs:
        began = time.monotonic()
        standing = Witness(children).look(hangs.pid)
        assert time.monotonic() - began < witness.LIMIT_S + 0.5
        assert stat_of(hangs.pid)[0] == "S", "it is left as it was"
    assert standing is not None
    assert "waits_for_nobody (<string>:5), from main_loop (<string>:7)" in standing.lines[0]
    assert standing.lines[0].startswith("MainThread: ")
    assert "waits_for_nobody" in standing.brief or "wait (threading.py" in standing.brief
    assert children == set()


@needs_py_spy
def test_the_python_below_a_shell_is_found() -> None:
    with process("/bin/sh", "-c", f'"{sys.executable}" -S -c "$1"; true', "sh", HANGS) as shell:
        standing = Witness(set()).look(shell.pid)
        for child in witness.processes.children(shell.pid):
            os.kill(child, signal.SIGKILL)
    assert standing is not None and "waits_for_nobody" in standing.lines[0]


ANSWERS = {
    "no json": "echo no",
    "another json": "echo '{\"a\": [1]}'",
    "odd threads": 'echo \'[1, {}, {"frames": 3}, {"frames": [{}, 7, {"name": 8}]}]\'',
    "brackets without end": "head -c 200000 /dev/zero | tr '\\0' '['",
    "an endless answer": "yes",
    "nothing": "exit 1",
}


@needs_proc
@pytest.mark.parametrize("what", ANSWERS)
def test_whatever_py_spy_says_the_kernel_is_asked_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    py_spy(tmp_path, monkeypatch, ANSWERS[what])
    with process("/bin/sh", "-c", "echo there; exec sleep 600") as sleeper:
        began = time.monotonic()
        standing = Witness(set()).look(sleeper.pid)
        assert time.monotonic() - began < witness.LIMIT_S + 0.5
    assert standing is not None and standing.lines[0].startswith(f"sleep ({sleeper.pid}): sleeps")


@needs_proc
def test_a_look_that_hangs_holds_up_nothing_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    py_spy(tmp_path, monkeypatch, "trap '' TERM; sleep 30; sleep 30")
    children: set[int] = set()
    with process("/bin/sh", "-c", "echo there; exec sleep 600") as sleeper:
        began = time.monotonic()
        standing = Witness(children).look(sleeper.pid)
        assert time.monotonic() - began < witness.LIMIT_S + 0.5
    assert standing is not None and "sleeps" in standing.lines[0], "what the kernel said is told all the same"


def test_even_a_look_that_never_ends_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "LIMIT_S", 0.2)
    monkeypatch.setattr(witness, "told_by_the_kernel", lambda pid: time.sleep(3.0))
    looks = Witness(set())
    for _ in range(2):  # the second does not even begin
        began = time.monotonic()
        assert looks.look(os.getpid()) is None
        assert time.monotonic() - began < 1.0


def test_a_process_that_is_gone_stands_nowhere() -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    assert Witness(set()).look(gone.pid) is None


class Notes:
    """A witness that counts."""

    def __init__(self, standing: Standing | None) -> None:
        self.asked: list[int] = []
        self.standing = standing

    def look(self, pid: int) -> Standing | None:
        self.asked.append(pid)
        return self.standing


@pytest.mark.parametrize(
    "standing", [Standing(("MainThread: wait (a.py:1)", "b: c (d.py:2)"), "it stood in wait (a.py:1)"), None]
)
def test_before_a_command_is_given_up_its_place_is_told_once(standing: Standing | None) -> None:
    wakes: list[int] = []
    notes = Notes(standing)
    lookout = Lookout(check=Always("it sleeps"), patience=Patience(timeout_s=0.4, start_s=0.4), witness=notes)
    lookout.begin(lambda: wakes.append(1))
    lookout.command(os.getpid())
    found, again = wait_for_finding(lookout, wakes), wait_for_finding(lookout, wakes)
    lookout.close()
    assert isinstance(found, Unwell) and isinstance(again, Unwell)
    assert notes.asked == [os.getpid()], "it is not asked again for the same run"
    assert found.because.endswith("; it stood in wait (a.py:1)" if standing else "it sleeps")
    lines = Lines()
    tell_of_health(lines, found)
    assert [(level, name) for level, name, _ in lines.told] == [("warning", "command_stands")] * (2 if standing else 0)
