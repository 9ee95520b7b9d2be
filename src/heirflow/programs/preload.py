"""`--preload`: a warm standby for programs written in Python that HeirFlow does not know."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from heirflow.errors import ConfigError

GATE = Path(__file__).parents[1] / "alone" / "gate.py"


def preloaded(argv: Sequence[str], modules: str) -> list[str]:
    """The standby of ``python … -m PROGRAM ARGUMENT…``: it imports `modules` and waits at its gate.

    Raises `ConfigError` for a command of another form: only for this form it is known that an import ahead changes nothing.
    """
    python = re.fullmatch(r"(python|pypy)[0-9.]*", Path(argv[0]).name)
    index = 1
    while python and index < len(argv) and argv[index].startswith("-") and argv[index] not in {"-m", "-c", "-"}:
        index += 2 if argv[index] in {"-W", "-X"} else 1
    if not python or index + 1 >= len(argv) or argv[index] != "-m":
        raise ConfigError(f"--preload works with a command `python -m PROGRAM`, not with `{' '.join(argv[:2])}`")
    return [*argv[:index], str(GATE), modules, *argv[index:]]
