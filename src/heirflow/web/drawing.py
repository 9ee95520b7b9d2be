"""A timeline as numbers to draw, and the same in words."""

from __future__ import annotations

from typing import Any

from heirflow.status import duration
from heirflow.web.bands import Band, Gap, Mark
from heirflow.web.timeline import Timeline, sentence_of

WIDTH = 1000.0
"""Of a drawn timeline, in its own units."""
TICKS = 4
DAY_S = 86400.0


def drawn(timeline: Timeline, *, several: bool) -> dict[str, Any]:
    """Places and lengths within `WIDTH`, and the same in words."""
    span = max(1e-9, timeline.until - timeline.since)

    def x(at: float) -> float:
        return round((at - timeline.since) / span * WIDTH, 2)

    def stretch(each: Any) -> tuple[float, float]:
        return x(each.since), max(1.0, round(x(each.until) - x(each.since), 2))

    tones = {host: place % 6 for place, host in enumerate(dict.fromkeys(band.host for band in timeline.bands))}
    rows: list[dict[str, Any]] = []
    for band in timeline.bands:
        spells = [(*stretch(spell), sentence_of(spell, several=several)) for spell in band.spells]
        marks = [(x(mark.at), mark.kind, _said(mark)) for mark in band.marks]
        row = {**_whose(band), "tone": tones[band.host], "spells": spells, "marks": marks, "led": duration(band.led_s)}
        rows.append(row)
    together = [band.members for band in timeline.bands if not band.member]
    unknown = x(timeline.known_since)
    return {
        "rows": rows,
        "gaps": [(*stretch(gap), _gap(gap, several=several)) for gap in timeline.gaps],
        "gap_s": timeline.gap_s,
        "gap_times": sum(gap.times for gap in timeline.gaps),
        "unknown": unknown if unknown >= 1 else 0,
        "known_since": timeline.known_since,
        "hidden": timeline.hidden,
        "together": sum(together),
        "bands_together": len(together),
        "ticks": [timeline.since + span * tick / TICKS for tick in range(TICKS + 1)],
        "long": span > DAY_S,
        "table": _told(timeline, several=several),
        "marked": sorted({mark[1] for row in rows for mark in row["marks"]}),
    }


def _whose(band: Band) -> dict[str, Any]:
    """The name of a band in two parts, of which the second stays whole where there is little room; and all of it."""
    if not band.member:
        earlier = f"{band.members} earlier"
        return {"name": band.host, "end": f" {earlier}", "title": f"{earlier} members on {band.host}"}
    before, dash, end = band.member.rpartition("-")
    there = f" on {band.host}" if before != band.host else ""
    return {"name": before, "end": dash + end, "title": band.member + there}


def _said(mark: Mark) -> str:
    often = f" {mark.times} times" if mark.times > 1 else ""
    return f"{mark.kind}{often}: {mark.because or mark.member}"


def _gap(gap: Gap, *, several: bool) -> str:
    seat = f" seat {gap.seat}" if several else ""
    if gap.times > 1:
        return f"nobody led{seat} {gap.times} times within {duration(gap.until - gap.since)}"
    verb = "leads" if gap.goes_on else "led"
    return f"nobody {verb}{seat} for {duration(gap.until - gap.since)}: {gap.because}"


def _told(timeline: Timeline, *, several: bool) -> list[tuple[float, str]]:
    """The same for who cannot see it."""
    spells = [(spell.since, sentence_of(spell, several=several)) for band in timeline.bands for spell in band.spells]
    gaps = [(gap.since, _gap(gap, several=several)) for gap in timeline.gaps]
    return sorted((*spells, *gaps), reverse=True)[:100]
