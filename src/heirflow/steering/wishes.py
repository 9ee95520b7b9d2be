"""What a person at a page may wish."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from heirflow.status.seen import Key


class Kind(Enum):
    """What somebody wants of who has the page and the stores."""

    LEAVE = "leave"
    SWITCHOVER = "switchover"
    PAUSE = "pause"
    RESUME = "resume"
    DRAIN = "drain"
    UNDRAIN = "undrain"


@dataclass(frozen=True, slots=True)
class Wish:
    """One wish."""

    kind: Kind
    key: Key = (0, "")
    member: str | None = None
    """Whom to drain, or who is to lead; None: the next in line."""
    leaving: str | None = None
    """Who hands over."""
    by: str = ""
    """Who wishes it, for the history; empty: who runs this process."""
