"""The judge: what the commands wrote down, what the database took, and what the world did, against what was promised.

- *Overlap:* two starts of a command that wrote at the same time. One kind is told apart because no lease can prevent it: a
  host that was stopped as a whole and woke beside its successor (a *thaw*, which the fence answers). A fail-over to an asynchronous
  replica, which forgets what was confirmed, excuses no overlap. Where an election has several seats, each is judged for itself;
  and a member whose command runs for two of them at once has a promise of its own (*one seat each*).
- *Deposed write:* a row that the database took although its record already named a later term.
- *Two of one term:* a row that it took while its record named another leader of that term, or an earlier term.
- *Outlived:* more rows that it took after the release of their term than can have been in flight.
- *Back:* after each strike and each healing that leaves one member and the database able, somebody runs the command
  within ttl + 2 check-ins + 1 s: of several seats, as many as there are able members. If another fault comes earlier, this one
  stays unjudged. What the machine itself took away
  meanwhile (`machine`) is counted, and no promise of ours. An ensemble that may just have lost its leader is given the time to
  elect another (`ELECTION_S`).
- *Dead in time:* while most servers of an ensemble are away, or a Patroni pair has no primary, nobody renews, so a ttl after that
  every command is dead.
- *Taken over:* a Patroni pair that lost its primary takes writes again within `TAKEOVER_S`; *back* is judged from then on.
- *Lost event:* a command ran in a term of which the history says nothing. What an asynchronous fail-over has itself forgotten of
  the history, or of the rows, is no fault of ours (`_forgotten`).
"""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from heirflow.election.timings import Timings
from lab.campaign.ledger import PAUSE_S, Run
from lab.campaign.machine import Machine
from lab.campaign.plan import ENSEMBLE, FORGETS, MAY_FORGET, PAIRS, SILENT, TTL_S, WHOLE_HOST
from lab.campaign.taking_over import TAKEOVER_S, Takeover, takeovers
from lab.campaign.world import Mark
from lab.rig.spans import Gap, Overlap, overlaps

TIMINGS = Timings.of(TTL_S)
BACK_LIMIT_S = TTL_S + 2 * TIMINGS.check_in_s + 1
ELECTION_S = {"etcd": 1.0, "zookeeper": 2.0}
"""How long these ensembles need, at most, until another server leads and confirms a write, with the clocks that they have here.

Measured, the leader killed, frozen, cut off, parted from the others, deaf or mute (56 times with etcd, 50 with ZooKeeper, without
deaf, on a quiet machine of two cores): etcd 0.26 to 0.65 s, ZooKeeper 0.36 to 1.56 s. It leaves room for a busy machine.
"""
TOUCHES = {kind.name for kind in ENSEMBLE if not kind.name.startswith("clock")}
THAW_S = 0.3
"""How long a host that was let go may take to look at its clock and kill."""
UNASKED_S = TIMINGS.trust_s - TIMINGS.check_in_s - TIMINGS.call_limit_s
"""Who was kept from renewing for a shorter time than this still has its lease, and may meet nobody."""
IN_FLIGHT = 3
"""So many rows of one start, and no more, can be on their way when it is dead."""
THAWING_S = 0.3
"""How long letting it go may take."""
LAG_S = 0.5
"""So much of what an asynchronous replica had not been sent yet may be forgotten, although it was confirmed before the strike."""
STRIKES = {"begin", "struck", "end"}  # not "healing": nothing is healed yet


@dataclass(frozen=True, slots=True)
class Back:
    """How long after a mark a command ran again; 0 when none was missed."""

    mark: Mark
    after_s: float
    lost_s: float = 0.0
    """How much of that the machine itself took away, by being busy with other things."""
    limit_s: float = BACK_LIMIT_S

    @property
    def late(self) -> bool:
        return self.after_s > self.limit_s

    @property
    def broken(self) -> bool:
        """Late, and not because of the machine."""
        return self.after_s - self.lost_s > self.limit_s


@dataclass(frozen=True, slots=True)
class Red:
    """A broken promise."""

    promise: str
    sentence: str
    number: int
    """Of the fault that came before it."""
    at_s: float


