"""`heirflow status --check`: one line and an exit code, as monitoring plugins have them.

    0  OK        somebody leads (each seat, where there are several), its command runs, and an heir is ready
    1  WARNING   somebody leads, but no heir is ready, or it is paused, or it changes too often
    2  CRITICAL  nobody leads, or the leader runs nothing; of several seats, that any of them is so
    3  UNKNOWN   nothing can be said: the store does not answer, or has no such election

Of several elections the worst counts. What is unknown is not called critical: the leader may be well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from heirflow.election.record import Event
from heirflow.status import Snapshot, duration, listed
from heirflow.status.counts import starts as starts_since
from heirflow.text import brief, printable

FLAPS = 4
"""So many starts within `FLAPS_WITHIN_S` are too many: a rolling restart of three hosts has fewer."""
FLAPS_WITHIN_S = 600.0
EVENTS = 50
"""How many events are looked at: more than `FLAPS`, as other things happen in between."""


class Level(IntEnum):
    """The exit codes of monitoring plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What there is to say of one election, or of the store."""

    level: Level
    state: str
    """``led``, ``done``, ``no heir``, ``silent``, ``flapping``, ``paused``, ``odd rows``, ``nobody leads``,
    ``seat not led``, ``runs nothing`` or ``unknown``."""
    sentence: str
    election: str | None = None
    said: str = ""
    """The sentence without the name of the election."""


def judged(line: Snapshot, events: Iterable[Event]) -> Verdict:
    """One election."""
    level, state, sentence = _judged(line, events)
    return Verdict(level, state, f"{line.election}: {sentence}", line.election, sentence)


def _judged(line: Snapshot, events: Iterable[Event]) -> tuple[Level, str, str]:
    if line.several:
        return _judged_seats(line, [*events])
    if line.done_at is not None:
        return Level.OK, "done", line.promise
    if line.leader is None:
        # The promise begins with that itself, unless it tells of the leader whose lease has ended.
        return Level.CRITICAL, "nobody leads", f"nobody leads: {line.promise}" if line.expired else line.promise
    if line.runs is False:
        return Level.CRITICAL, "runs nothing", line.promise
    led = f"led by {line.leader}"
    if line.unheard:
        return Level.WARNING, "silent", f"{led}, which {line.unheard}; {line.promise}"
    if line.paused:
        return Level.WARNING, "paused", f"{led}, and paused: nobody takes its place until `heirflow resume`"
    if line.heir is None:
        return Level.WARNING, "no heir", f"{led}, and no heir is ready"
    starts = starts_since(events, line.at - FLAPS_WITHIN_S)
    leading = next(row for row in line.succession if row.rank == 1)
    if starts >= FLAPS:
        return Level.WARNING, "flapping", f"{led}, started {starts} times within {duration(FLAPS_WITHIN_S)}"
    if leading.because:
        return Level.WARNING, "flapping", f"{led}, and {leading.because}"
    if line.odd:
        return Level.WARNING, "odd rows", f"{led}, heir {line.heir}, but {line.odd[0]}"
    return Level.OK, "led", f"{led}, heir {line.heir}"


def _judged_seats(line: Snapshot, events: Sequence[Event]) -> tuple[Level, str, str]:
    """The same of several seats. One over their number counts for nothing: it ends."""
    seats = [seat for seat in line.by_seat if not seat.over]
    leaders = [seat.leader for seat in seats if seat.leader is not None]
    if not leaders:
        return Level.CRITICAL, "nobody leads", f"nobody leads: {line.promise}"
    if len(leaders) < len(seats):
        return Level.CRITICAL, "seat not led", line.promise
    if any(seat.runs is False for seat in seats):
        return Level.CRITICAL, "runs nothing", line.promise
    led = f"led by {listed(leaders)}"
    leading = [row for row in line.succession if row.rank == 1 and row.member in leaders]
    if unheard := [f"{row.member} on seat {row.seat} {row.unheard}" for row in leading if row.unheard]:
        return Level.WARNING, "silent", f"{led}, but {listed(unheard)}; {line.promise}"
    if line.paused:
        return Level.WARNING, "paused", f"{led}, and paused: nobody takes their places until `heirflow resume`"
    if line.heir is None:
        return Level.WARNING, "no heir", f"{led}, and no heir is ready"
    for seat in seats:
        starts = starts_since((each for each in events if each.seat == seat.seat), line.at - FLAPS_WITHIN_S)
        if starts >= FLAPS:
            often = f"seat {seat.seat} was started {starts} times within {duration(FLAPS_WITHIN_S)}"
            return Level.WARNING, "flapping", f"{led}, but {often}"
    if loops := [f"{row.member}: {row.because}" for row in leading if row.because]:
        return Level.WARNING, "flapping", f"{led}, and {'; '.join(loops)}"
    if line.odd:
        return Level.WARNING, "odd rows", f"{led}, heir {line.heir}, but {line.odd[0]}"
    return Level.OK, "led", f"{led}, heir {line.heir}"


def unknown(sentence: str) -> Verdict:
    """Where nothing can be said of any election."""
    return Verdict(Level.UNKNOWN, "unknown", sentence)


def worst(verdicts: Sequence[Verdict]) -> Level:
    """Of several."""
    return max(each.level for each in verdicts)


def line_of(verdicts: Sequence[Verdict]) -> str:
    """One line, the worst first. What follows a `|` is numbers to a monitor, so that none stands in a sentence."""
    said = "; ".join(each.sentence for each in sorted(verdicts, key=lambda each: -each.level))
    text = printable(brief(" ".join(said.split()))).replace("|", "/")
    return f"HEIRFLOW {worst(verdicts).name} - {text}"


def json_of(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "level": worst(verdicts).name.lower(),
        "code": int(worst(verdicts)),
        "sentence": line_of(verdicts),
        "elections": [
            {
                "election": each.election,
                "level": each.level.name.lower(),
                "state": each.state,
                "sentence": each.sentence,
            }
            for each in verdicts
        ],
    }
