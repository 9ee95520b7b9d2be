"""Small words for tests that speak to a store: who checks in, who takes charge, who stands in line."""

from __future__ import annotations

import itertools
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from heirflow.election.record import CheckIn, Event, Exchange, MemberRow, Reading, Record, Swap, What
from heirflow.stores.base import Store

Factory = Callable[[], Store]

WAIT_LIMIT_S = 5.0
HOSTILE = "Robert'); DROP TABLE heirflow_member;-- \"`\\ %s %(x)s :y $1 ?? 🐘 \u202e\n\ttab"
_numbers = itertools.count()


def new_election() -> str:
    """The name of an election that nobody has used."""
    return f"contract-{os.getpid()}-{time.time_ns()}-{next(_numbers)}"


@contextmanager
def members(factory: Factory, count: int = 2) -> Iterator[list[Store]]:
    """So many open stores, closed afterwards."""
    stores = [factory() for _ in range(count)]
    try:
        for store in stores:
            store.open()
        yield stores
    finally:
        for store in stores:
            store.close()


def who(id: str, *, ready: bool = True, label: str = "", note: str = "") -> CheckIn:  # noqa: A002
    """A check-in of a member that stands nowhere in particular."""
    return CheckIn(id, f"host-of-{id}", 4711, ready, label, note)


def take(
    leader: str | None,
    term: int,
    version: int,
    *,
    expected: int | None,
    news: bool = True,
    takes_over: str | None = None,
    **more: object,
) -> Swap:
    """A swap to such a record."""
    record = Record(version, term, leader, 10.0, f"{leader} took charge", **more)  # type: ignore[arg-type]
    return Swap(expected, record, Event(What.TOOK_CHARGE, term, leader or "", record.because, 0.25), news, takes_over)


def charge(member: str, term: int) -> Exchange:
    """By which a member takes charge as members do; there was nothing but the terms before."""
    return Exchange(who(member), swap=take(member, term, term, expected=term - 1 or None, takes_over=""))


def join(store: Store, election: str, id: str) -> Reading:  # noqa: A002
    """Join the line."""
    return store.exchange(election, Exchange(who(id), join=True))


def ids(reading: Reading) -> list[str]:
    """The line, by id."""
    return [row.id for row in reading.members]


def row(reading: Reading, id: str) -> MemberRow:  # noqa: A002
    """One member's row."""
    return next(member for member in reading.members if member.id == id)


def hears(store: Store, election: str, *, within_s: float = WAIT_LIMIT_S) -> bool:
    """Wait for news in the way that the store offers."""
    limit = time.monotonic() + within_s
    while (left := limit - time.monotonic()) > 0:
        if store.news(election):
            return True
        fd = store.news_fd()
        if fd is not None:
            select.select([fd], [], [], left)
        else:
            time.sleep(min(left, store.news_poll_s or left))
    return store.news(election)