@dataclass(slots=True)
class Verdict:
    """What came of one act of one world."""

    world: str
    from_s: float
    to_s: float
    faults: Counter[str] = field(default_factory=Counter)
    overlaps: list[Overlap[Run]] = field(default_factory=list)
    thaws: list[Overlap[Run]] = field(default_factory=list)
    orphans: list[Mark] = field(default_factory=list)
    deposed_rows: int = 0
    released_rows: int = 0
    forgotten_rows: int = 0
    """Of a term that the database had forgotten, from a command that ran alone until its member knew."""
    rows: int = 0
    lost_events: list[Run] = field(default_factory=list)
    terms: int = 0
    backs: list[Back] = field(default_factory=list)
    silences: int = 0
    """Times that an ensemble was without most of its servers for longer than a ttl, or a pair without a primary."""
    takeovers: list[Takeover] = field(default_factory=list)
    unjudged: int = 0
    """Faults after which nothing could be said, because another came at once."""
    gaps: list[tuple[Gap, str]] = field(default_factory=list)
    red: list[Red] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    runs: list[Run] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    most: dict[str, int] = field(default_factory=dict)
    """What the biggest member had: descriptors, threads, resident MB."""


def judge(
    world: str,
    marks: Sequence[Mark],
    runs: Sequence[Run],
    *,
    late: Iterable[tuple[Any, ...]] = (),
    rows: int = 0,
    took: set[tuple[int, str, int]] | None = None,
    fenced: bool = True,
    machine: Machine | None = None,
    seats: int = 1,
) -> Verdict:
    """Judge one act. `late` and `took`: what the database says (`Database.late_rows`, `took_charge`); None: not asked."""
    strikes = _carried_out(marks)
    out = Verdict(world, marks[0].at_s if marks else 0, marks[-1].at_s if marks else 0, runs=list(runs), marks=strikes)
    out.faults.update(mark.kind for mark in strikes if mark.phase == "begin")
    out.skipped.update(mark.note for mark in marks if mark.phase == "skipped")
    forgotten = _forgotten(world, strikes)
    begun_anew = [(begin_s, end_s + TTL_S) for begin_s, end_s in forgotten]

    for overlap in (one for seat in range(1, seats + 1) for one in overlaps(run for run in runs if run.seat == seat)):
        if any(_thawed(strikes, run, runs, machine) for run in (overlap.earlier, overlap.later)):
            out.thaws.append(overlap)
        else:
            out.overlaps.append(overlap)
            sentence = (
                f"terms {overlap.earlier.term} ({overlap.earlier.member}) and {overlap.later.term} ({overlap.later.member}) "
                f"ran at once for {1000 * overlap.lasted_s:.0f} ms"
            )
            out.red.append(_red(strikes, "overlap", sentence, overlap.from_s))
    _judge_seats(out, strikes, seats, begun_anew)
    for mark in marks:
        if mark.phase == "orphan" and not _frozen(strikes, mark):
            out.orphans.append(mark)
            out.red.append(_red(strikes, "orphan", f"a process was left behind: {mark.note}", mark.at_s))
    out.rows = rows
    starts = Counter(run.lead for run in {run.start: run for run in runs}.values())
    for term, member, why, count, first, last, seat in late:
        took_s = int(first) / 1e9
        if why == "doubled" and _within(begun_anew, took_s) and _within(begun_anew, int(last) / 1e9):
            out.forgotten_rows += count
        elif why == "deposed":
            out.deposed_rows += count
            if fenced:
                sentence = f"the database took {count} rows from {member}, whose term {term} was over"
                out.red.append(_red(strikes, "deposed write", sentence, took_s))
        elif why == "released":
            out.released_rows += count
            if count > IN_FLIGHT * starts[term, member, seat]:
                sentence = f"the database took {count} rows from {member} after it had released term {term}"
                out.red.append(_red(strikes, "outlived", sentence, took_s))
        else:
            sentence = f"the database took {count} rows from {member} while term {term} was another's, or not begun"
            out.red.append(_red(strikes, "two of one term", sentence, took_s))
    seen = {run.lead for run in runs}
    out.terms = len(seen)
    if took is not None:
        latest_first = sorted(runs, key=lambda one: one.from_s, reverse=True)
        for run in {run.lead: run for run in latest_first}.values():
            if _within(forgotten, run.from_s):
                continue
            if run.lead not in took:
                out.lost_events.append(run)
                sentence = f"the history does not say that {run.member} took charge for term {run.term}"
                out.red.append(_red(strikes, "lost event", sentence, run.from_s))
    _judge_silence(out, marks, machine)
    for takeover in (found := takeovers(strikes)):
        mark, lasted_s = takeover.mark, takeover.lasted_s
        if lasted_s - (machine.lost_s(mark.at_s, mark.at_s + lasted_s) if machine else 0.0) > TAKEOVER_S:
            sentence = f"the pair took writes {lasted_s:.1f} s after {mark.kind}"
            out.red.append(Red("taken over in time", sentence, mark.number, mark.at_s))
    out.takeovers += found
    _judge_backs(out, strikes, machine, seats)
    return out


