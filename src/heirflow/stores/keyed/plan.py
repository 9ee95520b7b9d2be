"""What an exchange writes, given what was seen. Pure: what it concludes from something old is marked as doubted."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from heirflow.election.record import Event, Exchange, Record, Swap
from heirflow.stores.keyed.documents import (
    COUNT,
    MOST_LEFT,
    NEWS,
    Document,
    event_key,
    folder_of,
    left_in,
    member_key,
    of_check_in,
    of_event,
    of_record,
    read,
    record_document,
    record_key,
    written,
)
from heirflow.stores.keyed.keys import ABSENT, Seen, Write
from heirflow.stores.rows import NOBODY_YET
from heirflow.stores.values import check_room, check_seats


@dataclass
class Plan:
    """Of one election."""

    election: str
    seen: Seen
    now: float
    write: Write = field(default_factory=Write)
    swapped: bool | None = None
    """Whether the swap wins, if what is written can be; None: there is none."""
    doubted: bool = False
    """Whether something is left out because of what was seen, which may be old."""
    adopted: AbstractSet[str] | None = None
    """Notes of leaders before whose work is taken over. None: whoever writes takes over nothing, and all stay."""
    left: list[str] = field(default_factory=list)
    """Those that are not, once this is written."""
    given: int = 0
    """How many numbers were given away."""

    def put(self, key: str, document: Document, *, guard: bool = True) -> None:
        """Write a key if it is still as it was seen."""
        self.write.puts[key] = written(document)
        if guard:
            self.write.guards[key] = self.seen.number(key)

    def number(self) -> int:
        """The next one: of a place in the line, or an event. None is given twice.

        They begin with the time, in milliseconds: the history of an election of this name that was forgotten may still be there.
        """
        key = f"{folder_of(self.election)}/{COUNT}"
        entry = self.seen.entries.get(key)
        said = int(1000 * self.now) if entry is None else (read(entry.value) or {}).get("last")
        last = said if type(said) is int else int(1000 * self.now)
        self.given += 1
        self.put(key, {"last": last + self.given})
        return last + self.given

    def tell(self, event: Event) -> None:
        """Write an event, at the end of the history."""
        key = event_key(self.election, self.number(), event)
        self.write.puts[key] = written(of_event(event, self.now))
        self.write.guards[key] = ABSENT

    def wake(self) -> None:
        """Somebody should look."""
        self.put(f"{folder_of(self.election)}/{NEWS}", {"at": self.now}, guard=False)


def plan_of(
    election: str,
    request: Exchange,
    seen: Seen,
    now: float,
    history: str | None,
    adopted: AbstractSet[str] | None = None,
) -> Plan:
    """In the order in which an exchange is carried out. Raises `ConfigError`."""
    plan = Plan(election, seen, now, adopted=adopted)
    if request.check_in is not None:
        _check_in(plan, request)
    if request.swap is not None:
        _swap(plan, request.swap, history)
    gone = (request.check_in.id,) if request.leave and request.check_in is not None else ()
    for member in (*gone, *request.forget):
        key = member_key(election, member)
        plan.write.puts.pop(key, None)
        plan.write.guards.pop(key, None)
        if key in seen.entries and key not in plan.write.deletes:
            plan.write.deletes.append(key)
    for event in request.notes:
        plan.tell(event)
    return plan


def _check_in(plan: Plan, request: Exchange) -> None:
    who = request.check_in
    assert who is not None
    key = member_key(plan.election, who.id)
    entry = plan.seen.entries.get(key)
    row = None if entry is None else read(entry.value)
    if request.join:
        row = {**(row or {}), "seniority": plan.number()}
    elif request.leave:
        return
    if row is None:
        plan.doubted = True
        return
    plan.put(key, of_check_in(who, row, plan.now))


def _swap(plan: Plan, swap: Swap, history: str | None) -> None:
    key = record_key(plan.election, swap.seat)
    before = record_document(plan.seen, key)
    plan.swapped = _holds(before, swap, history)
    if not plan.swapped:
        plan.doubted = True
        return
    done = plan.adopted or ()
    plan.left = [
        note for note in dict.fromkeys((*left_in(before), swap.takes_over or "")) if note and note not in done
    ][-MOST_LEFT:]
    document = of_record(swap.record, before, plan.now, plan.left)
    if swap.expected is None and swap.seats > 1:
        document["seats"] = swap.seats
        make(plan, swap.seats, swap.record)
    plan.put(key, document)
    if swap.event is not None:
        plan.tell(swap.event)
    if swap.news:
        plan.wake()


def _holds(before: Document | None, swap: Swap, history: str | None) -> bool:
    """Whether the record is the one that is to be replaced."""
    if swap.under is not None and swap.under != history:
        return False
    if before is None or swap.expected is None:
        return before is None and swap.expected is None
    same = type(before.get("version")) is int and before["version"] == swap.expected
    return same and swap.expected_term in (None, before.get("term"))


def make(plan: Plan, seats: int, like: Record) -> None:
    """Give each further seat a record where there is none. Raises `ConfigError`."""
    check_room(plan.election, seats)
    vacant = replace(like, version=1, term=0, leader=None, because=NOBODY_YET, note="", switchover_to=None)
    for seat in range(2, seats + 1):
        key = record_key(plan.election, seat)
        if key not in plan.seen.entries:
            plan.put(key, of_record(vacant, None, plan.now))


def set_seats(plan: Plan, seats: int) -> bool:
    """Change how many there are; False where there is no such election. Raises `ConfigError`."""
    check_seats(seats)
    key = record_key(plan.election, 1)
    first = record_document(plan.seen, key)
    if first is None:
        return False
    like = Record(1, 0, None, first.get("ttl_s", 0.0), paused=bool(first.get("paused")), history=first.get("history"))
    make(plan, seats, like)
    plan.put(key, {**first, "seats": seats})
    plan.wake()
    return True
