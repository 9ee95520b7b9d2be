"""A program that exec would refuse, or a place that may not be looked into, is one sentence before the lead is taken."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from heirflow.config import resolve
from heirflow.errors import CommandNotFound, CommandNotRunnable
from heirflow.programs.plain import check_runnable


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
    assert resolve.default_run_dir({}).name == f"heirflow-{os.getuid()}"