def _judge_seats(out: Verdict, strikes: Sequence[Mark], seats: int, forgotten: Sequence[tuple[float, float]]) -> None:
    """No member runs for two seats at once, or for one that there is not; and of each seat the terms only grow."""
    for run in out.runs:
        if not 1 <= run.seat <= seats:
            sentence = f"{run.member} ran for seat {run.seat} of {seats}"
            out.red.append(_red(strikes, "no such seat", sentence, run.from_s))
    for seat in range(1, seats + 1) if seats > 1 else ():
        highest = 0
        for run in sorted((run for run in out.runs if run.seat == seat), key=lambda run: run.from_s):
            thawed = any(run.start == thaw.earlier.start or run.start == thaw.later.start for thaw in out.thaws)
            if run.term < highest and not thawed and not _within(forgotten, run.from_s):
                sentence = f"{run.member} ran in term {run.term} of seat {seat} after term {highest}"
                out.red.append(_red(strikes, "terms only grow", sentence, run.from_s))
            highest = max(highest, run.term)
    for member in {run.member for run in out.runs}:
        for overlap in overlaps(run for run in out.runs if run.member == member):
            if overlap.earlier.seat != overlap.later.seat:
                sentence = f"{member} ran for seats {overlap.earlier.seat} and {overlap.later.seat} at once"
                out.red.append(_red(strikes, "one seat each", sentence, overlap.from_s))


def _fewer(out: Verdict, wanted: int) -> list[Gap]:
    """Every time in which fewer than so many seats had a command that ran."""
    edges = sorted([(run.from_s, -1) for run in out.runs] + [(run.to_s, 1) for run in out.runs])
    last_s = max((run.to_s for run in out.runs), default=out.from_s)
    found: list[Gap] = []
    on, since_s = 0, None
    for at_s, change in edges:
        on -= change
        if on >= wanted and since_s is not None:
            found.append(Gap(since_s, at_s))
            since_s = None
        elif on < wanted and since_s is None and (change == 1):
            since_s = at_s
    if since_s is not None and (out.to_s - since_s > PAUSE_S) and (wanted > 1 or since_s >= last_s):
        found.append(Gap(since_s, out.to_s))
    return [gap for gap in found if gap.to_s > gap.from_s]


def _judge_backs(out: Verdict, strikes: Sequence[Mark], machine: Machine | None, seats: int) -> None:
    """As many seats as members are able must have a command that runs."""
    levels = {wanted: _fewer(out, wanted) for wanted in range(1, seats + 1)}
    if not out.runs:
        levels = {wanted: [Gap(out.from_s, out.to_s)] for wanted in levels}
    found = levels[seats]
    begins = [mark for mark in strikes if mark.phase == "begin"]
    starts = [mark.at_s for mark in begins]
    for gap in found:
        index = bisect_right(starts, gap.from_s + 0.05) - 1
        out.gaps.append((gap, begins[max(index, 0)].kind if begins else ""))
    asked: set[int] = set()
    for index, mark in enumerate(strikes):
        if mark.phase == "begin" or not mark.database or not mark.able or mark.excused:
            continue
        asked.add(mark.number)
        wanted = min(seats, len(mark.able))
        found = levels[wanted]
        ends = [gap.to_s for gap in found]
        next_s = strikes[index + 1].at_s if index + 1 < len(strikes) else out.to_s
        allowed_s = _allowed_s(out.world, strikes[: index + 1])
        limit_s = mark.at_s + allowed_s
        back_s = mark.at_s
        for at in range(bisect_left(ends, mark.at_s), len(found)):
            gap = found[at]
            if gap.from_s > min(next_s, limit_s):
                break
            back_s = max(back_s, gap.to_s)
        if back_s > next_s and next_s < limit_s:
            continue
        back = Back(mark, back_s - mark.at_s, machine.lost_s(mark.at_s, back_s) if machine else 0.0, allowed_s)
        out.backs.append(back)
        if back.broken:
            missed = "a command" if wanted == 1 else f"{wanted} commands"
            sentence = (
                f"{back_s - mark.at_s:.1f} s without {missed} after the {mark.phase} of {mark.kind} ({mark.at}), though "
                f"{', '.join(mark.able)} and the database were able"
            )
            out.red.append(Red("back in time", sentence, mark.number, mark.at_s))
    out.unjudged = len(asked - {back.mark.number for back in out.backs})


