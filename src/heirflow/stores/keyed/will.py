"""The will where the record is in a coordinator: the helper (`alone.will_helper`) loads this, and the store as members use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from heirflow.election.record import CheckIn, Event, Exchange, Swap, What
from heirflow.stores import open_store
from heirflow.stores.base import StoreMisfit, StoreUnavailable


def carry_out(order: dict[str, Any], go: Callable[[], bool]) -> bool | None:
    """Release exactly this term; False where it has moved on. None: `go`, asked once when all is ready, says no.

    Raises `StoreUnavailable`: it may be tried again; or `StoreMisfit`: it need not be.
    """
    election, seat, member, term = order["election"], order["seat"], order["member"], order["term"]
    store = open_store(order["url"], call_limit_s=order["call_limit_s"], application_name=f"will/{member}")
    because = order["because"].replace("{prover}", order.get("prover", "its guard"))
    try:
        store.open(create=False)
        seen = store.exchange(election, Exchange())
        if not go():
            return None
        while True:
            record = seen.record_of(seat)
            if record is None or (record.leader, record.term) != (member, term):
                return False
            vacant = replace(record, version=record.version + 1, leader=None, because=because)
            event = Event(What.RELEASED, term, member, because, seat=seat)
            swap = Swap(record.version, vacant, event, news=True, seat=seat, expected_term=term)
            gone = CheckIn(member, "", 0, ready=False)
            seen = store.exchange(election, Exchange(gone, swap=swap, leave=True))
            if seen.swapped:
                return True
    finally:
        store.close()


__all__ = ["StoreMisfit", "StoreUnavailable", "carry_out"]
