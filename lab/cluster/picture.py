"""A picture of a run of havoc, drawn with nothing but text: what was lost when, and the task starts below."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil

from lab.airflow import ledger
from lab.airflow.chaos import Files
from lab.cluster.havoc import Loss

WIDTH, LEFT, STRIP_S, BIN_S = 1280, 16, 300.0, 1.0
HEAD, BAND, BARS = 58, 16, 40
FONT = 'font-family="sans-serif" font-size="10"'
LOST, RETURNS, STARTS = "#c0392b", "#e5b567", "#2f6db3"
LEGEND = (
    (LOST, "lost"), (RETURNS, "back, until all is whole"), (STARTS, "task starts in each second"),
    ("#222", "a part that ended by itself, and was started again"),
)  # fmt: skip


def draw(losses: Sequence[Loss], files: Files, notes: Sequence[tuple[float, str]]) -> str:
    """An SVG: time runs from left to right in strips, one below the other. `notes`: what happened by itself."""
    starts = sorted(each.began for each in ledger.attempts(files.tasks))
    began, ended = min([loss.at for loss in losses] + starts[:1]), max([loss.back_at for loss in losses] + starts[-1:])
    scale, strip = (WIDTH - 2 * LEFT) / STRIP_S, BAND + BARS + 34
    count = max(1, ceil((ended - began) / STRIP_S))
    title = f"{len(losses)} losses while DAG runs go: what was lost, and task starts a second"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEAD + count * strip}" {FONT}>',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{LEFT}" y="22" font-size="15" fill="#222">{title}</text>',
    ]
    at_x = float(LEFT)
    for colour, words in LEGEND:
        out.append(f'<rect x="{at_x:.0f}" y="34" width="10" height="10" fill="{colour}"/>')
        out.append(f'<text x="{at_x + 14:.0f}" y="43" fill="#444">{words}</text>')
        at_x += 32 + 5.4 * len(words)

    def pieces(from_s: float, to_s: float) -> list[tuple[int, float, float]]:
        """Strip, x and width of a stretch, for each strip that it touches."""
        found, at = [], from_s
        while at < to_s:
            number = int((at - began) // STRIP_S)
            edge = min(to_s, began + (number + 1) * STRIP_S)
            found.append((number, LEFT + (at - began - number * STRIP_S) * scale, max(0.6, (edge - at) * scale)))
            at = edge + 1e-6
        return found

    for number in range(count):
        top = HEAD + number * strip
        for minute in range(int(STRIP_S // 60)):
            mark, label = LEFT + minute * 60 * scale, int(number * STRIP_S // 60) + minute
            out.append(
                f'<text x="{mark:.0f}" y="{top + BAND + BARS + 24}" fill="#888" font-size="9">{label} min</text>'
            )
        out.append(
            f'<rect x="{LEFT}" y="{top + BAND + BARS + 12}" width="{STRIP_S * scale:.0f}" height="1" fill="#ccc"/>'
        )
    for loss in losses:
        for from_s, to_s, colour in ((loss.at, loss.back_at, LOST), (loss.back_at, loss.whole_at or ended, RETURNS)):
            for number, x, width in pieces(from_s, to_s):
                title = f"{loss.name}: {loss.what}; no task start for {loss.pause_s:.1f} s"
                out.append(
                    f'<rect x="{x:.1f}" y="{HEAD + number * strip + 12}" width="{width:.1f}" height="{BAND - 4}" fill="{colour}">'
                    f"<title>{escape(title)}</title></rect>"
                )
        number, x, _ = pieces(loss.at, loss.at + 0.1)[0]
        out.append(
            f'<text x="{x:.1f}" y="{HEAD + number * strip + 9}" fill="#222" font-size="9">{escape(loss.name)}</text>'
        )
    bins: dict[int, int] = {}
    for at in starts:
        bins[int((at - began) // BIN_S)] = bins.get(int((at - began) // BIN_S), 0) + 1
    tallest = max(bins.values(), default=1)
    for each, height in sorted(bins.items()):
        for number, x, width in pieces(began + each * BIN_S, began + (each + 1) * BIN_S)[:1]:
            h = height / tallest * BARS
            y = HEAD + number * strip + BAND + 12 + BARS - h
            out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width - 0.5:.1f}" height="{h:.1f}" fill="{STARTS}"/>')
    for at, sentence in notes:
        if began <= at <= ended:
            number, x, _ = pieces(at, at + 0.1)[0]
            y = HEAD + number * strip + BAND + BARS + 13
            out.append(f'<path d="M{x - 3:.1f} {y + 6}h6l-3 -6z" fill="#222"><title>{escape(sentence)}</title></path>')
    return "\n".join([*out, "</svg>", ""])
