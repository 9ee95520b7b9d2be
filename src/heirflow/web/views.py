"""What each page shows, as plain values for its template. Nothing here asks a store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from heirflow.election.record import Event
from heirflow.status import Row, Seat, Snapshot, duration
from heirflow.status.history import Row as EventRow
from heirflow.status.history import because_of, rows_of
from heirflow.status.seen import Away, Key, Seen, Shown, Standing, lease_left_s, line_of
from heirflow.web.drawing import drawn
from heirflow.web.timeline import timeline_of

STRETCHES = {"hour": 3600.0, "day": 86400.0, "week": 7 * 86400.0}
"""What a timeline can show, in seconds."""
BEGIN = "heirflow run -- COMMAND"
SHOWN_EVENTS = 50
OLD_S = 5.0
"""A reading that is older is told to be so."""
WORDS = {
    "led": "healthy",
    "done": "waits for its next call",
    "odd rows": "odd rows in the tables",
    "seat not led": "a seat is not led",
}
"""Words for states of `heirflow status --check` that do not say enough by themselves."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an address asks for."""

    page: str
    """``all``, ``election`` or ``member``."""
    key: Key | None = None
    member: str = ""
    stretch: str = "hour"


@dataclass(frozen=True, slots=True)
class Beside:
    """What another source tells of members, beside the line."""

    title: str
    of: Mapping[str, str]
    """Member -> words for people."""


class NotThere(Exception):
    """There is no such election or member. The sentence says so."""


def view_of(
    asked: Asked,
    seen: Seen | None,
    history: Sequence[Event],
    trouble: str,
    *,
    may_order: bool,
    beside: Beside | None = None,
    begin: str = BEGIN,
) -> dict[str, Any]:
    """The values of the page. `begin`: the command by which an election begins. Raises `NotThere`."""
    now = time.time()
    common = {
        "page": asked.page,
        "may_order": may_order,
        "beside": beside,
        "begin": begin,
        "unused": False,
        "notices": notices_of(seen, now),
    }
    if seen is None:
        return {
            **common,
            "title": "HeirFlow",
            "elections": (),
            "verdict": "The store has not answered yet.",
            "level": 3,
        }
    if asked.page == "all":
        return {**common, **_all(seen)}
    shown = seen.of(asked.key)
    if shown is None:
        if asked.key is not None and seen.is_away(asked.key[0]):
            return {**common, "page": "all", **_all(seen)}
        raise NotThere(f"There is no election {asked.key[1] if asked.key else ''} here.")
    if asked.page == "member":
        return {**common, **_member(shown, asked.member, history)}
    return {**common, **_election(shown, asked.stretch, history, trouble)}


def notices_of(seen: Seen | None, now: float) -> list[str]:
    """What everybody should know before they believe the page."""
    if seen is None:
        return ["The store does not answer. The page goes on asking."]
    found = []
    for away in seen.away:
        which = f" ({seen.stores[away.store]})" if len(seen.stores) > 1 else ""
        found.append(_away(away, which, now))
    if not seen.away and now - seen.at > OLD_S:
        found.append(f"The store takes long to answer: what is shown was read {duration(now - seen.at)} ago.")
    return found


def _away(away: Away, which: str, now: float) -> str:
    if away.answers:
        return f"The store{which} answers, but not as it should: {away.sentence}."
    shown = f"what is shown was read {duration(now - away.seen_at)} ago" if away.seen_at else "nothing was read yet"
    since = duration(now - away.since)
    return f"The store{which} has not answered for {since}; {shown}. {away.sentence}. Leaders whose lease has ended have stopped."


# All elections


def _all(seen: Seen) -> dict[str, Any]:
    cards = [card_of(shown, seen) for shown in seen.elections]
    ill = [card for card in cards if card["level"]]
    if not cards:
        verdict = "There is no election yet." if not seen.away else "Nothing is known."
    elif not ill:
        verdict = f"All {len(cards)} elections are healthy." if len(cards) > 1 else "The election is healthy."
    elif len(ill) == 1:
        verdict = f"{ill[0]['name']} needs somebody: {ill[0]['word']}."
    else:
        verdict = f"{len(ill)} of {len(cards)} elections need somebody."
    level = max((card["level"] for card in cards), default=3 if seen.away else 0)
    unused = not cards and all(away.answers and away.seen_at is None for away in seen.away)
    return {"title": "Elections", "elections": cards, "verdict": verdict, "level": level, "unused": unused}


