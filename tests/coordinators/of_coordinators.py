"""What every store in a coordinator must keep beside the contract of all stores (`store_contract`), in the same form.

A check may need to reach into the coordinator behind the store: it takes the `KeyedStore` apart for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from heirflow.election.record import Event, Exchange, Keep, What
from heirflow.stores.keyed.store import BITE
from heirflow.testing.store_tools import Factory, ids, join, members, new_election, take, who

if TYPE_CHECKING:
    from heirflow.stores.keyed.store import KeyedStore


def a_forgotten_election_begins_anew_where_its_history_was_left(factory: Factory) -> None:
    """Whoever forgets it may die, or lose its connection, between the two deletions."""
    election = new_election()
    with members(factory, 1) as [plain]:
        store = cast("KeyedStore", plain)
        store.exchange(election, Exchange(who("a"), join=True, swap=take("a", 1, 1, expected=None)))
        store.exchange(election, Exchange(who("a"), swap=take(None, 1, 2, expected=1), leave=True))
        with without_clearing(store):
            assert store.forget(election, store.exchange(election, Exchange()))
        reading = store.exchange(election, Exchange(who("b"), join=True, swap=take("b", 1, 1, expected=None)))
        assert reading.swapped and ids(reading) == ["b"]
        assert ids(join(store, election, "c")) == ["b", "c"]
        assert store.events(election, 9)[-1].member == "b"


def old_history_goes_however_many_have_led(factory: Factory) -> None:
    """Who took charge is kept for long, as it tells whose sessions are over: that must not keep the rest."""
    election, leaders, more = new_election(), 3 * BITE, 20
    with members(factory, 1) as [store]:
        for number in range(leaders):
            store.exchange(election, Exchange(notes=(Event(What.TOOK_CHARGE, number, f"m{number}", ""),)))
        for number in range(more):
            store.exchange(election, Exchange(notes=(Event(What.RESTARTED, leaders, "m", str(number)),)))
        while store.prune(election, Keep(0, 5)):
            pass
        told = store.events(election, 1000)
        assert [each.because for each in told if each.what is What.RESTARTED] == [
            str(more - 5 + number) for number in range(5)
        ]
        assert sum(each.what is What.TOOK_CHARGE for each in told) == leaders


class without_clearing:
    """The history is not deleted within this block."""

    def __init__(self, store: KeyedStore) -> None:
        self._keys = store._keys

    def __enter__(self) -> None:
        self._keys.clear = lambda folder: None  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        del self._keys.clear


CHECKS: tuple[Callable[[Factory], None], ...] = (
    a_forgotten_election_begins_anew_where_its_history_was_left,
    old_history_goes_however_many_have_led,
)
