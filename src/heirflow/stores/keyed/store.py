"""The store that all coordinators share. An exchange is one write under conditions, and what stands in the folder after it.

What was seen last is what the next write is made from: its conditions hold if nobody has written those keys since, and that is
one round trip. Where they do not hold, nothing was written, and it is made again from what the server shows then; a swap is lost
only by what was read after it was asked. A write whose answer is lost is not sent again: it may have happened, and the next
reading tells.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import unquote

from heirflow.election.record import Event, Exchange, Keep, Reading, Told, What
from heirflow.stores.base import Beside, Finding, Glance, KeptOut, KeyedWill, StoreUnavailable
from heirflow.stores.keyed.documents import (
    A_MEMBER,
    ELECTIONS,
    LED,
    NEWS,
    answer,
    event_row,
    folder_of,
    history_of,
    member_key,
    read,
)
from heirflow.stores.keyed.keys import Bell, Entry, Keys, Seen, Write
from heirflow.stores.keyed.plan import Plan, plan_of, set_seats
from heirflow.stores.rows import event_of, fenced
from heirflow.stores.values import check

BITE = 50
"""So many events are deleted at once."""
TRIES_APART_S = 0.005
ADOPT_AGAIN_S = 5.0
"""How often a leader tries again to adopt what it could not, as the database in which that is was away."""
NAMES_EVERY_S = 5.0
"""How often a glance asks which elections there are."""
MOST_LED = 1000
"""So many changes of leader back a session is still known by."""
LED_SHARE = 0.25
"""Of the limit of a call: for all that is read to tell whose sessions are over."""


class KeyedStore:
    """A `Store` in a coordinator: a register for members, with answers for people."""

    news_poll_s: float | None = None

    def __init__(
        self, keys: Keys, url: Callable[[], str], *, call_limit_s: float, beside: Beside | None = None
    ) -> None:
        """`url`: as it is now, for a will. `beside`: the database in which the command works."""
        self._keys, self._url = keys, url
        self._call_limit_s = call_limit_s
        self._beside = beside
        self._seen: dict[str, Seen] = {}
        self._seats: dict[str, int] = {}
        self._named: tuple[float, tuple[str, ...]] = (-NAMES_EVERY_S, ())
        """Which elections there are, and when that was asked."""
        self._bell: Bell | None = None
        self._adopted: set[str] | None = None if beside is None else set()
        """Notes of leaders before whose work was taken over: the next write of the record leaves them out."""
        self._adopt_at = 0.0
        """Not before this is what an earlier leader left looked at again."""
        self._untold: tuple[tuple[float, Event], ...] = ()
        """Of what was done in the database after a swap, and when, for the history: they go with the next exchange."""

    # What a member calls

    def open(self, *, create: bool = True) -> None:
        self._seen.clear()
        self._named = (-NAMES_EVERY_S, ())
        self._keys.connect()

    def exchange(self, election: str, request: Exchange) -> Reading:
        check(election, request)
        untold = self._untold if request.check_in is not None else ()
        late = (replace(event, ago_s=time.monotonic() - at) for at, event in untold)
        whole = replace(request, notes=(*late, *request.notes)) if untold else request

        def planned(seen: Seen) -> Plan:
            return plan_of(election, whole, seen, self._keys.now(), self._keys.history, self._adopted)

        until = time.monotonic() + self._call_limit_s
        plan, seen = self._carried_out(election, planned)
        self._untold = self._untold[len(untold) :]
        if request.check_in is not None:
            self._listen(election, seen)
        told = self._taken(election, request, plan, until) if plan.swapped else ()
        found = answer(
            election, seen, self._keys.now(), self._keys.history, plan.swapped, told, f"its key in {self._keys.title}"
        )
        reading, stuck = found.reading(election, (), self._seats.get(election, 1))
        self._seats[election] = reading.seats
        if stuck is not None and request != Exchange():
            raise StoreUnavailable(stuck)  # written: who checks in is seen, and the next reading tells
        return reading

    def news_fd(self) -> int | None:
        return None if self._bell is None else self._bell.fileno()

    def news(self, election: str) -> bool:
        if self._bell is None:
            return False
        seen = self._seen.get(election)
        return self._bell.heard(-1 if seen is None else seen.number(f"{folder_of(election)}/{NEWS}"))

    def prune(self, election: str, keep: Keep) -> bool:
        names = self._keys.names(history_of(election))
        # Names tell who took charge: these tell whose sessions are over, and stay for long.
        led = [name for name in names if name.endswith(LED)]
        free = sorted({*names}.difference(led[-MOST_LED:]))
        over = {*names[: -keep.most]} if keep.most else set[str]()
        bite = (free if keep.age_s else [name for name in free if name in over])[:BITE]
        events = self._events(election, bite) if keep.age_s else {}
        oldest = self._keys.now() - keep.age_s
        gone = [
            name for name in bite if name in over or (name in events and event_of(event_row(events[name])).at < oldest)
        ]
        if gone:
            write = Write(deletes=[f"{history_of(election)}/{name}" for name in gone])
            self._keys.commit(folder_of(election), write)
        return len(gone) == BITE

    # What people ask

    def limit_answers(self, limit_s: float) -> None:
        """Every call ends within its limit already."""

    def elections(self) -> tuple[str, ...]:
        names = {_election_at(f"{ELECTIONS}/{key}") for key in self._keys.names(ELECTIONS)}
        return tuple(sorted(name for name in names if name is not None))

    def glance(self, only: str | None = None) -> dict[str, Glance]:
        whole = self._keys.tree(ELECTIONS) if only is None else None
        if whole is None:
            return self._glanced_one_by_one(only)
        folders: dict[str, dict[str, Entry]] = {}
        for key, entry in whole.entries.items():
            folders.setdefault(key.rpartition("/")[0], {})[key] = entry
        here = {_election_at(key) for key in whole.entries}
        return {
            name: Glance(self._reading(name, Seen(entries)))
            for folder, entries in folders.items()
            if (name := _name_of(folder)) in here
        }

    def _glanced_one_by_one(self, only: str | None) -> dict[str, Glance]:
        now = time.monotonic()
        if only is None and now - self._named[0] > NAMES_EVERY_S:
            self._named = now, self.elections()
        found = {}
        for name in self._named[1] if only is None else (only,):
            reading = self.exchange(name, Exchange())
            if reading.record is None and not reading.members:
                self._named = now, self.elections()  # it may be gone
                if name not in self._named[1]:
                    continue
            found[name] = Glance(reading)
        return found

    def events(self, election: str, limit: int) -> tuple[Event, ...]:
        names = self._keys.names(history_of(election))[-limit:]
        events = self._events(election, names)
        return tuple(event_of(event_row(events[name])) for name in names if name in events)

    def _events(self, election: str, names: Iterable[str]) -> dict[str, dict[str, object]]:
        below = f"{history_of(election)}/"
        values = self._keys.values(below + name for name in names)
        return {
            key.removeprefix(below): document
            for key, value in sorted(values.items())
            if (document := read(value)) is not None
        }

    def drain(self, election: str, member: str, on: bool) -> bool:
        key, known = member_key(election, member), True

        def planned(seen: Seen) -> Plan:
            nonlocal known
            plan = Plan(election, seen, self._keys.now())
            row = read(seen.entries[key].value) if key in seen.entries else None
            known = row is not None
            if row is None:
                plan.doubted = True
            else:
                plan.put(key, {**row, "drained": on})
                plan.wake()
            return plan

        self._carried_out(election, planned)
        return known

    def set_seats(self, election: str, seats: int) -> bool:
        known = True

        def planned(seen: Seen) -> Plan:
            nonlocal known
            plan = Plan(election, seen, self._keys.now())
            known = set_seats(plan, seats)
            plan.doubted = not known
            return plan

        self._carried_out(election, planned)
        return known

    def forget(self, election: str, seen: Reading) -> bool:
        now = self._keys.read(folder_of(election))
        shown = self._reading(election, now)
        if (shown.places, [(row.id, row.stamp) for row in shown.members]) != (
            seen.places,
            [(row.id, row.stamp) for row in seen.members],
        ):
            return False
        guards = {key: now.number(key) for key in now.entries}
        done, _ = self._keys.commit(folder_of(election), Write(guards, deletes=list(now.entries)))
        if done:
            self._keys.clear(history_of(election))
            self._seen.pop(election, None)
        return done

    def examine(self) -> tuple[Finding, ...]:
        return tuple(self._keys.examine())

    def fence(self) -> Finding:
        return Finding(
            "fence",
            "note",
            f"lease only: the record is in {self._keys.title}, where nobody's sessions can be ended; HEIRFLOW_TERM tells a command "
            "its term, for a fence of its own",
            {"state": KeptOut.LEASE_ONLY},
        )

    def will(self, election: str, member: str, term: int, because: str, *, seat: int = 1) -> KeyedWill:
        return KeyedWill(
            "heirflow.stores.keyed.will", self._url(), election, seat, member, term, because, self._call_limit_s
        )

    # How it ends

    def sever(self) -> None:
        self._keys.sever()
        if self._beside is not None:
            self._beside.sever()

    def close(self) -> None:
        self._keys.close()
        if self._bell is not None:
            self._bell.close()
            self._bell = None
        if self._beside is not None:
            self._beside.close()

    # The parts of an exchange

    def _carried_out(self, election: str, planned: Callable[[Seen], Plan]) -> tuple[Plan, Seen]:
        """The plan that was carried out, and what stands there after it."""
        folder, limit = folder_of(election), time.monotonic() + self._call_limit_s
        known = self._seen.pop(election, None)
        seen, fresh = (known, False) if known is not None else (self._keys.read(folder), True)
        while True:
            plan = planned(seen)
            if not fresh and (plan.doubted or plan.write.is_empty):
                seen, fresh = self._keys.read(folder), True
                continue
            done = plan.write.is_empty
            if not done:
                done, seen = self._keys.commit(folder, plan.write)
                fresh = True
            if done:
                self._seen[election] = seen
                return plan, seen
            if time.monotonic() > limit:
                raise StoreUnavailable(f"{self._keys.where}: others wrote the same keys again and again")
            time.sleep(TRIES_APART_S)

    def _listen(self, election: str, seen: Seen) -> None:
        if self._bell is None:
            self._bell = Bell()
            key = f"{folder_of(election)}/{NEWS}"
            self._keys.watch(key, seen.number(key), self._bell)

    def _taken(self, election: str, request: Exchange, plan: Plan, until: float) -> tuple[Told, ...]:
        """After a swap that won: what is done in the database in which the command works. It may fail, and is told.

        `until`: when there is no time left for it. An exchange that its member gives up would have to be made again.
        """
        swap = request.swap
        if self._beside is None or swap is None:
            return ()
        again = swap.takes_over is None
        if again:
            # Who took charge while that database was away comes back to what was left, and not only whoever is next.
            if not plan.left or swap.record.leader is None or time.monotonic() < self._adopt_at:
                return ()
            swap = replace(swap, takes_over="")
        self._adopt_at = time.monotonic() + ADOPT_AGAIN_S
        if time.monotonic() > until:
            said = f"could not adopt, nor end the sessions of who led before: {self._keys.title} took too long"
            told: tuple[Told, ...] = (Told(said, failed=True),)
            adopted: AbstractSet[str] = frozenset()
        else:
            told, adopted = self._beside.taken(swap, plan.left, partial(self._led, election))
        self._adopted = {*adopted}
        if again and not adopted:
            return ()  # it was told when it failed first
        if told:
            event = fenced(swap, told)
            event = replace(event, what=What.ADOPTED) if plan.left and adopted >= {*plan.left} else event
            self._untold += ((time.monotonic(), event),)
        return told

    def _led(self, election: str, asked: Mapping[str, Any]) -> dict[str, bool]:
        """See `sql.fence.Led`. Its time is limited: a server stands still now, and answered the swap a moment ago.

        Who leads is read after who has led: this member may have stood still since its swap, and who took charge meanwhile
        has a right to its sessions.
        """
        leader, below = asked["p_leader"], history_of(election)
        with _severed_after(LED_SHARE * self._call_limit_s, self._keys):
            marked = [f"{below}/{name}" for name in self._keys.names(below) if name.endswith(LED)][-MOST_LED:]
            values = self._keys.values(marked).values()
            reading = self._reading(election, self._keys.read(folder_of(election)))
        taken = [event_of(event_row(document)) for value in values if (document := read(value)) is not None]
        earlier = {each.member for each in taken if each.member != leader or each.term < asked["p_term"]}
        found = earlier.intersection(asked["p_ids"]) | {
            row.id for row in reading.members if row.id in asked["p_numbered"]
        }
        leads = {place.record.leader for place in reading.places if place.record is not None}
        return {member: member == leader or member not in leads for member in found}

    def _reading(self, election: str, seen: Seen) -> Reading:
        where = f"its key in {self._keys.title}"
        found = answer(election, seen, self._keys.now(), self._keys.history, None, (), where)
        return found.reading(election, (), self._seats.get(election, 1))[0]


def _name_of(folder: str) -> str:
    return unquote(folder.removeprefix(f"{ELECTIONS}/"))


def _election_at(key: str) -> str | None:
    """Which election is there, by a key that every election has; None: this key says nothing of that."""
    folder, _, what = key.rpartition("/")
    return _name_of(folder) if what == "record" or what.startswith(A_MEMBER) else None


@contextmanager
def _severed_after(limit_s: float, keys: Keys) -> Iterator[None]:
    """Several calls that end within this time together: from then on each is severed. Raises as `Keys` does."""
    over, until = threading.Event(), time.monotonic() + limit_s

    def wait() -> None:
        while not over.wait(max(TRIES_APART_S, until - time.monotonic())):
            keys.sever()  # again and again: between two calls there is nothing to end

    watch = threading.Thread(target=wait, name="heirflow-limit", daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()