def card_of(shown: Shown, seen: Seen) -> dict[str, Any]:
    """One election in the list of all."""
    line = shown.snapshot
    seats = [seat for seat in line.by_seat if not seat.over]
    return {
        "name": line.election,
        "href": href("election", shown.key),
        "level": shown.level,
        "word": word_of(shown.state),
        "away": seen.is_away(shown.store),
        "store": seen.stores[shown.store] if len(seen.stores) > 1 else "",
        "leaders": [_holder(seat, shown.key) for seat in seats],
        "several": line.several,
        "at": line.at,
        "heir": _named(line.heir, shown.key),
        "heirs": sum(row.rank is not None and row.rank > 1 for row in line.succession),
        "term": line.term,
        "since": max((seat.since for seat in seats if seat.since is not None), default=None),
        "because": max(seats, key=lambda seat: seat.since or 0.0).because if seats else "",
        "done_at": line.done_at,
    }


def word_of(state: str) -> str:
    """A state in words."""
    return WORDS.get(state, state)


def href(page: str, key: Key, **more: str) -> str:
    """The address of a page, from any other: all of them stand side by side."""
    asked = {"name": key[1], **({"store": str(key[0])} if key[0] else {}), **more}
    return f"{page}?{urlencode(asked)}"


def _named(member: str | None, key: Key) -> dict[str, str] | None:
    if member is None:
        return None
    return {"id": member, "href": href("member", key, id=member)}


def _holder(seat: Seat, key: Key) -> dict[str, Any]:
    return {"seat": seat.seat, "leader": _named(seat.leader, key), "last": seat.last_leader}


# One election


def _election(shown: Shown, stretch: str, history: Sequence[Event], trouble: str) -> dict[str, Any]:
    line = shown.snapshot
    events = _newer(history, shown.events)
    timeline = timeline_of(line, events, STRETCHES[stretch])
    return {
        "title": line.election,
        "line": line,
        "key": shown.key,
        "level": shown.level,
        "word": word_of(shown.state),
        "verdict": shown.sentence,
        "promise": line.promise,
        "remarks": (*line.odd, *line.differences),
        "rows": [_row(standing, line, shown.key) for standing in line_of(line)],
        "several": line.several,
        "orders": _orders(line),
        "stretch": stretch,
        "stretches": [(name, href("election", shown.key, stretch=name)) for name in STRETCHES],
        "timeline": drawn(timeline, several=line.several),
        "trouble": trouble,
        "events": [_event(each, shown.key) for each in reversed(rows_of(events)[-SHOWN_EVENTS:])],
    }


def _newer(history: Sequence[Event], newest: Sequence[Event]) -> list[Event]:
    """The history, and behind it what was read since."""
    if not history:
        return list(newest)
    known = set(history[-len(newest) :]) if newest else set()
    return [*history, *(event for event in newest if event not in known and event.at >= history[-1].at)]


def _order(what: str, text: str, ask: str, *, member: str = "", leaving: str = "") -> dict[str, str]:
    """A button, and the question behind it."""
    return {"what": what, "text": text, "ask": ask, "member": member, "leaving": leaving}


def _orders(line: Snapshot) -> list[dict[str, str]]:
    """What may be ordered of the election as a whole."""
    if line.paused:
        return [_order("resume", "Resume", f"Let members of {line.election} change place again?")]
    if line.last_leader is None:
        return []
    ask = f"Pause {line.election}? The leader goes on. When it is gone, nobody takes charge until you resume it."
    return [_order("pause", "Pause", ask)]


def _row(standing: Standing, line: Snapshot, key: Key) -> dict[str, Any]:
    row, seat = standing.row, standing.seat
    member = standing.member
    return {
        "key": member if row is not None else f"seat {seat.seat}" if seat is not None else "",
        "seat": seat.seat if seat is not None else None,
        "term": seat.term if seat is not None else None,
        "place": _place(standing),
        "member": member,
        "href": href("member", key, id=member) if member is not None else "",
        "host": row.host if row is not None else "",
        "label": row.label if row is not None else "",
        "check_in_s": row.last_check_in_s if row is not None else None,
        "since": row.since if row is not None else seat.since if seat is not None else None,
        "lease_s": lease_left_s(seat) if seat is not None else None,
        "ttl_s": seat.ttl_s if seat is not None else None,
        "ill": _ill(standing),
        "because": _because(standing),
        "orders": _orders_to(standing, line),
    }


