"""Stretches of time in which commands ran, which of them intersect, and the gaps between: the judgement that all scenes share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Span(Protocol):
    """A stretch of time. Seconds of CLOCK_BOOTTIME."""

    @property
    def from_s(self) -> float: ...
    @property
    def to_s(self) -> float: ...


AnySpan = TypeVar("AnySpan", bound=Span)


@dataclass(frozen=True, slots=True)
class Overlap(Generic[AnySpan]):
    """Two that ran at once."""

    earlier: AnySpan
    later: AnySpan

    @property
    def from_s(self) -> float:
        return self.later.from_s

    @property
    def lasted_s(self) -> float:
        return min(self.earlier.to_s, self.later.to_s) - self.from_s


def overlaps(spans: Iterable[AnySpan]) -> list[Overlap[AnySpan]]:
    """Every pair that intersects, be it in one moment."""
    found: list[Overlap[AnySpan]] = []
    open_spans: list[AnySpan] = []
    for span in sorted(spans, key=lambda each: each.from_s):
        open_spans = [other for other in open_spans if other.to_s >= span.from_s]
        found += [Overlap(other, span) for other in open_spans]
        open_spans.append(span)
    return found


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which no command ran."""

    from_s: float
    to_s: float

    @property
    def lasted_s(self) -> float:
        return self.to_s - self.from_s


def gaps(spans: Iterable[Span]) -> list[Gap]:
    """Every time between the first and the last of them that none covers, however short."""
    found: list[Gap] = []
    covered_to_s: float | None = None
    for span in sorted(spans, key=lambda each: each.from_s):
        if covered_to_s is not None and span.from_s > covered_to_s:
            found.append(Gap(covered_to_s, span.from_s))
        covered_to_s = span.to_s if covered_to_s is None else max(covered_to_s, span.to_s)
    return found


def stretches(moments: Iterable[float], pause_s: float) -> list[tuple[float, float]]:
    """From when to when these moments follow one another without a longer pause."""
    found: list[tuple[float, float]] = []
    for at_s in sorted(moments):
        if found and at_s - found[-1][1] <= pause_s:
            found[-1] = (found[-1][0], at_s)
        else:
            found.append((at_s, at_s))
    return found
