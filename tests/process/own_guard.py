"""A guard of this very process. A member has no other children, and pytest does: the servers that tests share."""

from __future__ import annotations

import os
from typing import Any

from heirflow.guard.processes import children, lives
from heirflow.member.guard_link import GuardLink


def living() -> set[int]:
    """What runs below this process. It may also have dead children, which others left to it and nobody collects."""
    return {pid for pid in children(os.getpid()) if lives(pid)}


def own_guard(**options: Any) -> GuardLink:
    """It spares whatever runs below this process already: to end as a member does would kill and collect all of that.

    Not the dead: they would stand before those that it has to collect.
    """
    guard = GuardLink(**options)
    guard.spare |= living()
    return guard
