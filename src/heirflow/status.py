"""The line of succession as people see it: a `Snapshot` made from one `Reading`.

Everything here is for people, and rests on the store's clock only. The rules never look at it. Pages, metrics and
`heirflow status` read a snapshot and nothing else, so that they all tell the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from heirflow.election.record import ANYONE, MemberRow, Reading, Record, said_in
from heirflow.election.timings import Timings, fresh_s

LEADER, HEIR, EXPIRED = "leader", "heir", "expired"


@dataclass(frozen=True, slots=True)
class Row:
    """One member and its place, as one row of the table that people see."""

    member: str
    place: str
    """``leader``, ``heir``, ``3rd`` and so on, or why it has no place: ``expired`` (it led, and its lease has ended),
    ``drained``, ``not ready``, ``silent``."""
    rank: int | None
    """1 for the leader, 2 for the heir; None without a place."""
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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One election at one moment."""

    election: str
    term: int
    leader: str | None
    """Who leads now; None where nobody does, also where a lease has ended and nobody took charge since."""
    expired: bool
    """Whether the record names a leader whose lease has ended."""
    last_leader: str | None
    """Whom the record names, whether its lease has ended or not."""
    leader_since: float | None
    """When the leadership last changed, seconds since 1970 by the store's clock."""
    because: str
    """Why it last changed."""
    heir: str | None
    ttl_s: float
    renewed_s: float | None
    """Age of the record; a leader's never grows beyond ttl."""
    paused: bool
    switchover_to: str | None
    succession: tuple[Row, ...]
    """Leader, heir and the rest of the line, then those without a place."""
    promise: str
    """What happens next when the leader ends, and how fast."""
    at: float
    """By the store's clock."""
    odd: tuple[str, ...] = ()
    """What stands in the tables and cannot be, as sentences; the rest of the snapshot leaves it out."""
    runs: bool | None = None
    """Whether the leader's command runs; None: it does not say, or nobody leads."""
    done_at: float | None = None
    """Of a line of `heirflow once` that waits for its next call: when its last due time was done, by the store's clock."""
    differences: tuple[str, ...] = ()
    """In what the members that are heard differ, as sentences."""

    @classmethod
    def of(cls, election: str, reading: Reading) -> Snapshot:
        """What one reading says."""
        record = reading.record or Record(version=0, term=0, leader=None, ttl_s=Timings().ttl_s)
        stood_s = max(0.0, reading.db_now - reading.written_at) if reading.record and reading.written_at else None
        expired = record.leader is not None and stood_s is not None and stood_s > record.ttl_s
        succession = _succession(record, reading, expired=expired)
        heir = next((row for row in succession if row.rank == 2), None)
        leading = next((row for row in succession if row.rank == 1), None)
        done_at = _done_at(record) if heir is None else None
        promise = _promise(record, heir, stood_s if expired else None, leading, followed=record.version > 0)
        if done_at is not None:
            promise = f"its command was done {duration(reading.db_now - done_at)} ago; the next call of `heirflow once` begins it"
        return cls(
            election=election,
            term=record.term,
            leader=None if expired else record.leader,
            expired=expired,
            last_leader=record.leader,
            leader_since=reading.since or None,
            because=record.because,
            heir=heir.member if heir else None,
            ttl_s=record.ttl_s,
            renewed_s=_rounded(stood_s),
            paused=record.paused,
            switchover_to=record.switchover_to,
            succession=succession,
            promise=promise + not_promised(succession),
            at=reading.db_now,
            odd=reading.odd,
            runs=leading.runs if leading is not None else None,
            done_at=done_at,
            differences=_differences(succession),
        )

    @property
    def unheard(self) -> str:
        """What is so of a leader that leads and is not heard, as the end of a sentence; empty where it is heard."""
        leading = next((row for row in self.succession if row.rank == 1), None)
        if leading is None or not leading.silent:
            return ""
        heard_s = leading.last_check_in_s
        return "was never heard" if heard_s is None else f"is silent for {duration(heard_s)}"

    def to_json(self) -> dict[str, Any]:
        """Plain values only."""
        return asdict(self)


_COMPARED = (
    ("ttl_s", "ttl", " s"),
    ("partition", "partition", ""),
    ("command", "command", ""),
    ("version", "version", ""),
)
"""Setting, its word for people, its unit."""


def _differences(rows: Iterable[Row]) -> tuple[str, ...]:
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


def _succession(record: Record, reading: Reading, *, expired: bool) -> tuple[Row, ...]:
    in_line = sorted(
        (member for member in reading.members if _may_lead(member, record.ttl_s) and member.id != record.leader),
        key=lambda member: (member.id != record.switchover_to, member.seniority),
    )
    rows = [_leader(record, reading, expired=expired)] if record.leader is not None else []
    for rank, member in enumerate(in_line, start=2):
        rows.append(_row(member, HEIR if rank == 2 else ordinal(rank), rank, reading, record.ttl_s))
    placed = {row.member for row in rows}
    for member in reading.members:
        if member.id not in placed:
            why = "silent" if _silent(member, record.ttl_s) else "drained" if member.drained else "not ready"
            rows.append(_row(member, why, None, reading, record.ttl_s))
    return tuple(rows)


