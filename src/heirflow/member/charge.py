"""What a member notes in its run-dir while it leads, for a service manager that kills it with its whole group.

Guard and backstop are killed with it then, and nobody is left who could prove and release. But the service manager knows that
nothing of the group is left, and may say so: `heirflow release` reads this note, asks the kernel whether the member's cgroup is
empty, and releases exactly this member's term.

The note is written after the command has started, by one rename, and holds no secret. It is removed when the lead is over. One
that stays does no harm: a record that has moved on is not released.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heirflow.election.line import FOREVER
from heirflow.election.state import Running, State
from heirflow.election.told import Named
from heirflow.member.cgroups import Cgroup, cgroup_of
from heirflow.member.door import safe_name
from heirflow.member.journal import Journal

ENDING = ".lead"
SIZE_LIMIT = 16 * 1024


@dataclass(frozen=True, slots=True)
class Charge:
    """Who leads what, and where it lives."""

    election: str
    member: str
    term: int
    pid: int
    """The member's process."""
    cgroup: Cgroup | None
    """Where member and guard live; None where that could not be seen."""
    seat: int = 1
    """Of which seat it is."""

    @classmethod
    def read(cls, path: Path) -> Charge | None:
        """What stands in this file; None when it is no note, or not a whole one."""
        try:
            with path.open("rb") as file:
                said = json.loads(file.read(SIZE_LIMIT))
            where = said["cgroup"]
            cgroup = None if where is None else Cgroup(str(where["folder"]), int(where["number"]), str(where["boot"]))
            who, seat = (str(said["election"]), str(said["member"])), int(said.get("seat", 1))
            return cls(*who, int(said["term"]), int(said["pid"]), cgroup, seat)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def path(self, run_dir: Path) -> Path:
        return run_dir / f"{safe_name(self.election)}.{safe_name(self.member)}{ENDING}"

    def write(self, run_dir: Path) -> None:
        """Raises OSError. Notes of earlier terms of this seat go: their records have moved on."""
        path = self.path(run_dir)
        unfinished = path.with_suffix(".lead-new")
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(self), file)
        unfinished.rename(path)
        for other, charge in noted(run_dir):
            if (charge.election, charge.seat) == (self.election, self.seat) and charge.term < self.term:
                other.unlink(missing_ok=True)


def noted(run_dir: Path) -> list[tuple[Path, Charge]]:
    """All notes in this folder."""
    try:
        paths = sorted(path for path in run_dir.iterdir() if path.suffix == ENDING)
    except OSError:
        return []
    return [(path, charge) for path in paths if (charge := Charge.read(path)) is not None]


class ChargeNote:
    """A listener that keeps the note true. A note that cannot be written costs time after such a kill, and nothing else."""

    def __init__(self, run_dir: Path, election: str, member: str, journal: Journal) -> None:
        self._run_dir, self._election, self._member, self._journal = run_dir, election, member, journal
        self._charge: Charge | None = None
        self._failed_term: int | None = None

    def look(self, state: State, facts: Callable[[], Mapping[str, Any]]) -> None:
        if self._charge is not None and self._charge.term != state.term:
            with suppress(OSError):
                self._charge.path(self._run_dir).unlink()
            self._charge = None
        running = isinstance(state.command, Running)  # its guard has said who it is by then
        if state.term is None or not running or state.term in {self._failed_term, self._term()}:
            return
        home = _home(facts().get("guard_pid"))
        charge = Charge(self._election, self._member, state.term, os.getpid(), home, state.seat.number)
        try:
            charge.write(self._run_dir)
        except OSError as error:
            self._failed_term = state.term
            self._journal.warn(
                f"cannot note in {self._run_dir} who leads: {error.strerror}; `heirflow release` will not find this member",
                event=Named.CHARGE_NOT_NOTED,
                term=state.term,
            )
        else:
            self._charge = charge

    def _term(self) -> int | None:
        return None if self._charge is None else self._charge.term

    def wake_at(self) -> float:
        return FOREVER

    def close(self) -> None:
        """A note that still stands here is of a record that was perhaps not released: whoever comes after may."""


def _home(guard_pid: int | None) -> Cgroup | None:
    """The cgroup of this process, if the guard lives there too: whoever moved one of them must not be taken for dead."""
    own = cgroup_of(os.getpid())
    return own if guard_pid and own == cgroup_of(guard_pid) else None