def _allowed_s(world: str, strikes: Sequence[Mark]) -> float:
    """How long after the last of these somebody must lead again: longer where the ensemble may still be electing."""
    election_s = ELECTION_S.get(world, 0.0)
    electing = any(mark.kind in TOUCHES and strikes[-1].at_s - mark.at_s <= election_s for mark in strikes)
    return BACK_LIMIT_S + (election_s if electing else 0.0)


def _judge_silence(out: Verdict, marks: Sequence[Mark], machine: Machine | None) -> None:
    """Where nobody can renew, every command is dead a ttl later, until the healing begins."""
    for mark in marks:
        if mark.phase != "lost" and not (mark.kind in SILENT and mark.phase == "struck" and mark in out.marks):
            continue
        over_s = next(
            (
                one.at_s
                for one in marks
                if one.number == mark.number and one.phase in {"struck", "healing"} and one.at_s > mark.at_s
            ),
            out.to_s,
        )
        dead_s = mark.at_s + TTL_S
        if over_s > dead_s:
            out.silences += 1
        for run in out.runs:
            if (
                run.from_s < over_s
                and min(run.to_s, over_s) > dead_s
                and not _thawed(out.marks, run, out.runs, machine)
            ):
                sentence = (
                    f"{run.member} ran its command {min(run.to_s, over_s) - mark.at_s:.2f} s after {mark.kind}, "
                    f"where {TTL_S:g} s are a ttl"
                )
                out.red.append(_red(out.marks, "dead in time", sentence, dead_s))


def _carried_out(marks: Sequence[Mark]) -> list[Mark]:
    """The strikes that were. Numbers come again in a run that plays faults again."""
    found: list[Mark] = []
    for mark in marks:
        if mark.phase in STRIKES:
            found.append(mark)
        elif mark.phase == "skipped" and mark.number:
            begun = max((at for at, one in enumerate(found) if one.number == mark.number), default=len(found))
            if begun < len(found) and found[begun].phase == "begin":
                del found[begun]
    return found


def _forgotten(world: str, strikes: Sequence[Mark]) -> list[tuple[float, float]]:
    """The times of which the database has forgotten what was written: from when its standby heard nothing, to the fail-over."""
    found, begun_s = [], 0.0
    forgets, lag_s = (FORGETS, 0.0) if PAIRS.get(world, True) else (MAY_FORGET, LAG_S)
    for mark in strikes:
        if mark.kind in forgets and mark.phase == "begin":
            begun_s = mark.at_s - lag_s
        elif mark.kind in forgets and mark.phase == "struck":
            found.append((begun_s, mark.at_s))
    return found


def _within(windows: Sequence[tuple[float, float]], at_s: float) -> bool:
    return any(begin <= at_s <= end for begin, end in windows)


def _thawed(strikes: Sequence[Mark], run: Run, runs: Sequence[Run], machine: Machine | None) -> bool:
    """Whether this is what a start still did that was stopped with its whole host, for longer than its lease, and let go."""
    lost_s = machine.lost_s(run.from_s, run.to_s) if machine else 0.0
    return (
        run.to_s - run.from_s - lost_s < THAW_S
        and any(other.start == run.start and other.to_s < run.from_s for other in runs)
        and any(
            mark.phase == "end"
            and mark.kind in WHOLE_HOST
            and mark.host == run.host
            and -THAWING_S < run.from_s - mark.at_s < THAW_S
            and mark.at_s - _able_until(strikes, mark) >= UNASKED_S
            for mark in strikes
        )
    )


def _able_until(strikes: Sequence[Mark], end: Mark) -> float:
    """When the host of this healing was last able, with a database that was."""
    until_s = end.at_s
    for mark in reversed([mark for mark in strikes if mark.at_s < end.at_s]):
        if mark.database and end.host in mark.able:
            break
        until_s = mark.at_s
    return until_s


def _frozen(strikes: Sequence[Mark], seen: Mark) -> bool:
    """Whether the host of a process that was seen stood still as a whole then, or had until a moment before."""
    state = False
    for mark in strikes:
        if mark.at_s <= seen.at_s and mark.host == seen.host and mark.kind in WHOLE_HOST:
            state = mark.phase == "begin" or seen.at_s - mark.at_s < THAW_S
    return state


def _red(strikes: Sequence[Mark], promise: str, sentence: str, at_s: float) -> Red:
    number = max((mark.number for mark in strikes if mark.phase == "begin" and mark.at_s <= at_s), default=0)
    return Red(promise, sentence, number, at_s)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Median and maximum; zeros when there is nothing."""
    return (statistics.median(values), max(values)) if values else (0.0, 0.0)
