"""The bands of a timeline: one for each member that led, by host, and a bound on how many there are.

A restart makes a new member on the same host, so a week in which a command crashes again and again has thousands of them. Beyond
`MEMBERS` the older ones of a host share one band.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

HOSTS = 12
"""Members of so many hosts have bands: of those that led last."""
MEMBERS = 24
"""So many members have bands of their own at most. Each host has its newest first."""


@dataclass(frozen=True, slots=True)
class Spell:
    """One leadership, or several short ones that the eye could not tell apart."""

    seat: int
    term: int
    member: str
    since: float
    until: float
    because: str
    """Why it began."""
    goes_on: bool = False
    times: int = 1


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch in which nobody led a seat."""

    seat: int
    since: float
    until: float
    because: str
    goes_on: bool = False
    times: int = 1


Part = TypeVar("Part", Spell, Gap)


@dataclass(frozen=True, slots=True)
class Mark:
    """What happened to a leader at one moment."""

    at: float
    kind: str
    """A word of `MARKS`."""
    seat: int
    member: str
    because: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class Band:
    """One row: a member, or older members of one host together."""

    host: str
    member: str
    """Empty: it is of several members."""
    members: int
    spells: tuple[Spell, ...]
    marks: tuple[Mark, ...]
    led_s: float
    """For how long it led, in seconds; of several seats, together."""


def bands_of(
    spells: Sequence[Spell], marks: Sequence[Mark], hosts: Mapping[str, str], slot: float
) -> tuple[tuple[Band, ...], int]:
    """The bands, and how many hosts that led have none. `hosts`: of the members in the line. `slot`: what the eye can tell apart.

    The hosts are by name, so that a row keeps its place when the leader changes; of one host, who led last is first.
    """
    own: dict[str, list[Spell]] = {}
    for spell in spells:
        own.setdefault(spell.member, []).append(spell)
    led_last = sorted(own, key=lambda member: (-max(spell.until for spell in own[member]), -own[member][-1].since))
    by_host: dict[str, list[str]] = {}
    for member in led_last:
        by_host.setdefault(hosts.get(member) or _host_in(member), []).append(member)
    shown = [*by_host][:HOSTS]
    marked = _at_whom(spells, marks, own, by_host, hosts)
    found = []
    kept = _kept([by_host[host] for host in shown])
    for host in sorted(shown):
        members = by_host[host]
        number = kept[members[0]]
        rows = [[member] for member in members[:number]]
        if members[number:]:
            rows.append(members[number:])
        found += [_band(host, row, own, marked, slot) for row in rows]
    return tuple(found), len(by_host) - len(shown)


def _kept(lines: Sequence[Sequence[str]]) -> dict[str, int]:
    """How many members have bands of their own, by the first of them: each host in turn gets one more, while there is room."""
    kept = dict.fromkeys((line[0] for line in lines), 0)
    room = MEMBERS
    for turn in range(max(map(len, lines), default=0)):
        for line in lines:
            if turn < len(line) and room:
                kept[line[0]] += 1
                room -= 1
        if not room:
            break
    # To share a band alone would be no help.
    return {line[0]: len(line) if len(line) - kept[line[0]] == 1 else kept[line[0]] for line in lines}


def _band(
    host: str, members: Sequence[str], own: Mapping[str, list[Spell]], marked: Mapping[str, list[Mark]], slot: float
) -> Band:
    spells = [spell for member in members for spell in own[member]]
    marks = sorted((mark for member in members for mark in marked.get(member, ())), key=lambda mark: mark.at)
    return Band(
        host,
        members[0] if len(members) == 1 else "",
        len(members),
        joined(spells, slot),
        tuple(_joined_marks(marks, slot)),
        sum(spell.until - spell.since for spell in spells),
    )


def _at_whom(
    spells: Sequence[Spell],
    marks: Sequence[Mark],
    own: Mapping[str, list[Spell]],
    by_host: Mapping[str, list[str]],
    hosts: Mapping[str, str],
) -> dict[str, list[Mark]]:
    """The marks by member: of one that has not led, at who led last on its host; a person's order, at whom it concerns."""
    seats: dict[int, list[Spell]] = {}
    for spell in sorted(spells, key=lambda each: each.since):
        seats.setdefault(spell.seat, []).append(spell)
    begun = {seat: [spell.since for spell in each] for seat, each in seats.items()}
    found: dict[str, list[Mark]] = {}
    for mark in marks:
        member: str | None = mark.member
        if mark.member not in own:
            there = by_host.get(hosts.get(mark.member) or _host_in(mark.member))
            place = bisect_right(begun.get(mark.seat, []), mark.at)
            led = seats[mark.seat][place - 1] if place else None
            leader = led.member if led is not None and mark.at <= led.until else None
            member = there[0] if there else leader
        if member is not None:
            found.setdefault(member, []).append(mark)
    return found


def _host_in(member: str) -> str:
    """The host in a member's id, which ends in a random word; whoever is not in the line any more says it nowhere else."""
    return member.rpartition("-")[0] or member


def led_by(spells: Iterable[Spell]) -> dict[str, float]:
    """Member -> for how long it led, in seconds."""
    found: dict[str, float] = {}
    for spell in spells:
        found[spell.member] = found.get(spell.member, 0.0) + spell.until - spell.since
    return found


def joined(parts: Iterable[Part], slot: float) -> tuple[Part, ...]:
    """The same, but those of one seat as one that are too short and too close together for the eye."""
    groups: list[list[Part]] = []
    last: dict[int, list[Part]] = {}
    for part in sorted(parts, key=lambda each: (each.since, each.until)):
        group = last.get(part.seat)
        if group is not None and part.since - group[-1].until < slot and _short(part, slot) and _short(group[-1], slot):
            group.append(part)
        else:
            last[part.seat] = group = [part]
            groups.append(group)
    return tuple(
        group[0]
        if len(group) == 1
        else replace(group[-1], since=group[0].since, times=sum(part.times for part in group))
        for group in groups
    )


def _joined_marks(marks: Iterable[Mark], slot: float) -> Iterator[Mark]:
    before: Mark | None = None
    for mark in marks:
        if before is not None and before.kind == mark.kind and before.seat == mark.seat and mark.at - before.at < slot:
            before = replace(mark, at=before.at, times=max(before.times + 1, mark.times))
        else:
            if before is not None:
                yield before
            before = mark
    if before is not None:
        yield before


def _short(each: Spell | Gap, slot: float) -> bool:
    """Whether the eye cannot see how long it is, alone or with those it has been joined with."""
    return each.until - each.since < slot or each.times > 1
