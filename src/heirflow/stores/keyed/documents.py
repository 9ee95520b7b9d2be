"""How a line is written down in keys, each a JSON object, and read again. Anybody may write there: it is read like tables are.

In ``elections/<name>/``: ``record`` (``record#2``, … for further seats), ``count`` (the last number given away), ``news`` (changes
when somebody should look) and ``m:<id>`` for each member. In ``history/<name>/``: an event under its number, with a ``t``
behind it where somebody took charge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

from heirflow.election.record import (
    MOST_SEATS,
    CheckIn,
    Event,
    Record,
    Told,
    What,
    record_name,
)
from heirflow.stores.keyed.keys import Seen, quoted
from heirflow.stores.rows import MEMBER, RECORD, RECORD_LATER, Answer
from heirflow.stores.values import cleaned

ELECTIONS, HISTORY = "elections", "history"
COUNT, NEWS, A_MEMBER = "count", "news", "m:"
LED = "t"
"""Behind the number of an event that tells who took charge."""
MOST_LEFT = 8
"""So many leaders before can be waiting to be taken over from."""
Document = dict[str, Any]
_EVENT = ("what", "term", "member", "because", "took_s", "at", "ago_s", "times", "seat")


def folder_of(election: str) -> str:
    """Where all is that decides, and the line."""
    return f"{ELECTIONS}/{quoted(election)}"


def history_of(election: str) -> str:
    """Where its events are."""
    return f"{HISTORY}/{quoted(election)}"


def record_key(election: str, seat: int) -> str:
    """Of a seat's record."""
    return f"{folder_of(election)}/{record_name('record', seat)}"


def member_key(election: str, member: str) -> str:
    """Of a member's row."""
    return f"{folder_of(election)}/{A_MEMBER}{quoted(member)}"


def event_key(election: str, number: int, event: Event) -> str:
    """Of an event: in the order of their numbers."""
    return f"{history_of(election)}/{number:016d}{LED if event.what is What.TOOK_CHARGE else ''}"


def written(document: Document) -> bytes:
    """As it stands in a key."""
    return json.dumps(document, separators=(",", ":")).encode()


def read(value: bytes) -> Document | None:
    """What stands in a key; None where that is no JSON object."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def record_document(seen: Seen, key: str) -> Document | None:
    """A record as it stands; None where there is none. What cannot be read has a version that nothing can follow."""
    entry = seen.entries.get(key)
    if entry is None:
        return None
    found = read(entry.value)
    return {"version": entry.value[:40].decode("utf-8", "replace")} if found is None else {"version": "none", **found}


def left_in(document: Document | None) -> list[str]:
    """Notes of leaders before, whose work nobody has taken over yet in the database where it is."""
    found = None if document is None else document.get("left")
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def of_record(record: Record, before: Document | None, now: float, left: Sequence[str] = ()) -> Document:
    """A record to be written in the place of another one. `left`: see `left_in`."""
    led = None if before is None else before.get("leader")
    same = before is not None and led == record.leader
    return {
        "version": record.version,
        "term": record.term,
        "leader": record.leader,
        "ttl_s": record.ttl_s,
        "because": cleaned(record.because),
        "paused": record.paused,
        "note": cleaned(record.note),
        "switchover_to": record.switchover_to,
        "written_at": now,
        "since": before.get("since", now) if same and before is not None else now,
        "history": record.history,
        "seats": None if before is None else before.get("seats"),
        **({"left": [*left]} if left else {}),
    }


def of_check_in(who: CheckIn, before: Document, now: float) -> Document:
    """A member's row with what it says now; its place and orders to it stay."""
    said = {
        "id": who.id,
        "host": cleaned(who.host),
        "pid": who.pid,
        "ready": who.ready,
        "label": cleaned(who.label),
        "note": cleaned(who.note),
        "checked_in_at": now,
    }
    return {"drained": False, "joined_at": now, **before, **said}


def of_event(event: Event, now: float) -> Document:
    """An event as it is written now."""
    document = {name: getattr(event, name) for name in _EVENT if name != "what"}
    return {
        "what": event.word,
        **document,
        "because": cleaned(event.because),
        "at": now - event.ago_s,
    }


def event_row(document: Document) -> Any:
    """An event, as `rows.event_of` takes it."""
    return SimpleNamespace(**{"member": "", "because": "", "what": "", **{name: document.get(name) for name in _EVENT}})


def answer(
    election: str, seen: Seen, now: float, history: str | None, swapped: bool | None, told: tuple[Told, ...], where: str
) -> Answer:
    """What a folder shows, in the form of all stores."""
    odd: list[str] = []
    first = _record_columns(record_document(seen, record_key(election, 1)))
    common = {"db_now": now, "history": history, **first}
    members = sorted(_members(election, seen, odd), key=lambda row: (row["seniority"], row["id"]))
    nobody: list[Mapping[str, Any]] = [dict.fromkeys(MEMBER)]
    rows = [SimpleNamespace(**common, **{f"m_{name}": row.get(name) for name in MEMBER}) for row in members or nobody]
    further = [
        SimpleNamespace(name=record_name(election, seat), **_record_columns(document))
        for seat in range(2, MOST_SEATS + 1)
        if (document := record_document(seen, record_key(election, seat))) is not None
    ]
    return Answer(rows, swapped, told, tuple(odd), further, where)


def _record_columns(document: Document | None) -> Document:
    values: Mapping[str, Any] = document or {}
    found = {f"e_{name}": values.get(name) for name in (*RECORD, *RECORD_LATER)}
    for name in ("because", "note"):
        found[f"e_{name}"] = values.get(name) or ""
    return found


def _members(election: str, seen: Seen, odd: list[str]) -> list[Document]:
    beginning, found = f"{folder_of(election)}/{A_MEMBER}", []
    for key, entry in seen.entries.items():
        if not key.startswith(beginning):
            continue
        name = unquote(key.removeprefix(beginning))
        row = read(entry.value)
        if row is None or type(row.get("seniority")) is not int:
            odd.append(f"the row of {name} cannot be read; it is left out until it joins again")
            continue
        texts = {each: row.get(each) or "" for each in ("host", "label", "note")}
        found.append({**row, **texts, "id": name})
    return found
