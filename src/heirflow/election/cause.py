"""Why somebody took charge, as a member knows it from the record that it replaces, and people from the history."""

from __future__ import annotations

from enum import Enum


class Cause(str, Enum):
    """A small fixed set: each is a label of a metric."""

    FIRST = "first"
    """Nobody had led before."""
    RELEASED = "released"
    """The leader before had ended in order, or was proved gone, and its record was released in its name."""
    LEASE_ENDED = "lease_ended"
    """Nobody released it: the leader before was silent for its whole lease."""
    UNKNOWN = "unknown"
    """What is left to be seen does not tell."""
