"""What every store must keep, as checks that any test runner can run against a real one.

    @pytest.mark.parametrize("check", store_contract.CHECKS, ids=store_contract.name)
    def test_contract(check):
        check(lambda: MyStore(...))

A check is given a factory that makes a new, unopened `Store` on the same place each time: a member of its own. Checks use
elections of their own and leave their rows behind. They raise AssertionError with a sentence.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from heirflow.election.record import CheckIn, Event, Exchange, Reading, Record, Swap, What
from heirflow.errors import ConfigError
from heirflow.stores.base import Store, StoreUnavailable
from heirflow.testing.people_contract import a_glance_shows_every_election_as_it_is_read, it_can_be_examined
from heirflow.testing.store_tools import (
    HOSTILE,
    WAIT_LIMIT_S,
    Factory,
    hears,
    ids,
    join,
    members,
    new_election,
    row,
    take,
    who,
)

Check = Callable[[Factory], None]


def name(check: Check) -> str:
    """The name of a check, for a test's id."""
    return check.__name__


def an_empty_election_reads_as_empty(factory: Factory) -> None:
    with members(factory, 1) as [store]:
        reading = store.exchange(new_election(), Exchange())
        assert reading.record is None
        assert reading.members == ()
        assert reading.swapped is None


def a_record_comes_back_as_it_was_written(factory: Factory) -> None:
    election = new_election()
    with members(factory) as [a, b]:
        record = Record(7, 2**40, "a", 12.75, HOSTILE, paused=True, switchover_to="b")
        assert a.exchange(election, Exchange(swap=Swap(None, record))).record == record
        assert b.exchange(election, Exchange()).record == record
        empty = Record(8, 2**40, None, 1.5)
        assert b.exchange(election, Exchange(swap=Swap(7, empty))).record == empty


def only_the_expected_version_is_replaced(factory: Factory) -> None:
    election = new_election()
    with members(factory) as [a, b]:
        assert a.exchange(election, Exchange(swap=take("a", 1, 1, expected=None))).swapped is True
        for wrong in (None, 0, 2):
            lost = b.exchange(election, Exchange(swap=take("b", 2, 2, expected=wrong)))
            assert lost.swapped is False, f"a swap that expected {wrong} won over version 1"
            assert lost.record is not None
            assert lost.record.leader == "a"
        assert b.exchange(election, Exchange(swap=take("b", 2, 2, expected=1))).swapped is True


def a_lost_swap_breaks_nothing_else_in_its_exchange(factory: Factory) -> None:
    election = new_election()
    with members(factory) as [a, b]:
        a.exchange(election, Exchange(swap=take("a", 1, 1, expected=None)))
        note = Event(What.LOST, 1, "b", "b tells of something")
        for expected in (None, 99):
            request = Exchange(who("b"), join=True, swap=take("b", 2, 2, expected=expected), notes=(note,))
            reading = b.exchange(election, request)
            assert reading.swapped is False
            assert ids(reading) == ["b"]
        told = [(event.what, event.member) for event in b.events(election, 10)]
        noted = [(What.TOOK_CHARGE, "a"), *[(What.LOST, "b")] * 2]
        assert told == noted, "the event of a lost swap was written"