def _silent(member: MemberRow, ttl_s: float) -> bool:
    return member.silent_s > fresh_s(member.check_in_s or ttl_s / 5)


def _may_lead(member: MemberRow, ttl_s: float) -> bool:
    return member.ready and not member.drained and not _silent(member, ttl_s)


def _leader(record: Record, reading: Reading, *, expired: bool) -> Row:
    place, rank = (EXPIRED, None) if expired else (LEADER, 1)
    member = next((member for member in reading.members if member.id == record.leader), None)
    since = reading.since or None
    since_s = _age(reading.db_now, since)
    if member is not None:
        return replace(_row(member, place, rank, reading, record.ttl_s), since=since, since_s=since_s)
    # The record decides, whether the leader has a row or not.
    return Row(
        member=str(record.leader),
        place=place,
        rank=rank,
        host="",
        pid=None,
        ready=False,
        able=False,
        drained=False,
        silent=True,
        last_check_in_s=None,
        since=since,
        since_s=since_s,
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
        last_check_in_s=_rounded(max(0.0, member.silent_s)),
        since=member.joined_at or None,
        since_s=_age(reading.db_now, member.joined_at or None),
        label=member.label,
        note=member.note,
        runs=runs if rank == 1 else None,
        because=because,
        settings=member.settings,
        kill_is_sure=said_in(member.note).get("kill_is_sure") is not False,
    )


def _done_at(record: Record) -> float | None:
    """When the last due time of `heirflow once` was done, if this is the line of one, and nothing is under way."""
    once = said_in(record.note).get("once") if record.leader is None else None
    done_at = once.get("done_at") if isinstance(once, dict) else None
    return float(done_at) if isinstance(done_at, (int, float)) and math.isfinite(done_at) else None


def said_of_work(note: str) -> tuple[bool | None, str]:
    """What a member's note says of the work: whether it runs, and why not. Anything else may stand there."""
    said = said_in(note)
    runs, because = said.get("runs"), said.get("because")
    return runs if isinstance(runs, bool) else None, because if isinstance(because, str) else ""


def _age(now: float, since: float | None) -> float | None:
    return _rounded(max(0.0, now - since)) if since and now else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _promise(record: Record, heir: Row | None, silent_s: float | None, leading: Row | None, *, followed: bool) -> str:
    """`silent_s`: for how long a leader whose lease has ended was not heard; None: its lease has not ended."""
    after = _next(record, heir, silent_s, followed=followed)
    if leading is None or not leading.because:
        return after
    if leading.runs is False:
        if heir and not record.paused:
            after = f"heir {heir.member} takes charge when {record.leader} ends"
        return f"{record.leader} leads, runs nothing, because {leading.because}; {after}"
    return f"{after}; {record.leader}: {leading.because}"


def not_promised(rows: Iterable[Row]) -> str:
    """What is not promised of those in the line, to be put behind a sentence; mostly nothing."""
    unsure = [row.member for row in rows if row.rank is not None and not row.kill_is_sure]
    if not unsure:
        return ""
    return f"; never two is not promised: {', '.join(unsure)} may be unable to kill the command (--allow-sudo)"


def _next(record: Record, following: Row | None, silent_s: float | None, *, followed: bool) -> str:
    """What happens when the leader ends."""
    heir = following.member if following else None
    looks_every_s = following.settings.get("check_in_s", record.ttl_s / 5) if following else 0.0
    within_s = record.ttl_s + looks_every_s  # the lease, and the check-in in which an heir first sees the record
    if not followed:
        return f"nobody has led yet; {heir} takes charge next" if heir else "nobody has led yet and nobody is ready"
    if record.leader is None or silent_s is not None:
        ended = "nobody leads" if silent_s is None else f"{record.leader} has been silent for {duration(silent_s)}"
        if record.paused:
            return f"{ended}; paused: nobody takes charge until `heirflow resume`"
        if heir is None:
            return f"{ended} and nobody is ready to{' lead' if silent_s is None else ' take charge'}"
        return f"{ended}; {heir} takes charge {'at once' if silent_s is None else 'now'}"
    if record.paused:
        return "paused: nobody changes place until `heirflow resume`"
    if record.switchover_to is not None:
        to = "the next in line" if record.switchover_to == ANYONE else record.switchover_to
        return f"switchover to {to} under way"
    if heir is None:
        return f"no heir is ready: when {record.leader} ends, nobody takes charge"
    return f"heir {heir} takes charge within {within_s:g} s; at once on a clean end"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def duration(seconds: float | None) -> str:
    """An age that a person reads at a glance: 0.4 s, 12 s, 3 min 20 s, 5 h 02 min, 3 d 4 h."""
    if seconds is None:
        return "–"
    if seconds < 0.0995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if not minutes:
        return f"{whole} s"
    if not hours:
        return f"{minutes} min {whole % 60:02} s"
    if not days:
        return f"{hours} h {minutes % 60:02} min"
    return f"{days} d {hours % 24} h"
