"""A picture of a run, drawn with nothing but text: who led when, where faults struck, and where nobody ran the command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from math import ceil

from lab.campaign.judging import Verdict
from lab.campaign.ledger import Run
from lab.campaign.plan import SEATS
from lab.campaign.world import HOSTS, MORE_HOSTS

WIDTH, LEFT, LANE, HEAD = 1280, 104, 9, 14
COLOURS = {"ada": "#2f6db3", "ben": "#3a9a6b", "cleo": "#b97a1e", "dora": "#8e4b8f"}
SHOWN_GAP_S = 0.5
MERGE_S = 0.5
"""Stretches of one host that are nearer than this are drawn as one: a pixel is a quarter of a second."""


def draw(verdicts: Sequence[Verdict], *, title: str, strip_s: float = 300.0) -> str:
    """An SVG: time runs from left to right in strips, one below the other; each has a lane for every host of every world."""
    began = min(verdict.from_s for verdict in verdicts)
    ended = max(verdict.to_s for verdict in verdicts)
    strip_s = min(strip_s, max(30.0, ended - began))
    worlds = sorted({verdict.world for verdict in verdicts}, reverse=True)
    more = any(SEATS.get(verdict.world, 1) > 1 for verdict in verdicts)
    hosts = (*HOSTS, *MORE_HOSTS) if more else HOSTS
    block = HEAD + len(hosts) * LANE + 6
    strip = len(worlds) * block + 22
    strips = max(1, ceil((ended - began) / strip_s - 0.01))
    height = 74 + strips * strip
    scale = (WIDTH - LEFT - 16) / strip_s
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="10">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="12" y="22" font-size="15" fill="#222">{escape(title)}</text>',
        *_legend(),
    ]

    def place(at_s: float) -> tuple[int, float]:
        number = min(int((at_s - began) // strip_s), strips - 1)
        return number, LEFT + (at_s - began - number * strip_s) * scale

    def bar(from_s: float, to_s: float, y: float, height: float) -> str:
        """One path for all strips that it touches."""
        parts = []
        while True:
            number, x = place(from_s)
            edge = to_s if number == strips - 1 else min(to_s, began + (number + 1) * strip_s)
            top = 60 + number * strip + y
            parts.append(f"M{x:.1f} {top:g}h{max(0.4, (edge - from_s) * scale):.1f}v{height:g}H{x:.1f}z")
            if edge >= to_s:
                return "".join(parts)
            from_s = edge + 1e-6

    for number in range(strips):
        y = 60 + number * strip
        for index, world in enumerate(worlds):
            top = y + index * block
            out.append(f'<text x="8" y="{top + 10}" fill="#222" font-weight="bold">{world}</text>')
            for lane, host in enumerate(hosts):
                at = top + HEAD + lane * LANE
                out.append(
                    f'<text x="{LEFT - 6}" y="{at + 8}" text-anchor="end" fill="#666" font-size="8">{host}</text>'
                )
                out.append(
                    f'<rect x="{LEFT}" y="{at}" width="{strip_s * scale:.0f}" height="{LANE - 1}" fill="#f1f1f1"/>'
                )
        for minute in range(int(strip_s // 60) + 1):
            x, label = LEFT + minute * 60 * scale, int(number * strip_s // 60) + minute
            out.append(
                f'<text x="{x:.0f}" y="{y + len(worlds) * block + 8}" fill="#888" font-size="9">{label} min</text>'
            )
    for index, world in enumerate(worlds):
        mine = [verdict for verdict in verdicts if verdict.world == world]
        base = index * block
        for lane, host in enumerate(hosts):
            runs = [run for verdict in mine for run in verdict.runs if run.host == host]
            path = "".join(bar(run.from_s, run.to_s, base + HEAD + lane * LANE, LANE - 1) for run in _merged(runs))
            out.append(f'<path fill="{COLOURS[host]}" d="{path}"/>')
        shown = [gap for verdict in mine for gap, _ in verdict.gaps if gap.lasted_s >= SHOWN_GAP_S]
        path = "".join(bar(gap.from_s, gap.to_s, base + HEAD - 3, 2) for gap in shown)
        out.append(f'<path fill="#c0392b" d="{path}"/>')
        for database in (False, True):
            marks = [
                mark for verdict in mine for mark in verdict.marks
                if mark.phase == "begin" and (mark.at == "database") is database
            ]  # fmt: skip
            path = "".join(_tooth(*place(mark.at_s), 60 + base, strip) for mark in marks)
            out.append(f'<path fill="{"#7d3c98" if database else "#222"}" d="{path}"/>')
        for verdict in mine:
            for red in verdict.red:
                number, x = place(red.at_s)
                out.append(
                    f'<circle cx="{x:.1f}" cy="{60 + number * strip + base + 8}" r="5" fill="none" stroke="#e00" '
                    f'stroke-width="2"><title>{escape(f"{red.promise}: {red.sentence}")}</title></circle>'
                )
    return "\n".join([*out, "</svg>", ""])


def _tooth(number: int, x: float, base: float, strip: int) -> str:
    return f"M{x - 2:.1f} {base + number * strip + 3:g}h4l-2 6z"


def _merged(runs: Sequence[Run]) -> list[Run]:
    found: list[Run] = []
    for run in sorted(runs, key=lambda run: run.from_s):
        if found and run.from_s - found[-1].to_s < MERGE_S and run.start == found[-1].start:
            last = found.pop()
            found.append(replace(last, to_s=max(last.to_s, run.to_s)))
        else:
            found.append(run)
    return found


def _legend() -> list[str]:
    parts, x = [], 12.0
    for colour, words in (
        *((colour, f"{host} runs the command") for host, colour in COLOURS.items()),
        ("#222", "a fault of a process, host or link"), ("#7d3c98", "a fault of the store"),
        ("#c0392b", f"nobody ran it for {SHOWN_GAP_S:g} s or more"), ("#e00", "a broken promise (ring)"),
    ):  # fmt: skip
        parts.append(f'<rect x="{x:.0f}" y="34" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 14:.0f}" y="43" fill="#444">{escape(words)}</text>')
        x += 32 + 5.4 * len(words)
    return parts
