"""A program that exec would refuse, or a place that may not be looked into, is one sentence before the lead is taken."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heirflow.config import places
from heirflow.errors import CommandNotFound, CommandNotRunnable, HeirflowError
from heirflow.programs.runnable import check_runnable


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (b"", CommandNotRunnable, "is empty"),
        (b"echo hello\n", CommandNotRunnable, "begins with #!"),
        (b"#!/bin/sh\r\necho hello\r\n", CommandNotFound, "Windows"),
        (b"#!/usr/bin/env sh\r\necho hello\r\n", CommandNotFound, "Windows"),
    ],
)
def test_what_exec_would_refuse(tmp_path: Path, content: bytes, error: type[Exception], said: str) -> None:
    program = tmp_path / "program"
    program.write_bytes(content)
    program.chmod(0o755)
    with pytest.raises(error, match=said):
        check_runnable([str(program)], str(tmp_path), os.environ)


def test_what_exec_takes(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#! /bin/sh -e\nexit 0\n")
    program.chmod(0o755)
    check_runnable([str(program)], str(tmp_path), os.environ)
    check_runnable(["sh"], str(tmp_path), os.environ)


def exec_says(program: Path) -> int:
    """The exit code that a shell would give when it may not be executed; 0 when it runs."""
    child = os.fork()
    if child == 0:
        try:
            os.execv(program, [str(program)])
        except FileNotFoundError:
            os._exit(127)
        except OSError:
            os._exit(126)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


TRUE = shutil.which("true") or "/bin/true"


def for_another_processor(folder: Path) -> bytes:
    binary = bytearray(Path(TRUE).read_bytes())
    binary[18:20] = (2).to_bytes(2, "little")  # SPARC
    return bytes(binary)


def without_its_loader(folder: Path) -> bytes:
    found = re.search(rb"/lib[^\0]*/ld-[^\0]*", binary := Path(TRUE).read_bytes())
    assert found is not None, "a program with a loader"
    return binary.replace(found[0], b"/no" + found[0][3:], 1)


def script(interpreter: str) -> Callable[[Path], bytes]:
    return lambda folder: f"#!{folder}/{interpreter}\n".encode()


@pytest.mark.skipif(sys.platform != "linux", reason="ELF, and what Linux refuses")
@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (for_another_processor, 126, "another processor"),
        (without_its_loader, 127, "needs the loader /no"),
        (script("none"), 127, "which does not exist"),
        (script("plain"), 126, "plain, the interpreter of .* is not executable"),
        (script("folder"), 126, "which is no program"),
        (script("empty"), 126, "empty, the interpreter of .* is empty"),
        (script("stale"), 127, "asks for the interpreter /nowhere/sh, which does not exist"),
        (script("program"), 126, "without end"),
        (script("good"), 0, ""),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_it_refuses_what_exec_refuses(tmp_path: Path, content: Callable[[Path], bytes], code: int, said: str) -> None:
    program = tmp_path / "program"
    others = {"plain": b"#!/bin/sh\n", "empty": b"", "stale": b"#!/nowhere/sh\n", "good": f"#!{TRUE}\n".encode()}
    for name, text in {**others, "program": content(tmp_path)}.items():
        (tmp_path / name).write_bytes(text)
        (tmp_path / name).chmod(0o644 if name == "plain" else 0o755)
    (tmp_path / "folder").mkdir()
    assert exec_says(program) == code
    if code == 0:
        check_runnable([str(program)], str(tmp_path), os.environ)
        return
    with pytest.raises(HeirflowError, match=said) as raised:
        check_runnable([str(program)], str(tmp_path), os.environ)
    assert raised.value.exit_code == code


def as_nobody(act: Callable[[], None]) -> int:
    """Whether it went well (0) in a child that is an ordinary user."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_places_that_may_not_be_looked_into(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    def act() -> None:
        check_runnable(["sh"], "/", {"PATH": f"{closed}:/usr/bin:/bin"})
        with pytest.raises(CommandNotRunnable, match="may not be entered"):
            check_runnable(["sh"], str(closed), os.environ)

    assert as_nobody(act) == 0


def test_no_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    assert places.default_run_dir({}).name == f"heirflow-{os.getuid()}"
