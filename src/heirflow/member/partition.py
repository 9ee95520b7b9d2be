"""One line, one partition: who is for another part of the work than its line leaves, before it could stand behind the others.

Some programs part their work: a dag-processor of Airflow's parses the bundles that it is told, and another one the others. Where
two of them stand in one line under a given name, one runs, and nobody does the work of the other. So each member tells its
partition among its settings, and whoever comes to a line looks first. The leader says what the line is for, with several the oldest
of them, and where nobody leads, the oldest member that is heard.

This stands between a member and its store, as nothing of it concerns who may lead. A member that leads is never stopped for it. Of
two that came at the same moment, and saw each other too late, one leaves at its next check-in, and takes no lead meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from heirflow.election.record import Exchange, MemberRow, Reading
from heirflow.member.between import between
from heirflow.stores.base import Register, StoreMisfit


@dataclass(frozen=True, slots=True)
class Partition:
    """The part of a program's work that one command is for."""

    told: str
    """As the program's own flags, in one form only; empty: its words name no part. Members of one line tell the same."""
    line: str
    """The name of its line where nobody gave one."""
    earlier: str
    """The line of all partitions together, where versions before this one stood."""

    @property
    def shown(self) -> str:
        return self.told or "no partition"


class OtherPartition(StoreMisfit):
    """The line is for another partition than this member."""


class OnePartition:
    """What one member makes of its line. Its stores are used by different threads, one at a time."""

    def __init__(self, member: str, partition: Partition, *, ttl_s: float) -> None:
        """`ttl_s`: how long who leads nothing may be silent and counts, where no record says another time."""
        self._member, self._partition, self._ttl_s = member, partition, ttl_s
        self.stop: Callable[[str], None] = lambda _: None
        """Asks the member to leave; set once there is one."""
        self.looked = False
        """Whether the line was looked at before this member came to it."""
        self._refused = False

    def exit_code(self, code: int) -> int:
        """What the member ends with. `code`: what it would be otherwise."""
        return OtherPartition.exit_code if self._refused else code

    def store(self, inner: Register) -> Register:
        """The store as this member sees it."""
        return between(inner, self.exchange)

    def exchange(self, inner: Register, election: str, request: Exchange) -> Reading:
        """One transaction, and a look at whose line this is. Raises `OtherPartition` before this member stands in it."""
        if not self.looked:
            self._look(inner, election)
            self.looked = True
        swap = request.swap
        if self._refused and swap is not None and swap.takes_over is not None:
            return replace(inner.exchange(election, replace(request, swap=None)), swapped=False)
        reading = inner.exchange(election, request)
        leads = any(place.record is not None and place.record.leader == self._member for place in reading.places)
        if not self._refused and not leads and not request.leave and (sentence := self._other(election, reading)):
            self._refused = True
            self.stop(sentence)
        return reading

    def _look(self, inner: Register, election: str) -> None:
        if sentence := self._other(election, inner.exchange(election, Exchange())):
            raise OtherPartition(sentence)
        earlier = self._partition.earlier
        if election == self._partition.line != earlier and (
            sentence := self._same(earlier, inner.exchange(earlier, Exchange()))
        ):
            raise OtherPartition(sentence)

    def _other(self, election: str, reading: Reading) -> str:
        """Why this member must not stand in this line, or nothing."""
        mine = next((row.seniority for row in reading.members if row.id == self._member), None)
        leaders = reading.leaders
        heard = sorted(self._heard(reading), key=lambda row: row.seniority)
        older = [row for row in heard if mine is None or row.seniority < mine]
        found = [row for row in heard if row.id in leaders] if leaders else older
        known = [(row, told) for row in found if (told := told_in(row.note)) is not None]
        if not known or known[0][1] == self._partition.told:
            return ""
        row, told = known[0]
        return (
            f"{row.id} {'leads' if leaders else 'stands in'} {election!r} for {told or 'no partition'}, and this member is for "
            f"{self._partition.shown}, which nobody would run while it stands behind another partition; leave out the name to "
            f"get the line {self._partition.line}"
        )

    def _same(self, earlier: str, reading: Reading) -> str:
        """Why this partition may be at work in the line where all of them stood before, or nothing."""
        for row in self._heard(reading):
            if told_in(row.note) in {None, self._partition.told}:
                stands = "leads" if row.id in reading.leaders else "stands in"
                return (
                    f"{row.id} {stands} {earlier!r}, where every partition stood before HeirFlow 0.2.0, and may run "
                    f"{self._partition.shown} too; stop the members there first, or stand in that line with --name {earlier}"
                )
        return ""

    def _heard(self, reading: Reading) -> list[MemberRow]:
        """Every other member that is heard, by the store's clock."""
        within_s = self._ttl_s if reading.record is None else reading.record.ttl_s
        leaders = reading.leaders
        return [
            row for row in reading.members if row.id != self._member and (row.silent_s <= within_s or row.id in leaders)
        ]


def told_in(note: str) -> str | None:
    """The partition that a member tells in its note; None where it tells none, as older versions and other programs do."""
    try:
        told: Any = json.loads(note)["settings"]["partition"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return told if isinstance(told, str) else None
