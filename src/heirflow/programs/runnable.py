"""Whether exec would take a program, asked before the lead is taken: a member whose command cannot run must not hold up others.

What is refused is refused with the exit code that a shell would give: 127 for what is not there, 126 for what cannot be run.
"""

from __future__ import annotations

import os
import platform
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from heirflow.errors import CommandNotFound, CommandNotRunnable

LONGEST_CHAIN = 5
"""How many scripts Linux follows whose interpreter is a script again."""
MACHINES = {
    "x86_64": (62, 3), "i386": (3,), "i686": (3,), "aarch64": (183, 40), "armv7l": (40,), "armv6l": (40,), "riscv64": (243,),
    "ppc64le": (21,), "ppc64": (21, 20), "s390x": (22,), "loongarch64": (258,),
}  # fmt: skip
"""What a kernel calls its processor -> the numbers of the processors whose programs it may run (`e_machine` of ELF)."""
PT_INTERP = 3
FOREIGN = Path("/proc/sys/fs/binfmt_misc")
"""Where a system says that it runs programs of other processors too, through an emulator."""


def check_runnable(argv: Sequence[str], cwd: str, env: Mapping[str, str]) -> str:
    """The path of the program that `argv` would run in `cwd` with `env`.

    Raises `CommandNotFound` or `CommandNotRunnable` with a plain sentence.
    """
    if not argv or not argv[0]:
        raise CommandNotFound("no command was given")
    try:
        os.stat(f"{cwd}/.")  # noqa: PTH116  Path leaves the dot out, which asks whether it may be entered
    except PermissionError:
        raise CommandNotRunnable(
            f"the working directory {cwd} may not be entered by this user; change to another one"
        ) from None
    except OSError:
        raise CommandNotRunnable(f"the working directory {cwd} does not exist") from None
    name = argv[0]
    if "/" in name:
        path = Path(cwd, name)
    else:
        found = _search(name, cwd, env.get("PATH", os.defpath))
        if found is None:
            raise CommandNotFound(f"{name} was not found in PATH")
        path = found
    if not os.path.exists(path):  # noqa: PTH110  unlike Path's, it takes what may not be looked at for absent
        raise CommandNotFound(f"{name} does not exist")
    if path.is_dir():
        raise CommandNotRunnable(f"{name} is a directory, not a program")
    _check_file(name, path, cwd, env, LONGEST_CHAIN)
    return str(path)


def _search(name: str, cwd: str, search_path: str) -> Path | None:
    """As exec does it: the first executable one; otherwise the first of that name, to say why it cannot run."""
    places = [Path(cwd, place or ".") / name for place in search_path.split(os.pathsep)]
    named = [place for place in places if os.path.isfile(place)]  # noqa: PTH113
    return next((place for place in named if os.access(place, os.X_OK)), named[0] if named else None)


def _check_file(name: str, path: Path, cwd: str, env: Mapping[str, str], chain: int) -> None:
    """Of an existing file: it may be executed, and so may what it needs for that. `name`: how people are told of it."""
    _check_permission(name, path)
    try:
        with path.open("rb") as file:
            first = file.readline(256)
            if first.startswith(b"\x7fELF"):
                file.seek(0)
                head = file.read(64 * 1024)
    except OSError:  # executable and not readable is fine for a binary
        return
    if not first:
        raise CommandNotRunnable(f"{name} is empty")
    if first.startswith(b"\x7fELF"):
        _check_binary(name, head, cwd)
    elif first[:2] == b"#!":
        _check_script(name, first, cwd, env, chain)
    elif b"\0" not in first and first.endswith(b"\n") and first.isascii():
        raise CommandNotRunnable(f"{name} is a text whose first line names no interpreter; a script begins with #!")


def _check_permission(name: str, path: Path) -> None:
    if os.access(path, os.X_OK):
        return
    if os.statvfs(path).f_flag & getattr(os, "ST_NOEXEC", 0):  # macOS does not name it
        raise CommandNotRunnable(f"{name} lies on a file system from which nothing may be executed (noexec); move it")
    if path.stat().st_mode & 0o111:
        raise CommandNotRunnable(f"{name} may not be executed by this user: {path} lets others only")
    raise CommandNotRunnable(f"{name} is not executable: chmod +x {path}")


def _check_binary(name: str, head: bytes, cwd: str) -> None:
    """An ELF file, by its first bytes: for this processor, and with a loader that is there."""
    try:
        wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
        (machine,) = struct.unpack_from(order + "H", head, 18)
        (table,) = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
        size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
        entries = [head[at : at + size] for at in range(table, table + size * count, size)]
        loader = b""
        for entry in entries:
            if struct.unpack_from(order + "I", entry)[0] == PT_INTERP:
                offset = struct.unpack_from(order + ("Q" if wide else "I"), entry, 8 if wide else 4)[0]
                length = struct.unpack_from(order + ("Q" if wide else "I"), entry, 32 if wide else 16)[0]
                loader = head[offset : offset + length].rstrip(b"\0")
    except (struct.error, IndexError, ValueError):  # cut off: exec tells
        return
    ours = MACHINES.get(platform.machine())
    if ours is not None and machine not in ours:
        if not _runs_foreign():
            raise CommandNotRunnable(f"{name} is a program for another processor than this one ({platform.machine()})")
        return  # its loader then lies where the emulator looks for it
    if loader:
        path = Path(cwd, os.fsdecode(loader))
        if not os.path.exists(path):  # noqa: PTH110
            raise CommandNotFound(
                f"{name} needs the loader {path}, which does not exist; it was built for another system"
            )
        _check_permission(f"the loader {path} of {name}", path)


def _runs_foreign() -> bool:
    """Whether some emulator may be registered: then the kernel knows better than we do."""
    try:
        return any(entry.name not in {"register", "status"} for entry in FOREIGN.iterdir())
    except OSError:
        return False


def _check_script(name: str, first: bytes, cwd: str, env: Mapping[str, str], chain: int) -> None:
    words = os.fsdecode(first[2:]).split()
    if first.endswith(b"\r\n") and (len(words) == 1 or (len(words) == 2 and Path(words[0]).name == "env")):
        raise CommandNotFound(
            f"{name} has the line ends of Windows, so its interpreter is not found; write it with those of Unix"
        )
    if not words:
        raise CommandNotRunnable(f"{name} begins with #! but names no interpreter")
    asks = f"{name} asks for the interpreter {words[0]}"
    interpreter = Path(cwd, words[0])
    if not os.path.exists(interpreter):  # noqa: PTH110
        raise CommandNotFound(f"{asks}, which does not exist")
    if not interpreter.is_file():
        raise CommandNotRunnable(f"{asks}, which is no program")
    if chain == 0:
        raise CommandNotRunnable(f"{asks}, and its interpreters are scripts that ask for one another without end")
    _check_file(f"{words[0]}, the interpreter of {name},", interpreter, cwd, env, chain - 1)
    by_name = interpreter.name == "env" and len(words) == 2 and "=" not in words[1]
    if by_name and shutil.which(words[1], path=env.get("PATH")) is None:
        raise CommandNotFound(f"{name} asks for the interpreter {words[1]}, which was not found in PATH")
