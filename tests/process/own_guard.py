"""A guard of this very process. A member has no other children, and pytest does: the servers that tests share."""

from __future__ import annotations

import os
from typing import Any

from heirflow.guard.processes import children
from heirflow.member.guard_link import GuardLink


def own_guard(**options: Any) -> GuardLink:
    """It spares whatever runs below this process already: to end as a member does would kill and collect all of that."""
    guard = GuardLink(**options)
    guard.spare |= set(children(os.getpid()))
    return guard
