"""Members as rows of the table that people see: leader, heir and the rest of the line, then those without a place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from heirflow.election.record import MemberRow, Reading, said_in
from heirflow.election.timings import fresh_s
from heirflow.status.seats import Seat
from heirflow.status.words import age, duration, ordinal, rounded

LEADER, HEIR, EXPIRED = "leader", "heir", "expired"


@dataclass(frozen=True, slots=True)
class Row:
    """One member and its place, as one row of the table that people see."""

    member: str
    place: str
    """``leader``, ``heir``, ``3rd`` and so on, or why it has no place: ``expired`` (it led, and its lease has ended),
    ``drained``, ``not ready``, ``silent``."""
    rank: int | None
    """1 for the leader, or each leader of several seats, 2 for the heir; None without a place."""
    host: str
    pid: int | None
    ready: bool
    """As `heirflow probe ready`: it is heard, and does not hold the lead without running the command."""
    able: bool
    """As `heirflow probe able`: ready, and it leads or could take charge now."""
    drained: bool
    silent: bool
    """Its last check-in is older than a healthy member's can be."""
    last_check_in_s: float | None
    """Age of its last check-in, seconds."""
    since: float | None
    """Seconds since 1970 by the store's clock: since when it leads, or stands in the line."""
    since_s: float | None
    """The same as an age."""
    label: str = ""
    note: str = ""
    runs: bool | None = None
    """Of a leader: whether its command runs. None: it does not say, or it does not lead."""
    because: str = ""
    """Why nothing runs there, or what a person should know of what does; of another member, why it is not ready."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What it says of itself: ``ttl_s``, ``check_in_s``, ``version``, ``command``, and where its work has parts, ``partition``.

    Empty: it is of an older version.
    """
    kill_is_sure: bool = True
    """False: its command may become another user (``--allow-sudo``), and the member could then not kill it."""
    seat: int | None = None
    """The number of the seat that it leads, or led when its lease ended; None: none."""

    @property
    def unheard(self) -> str:
        """What is so of a leader that leads and is not heard, as the end of a sentence; empty where it is heard."""
        if self.rank != 1 or not self.silent:
            return ""
        heard_s = self.last_check_in_s
        return "was never heard" if heard_s is None else f"is silent for {duration(heard_s)}"


_COMPARED = (
    ("ttl_s", "ttl", " s"),
    ("partition", "partition", ""),
    ("command", "command", ""),
    ("version", "version", ""),
)
"""Setting, its word for people, its unit."""


def differences(rows: Iterable[Row]) -> tuple[str, ...]:
    """Members of different settings, of those that are heard."""
    heard = [row for row in rows if not row.silent]
    return tuple(
        f"members differ in {word}: {', '.join(f'{value} ({_several(who)})' for value, who in found.items())}"
        for key, word, unit in _COMPARED
        if len(found := _by_value(heard, key, unit)) > 1
    )


def _by_value(rows: Iterable[Row], key: str, unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows:
        if (value := row.settings.get(key)) is not None:
            found.setdefault(f"{value:g}{unit}" if unit else str(value) or "none", []).append(row.member)
    return found


def _several(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} and {len(names) - 1} more"


FIRST_WITH_SEATS = (0, 3)
"""Members of older versions look at the first seat only, and their fence takes the other seats' leaders for deposed ones."""


def one_seat_only(rows: Iterable[Row]) -> str:
    """Whose version knows one seat only, of those that are heard, as the beginning of a sentence; empty: nobody's."""
    told = {row.member: row.settings.get("version") for row in rows if not row.silent}
    old = {member: version for member, version in told.items() if _numbers(version) < FIRST_WITH_SEATS}
    return ", ".join(
        f"{member} {'does not tell its version' if version is None else f'is of version {version}'}"
        for member, version in old.items()
    )


def _numbers(version: str | None) -> tuple[int, ...]:
    """Of a version, the first two; what is none is older than all."""
    found = re.match(r"(\d+)\.(\d+)", version or "")
    return tuple(map(int, found.groups())) if found else ()


def rows_of(seats: Sequence[Seat], reading: Reading) -> tuple[Row, ...]:
    """Every member once, the leaders also where they have no row of their own, and those first.

    Who is named for two seats (by a write that landed late) is shown at the one that it leads.
    """
    ttl_s = max((seat.ttl_s for seat in seats if seat.last_leader is not None), default=seats[0].ttl_s)
    holders, chosen = {seat.last_leader for seat in seats}, {seat.switchover_to for seat in seats}
    in_line = sorted(
        (member for member in reading.members if _may_lead(member, ttl_s) and member.id not in holders),
        key=lambda member: (member.id not in chosen, member.seniority),
    )
    held: dict[str, Row] = {}
    for seat in sorted((seat for seat in seats if seat.last_leader is not None), key=lambda seat: seat.expired):
        held.setdefault(str(seat.last_leader), _leader(seat, reading))
    rows = sorted(held.values(), key=lambda row: row.seat or 0)
    for rank, member in enumerate(in_line, start=2):
        rows.append(_row(member, HEIR if rank == 2 else ordinal(rank), rank, reading, ttl_s))
    placed = {row.member for row in rows}
    for member in reading.members:
        if member.id not in placed:
            why = "silent" if _silent(member, ttl_s) else "drained" if member.drained else "not ready"
            rows.append(_row(member, why, None, reading, ttl_s))
    return tuple(rows)


def _silent(member: MemberRow, ttl_s: float) -> bool:
    return member.silent_s > fresh_s(member.check_in_s or ttl_s / 5)


def _may_lead(member: MemberRow, ttl_s: float) -> bool:
    return member.ready and not member.drained and not _silent(member, ttl_s)


def _leader(seat: Seat, reading: Reading) -> Row:
    place, rank = (EXPIRED, None) if seat.expired else (LEADER, 1)
    member = next((member for member in reading.members if member.id == seat.last_leader), None)
    if member is not None:
        row = _row(member, place, rank, reading, seat.ttl_s)
        return replace(row, seat=seat.seat, since=seat.since, since_s=seat.since_s)
    # The record decides, whether the leader has a row or not.
    return Row(
        member=str(seat.last_leader),
        place=place,
        rank=rank,
        host="",
        pid=None,
        ready=False,
        able=False,
        drained=False,
        silent=True,
        last_check_in_s=None,
        since=seat.since,
        since_s=seat.since_s,
        seat=seat.seat,
    )


def _row(member: MemberRow, place: str, rank: int | None, reading: Reading, ttl_s: float) -> Row:
    runs, because = said_of_work(member.note)
    silent = _silent(member, ttl_s)
    ready = not silent and not (rank == 1 and runs is False)
    return Row(
        member=member.id,
        place=place,
        rank=rank,
        host=member.host,
        pid=member.pid,
        ready=ready,
        able=ready and rank is not None,
        drained=member.drained,
        silent=silent,
        last_check_in_s=rounded(max(0.0, member.silent_s)),
        since=member.joined_at or None,
        since_s=age(reading.db_now, member.joined_at or None),
        label=member.label,
        note=member.note,
        runs=runs if rank == 1 else None,
        because=because,
        settings=member.settings,
        kill_is_sure=said_in(member.note).get("kill_is_sure") is not False,
    )


def said_of_work(note: str) -> tuple[bool | None, str]:
    """What a member's note says of the work: whether it runs, and why not. Anything else may stand there."""
    said = said_in(note)
    runs, because = said.get("runs"), said.get("because")
    return runs if isinstance(runs, bool) else None, because if isinstance(because, str) else ""
