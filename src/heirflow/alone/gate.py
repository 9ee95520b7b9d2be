"""The gate: where a warm standby waits, fully imported, until its member takes charge.

The guard starts a standby with two pipes and names them in the environment (``HEIRFLOW_GATE``). The standby says ``ready``
and waits. The guard opens the gate with one line of JSON, at the word of a leader whose lease is confirmed, and with the
same deadline that a command started afresh would get. Anything else at a gate ends the process: end of file (the guard
died), a line that is not JSON, a descriptor that cannot be read. A gate that cannot be read never opens.

Also a program, for any Python program whose imports take long (``--preload``)::

    python gate.py MODULE[,MODULE…] -m PROGRAM ARGUMENT…
    python gate.py MODULE[,MODULE…] SCRIPT ARGUMENT…

imports the modules, waits at the gate, and then runs the program as ``python -m`` would, or as Python would run the script.
Standard library only.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import sys
from typing import Any

VARIABLE = "HEIRFLOW_GATE"
LINE_LIMIT = 65536


class Gate:
    """The standby's end. Take it once, before anything is begun; `stand` returns when the gate has opened."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        for fd in (reader, writer):
            os.set_inheritable(fd, False)

    @classmethod
    def take(cls) -> Gate | None:
        """The gate that the environment names, None without one. It is taken out of the environment: children have none.

        Raises `SystemExit` when it is named and is not there.
        """
        named = os.environ.pop(VARIABLE, None)
        if named is None:
            return None
        try:
            reader, writer = map(int, named.split(","))
            return cls(reader, writer)
        except (ValueError, OSError) as error:
            raise SystemExit(f"heirflow: the gate {named!r} cannot be used: {error}") from error

    def stand(self) -> dict[str, str]:
        """Wait for the gate to open; returns the environment of the new lead, already set in `os.environ`.

        Raises `SystemExit` when it will never open.
        """
        try:
            os.write(self._writer, b"ready\n")
            line = b""
            while not line.endswith(b"\n"):
                piece = os.read(self._reader, 4096)
                if not piece or len(line) > LINE_LIMIT:
                    raise SystemExit(0)  # the member is gone or wants no standby any more: nothing was begun
                line += piece
            environment: dict[str, str] = json.loads(line)
            os.environ.update(environment)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise SystemExit(f"heirflow: the gate cannot be read, so it stays shut: {error}") from error
        os.close(self._reader)
        return environment

    def note(self, **facts: Any) -> None:
        """Tell the member something that others in the line should know. Never raises: it is not worth a command."""
        with contextlib.suppress(OSError, ValueError):
            os.write(self._writer, json.dumps(facts).encode() + b"\n")


def main() -> None:
    """Import, stand, run."""
    modules, *words = sys.argv[1:]
    is_module = words[0] == "-m"
    if not sys.flags.isolated and not getattr(sys.flags, "safe_path", False):  # with -I or -P there is no such entry
        sys.path[0] = os.getcwd() if is_module else os.path.dirname(os.path.realpath(words[0]))  # noqa: PTH120
    gate = Gate.take()
    for module in filter(None, modules.split(",")):
        importlib.import_module(module)
    if gate is not None:
        gate.stand()
    sys.argv[:] = words[is_module:]
    if is_module:
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main()
