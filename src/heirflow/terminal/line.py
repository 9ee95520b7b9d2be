"""The line of succession as a person reads it: one `Snapshot` after the other, as text or with colours."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType

from heirflow.status import HEIR, LEADER, Row, Seat, Snapshot, counted, duration, troubles
from heirflow.terminal import tables
from heirflow.text import printable

HEAD = ("place", "member", "host", "since", "able", "last check-in", "label")
OVER = "over the number of seats: stops"
STYLES = {LEADER: "bold green", HEIR: "green"}


def rows_of(snapshot: Snapshot) -> tuple[tuple[str, ...], list[list[str]], list[str]]:
    """Head, rows and their styles of the table; without the labels when nobody has one.

    Of several seats each has its row first, also one that nobody holds; behind them the line stands as ever.
    """
    head: tuple[str, ...] = HEAD
    rows, styles = [cells(row) for row in snapshot.succession], [_style(row) for row in snapshot.succession]
    if snapshot.several:
        waiting = [row for row in snapshot.succession if row.seat is None]
        head = ("seat", "term", *HEAD)
        rows = [_seat_cells(seat, snapshot) for seat in snapshot.by_seat] + [["", "", *cells(row)] for row in waiting]
        styles = [_seat_style(seat, snapshot) for seat in snapshot.by_seat] + [_style(row) for row in waiting]
    if any(row.label for row in snapshot.succession):
        return head, rows, styles
    return head[:-1], [texts[:-1] for texts in rows], styles


def _seat_cells(seat: Seat, snapshot: Snapshot) -> list[str]:
    """One seat, and who holds it."""
    row = _holder(seat, snapshot)
    place = "vacant" if seat.vacant else "expired" if seat.expired else "leader"
    notes = ("runs nothing", seat.runs is False), ("paused", seat.paused), (OVER, seat.over)
    rest = cells(row)[1:] if row is not None else [seat.last_leader or "", "", duration(seat.since_s), "", "", ""]
    return [str(seat.seat), str(seat.term), ", ".join((place, *(word for word, so in notes if so))), *rest]


def _seat_style(seat: Seat, snapshot: Snapshot) -> str:
    row = _holder(seat, snapshot)
    return "yellow" if row is None or seat.runs is False else _style(row)


def _holder(seat: Seat, snapshot: Snapshot) -> Row | None:
    return next((row for row in snapshot.succession if row.seat == seat.seat), None)


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
    paused = "   PAUSED" if snapshot.paused else ""
    if snapshot.several:
        return f"{snapshot.election}   {counted(snapshot.seats)}   {_led(snapshot)}{paused}"
    led = f"led by {snapshot.leader}" if snapshot.leader else "nobody leads"
    if snapshot.expired:
        led += f": the lease of {snapshot.last_leader} has ended"
    if snapshot.runs is False:
        led += ", which runs nothing"
    if snapshot.unheard:
        led += f", which {snapshot.unheard}"
    return f"{snapshot.election}   term {snapshot.term}   {led}{paused}"


def _led(snapshot: Snapshot) -> str:
    led = sum(seat.leader is not None for seat in snapshot.by_seat if not seat.over)
    said = "nobody leads" if not led else "all led" if led == snapshot.seats else f"{led} led"
    return ": ".join((said, *filter(None, ["; ".join(troubles(snapshot.by_seat, snapshot.succession))])))


def reasons(snapshot: Snapshot) -> list[str]:
    """Why the leader last changed, of each seat."""
    if not snapshot.several:
        return [f"because: {snapshot.because}"] if snapshot.because else []
    return [f"seat {seat.seat}, because: {seat.because}" for seat in snapshot.by_seat if seat.because]


def why_not_ready(snapshot: Snapshot) -> list[str]:
    """What the members say that could not take charge."""
    return [f"{row.member}: {row.because}" for row in snapshot.succession if row.rank != 1 and row.because]


def plain(snapshots: Sequence[Snapshot]) -> str:
    """As text for a pipe or a file."""
    blocks = []
    for snapshot in snapshots:
        lines = [printable(headline(snapshot))]
        lines.append(printable(snapshot.promise))
        if snapshot.succession or snapshot.several:
            lines.append(tables.plain_table(*rows_of(snapshot)[:2]))
        lines += [printable(each) for each in (*why_not_ready(snapshot), *snapshot.differences)]
        lines += [printable(reason) for reason in reasons(snapshot)]
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
        if snapshot.succession or snapshot.several:
            parts.append(tables.rich_table(*rows_of(snapshot)))
        parts += [tables.styled(each, "dim") for each in (*why_not_ready(snapshot), *snapshot.differences)]
        parts += [tables.styled(reason, "dim") for reason in reasons(snapshot)]
        parts += [tables.styled(f"warning: {sentence}", "yellow") for sentence in snapshot.odd]
    return Group(*parts)


def _style(row: Row) -> str:
    if row.silent:
        return "red"
    return STYLES.get(row.place, "" if row.rank else "dim")
