"""The words for a broken promise. They stand here only. What fails with them gets no second chance (`plugin_chances`)."""

from __future__ import annotations

BROKEN = "this breaks a promise"


def broken(sentence: object) -> str:
    """For the message of an assertion that no busy machine excuses: two at once, an orphan, a write after the lease."""
    return f"{BROKEN}: {sentence}"
