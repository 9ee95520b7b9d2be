"""The proof that nothing is left of a member that was killed with its whole group, its guard and backstop among it.

Whoever was in the group may have a process left, whatever session it made; only a service manager or root could have moved one
out of the cgroup. So the proof is the kernel's list of who lives in that cgroup and below it. This process and those that
started it are there too, as a service manager runs them in the unit; the member itself, were it among them, still lives.
Two more looks cost little: the member's own process, and processes elsewhere that carry its name in their environment.
"""

from __future__ import annotations

import time

from heirflow.guard.processes import lives
from heirflow.member.cgroups import is_same, members_of, own_line, those_named
from heirflow.member.charge import Charge

WAIT_S = 2.0
"""How long a group that was just killed may take to end."""
LOOK_EVERY_S = 0.05
CLEAN_LOOKS = 2
"""Looks in a row that find nobody: who moves within the cgroup does not hide from both."""


def why_not_gone(charge: Charge) -> str:
    """Why it is not proved that nothing of this member is left; empty when it is."""
    if charge.cgroup is None:
        return "it could not see a cgroup v2 of its own"
    if not is_same(charge.cgroup):
        return f"its cgroup {charge.cgroup.folder} is not there, or is another one now; run this in the member's unit"
    ends_at, clean = time.monotonic() + WAIT_S, 0
    while True:
        try:
            why = _who_is_left(charge, charge.cgroup.folder)
        except OSError as error:
            why = f"the cgroup {charge.cgroup.folder} cannot be read ({error.strerror})"
        clean = 0 if why else clean + 1
        if clean == CLEAN_LOOKS or time.monotonic() > ends_at:
            return why
        time.sleep(LOOK_EVERY_S if why else 0)


def _who_is_left(charge: Charge, folder: str) -> str:
    if lives(charge.pid):
        return f"its process {charge.pid} lives"
    if left := members_of(folder, own_line()):
        return f"{_listed(left)} in its cgroup {folder}"
    if left := list(those_named(f"HEIRFLOW_MEMBER={charge.member}")):
        return f"{_listed(left)} outside of its cgroup, with this member's name in the environment"
    return ""


def _listed(pids: list[int]) -> str:
    if not all(pids):
        return "a process of another pid namespace lives"
    return f"process {pids[0]} lives" if len(pids) == 1 else f"{len(pids)} processes live, such as {pids[0]},"