def of_many_swaps_at_once_exactly_one_wins(factory: Factory) -> None:
    election, count, rounds = new_election(), 4, 5
    with members(factory, count) as stores:
        for number in range(rounds):
            barrier, wins, troubles = threading.Barrier(count), [], []

            def stand(store: Store, id: str, number: int = number) -> None:  # noqa: A002
                try:
                    barrier.wait()  # noqa: B023
                    swap = take(id, number + 1, number + 1, expected=number or None)
                    if store.exchange(election, Exchange(swap=swap)).swapped:
                        wins.append(id)  # noqa: B023
                except Exception as error:  # noqa: BLE001
                    troubles.append(error)  # noqa: B023

            threads = [threading.Thread(target=stand, args=(store, f"m{place}")) for place, store in enumerate(stores)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not troubles, troubles
            assert len(wins) == 1, f"{wins} won one swap"
            record = stores[0].exchange(election, Exchange()).record
            assert record is not None
            assert record.leader == wins[0]


def who_loses_a_renewal_sees_who_won(factory: Factory) -> None:
    """Also where both asked at once: what a store shows beside a lost swap is newer than what it refused."""
    election, rounds = new_election(), 10
    with members(factory) as [a, b]:
        a.exchange(election, Exchange(who("a"), join=True, swap=take("a", 1, 1, expected=None)))
        b.exchange(election, Exchange(who("b"), join=True))
        for number in range(1, rounds + 1):
            seen: dict[str, Reading] = {}
            barrier = threading.Barrier(2)

            def renew(store: Store, id: str, number: int = number) -> None:  # noqa: A002
                swap = replace(take(id, number + 1, number + 1, expected=number, news=False), event=None)
                barrier.wait()  # noqa: B023
                seen[id] = store.exchange(election, Exchange(who(id), swap=swap))  # noqa: B023

            threads = [threading.Thread(target=renew, args=pair) for pair in ((a, "a"), (b, "b"))]
            for act in (threading.Thread.start, threading.Thread.join):
                for thread in threads:
                    act(thread)
            [winner] = [id for id, reading in seen.items() if reading.swapped]  # noqa: A001
            for reading in seen.values():
                assert reading.record is not None
                assert (reading.record.version, reading.record.leader) == (number + 1, winner)


def joining_is_a_place_at_the_end_of_the_line(factory: Factory) -> None:
    election = new_election()
    with members(factory, 1) as [store]:
        for member in ("a", "b", "c"):
            reading = join(store, election, member)
        assert ids(reading) == ["a", "b", "c"]
        first = row(reading, "a")
        reading = join(store, election, "a")
        assert ids(reading) == ["b", "c", "a"]
        assert row(reading, "a").seniority > row(reading, "c").seniority
        assert row(reading, "a").joined_at == first.joined_at, "joining again is no new beginning for people"


def a_place_is_never_handed_out_twice(factory: Factory) -> None:
    election = new_election()
    with members(factory, 1) as [store]:
        last = row(join(store, election, "a"), "a").seniority
        store.exchange(election, Exchange(who("a"), leave=True))
        assert row(join(store, election, "b"), "b").seniority > last


def a_check_in_says_what_the_member_says(factory: Factory) -> None:
    election = new_election()
    with members(factory, 1) as [store]:
        join(store, election, "a")
        said = CheckIn("a", "höst", 12345, False, HOSTILE, '{"job": 7}')
        seen = row(store.exchange(election, Exchange(said)), "a")
        assert (seen.host, seen.pid, seen.ready, seen.label, seen.note) == ("höst", 12345, False, HOSTILE, '{"job": 7}')


def a_check_in_moves_the_stamp_and_not_the_place(factory: Factory) -> None:
    election = new_election()
    with members(factory, 1) as [store]:
        before = row(join(store, election, "a"), "a")
        time.sleep(0.02)
        after = row(store.exchange(election, Exchange(who("a"))), "a")
        assert after.stamp > before.stamp
        assert after.seniority == before.seniority
        assert 0 <= after.silent_s < WAIT_LIMIT_S
        assert abs(time.time() - after.stamp) < 3600


def who_was_forgotten_is_not_put_back_by_a_check_in(factory: Factory) -> None:
    election = new_election()
    with members(factory, 1) as [store]:
        for member in ("a", "b", "c"):
            join(store, election, member)
        reading = store.exchange(election, Exchange(who("c"), forget=("a", "b", "nobody")))
        assert ids(reading) == ["c"]
        assert ids(store.exchange(election, Exchange(who("a")))) == ["c"]


def who_leaves_is_gone_and_may_release_in_the_same_exchange(factory: Factory) -> None:
    election = new_election()
    with members(factory, 1) as [store]:
        store.exchange(election, Exchange(who("a"), join=True, swap=take("a", 1, 1, expected=None)))
        vacant = take(None, 1, 2, expected=1)
        reading = store.exchange(election, Exchange(who("a"), swap=vacant, leave=True))
        assert reading.swapped is True
        assert reading.members == ()
        assert reading.record == vacant.record


def elections_do_not_touch_each_other(factory: Factory) -> None:
    one, other = new_election(), new_election()
    with members(factory, 1) as [store]:
        store.exchange(one, Exchange(who("a"), join=True, swap=take("a", 1, 1, expected=None)))
        reading = store.exchange(other, Exchange(who("a"), join=True, swap=take("a", 5, 5, expected=None)))
        assert reading.swapped is True
        store.exchange(other, Exchange(who("a"), leave=True))
        assert ids(store.exchange(one, Exchange())) == ["a"]
        assert {one, other} <= set(store.elections())
        assert len(store.events(one, 10)) == 1


def names_and_texts_may_hold_anything(factory: Factory) -> None:
    election = f"{HOSTILE} {new_election()}"
    with members(factory) as [a, b]:
        member = f"{HOSTILE} x"
        note = Event(What.REFUSED, 1, member, HOSTILE * 20)
        a.exchange(election, Exchange(who(member, label=HOSTILE), join=True, swap=take(member, 1, 1, expected=None)))
        assert b.drain(election, member, True)
        reading = b.exchange(election, Exchange(notes=(note,)))
        assert row(reading, member).label == HOSTILE
        assert row(reading, member).drained
        assert reading.record is not None
        assert reading.record.leader == member
        assert election in b.elections()
        assert b.events(election, 1)[0].because == HOSTILE * 20
        # A reason with characters that no database takes is mended: it must never be why an exchange fails.
        a.exchange(election, Exchange(notes=(replace(note, because="a\0b\udcff"),)))
        assert b.events(election, 1)[0].because.startswith("ab")
        a.exchange(election, Exchange(notes=(replace(note, because="🐘" * 100_000),)))


def names_differ_by_case(factory: Factory) -> None:
    election = new_election()
    with members(factory, 1) as [store]:
        store.exchange(election, Exchange(who("a"), join=True))
        assert store.exchange(election.upper(), Exchange()).members == ()
        assert ids(join(store, election, "A")) == ["a", "A"]


def impossible_names_are_refused(factory: Factory) -> None:
    with members(factory, 1) as [store]:
        for wrong in ("", "x" * 201, "a\0b", " a", "a ", "\udcff"):
            for election, member in ((wrong, "a"), (new_election(), wrong)):
                try:
                    join(store, election, member)
                except ConfigError:
                    continue
                raise AssertionError(f"the name {wrong!r} was taken")
        longest = new_election().ljust(200, "ä")
        assert ids(join(store, longest, "ö" * 200)) == ["ö" * 200]


def history_is_told_newest_last(factory: Factory) -> None:
    election = new_election()
    with members(factory, 1) as [store]:
        for number in range(1, 6):
            expected = number - 1 or None
            store.exchange(election, Exchange(swap=take(f"m{number}", number, number, expected=expected)))
        told = store.events(election, 3)
        assert [event.term for event in told] == [3, 4, 5]
        assert [event.took_s for event in told] == [0.25] * 3
        assert 0 < told[0].at <= told[1].at <= told[2].at
        note = Event(What.RESTARTED, 5, "m5", "its command ended with 1", ago_s=40.0, times=8)
        store.exchange(election, Exchange(notes=(note,)))
        before, late = store.events(election, 2)
        assert replace(late, at=0.0) == note
        assert 40 - WAIT_LIMIT_S < before.at - late.at <= 40, "it is of when it happened, not of when it was written"


def people_see_since_when(factory: Factory) -> None:
    election = new_election()
    with members(factory, 1) as [store]:
        taken = store.exchange(election, Exchange(swap=take("a", 1, 1, expected=None)))
        time.sleep(0.02)
        renewed = store.exchange(election, Exchange(swap=take("a", 1, 2, expected=1, news=False)))
        assert renewed.written_at > taken.written_at
        assert renewed.since == taken.since, "a renewal is no change of the leader"
        assert 0 <= renewed.db_now - renewed.written_at < WAIT_LIMIT_S
        time.sleep(0.02)
        vacant = store.exchange(election, Exchange(swap=take(None, 1, 3, expected=2)))
        assert vacant.since > taken.since
        time.sleep(0.02)
        ordered = store.exchange(election, Exchange(swap=take(None, 1, 4, expected=3, paused=True)))
        assert ordered.since == vacant.since
        time.sleep(0.02)
        assert store.exchange(election, Exchange(swap=take("a", 2, 5, expected=4))).since > vacant.since


def a_drained_member_stays_drained(factory: Factory) -> None:
    election = new_election()
    with members(factory) as [a, b]:
        assert not b.drain(election, "a", True), "an unknown member was drained"
        join(a, election, "a")
        assert b.drain(election, "a", True)
        assert b.drain(election, "a", True), "the same order again is no failure"
        assert row(a.exchange(election, Exchange(who("a"))), "a").drained
        assert row(join(a, election, "a"), "a").drained, "joining again undid an order"
        assert b.drain(election, "a", False)
        assert not row(a.exchange(election, Exchange(who("a"))), "a").drained


def news_comes_of_changes_and_not_of_renewals(factory: Factory) -> None:
    """Only where the store offers news; it is never needed."""
    election, other = new_election(), new_election()
    with members(factory) as [a, b]:
        join(b, election, "b")
        if b.news_fd() is None and b.news_poll_s is None:
            return
        while b.news(election):
            pass
        a.exchange(election, Exchange(who("a"), join=True, swap=take("a", 1, 1, expected=None)))
        assert hears(b, election), "a new leader was no news"
        b.exchange(election, Exchange(who("b")))
        a.exchange(election, Exchange(who("a"), swap=take("a", 1, 2, expected=1, news=False)))
        a.exchange(other, Exchange(who("a"), join=True, swap=take("a", 1, 1, expected=None)))
        assert not hears(b, election, within_s=0.3), "a renewal, or another election, was news"
        b.exchange(election, Exchange(who("b")))
        paused = take("a", 1, 3, expected=2, paused=True)
        a.exchange(election, Exchange(swap=paused))
        assert hears(b, election), "an order was no news"
        b.exchange(election, Exchange(who("b")))
        a.drain(election, "b", True)
        assert hears(b, election), "being drained was no news"
        b.exchange(election, Exchange(who("b")))
        assert not hears(b, election, within_s=0.2)


def news_that_comes_during_an_exchange_is_not_lost(factory: Factory) -> None:
    """Word that arrives with an answer wakes no descriptor; so `news` is asked after each exchange."""
    election = new_election()
    with members(factory) as [a, b]:
        join(b, election, "b")
        if b.news_fd() is None and b.news_poll_s is None:
            return
        while b.news(election):
            pass
        a.exchange(election, Exchange(swap=take("a", 1, 1, expected=None)))
        time.sleep(0.05)
        seen = b.exchange(new_election(), Exchange())  # about something else: it may take the word in, not the record
        assert seen.record is None
        assert hears(b, election)


def a_severed_store_connects_again(factory: Factory) -> None:
    election = new_election()
    with members(factory, 1) as [store]:
        join(store, election, "a")
        store.sever()
        for _ in range(2):
            try:
                reading = store.exchange(election, Exchange(who("a")))
                break
            except StoreUnavailable:
                continue
        assert ids(reading) == ["a"]
        store.close()
        store.close()
        assert store.news_fd() is None
        assert store.news(election) is False
        assert ids(store.exchange(election, Exchange())) == ["a"], "a closed store opens again when it is asked"


CHECKS: tuple[Check, ...] = (
    an_empty_election_reads_as_empty,
    a_record_comes_back_as_it_was_written,
    only_the_expected_version_is_replaced,
    a_lost_swap_breaks_nothing_else_in_its_exchange,
    of_many_swaps_at_once_exactly_one_wins,
    who_loses_a_renewal_sees_who_won,
    joining_is_a_place_at_the_end_of_the_line,
    a_place_is_never_handed_out_twice,
    a_check_in_says_what_the_member_says,
    a_check_in_moves_the_stamp_and_not_the_place,
    who_was_forgotten_is_not_put_back_by_a_check_in,
    who_leaves_is_gone_and_may_release_in_the_same_exchange,
    elections_do_not_touch_each_other,
    a_glance_shows_every_election_as_it_is_read,
    names_and_texts_may_hold_anything,
    names_differ_by_case,
    impossible_names_are_refused,
    history_is_told_newest_last,
    people_see_since_when,
    a_drained_member_stays_drained,
    news_comes_of_changes_and_not_of_renewals,
    news_that_comes_during_an_exchange_is_not_lost,
    a_severed_store_connects_again,
    it_can_be_examined,
)
