"""Elections whose members check in without being there: twenty of them, or fifty members, need no processes.

For tests of pages, and for their pictures. What is written is what members write, in a real store.
"""

from __future__ import annotations

import threading

from heirflow.election.record import CheckIn, Event, Exchange, Record, Swap, What
from heirflow.stores import open_store


class Stage:
    """See above. Members check in each second until the end."""

    def __init__(self, url: str) -> None:
        self.store = open_store(url, call_limit_s=5)
        self.store.open()
        self._members: dict[str, list[str]] = {}
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run)

    def line(self, election: str, *members: str, leads: int = 1, seats: int = 1, ago_s: float = 0.0) -> None:
        """The first ones lead; the line goes on as long as the stage does."""
        with self._lock:
            for name in members:
                self._check_in(election, name, join=True)
            for seat in range(1, max(leads, seats) + 1):
                leader = members[seat - 1] if seat <= leads else None
                record = Record(1, 1, leader, 10.0, "it is the first of its line")
                event = Event(What.TOOK_CHARGE, 1, leader, record.because, seat=seat, ago_s=ago_s) if leader else None
                known = self.store.exchange(election, Exchange()).record_of(seat)
                swap = Swap(known.version if known else None, record, event, seat=seat, seats=seats)
                self.store.exchange(election, Exchange(swap=swap))
            self._members[election] = list(members)

    def takeover(
        self,
        election: str,
        member: str,
        *,
        gap_s: float = 0.1,
        ago_s: float = 0.0,
        leaves: bool = True,
        because: str = "",
    ) -> None:
        """This one leads from now on. `ago_s`: the history says that it does so for longer. `leaves`: the one before is gone."""
        with self._lock:
            before = self.store.exchange(election, Exchange()).record
            assert before is not None
            because = because or f"{before.leader} was killed, and its guard proved that the command is gone"
            record = Record(before.version + 1, before.term + 1, member, 10.0, because)
            event = Event(What.TOOK_CHARGE, record.term, member, because, gap_s, ago_s=ago_s)
            if leaves:
                self._members[election].remove(str(before.leader))
                leave = Exchange(check_in=CheckIn(str(before.leader), "", 1, ready=True), leave=True)
                self.store.exchange(election, leave)
            assert self.store.exchange(election, Exchange(swap=Swap(before.version, record, event))).swapped

    def _check_in(self, election: str, name: str, *, join: bool = False) -> None:
        host = name.rpartition("-")[0] or name
        member = CheckIn(name, host, 4242, ready=True, runs=True, label="rack 7")
        self.store.exchange(election, Exchange(check_in=member, join=join))

    def _run(self) -> None:
        while not self._over.wait(1.0):
            with self._lock:
                for election, members in self._members.items():
                    for name in members:
                        self._check_in(election, name)
                    reading = self.store.exchange(election, Exchange())
                    for seat, place in enumerate(reading.places, 1):
                        if place.record is not None and place.record.leader is not None:
                            known = place.record
                            record = Record(known.version + 1, known.term, known.leader, 10.0, known.because)
                            self.store.exchange(election, Exchange(swap=Swap(known.version, record, seat=seat)))

    def __enter__(self) -> Stage:  # noqa: PYI034  Python 3.10 has no Self
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.store.close()
