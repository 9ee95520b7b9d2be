"""Runs tests on a copy of the product in which a line is wrong, and judges whether they are red for that reason.

Source and tests are copied, because a test starts its members from where it lies itself. Every file that the fault is
about says by itself which process loaded it, programs that run without the package (``python -I``) included.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import heirflow
from lab.sim.hunting import DoesNotApply

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(heirflow.__file__).resolve().parent
LIMIT_S = 60
HEAD = "from __future__ import annotations\n"
SAYS_WHO_LOADED_IT = """
import os as _os
_fd = _os.open({mark!r}, _os.O_WRONLY | _os.O_APPEND | _os.O_CREAT, 0o600)
_os.write(_fd, b"{file} %d\\n" % _os.getpid())
_os.close(_fd)
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of the product, made wrong, and the test that must go red."""

    name: str
    file: str
    """Below ``src/heirflow``."""
    old: str
    """These words must stand in the file exactly once."""
    new: str
    test: str
    """Node id, below ``tests``."""
    says: str
    """A pattern that the failure's own words match: red by another reason is not noticed."""

    @property
    def alone(self) -> bool:
        """Whether a process of its own must have run this file: all in there but the member's side are programs."""
        return self.file.startswith(("guard/", "alone/"))


@dataclass(frozen=True, slots=True)
class Run:
    """What came of some tests on a copy."""

    package: Path
    told: list[dict[str, Any]]
    loaded: set[tuple[str, int]]
    """(file, pid) of each process that loaded one of the files that were asked about."""
    output: str


def run(
    folder: Path,
    tests: Sequence[str],
    *,
    fault: Fault | None = None,
    ask: Collection[str] = (),
    env: Mapping[str, str] | None = None,
) -> Run:
    """Run tests on a copy in this folder, which is removed. `ask`: more files that shall say who loaded them."""
    package, mark, tell = folder / "src" / "heirflow", folder / "loaded", folder / "told"
    try:
        # Byte code goes with the source, as compiling costs most of a short run; that of tests holds their old path.
        shutil.copytree(SOURCE, package)
        for name in ("tests", "lab", "docs/schemas"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        if fault is not None:
            exchange(package / fault.file, fault.old, fault.new)
        for file in {*ask, *([fault.file] if fault else [])}:
            exchange(package / file, HEAD, HEAD + SAYS_WHO_LOADED_IT.format(mark=str(mark), file=file))
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-vv", "--tb=short", f"--timeout={LIMIT_S}", f"--basetemp={folder / 't'}",
             "-p", "no:cacheprovider", "-p", "tests.planted.told", f"--tell={tell}", *(f"tests/{test}" for test in tests)],
            cwd=folder, env={**own, **(env or {}), "PYTHONPATH": f"{package.parent}:{folder}"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=2 * LIMIT_S * len(tests),
        )  # fmt: skip
        marks = mark.read_text().splitlines() if mark.exists() else []
        return Run(
            package,
            [json.loads(line) for line in tell.read_text().splitlines()] if tell.exists() else [],
            {(file, int(pid)) for file, pid in map(str.split, marks)},
            done.stdout,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def exchange(path: Path, old: str, new: str) -> None:
    """Raises `DoesNotApply` when the words are not there, or not only once."""
    text = path.read_text("utf-8")
    if text.count(old) != 1:
        raise DoesNotApply(f"{path.name} has {old!r} {text.count(old)} times")
    path.write_text(text.replace(old, new), "utf-8")
    # Byte code counts when the second and the size are the same; a copy made that fast is possible.
    for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        stale.unlink()


def unnoticed(fault: Fault, run: Run) -> str:
    """Why this run does not show that the fault is noticed; empty when it does."""
    calls = [told for told in run.told if told["when"] == "call"]
    if len(calls) != 1 or {told["package"] for told in run.told} != {str(run.package)}:
        return f"not one test ran on the copy:\n{run.output}"
    [call] = calls
    if not any(file == fault.file and not (fault.alone and pid == call["pid"]) for file, pid in run.loaded):
        return f"nobody ran the changed {fault.file}:\n{run.output}"
    if call["outcome"] == "passed":
        return f"{fault.test} is green: nobody would notice that {fault.name}"
    where = Path(call["where"])
    if call["kind"] not in {"AssertionError", "Failed"} or not (
        where.is_relative_to(run.package.parents[1] / "tests") or where.is_relative_to(run.package / "testing")
    ):
        return f"{call['outcome']} by {call['kind']} in {where}, not by an assertion of the test:\n{call['text']}"
    if re.search(fault.says, call["text"]) is None:
        return f"red, and says nothing of {fault.says!r}:\n{call['text']}"
    return ""
