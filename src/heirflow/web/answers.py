"""What the page's server answers to programs, and how it reads what it is asked: for any server."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from heirflow import __version__
from heirflow.election.record import Event
from heirflow.status.check import Level, Verdict, json_of, unknown
from heirflow.status.exposition import exposition
from heirflow.status.figures import EVENTS, Figure, figures_of
from heirflow.status.history import facts_of, rows_of
from heirflow.status.seen import Seen, Shown
from heirflow.steering.wishes import Kind, Wish
from heirflow.text import masked
from heirflow.web.desk import Desk, NoAnswer
from heirflow.web.timeline import timeline_of
from heirflow.web.views import STRETCHES, Asked, Beside, view_of

METRICS = "text/plain; version=0.0.4; charset=utf-8"
"""The kind of text that Prometheus reads."""
Besides = Callable[[Shown], Beside | None]
STATUS = {True: HTTPStatus.OK, False: HTTPStatus.CONFLICT, None: HTTPStatus.SERVICE_UNAVAILABLE}
"""Of the answer to an order, by whether it was given; None: nobody knows."""


class Unclear(ValueError):
    """An address that asks for nothing there is. The sentence says so."""


def asked_by(kind: str, parameters: Mapping[str, str]) -> Asked:
    """What an address asks for. `kind`: as `Asked.page`. Raises `Unclear`."""
    if kind == "all":
        return Asked("all")
    name, store = parameters.get("name", ""), parameters.get("store", "0")
    if not name:
        raise Unclear("The address must name an election: ?name=…")
    if not (store.isascii() and store.isdigit() and len(store) < 4):
        raise Unclear("store must be a number")
    stretch = parameters.get("stretch", "hour")
    if stretch not in STRETCHES:
        raise Unclear(f"stretch must be {', '.join([*STRETCHES][:-1])} or {[*STRETCHES][-1]}")
    member = parameters.get("id", "")
    if kind == "member" and not member:
        raise Unclear("The address must name a member: &id=…")
    return Asked(kind, (int(store), name), member if kind == "member" else "", stretch)


def wish_of(body: bytes, who: str) -> Wish:
    """An order from its JSON. Raises `Unclear`."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:  # the second: brackets within brackets without end
        raise Unclear(f"it is no JSON: {error}") from None
    if not isinstance(said, dict):
        raise Unclear("it must be a JSON object")
    what, election, store = said.get("what"), said.get("election"), said.get("store", 0)
    kinds = {kind.value: kind for kind in Kind if kind is not Kind.LEAVE}
    if what not in kinds:
        raise Unclear(f"what must be one of {', '.join(kinds)}")
    if not isinstance(election, str) or not election:
        raise Unclear("election must be a name")
    if type(store) is not int or store < 0:
        raise Unclear("store must be a number")
    names = {key: said.get(key) for key in ("member", "leaving")}
    for key, value in names.items():
        if value is not None and not isinstance(value, str):
            raise Unclear(f"{key} must be a text or null")
    kind = kinds[what]
    if kind in {Kind.DRAIN, Kind.UNDRAIN} and not names["member"]:
        raise Unclear(f"{what} needs a member")
    return Wish(kind, (store, election), names["member"] or None, names["leaving"] or None, who)


def given(desk: Desk, wish: Wish) -> tuple[dict[str, Any], int]:
    """Give an order: what is answered, and with which status. For threads that may wait."""
    try:
        said = desk.give(wish)
    except NoAnswer as error:
        return {"sentence": str(error)}, HTTPStatus.GATEWAY_TIMEOUT
    return {"sentence": said.sentence}, STATUS[said.given]


def view_by(
    desk: Desk, asked: Asked, seen: Seen | None, *, may_order: bool, beside: Besides | None, begin: str
) -> dict[str, Any]:
    """The view of a page, with its history. For threads: a long one takes its time. Raises `NotThere`."""
    if desk.broken is not None:
        raise RuntimeError("the stores are not read any more") from desk.broken
    shown = seen.of(asked.key) if seen is not None else None
    events, trouble = desk.history(shown) if shown is not None else ((), "")
    more = beside(shown) if shown is not None and beside is not None else None
    return view_of(asked, seen, events, trouble, may_order=may_order, beside=more, begin=begin)


def trouble_of(seen: Seen | None) -> str | None:
    """Why not all is known; None: it is."""
    if seen is None:
        return "the store has not answered yet"
    return "; ".join(away.sentence for away in seen.away) or None


def elections_of(seen: Seen | None) -> dict[str, Any]:
    """As `heirflow status --json` writes it. Where a store is away, what it said last is left out."""
    found = [shown for shown in seen.elections if not seen.is_away(shown.store)] if seen is not None else []
    stores = seen.stores if seen is not None else ()
    return {
        "elections": [
            {**shown.snapshot.to_json(), **({"database": stores[shown.store]} if len(stores) > 1 else {})}
            for shown in found
        ],
        "fence": None,
        "trouble": trouble_of(seen),
    }


def check_of(seen: Seen | None) -> dict[str, Any]:
    """As `heirflow status --check --json` writes it."""
    if seen is None or seen.away:
        return json_of([unknown(trouble_of(seen) or "")])
    verdicts = [
        Verdict(
            Level(shown.level), shown.state, f"{shown.snapshot.election}: {shown.sentence}", shown.snapshot.election
        )
        for shown in seen.elections
    ]
    return json_of(verdicts or [unknown("there is no election in this store yet")])


def health_of(seen: Seen | None) -> dict[str, Any]:
    """Of this server."""
    away = {each.store: each.sentence for each in seen.away} if seen is not None else {}
    stores = enumerate(seen.stores if seen is not None else ())
    return {
        "status": "ok",
        "version": __version__,
        "read_at": seen.at if seen is not None else None,
        "stores": [{"store": name, "up": number not in away, "trouble": away.get(number)} for number, name in stores],
    }


def history_of(shown: Shown, events: Sequence[Event], _asked: Asked) -> dict[str, Any]:
    """As `heirflow history --json` writes it."""
    return {"election": shown.snapshot.election, "events": [facts_of(row) for row in rows_of(events)]}


def timeline_of_one(shown: Shown, events: Sequence[Event], asked: Asked) -> dict[str, Any]:
    """Who led when."""
    return timeline_of(shown.snapshot, events, STRETCHES[asked.stretch]).to_json()


def metrics_of(desk: Desk, seen: Seen | None) -> str | None:
    """In the text format of Prometheus; None: prometheus-client is not installed. Reads histories, so for threads."""
    found = [Figure("heirflow_build_info", {"version": __version__}, 1)]
    named: set[str] = set()
    for shown in seen.elections if seen is not None else ():
        if not _is_away(seen, shown.store) and shown.snapshot.election not in named:
            named.add(shown.snapshot.election)
            found += figures_of(shown.snapshot, desk.history(shown)[0][-EVENTS:])
    for number, name in enumerate(seen.stores if seen is not None else ()):
        found.append(Figure("heirflow_store_up", {"store": name}, not _is_away(seen, number)))
    try:
        return exposition(found)
    except ImportError:
        return None


def _is_away(seen: Seen | None, store: int) -> bool:
    return seen is None or seen.is_away(store)


def plain(value: Any) -> Any:
    """What JSON can tell: no password, and null for a number that it does not have."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value
