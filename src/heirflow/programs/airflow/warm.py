"""How the standby of an Airflow component is started: the same words, by the same interpreter, up to the gate."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from heirflow.programs.airflow import installation

STANDBY = Path(__file__).with_name("standby.py")


class Cold(Exception):
    """Heirs of this command cannot be warm; the message says why, as half a sentence."""


def standby_argv(argv: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """The command line of the standby of what `component.recognise` has recognised. Raises `Cold`.

    Only what is surely Airflow's own console script, or its module, is replaced: a script that wraps it may set up what the
    component needs.
    """
    if Path(argv[0]).name == "airflow":
        interpreter, program = _script(argv[0], environ)
        return [*interpreter, str(STANDBY), program, *argv[1:]]
    options, words = installation.after_module(argv)
    before = argv[len(options) + 1 : len(argv) - len(words)]
    program = "-m" if before and before[0].startswith("-m") else before[-1]
    if program != "-m":
        _, program = _script(program, environ)
    return [argv[0], *options, str(STANDBY), program, *words]


def _script(name: str, environ: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    path = shutil.which(name, path=environ.get("PATH", os.defpath)) or name
    interpreter = installation.shebang(Path(path), environ)
    try:
        text = Path(path).read_text("utf-8", errors="replace")
    except OSError as error:
        raise Cold(f"{path} cannot be read: {error.strerror}") from error
    if not interpreter or "airflow.__main__" not in text:
        raise Cold(f"{path} is not Airflow's own script, and a standby would leave out what else it does")
    return interpreter, path
