"""The line of succession as a person reads it: one `Snapshot` after the other, as text or with colours."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType

from heirflow.status import HEIR, LEADER, Snapshot, Standing, duration
from heirflow.terminal import tables
from heirflow.text import printable

HEAD = ("place", "member", "host", "since", "ready", "last check-in", "label")
STYLES = {LEADER: "bold green", HEIR: "green"}


def rows_of(snapshot: Snapshot) -> tuple[tuple[str, ...], list[list[str]]]:
    """Head and rows of the table; without the labels when nobody has one."""
    rows = [cells(standing) for standing in snapshot.succession]
    if any(standing.label for standing in snapshot.succession):
        return HEAD, rows
    return HEAD[:-1], [row[:-1] for row in rows]


def cells(standing: Standing) -> list[str]:
    """One row of the table."""
    ready = "drained" if standing.drained else "yes" if standing.ready else "no"
    word = f"{duration(standing.last_check_in_s)} ago" if standing.last_check_in_s is not None else "–"
    return [
        standing.place,
        standing.member,
        standing.host,
        duration(standing.since_s),
        ready,
        f"{word} (silent)" if standing.silent else word,
        standing.label,
    ]


def headline(snapshot: Snapshot) -> str:
    """The election and its state in one line."""
    led = f"led by {snapshot.leader}" if snapshot.leader else "vacant"
    return f"{snapshot.election}   term {snapshot.term}   {led}{'   PAUSED' if snapshot.paused else ''}"


def plain(snapshots: Sequence[Snapshot]) -> str:
    """As text for a pipe or a file."""
    blocks = []
    for snapshot in snapshots:
        lines = [printable(headline(snapshot))]
        if snapshot.succession:
            lines.append(tables.plain_table(*rows_of(snapshot)))
        lines.append(printable(snapshot.promise))
        if snapshot.because:
            lines.append(printable(f"because: {snapshot.because}"))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def drawn(snapshots: Sequence[Snapshot]) -> RenderableType:
    """With colours, for a terminal."""
    parts: list[RenderableType] = []
    for number, snapshot in enumerate(snapshots):
        if number:
            parts.append("")
        parts.append(tables.styled(headline(snapshot), "bold"))
        if snapshot.succession:
            head, rows = rows_of(snapshot)
            parts.append(tables.rich_table(head, rows, [_style(standing) for standing in snapshot.succession]))
        parts.append(tables.styled(snapshot.promise, "cyan" if snapshot.heir else "yellow"))
        if snapshot.because:
            parts.append(tables.styled(f"because: {snapshot.because}", "dim"))
    return Group(*parts)


def _style(standing: Standing) -> str:
    if standing.silent:
        return "red"
    return STYLES.get(standing.place, "" if standing.rank else "dim")
