"""What every store must keep of what people ask: more checks of `store_contract`."""

from __future__ import annotations

from heirflow.election.record import Event, Exchange, What
from heirflow.testing.store_tools import HOSTILE, Factory, ids, join, members, new_election, take, who


def a_glance_shows_every_election_as_it_is_read(factory: Factory) -> None:
    one, other, empty = new_election(), f"{HOSTILE} {new_election()}", new_election()
    with members(factory) as [a, b]:
        a.exchange(one, Exchange(who("a"), join=True, swap=take("a", 1, 1, expected=None)))
        join(a, one, "b")
        join(a, other, "c")
        found = b.glance()
        assert {one, other} <= {*found} and empty not in found
        for election in (one, other):
            reading = b.exchange(election, Exchange())
            for seen in (found[election].reading, b.glance(election)[election].reading):
                assert (seen.places, seen.seats, seen.history) == (reading.places, reading.seats, reading.history)
                assert ids(seen) == ids(reading) and seen.swapped is None
                assert abs(reading.db_now - seen.db_now) < 60
        assert {*b.glance(one)} == {one} and b.glance(empty) == {}
        newest = found[one].newest
        if newest is not None:
            assert b.glance()[one].newest == newest and found[other].newest == 0
            a.exchange(one, Exchange(notes=(Event(What.REFUSED, 1, "a", "for the glance"),)))
            assert b.glance()[one].newest not in (newest, None)


def it_can_be_examined(factory: Factory) -> None:
    with members(factory, 1) as [store]:
        for finding in store.examine():
            assert finding.level in {"ok", "note", "warning", "problem"}, finding
            assert finding.topic
            assert finding.sentence
        assert store.examine()
        assert store.exchange(new_election(), Exchange()).record is None
