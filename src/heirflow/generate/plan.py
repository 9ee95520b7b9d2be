"""What is the same for every service manager: the member's command line, and how long its start and its stop may take."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

AFTER_STOP_S = 30
"""Beyond `stop_timeout_s`, before a service manager kills everything: for the KILL, the proof that all is gone, and the release."""
AFTER_START_S = 90
"""Beyond `start_timeout_s`: a busy host starts a member slowly, and Airflow takes seconds to name its database."""
PROBE_LIMIT_S = 5
PROBE_EVERY_S = 10
PROBE_FAILURES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A member that a service manager is to run."""

    name: str
    command: tuple[str, ...]
    heirflow: tuple[str, ...]
    """The words that start HeirFlow."""
    place: tuple[str, ...]
    """The flags that say where the member listens: to `heirflow run`, and to who asks it."""
    flags: tuple[str, ...]
    """The other ones of `heirflow run`, without the name, the database and the stop timeout."""
    stop_timeout_s: float
    start_timeout_s: float
    db_url_file: str | None
    """The file with the URL of the database, where the service manager finds it. None: the program's own database, or a setting."""
    of_airflow: bool
    """The command is a component of Airflow: its image has an entry point that it needs, and a user of its own."""
    made_by: str
    """The command line that makes this text again."""

    def run(self, db_url_file: str | None) -> list[str]:
        """The words behind `heirflow`. `db_url_file`: where the member finds its file.

        The stop timeout is always among them: a flag goes before the environment and any file, and what the service manager waits
        is computed from it.
        """
        database = [] if db_url_file is None else ["--db-url-file", db_url_file]
        stop = f"{self.stop_timeout_s:g}s"
        return [
            "run",
            "--name",
            self.name,
            *database,
            *self.place,
            *self.flags,
            "--stop-timeout",
            stop,
            "--",
            *self.command,
        ]

    def probe(self, question: str) -> list[str]:
        """The words that ask the member; it listens where its own flags say."""
        return [*self.heirflow, "probe", question, *self.place]

    @property
    def stop_wait_s(self) -> int:
        """How long a service manager must wait between TERM and KILL."""
        return math.ceil(self.stop_timeout_s) + AFTER_STOP_S

    @property
    def start_wait_s(self) -> int:
        """How long a member may take until it stands in the line."""
        return math.ceil(self.start_timeout_s) + AFTER_START_S

    def head(self, mark: str, *notes: str) -> Iterator[str]:
        """The comment at the top of the file."""
        if self.made_by.isprintable():
            yield f"{mark} Made by: {self.made_by}"
        for note in notes:
            yield f"{mark} {note}"
