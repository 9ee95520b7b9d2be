"""`--preload`: a warm standby for programs written in Python that HeirFlow does not know, and what is worth importing ahead."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from heirflow.errors import ConfigError

GATE = Path(__file__).parents[1] / "alone" / "gate.py"
WORTH_S = 0.02
"""What takes less to import is not worth a word in a command line."""
END_LIMIT_S = 10.0
IMPORT_LIMIT_S = 60.0
_TOOK = re.compile(r"import time: +\d+ \| +(\d+) \| (\S+)")
"""A module that the program itself imports: what modules import in turn is indented."""


def preloaded(argv: Sequence[str], modules: str) -> list[str]:
    """The standby of ``python … -m PROGRAM ARGUMENT…``, or of a script of Python's: it imports `modules` and waits at its gate.

    Raises `ConfigError` for a command of another form: only for these it is known that an import ahead changes nothing.
    """
    python = re.fullmatch(r"(python|pypy)[0-9.]*", Path(argv[0]).name)
    index = 1
    while python and index < len(argv) and argv[index].startswith("-") and argv[index] not in {"-m", "-c", "-"}:
        index += 2 if argv[index] in {"-W", "-X"} else 1
    if python and index + 1 < len(argv) and argv[index] == "-m":
        return [*argv[:index], str(GATE), modules, *argv[index:]]
    script = None if python else shutil.which(argv[0])
    if script is not None:
        from heirflow.programs.airflow.installation import shebang

        if words := shebang(Path(script), os.environ):
            return [*words, str(GATE), modules, script, *argv[1:]]
    raise ConfigError(
        f"--preload works with a command `python -m PROGRAM` or a script of Python's, not with `{' '.join(argv[:2])}`"
    )


def watched(argv: Sequence[str], limit_s: float) -> list[tuple[str, float]]:
    """Start the program for so long, and end it: the modules that it imports and that take their time, with that in seconds."""
    env = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    with subprocess.Popen(
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        told = b""
        for number, limit in ((signal.SIGTERM, limit_s), (signal.SIGKILL, END_LIMIT_S)):
            try:
                told = process.communicate(timeout=limit)[1]
                break
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
        else:
            told = process.communicate()[1]
    return modules_in(told.decode("utf-8", "replace"))


def comes_to_its_gate(argv: Sequence[str], modules: str) -> bool:
    """Whether a standby can import these. It is told at once that nobody wants it, so the program itself never begins."""
    reader, unwanted = os.pipe()
    said, writer = os.pipe()
    os.close(unwanted)
    try:
        env = {**os.environ, "HEIRFLOW_GATE": f"{reader},{writer}"}
        null = subprocess.DEVNULL
        words = preloaded(argv, modules)
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                words,
                check=False,
                env=env,
                pass_fds=(reader, writer),
                stdin=null,
                stdout=null,
                stderr=null,
                timeout=IMPORT_LIMIT_S,
            )
    finally:
        os.close(reader)
        os.close(writer)
    with os.fdopen(said, "rb") as file:
        return file.read() == b"ready\n"


def modules_in(told: str) -> list[tuple[str, float]]:
    """The same from what Python wrote, in the order of importing."""
    found = {name: int(us) / 1e6 for us, name in _TOOK.findall(told)}
    return [(name, s) for name, s in found.items() if s >= WORTH_S and not name.endswith("__main__")]
