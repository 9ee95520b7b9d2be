"""The page as lines: exactly as many, and none wider, than the terminal has room for."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text

from heirflow.status import Seat, Snapshot, duration
from heirflow.status.history import in_order
from heirflow.status.history import rows_of as events_of
from heirflow.status.seen import Seen, Shown, Standing, lease_left_s, line_of
from heirflow.terminal.line import headline, reasons, why_not_ready
from heirflow.terminal.page.columns import NARROW, Column, cut, fitted, wrapped
from heirflow.terminal.page.steering import KEYS, Page

LEVELS = {0: "green", 1: "yellow", 2: "bold red", 3: "magenta"}
MARK = "> "
LEAST_LINE = 4
"""Rows of the line of succession that events never take."""


def lines(page: Page, width: int, height: int, now: float) -> list[Text]:
    """What stands on the terminal. `now`: seconds since 1970 by the clock of this host, to show and nothing else."""
    width, height = max(width, 10), max(height, 3)
    top, below = _top(page, width, now), _below(page, width)
    room = max(0, height - len(top) - len(below))
    if page.helps:
        middle = _help(width)
    elif page.seen is None:
        middle = [Text("The store is being read …", "dim")]
    elif page.chosen is None:
        middle = [Text("")] if page.seen.away else wrapped(NOTHING, width)
    elif page.whole:
        middle = _whole(page, page.chosen, width, room)
    else:
        middle = _all(page, page.seen, width, room)
    middle = middle[:room]
    found = [*top, *middle, *[Text("")] * (room - len(middle)), *below][:height]
    for line in found:
        line.truncate(width, overflow="ellipsis")
    return found


NOTHING = "There is no election in this store yet; `heirflow run -- COMMAND` creates one."


def _top(page: Page, width: int, now: float) -> list[Text]:
    seen = page.seen
    clock = _clock(now)
    if seen is None:
        said = "HeirFlow"
    else:
        needy = sum(shown.level > 0 for shown in seen.elections)
        said = f"{len(seen.elections)} election{'' if len(seen.elections) == 1 else 's'}"
        said += (
            f", {needy} need{'s' if needy == 1 else ''} somebody" if needy else ", all well" if seen.elections else ""
        )
        if width >= NARROW:
            said, clock = f"HeirFlow   {said}", f"every {page.every_s:g} s   {clock}"
    first = Text(cut(said, max(0, width - len(clock) - 2)) + "  " + clock, "bold")
    found = [first]
    for away in seen.away if seen is not None else ():
        which = f" ({seen.stores[away.store]})" if seen is not None and len(seen.stores) > 1 else ""
        old = f"; what is shown is of {_moment(away.seen_at, now)}" if away.seen_at is not None else ""
        since = f"{_moment(away.since, now)} ({duration(now - away.since)})"
        what = f"Since {since}{which}" if away.answers else f"The store{which} has been away since {since}"
        text = f"{what}{old}: {away.sentence}"
        found += wrapped(text, width, "bold red", most=3)
    return found


def _below(page: Page, width: int) -> list[Text]:
    """The question, or what came of the last key, or the keys."""
    if page.question is not None:
        return wrapped(f"{page.question.text} y/n", width, "bold reverse", most=5)
    keys = _keys(page, width)
    return [*wrapped(page.said, width, "green" if page.well else "bold yellow", most=4), keys] if page.said else [keys]


def _keys(page: Page, width: int) -> Text:
    if page.helps:
        return Text("any key: back", "dim")
    if width < NARROW:
        return Text("j/k Esc s p d ? q" if page.whole else "j/k Enter s p d ? q", "dim")
    enter = "Esc back" if page.whole else "Enter whole"
    return Text(f"j/k choose   {enter}   s switchover   p pause   d drain   ? keys   q leave", "dim")


def _help(width: int) -> list[Text]:
    found = [Text("")]
    if width < NARROW:
        for keys, means in KEYS:
            found += wrapped(f"{keys}: {means}", width, most=3, hanging=4)
        return found
    widest = max(len(keys) for keys, _ in KEYS)
    for keys, means in KEYS:
        found += wrapped(f"{keys.ljust(widest)}   {means}", width, most=3, hanging=widest + 3)
    return found


# All elections

ALL = (
    Column("election", least=24, keep=9),
    Column("state", least=0, keep=8),
    Column("leader", least=10, keep=7),
    Column("term", keep=3, right=True),
    Column("lease left", short="lease", keep=4, right=True),
    Column("heir", least=10, keep=5),
    Column("members", keep=2, right=True),
    Column("in", least=10, keep=1),
)


def _all(page: Page, seen: Seen, width: int, room: int) -> list[Text]:
    """The elections above, and the chosen one below in short."""
    chosen = page.chosen
    assert chosen is not None
    cells = [_election(shown, seen) for shown in seen.elections]
    table = fitted(ALL, cells, width - len(MARK))
    count = len(cells)
    above = min(count, room - 1 if room < 9 else max(3, (room - 1) // 2))
    at = [shown.key for shown in seen.elections].index(chosen.key)
    start = _window(at, count, above)
    found = [Text("  " + table.head(), "dim")]
    for index in range(start, start + above):
        shown = seen.elections[index]
        style = "dim" if seen.is_away(shown.store) else LEVELS.get(shown.level, "")
        found.append(_row(table.line(cells[index]), style, chosen=index == at, width=width))
    title = f"─ {start + 1} to {start + above} of {count} " if above < count else "─"
    found.append(Text((f"─{title}" + "─" * width)[:width], "dim"))
    rest = room - len(found)
    if rest > 0:
        found += _parts(page, chosen, width, rest, short=True)
    return found


def _election(shown: Shown, seen: Seen) -> list[str]:
    snapshot = shown.snapshot
    led = [seat for seat in snapshot.by_seat if seat.leader is not None]
    several = f"{sum(not seat.over for seat in led)} of {snapshot.seats}"
    leader = several if snapshot.several else snapshot.leader or "–"
    left = [left for seat in led if (left := lease_left_s(seat)) is not None]
    state = f"{shown.state}, paused" if snapshot.paused and shown.state != "paused" else shown.state
    return [
        snapshot.election,
        state,
        leader,
        ", ".join(str(seat.term) for seat in snapshot.by_seat),
        duration(min(left)) if left else "–",
        snapshot.heir or "–",
        str(len(snapshot.succession)),
        seen.stores[shown.store] if len(seen.stores) > 1 else "",
    ]


def _window(at: int, count: int, room: int) -> int:
    """Where to begin so that the chosen one is seen, in the middle where that can be."""
    return max(0, min(at - room // 2, count - room))


def _row(line: str, style: str, *, chosen: bool, width: int) -> Text:
    if not chosen:
        return Text(f"  {line}", style)
    return Text(cut(MARK + line, width), f"{style} reverse".strip())


# One election


def _whole(page: Page, shown: Shown, width: int, room: int) -> list[Text]:
    return _parts(page, shown, width, room, short=False)


def _parts(page: Page, shown: Shown, width: int, room: int, *, short: bool) -> list[Text]:
    """What is known of one election, in as many lines as there are: head, line, and the newest events."""
    snapshot = shown.snapshot
    found = wrapped(headline(snapshot), width, "bold", most=2)
    found += wrapped(snapshot.promise, width, "cyan" if not shown.level else "yellow", most=2 if short else 5)
    if not short:
        said = (*why_not_ready(snapshot), *snapshot.differences, *(f"warning: {odd}" for odd in snapshot.odd))
        for sentence in said[: max(1, room // 8)]:
            found += wrapped(sentence, width, "dim", most=2)
        for reason in reasons(snapshot)[: max(1, room // 8)]:
            found += wrapped(reason, width, "dim", most=2)
    rows = line_of(snapshot)
    left = max(0, room - len(found))
    events = _events(shown, width, most=2 if short else 3)
    wanted = min(sum(map(len, events)), max(3, left // 2)) + 1 if events else 0
    line_room = min(len(rows) + 2, max(LEAST_LINE, left - wanted)) if rows else 0
    found += _line(page, snapshot, rows, width, min(line_room, left), choosing=not short)
    left = room - len(found)
    if events and left > 1:
        found.append(Text(""))
        found += _newest(events, left - 1)
    return found


LINE = (
    Column("seat", short="#", keep=9, right=True),
    Column("place", least=7, keep=8),
    Column("member", least=10, keep=10),
    Column("host", least=6, keep=2),
    Column("term", keep=5, right=True),
    Column("lease left", short="lease", keep=6, right=True),
    Column("check-in", short="heard", keep=7, right=True),
    Column("since", keep=3, right=True),
    Column("able", keep=4),
    Column("label", least=6, keep=1),
)


def _line(
    page: Page, snapshot: Snapshot, rows: Sequence[Standing], width: int, room: int, *, choosing: bool
) -> list[Text]:
    """The line of succession, as much of it as has room, with the chosen row among it."""
    if room < 2 or not rows:
        return []
    cells = [_standing(each, several=snapshot.several) for each in rows]
    table = fitted(LINE, cells, width - len(MARK))
    chosen = page.standing.name if choosing and page.standing is not None else None
    at = next((index for index, each in enumerate(rows) if each.name == chosen), 0)
    whole = len(rows) <= room - 1
    shown = len(rows) if whole else max(1, room - 2)
    start = _window(at, len(rows), shown)
    found = [Text("  " + table.head(), "dim")]
    found += [
        _row(table.line(cells[index]), _style(rows[index]), chosen=rows[index].name == chosen, width=width)
        for index in range(start, start + shown)
    ]
    if not whole and room > 2:
        found.append(Text(f"  {start + 1} to {start + shown} of {len(rows)} in the line", "dim"))
    return found


def _standing(each: Standing, *, several: bool) -> list[str]:
    seat, row = each.seat, each.row
    heard = duration(row.last_check_in_s) if row is not None else ""
    return [
        str(seat.seat) if several and seat is not None else "",
        _place(each, several=several),
        each.member or "–",
        row.host if row is not None else "",
        str(seat.term) if seat is not None else "",
        duration(lease_left_s(seat)) if seat is not None else "",
        heard,
        duration(row.since_s) if row is not None else duration(seat.since_s) if seat is not None else "",
        _able(each),
        row.label if row is not None else "",
    ]


def _able(each: Standing) -> str:
    if each.row is None:
        return ""
    return "drained" if each.row.drained else "yes" if each.row.able else "no"


def _place(each: Standing, *, several: bool) -> str:
    if each.seat is None:
        return each.row.place if each.row is not None else ""
    words = [_held(each.seat)]
    words += [
        word for word, so in (("runs nothing", each.seat.runs is False), ("paused", several and each.seat.paused)) if so
    ]
    if each.seat.over:
        words.append("stops")
    if each.row is not None and each.row.unheard:
        words.append("silent")
    return ", ".join(words)


def _held(seat: Seat) -> str:
    return "vacant" if seat.vacant else "expired" if seat.expired else "leader"


def _style(each: Standing) -> str:
    if each.row is None or (each.seat is not None and each.seat.leader is None):
        return "bold red"
    if each.row.silent:
        return "red"
    if each.seat is not None:
        return "yellow" if each.seat.runs is False else "bold green"
    return "green" if each.row.rank == 2 else "" if each.row.rank else "dim"


def _events(shown: Shown, width: int, most: int) -> list[list[Text]]:
    """Each event with its because, the newest last."""
    now, several = shown.snapshot.at, shown.snapshot.several
    found = []
    for row in events_of(in_order(shown.events)):
        event = row.event
        words = [
            f"term {event.term}" if not several else f"seat {event.seat} term {event.term}",
            event.word,
            event.member,
        ]
        took = f" ({duration(event.took_s)})" if event.took_s is not None else ""
        times = f"; {event.times} times in a row" if event.times > 1 else ""
        when = _moment(event.at, now) if event.at else "not known"
        text = f"{when}  {'  '.join(words)}{took}: {event.because}{times}"
        found.append(wrapped(text, width, "", most=most, hanging=10 if width >= NARROW else 2))
    return found


def _newest(events: Sequence[list[Text]], room: int) -> list[Text]:
    found: list[Text] = []
    for each in reversed(events):
        if len(found) + len(each) > room:
            break
        found = [*each, *found]
    return found or list(events[-1][:room])


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _moment(at: float, now: float) -> str:
    """The time of day, and the day where it is another one."""
    then, today = time.localtime(at), time.localtime(now)
    same = then[:3] == today[:3]
    return time.strftime("%H:%M:%S" if same else "%b %d %H:%M", then)
