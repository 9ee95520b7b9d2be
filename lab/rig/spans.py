"""Stretches of time in which commands ran, and which of them intersect: the one judgement that all the scenes share."""

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