def _place(standing: Standing) -> str:
    if standing.row is not None:
        return standing.row.place
    seat = standing.seat
    assert seat is not None
    return "expired" if seat.expired else "vacant" if seat.leader is None else "leader"


def _ill(standing: Standing) -> bool:
    row, seat = standing.row, standing.seat
    if row is None:
        return seat is not None and seat.leader is None
    return bool(row.unheard) or row.rank is None or row.runs is False


def _because(standing: Standing) -> str:
    """What a person should know of it, or how it came to lead."""
    row, seat = standing.row, standing.seat
    if row is not None:
        if row.unheard:
            return row.unheard
        if row.because:
            return row.because
        if row.runs is False:
            return "its command does not run"
    return seat.because if seat is not None else ""


def _orders_to(standing: Standing, line: Snapshot) -> list[dict[str, str]]:
    """What may be ordered of one member."""
    row, seat, election = standing.row, standing.seat, line.election
    found: list[dict[str, str]] = []
    if row is None:
        return found
    me = row.member
    if seat is not None and row.rank == 1 and line.heir is not None and not line.paused and not seat.over:
        ask = f"Let the next in line take over from {me}? It stops its command in order first."
        found.append(_order("switchover", "Switch over", ask, leaving=me))
    if row.rank is not None and row.rank > 1 and line.leader is not None and not line.several and not line.paused:
        ask = f"Let {me} take over {election} from {line.leader}, which stops its command in order first?"
        found.append(_order("switchover", "Switch to it", ask, member=me, leaving=line.leader))
    if row.drained:
        found.append(_order("undrain", "Let it lead", f"Let {me} lead again?", member=me))
    elif not row.silent:
        ask = f"Drain {me}? It hands over if it leads, and does not take charge until you let it."
        found.append(_order("drain", "Drain", ask, member=me))
    return found


def _event(row: EventRow, key: Key) -> dict[str, Any]:
    event = row.event
    return {
        "at": event.at or None,
        "seat": event.seat,
        "term": event.term,
        "what": event.word,
        "member": event.member,
        "href": href("member", key, id=event.member),
        "took_s": event.took_s,
        "because": because_of(event),
    }


# One member


def _member(shown: Shown, member: str, history: Sequence[Event]) -> dict[str, Any]:
    line = shown.snapshot
    row = next((row for row in line.succession if row.member == member), None)
    whole = _newer(history, shown.events)
    events = [event for event in whole if event.member == member]
    if row is None and not events:
        raise NotThere(f"There is no member {member} in {line.election}, and the history does not know it.")
    led_s = timeline_of(line, whole, STRETCHES["week"]).led_s.get(member, 0.0)
    standing = next((each for each in line_of(line) if each.member == member), None)
    return {
        "title": member,
        "line": line,
        "key": shown.key,
        "up": href("election", shown.key),
        "standing": _row(standing, line, shown.key) if standing is not None else None,
        "level": 0 if row is not None and not _ill(standing or Standing(None, row)) else 1,
        "word": row.place if row is not None else "has left the line",
        "verdict": _verdict(row, led_s),
        "facts": _facts(row) if row is not None else [],
        "several": line.several,
        "events": [_event(each, shown.key) for each in reversed(rows_of(events)[-SHOWN_EVENTS:])],
    }


def _verdict(row: Row | None, led_s: float) -> str:
    led = f"It led {duration(led_s)} of the past week." if led_s else ""
    if row is None:
        return f"It is not in the line any more. {led}"
    said = row.unheard or row.because
    return f"{said[:1].upper()}{said[1:]}. {led}" if said else led


def _facts(row: Row) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [
        ("Host", row.host),
        ("Process", row.pid),
        ("Label", row.label),
        ("Could take charge now", "yes" if row.able else "no"),
        ("Drained", "yes" if row.drained else ""),
        ("Command runs", {True: "yes", False: "no", None: ""}[row.runs]),
        ("Command", row.settings.get("command", "")),
        ("Partition", row.settings.get("partition", "")),
        ("Lease (ttl)", f"{row.settings['ttl_s']:g} s" if "ttl_s" in row.settings else ""),
        ("Checks in every", f"{row.settings['check_in_s']:g} s" if "check_in_s" in row.settings else ""),
        ("HeirFlow", row.settings.get("version", "")),
        ("Could kill its command", "" if row.kill_is_sure else "not surely: it may become another user"),
    ]
    return [(name, value) for name, value in found if value not in ("", None)]
