"""The line of succession as a person reads it: one `Snapshot` after the other, as text or with colours."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType

from heirflow.status import HEIR, LEADER, Row, Snapshot, duration
from heirflow.terminal import tables
from heirflow.text import printable

HEAD = ("place", "member", "host", "since", "able", "last check-in", "label")
STYLES = {LEADER: "bold green", HEIR: "green"}


def rows_of(snapshot: Snapshot) -> tuple[tuple[str, ...], list[list[str]]]:
    """Head and rows of the table; without the labels when nobody has one."""
    rows = [cells(row) for row in snapshot.succession]
    if any(row.label for row in snapshot.succession):
        return HEAD, rows
    return HEAD[:-1], [texts[:-1] for texts in rows]


def cells(row: Row) -> list[str]:
    """One row of the table."""
    able = "drained" if row.drained else "yes" if row.able else "no"
    word = f"{duration(row.last_check_in_s)} ago" if row.last_check_in_s is not None else "–"
    return [
        row.place,
        row.member,
        row.host,
        duration(row.since_s),
        able,
        f"{word} (silent)" if row.silent else word,
        row.label,
    ]


def headline(snapshot: Snapshot) -> str:
    """The election and its state in one line."""
    led = f"led by {snapshot.leader}" if snapshot.leader else "nobody leads"
    if snapshot.expired:
        led += f": the lease of {snapshot.last_leader} has ended"
    if snapshot.runs is False:
        led += ", which runs nothing"
    if snapshot.unheard:
        led += f", which {snapshot.unheard}"
    return f"{snapshot.election}   term {snapshot.term}   {led}{'   PAUSED' if snapshot.paused else ''}"


def why_not_ready(snapshot: Snapshot) -> list[str]:
    """What the members say that could not take charge."""
    return [f"{row.member}: {row.because}" for row in snapshot.succession if row.rank != 1 and row.because]


def plain(snapshots: Sequence[Snapshot]) -> str:
    """As text for a pipe or a file."""
    blocks = []
    for snapshot in snapshots:
        lines = [printable(headline(snapshot))]
        lines.append(printable(snapshot.promise))
        if snapshot.succession:
            lines.append(tables.plain_table(*rows_of(snapshot)))
        lines += [printable(each) for each in (*why_not_ready(snapshot), *snapshot.differences)]
        if snapshot.because:
            lines.append(printable(f"because: {snapshot.because}"))
        lines += [printable(f"warning: {sentence}") for sentence in snapshot.odd]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def drawn(snapshots: Sequence[Snapshot]) -> RenderableType:
    """With colours, for a terminal."""
    parts: list[RenderableType] = []
    for number, snapshot in enumerate(snapshots):
        if number:
            parts.append("")
        parts.append(tables.styled(headline(snapshot), "bold"))
        parts.append(tables.styled(snapshot.promise, "cyan" if snapshot.heir else "yellow"))
        if snapshot.succession:
            head, rows = rows_of(snapshot)
            parts.append(tables.rich_table(head, rows, [_style(row) for row in snapshot.succession]))
        parts += [tables.styled(each, "dim") for each in (*why_not_ready(snapshot), *snapshot.differences)]
        if snapshot.because:
            parts.append(tables.styled(f"because: {snapshot.because}", "dim"))
        parts += [tables.styled(f"warning: {sentence}", "yellow") for sentence in snapshot.odd]
    return Group(*parts)


def _style(row: Row) -> str:
    if row.silent:
        return "red"
    return STYLES.get(row.place, "" if row.rank else "dim")
