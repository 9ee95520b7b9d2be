"""Where a command stands that is about to be stopped for its health: told before the kill takes the answer away.

Two are asked. The kernel says what each thread waits for, at once and of any program. `py-spy`, where it is installed, names the
functions of a Python program. It only reads, and stops nothing: a program that is killed meanwhile leaves no trace in the command.

Whatever is asked may hang, so it is asked in a thread of its own, and `look` returns when its time is over, with what there is.
What the command's functions and threads are called is the command's choice: it is made printable, and never acted on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from heirflow.guard import processes
from heirflow.member.shell import run_beside
from heirflow.text import printable

LIMIT_S = 2.0
"""The longest time by which a kill may be late for this."""
PY_SPY_S = 1.0
LINES, THREADS, PROCESSES, FRAMES, KERNEL_FRAMES = 12, 8, 8, 12, 4
LINE_LIMIT, BRIEF_LIMIT, ANSWER_LIMIT = 600, 200, 1 << 20
"""Characters of a line, and of what is kept in the history; bytes of an answer."""
DOES = {
    "R": "runs",
    "S": "sleeps",
    "D": "waits for a device or a file server",
    "T": "is stopped",
    "t": "is held by a debugger",
    "Z": "has ended",
    "I": "is idle",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a command stood."""

    lines: tuple[str, ...]
    """One for each thread, the main one first."""
    brief: str
    """A short clause of the main thread's place, for the history."""


class AnyWitness(Protocol):
    """Who is asked where a command stands."""

    def look(self, pid: int) -> Standing | None:
        """None when nothing could be told. Takes at most about `LIMIT_S`."""


class Witness:
    """Asks py-spy and the kernel. Used by one thread."""

    def __init__(self, children: set[int]) -> None:
        """`children`: see `run_beside`."""
        self._children = children
        self._asking: threading.Thread | None = None

    def look(self, pid: int) -> Standing | None:
        """See `AnyWitness`."""
        if self._asking is not None and self._asking.is_alive():
            return None  # the one before still hangs, and would be joined by one more with each kill
        found: list[Standing] = []

        def ask() -> None:
            for told in (told_by_the_kernel, self._told_by_py_spy):
                try:
                    standing = told(pid)
                except Exception:  # noqa: S112  the kill is worth more than any reason
                    continue
                if standing is not None:
                    found.append(standing)

        self._asking = threading.Thread(target=ask, name="heirflow-witness", daemon=True)
        self._asking.start()
        self._asking.join(LIMIT_S)
        return found[-1] if found else None

    def _told_by_py_spy(self, pid: int) -> Standing | None:
        import shlex  # these three only where a command is given up
        import shutil
        import tempfile

        program = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        if program is None:
            return None
        with tempfile.TemporaryDirectory(prefix="heirflow-") as folder:
            answer = Path(folder) / "answer"
            asks = "; ".join(
                f"{shlex.quote(program)} dump --nonblocking --json --pid {each} && exit 0" for each in family(pid)
            )
            # No answer is longer than this, however long py-spy goes on writing one.
            text = f"ulimit -f {ANSWER_LIMIT // 512}; exec >{shlex.quote(str(answer))}; {asks}; exit 1"
            try:
                code = run_beside(text, self._children, PY_SPY_S, extra={}, speaks=False)
            except (OSError, subprocess.TimeoutExpired):
                return None
            if code != 0:
                return None
            with answer.open("rb") as file:
                return of_threads(json.loads(file.read(ANSWER_LIMIT)))


def family(pid: int) -> list[int]:
    """A process and the first of its descendants."""
    below = processes.descendants(pid) if processes.PROC else []
    return [pid, *below][:PROCESSES]


# ---- what py-spy says ------------------------------------------------------------------------------------------------


def of_threads(said: Any) -> Standing | None:
    """What its JSON says; None when that is none of py-spy's."""
    threads = [each for each in said if isinstance(each, dict)] if isinstance(said, list) else []
    threads.sort(key=lambda each: each.get("thread_name") != "MainThread")
    lines, brief = [], ""
    for thread in threads:
        frames = thread.get("frames")
        places = [] if not isinstance(frames, list) else [place for each in frames if (place := _place(each))]
        if not places:
            continue
        brief = brief or f"it stood in {', from '.join(places[:3])}"
        name = thread.get("thread_name") or thread.get("os_thread_id") or "a thread"
        lines.append(printable(f"{name}: {', from '.join(places[:FRAMES])}", LINE_LIMIT))
    return Standing(tuple(lines[:LINES]), printable(brief, BRIEF_LIMIT)) if lines else None


def _place(frame: Any) -> str:
    if not isinstance(frame, dict) or not isinstance(frame.get("name"), str):
        return ""
    return f"{frame['name']} ({frame.get('short_filename') or frame.get('filename')}:{frame.get('line')})"


# ---- what the kernel says --------------------------------------------------------------------------------------------


def told_by_the_kernel(pid: int) -> Standing | None:
    """Of each thread of the process and its descendants: what it does, and in which of the kernel's functions."""
    if not processes.PROC:
        return None
    told = [each for process in family(pid) for each in _threads(process)][:LINES]
    lines = tuple(printable(f"{name}: {does}", LINE_LIMIT) for name, does in told)
    return Standing(lines, printable(f"its main thread {told[0][1]}", BRIEF_LIMIT)) if told else None


def _threads(pid: int) -> Iterator[tuple[str, str]]:
    """The name of each thread, and what it does."""
    folder = Path(f"/proc/{pid}/task")
    try:
        threads = sorted(int(entry.name) for entry in folder.iterdir())[:THREADS]
    except OSError:
        return
    for thread in threads:
        place = folder / str(thread)
        facts = [line.split() for line in _read(place / "status").splitlines()]
        state = next((words[1] for words in facts if words[0:1] == ["State:"]), "")
        if not state:
            continue  # it ended while we looked
        stack = [line.partition("] ")[2].partition("+")[0] for line in _read(place / "stack").splitlines()]
        waits = _read(place / "wchan")
        where = ", from ".join(stack[:KERNEL_FRAMES]) or (waits if waits.strip("0") else "")
        name = f"{_read(place / 'comm').rstrip() or 'a thread'} ({thread})"
        yield name, f"{DOES.get(state, state)}{f' in {where}' if where else ''}"


def _read(path: Path) -> str:
    """Nothing where it cannot be read: `stack` is root's."""
    try:
        with path.open("rb") as file:
            return file.read(4096).decode("utf-8", "replace")
    except OSError:
        return ""
