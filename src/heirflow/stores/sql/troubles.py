"""What a database refused, by its right name, and what a person can do about it.

A server says so in its own words, which may be in another language: then nothing is claimed, and its words are passed on.
Members go on trying whatever it is, for a password may be in the middle of a change.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from heirflow.errors import first_line
from heirflow.stores.base import StoreRefuses, StoreUnavailable
from heirflow.stores.sql.connecting import NotConnected


@dataclass(frozen=True, slots=True)
class Trouble:
    """One kind of it."""

    said: str
    """Behind the database's name."""
    advice: str
    kind: type[StoreUnavailable] = StoreUnavailable
    codes: frozenset[object] = frozenset()
    """PostgreSQL's (text) and MySQL's (number)."""
    words: str = ".^"
    """A pattern for what PostgreSQL says while a driver connects, which hands on no code, and for what the system says."""


POOLER = Trouble(
    "is reached through a pooler that does not allow what HeirFlow needs",
    "connect directly, or let it pool by session",
    StoreRefuses,
    words="pooling mode|unsupported startup parameter",
)
NOBODY = Trouble(
    "cannot be reached", "is the server up, and are host and port right?", words=r"Connection refused|\[Errno 111\]"
)
TROUBLES = (
    POOLER,
    Trouble(
        "refuses this user or password",
        "`heirflow config` says where the URL comes from",
        StoreRefuses,
        frozenset({"28P01", "28000", 1045, 1698}),
        "authentication failed|no password supplied|no pg_hba.conf entry|FATAL:  role .* does not exist",
    ),
    Trouble(
        "has no such database",
        "correct its name in the URL, or create it",
        StoreRefuses,
        frozenset({"3D000", 1049}),
        "FATAL:  database .* does not exist|no such database",
    ),
    Trouble(
        "does not let this user do that",
        "docs/security.md has the GRANTs",
        StoreRefuses,
        frozenset({"42501", 1044, 1142, 1143}),
        "permission denied for database",
    ),
    Trouble(
        "has no session left",
        "raise its limit, or close sessions that nobody needs",
        codes=frozenset({"53300", 1040, 1203}),
        words="too many (clients|connections)|remaining connection slots",
    ),
    NOBODY,
)
NO_HOST = Trouble("cannot be found", "is its host right in the URL, and does the name service know it?")


def named(cause: BaseException, code: str) -> Trouble | None:
    """What kind it is; None where that is not clear. `code`: the server's own, where the driver's error has it."""
    if isinstance(cause, NotConnected):
        # The addresses of one host: where one of them answered, what it said is what counts.
        kinds = {named(each, "") for each in cause.causes}
        found = kinds if len(kinds) == 1 else kinds - {NOBODY}
        return found.pop() if len(found) == 1 and not cause.waits else None
    if isinstance(cause, socket.gaierror):
        return NO_HOST
    number = cause.args[0] if cause.args and isinstance(cause.args[0], int) else None
    said = first_line(cause)
    return next((each for each in TROUBLES if {code, number} & each.codes or re.search(each.words, said)), None)
