"""One line, one partition: who would stand in the line of another partition is refused, and never whoever leads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from heirflow.election.record import CheckIn, Exchange, Place, Reading, Record, Swap
from heirflow.member.partition import OnePartition, OtherPartition, Partition
from heirflow.stores import Store, open_store

A = Partition(told="--bundle-name a", line="airflow-dag-processor/a", earlier="airflow-dag-processor")
B = Partition(told="--bundle-name b", line="airflow-dag-processor/b", earlier="airflow-dag-processor")
ALL = Partition(told="", line="airflow-dag-processor", earlier="airflow-dag-processor")


def note_of(partition: Partition | None) -> str:
    return "" if partition is None else json.dumps({"settings": {"partition": partition.told}})


@dataclass
class Somebody:
    """A member as its store sees it, without rules of its own."""

    store: Store
    id: str
    partition: Partition
    line: str = "dags"
    stopped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.one = OnePartition(self.id, self.partition, ttl_s=10.0)
        self.one.stop = self.stopped.append
        self.seen = self.one.store(self.store)

    def say(self, *, join: bool = False, swap: Swap | None = None) -> bool | None:
        who = CheckIn(self.id, f"host-{self.id}", 1, ready=True, note=note_of(self.partition))
        return self.seen.exchange(self.line, Exchange(check_in=who, join=join, swap=swap)).swapped

    def take(self) -> bool | None:
        record = self.store.exchange(self.line, Exchange()).record
        version, term = (None, 0) if record is None else (record.version, record.term)
        return self.say(swap=Swap(version, Record((version or 0) + 1, term + 1, self.id, 10.0), takes_over=""))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/line.db", call_limit_s=5)
    store.open()
    yield store
    store.close()


def in_line(store: Store, line: str, name: str, partition: Partition | None, *, leads: bool = False) -> None:
    """Somebody else, who does not look."""
    who = CheckIn(name, f"host-{name}", 1, ready=True, note=note_of(partition))
    store.exchange(line, Exchange(check_in=who, join=True))
    if leads:
        store.exchange(line, Exchange(swap=Swap(None, Record(1, 1, name, 10.0))))


def members(store: Store, line: str = "dags") -> list[str]:
    return [row.id for row in store.exchange(line, Exchange()).members]


def test_who_comes_to_the_line_of_another_partition_never_stands_in_it(store: Store) -> None:
    in_line(store, "dags", "first", A, leads=True)
    second = Somebody(store, "second", B)
    with pytest.raises(OtherPartition) as caught:
        second.say(join=True)
    assert caught.value.exit_code == 78
    assert str(caught.value) == (
        "first leads 'dags' for --bundle-name a, and this member is for --bundle-name b, which nobody would run while it stands "
        "behind another partition; leave out the name to get the line airflow-dag-processor/b"
    )
    assert members(store) == ["first"]


@pytest.mark.parametrize(
    "other", [A, None], ids=["the same partition", "a member of an older version, which says nothing"]
)
def test_who_fits_stands_in_it(store: Store, other: Partition | None) -> None:
    in_line(store, "dags", "first", other, leads=True)
    second = Somebody(store, "second", A)
    second.say(join=True)
    second.say()
    assert (members(store), second.stopped, second.one.exit_code(0)) == (["first", "second"], [], 0)


def test_no_partition_is_one_too(store: Store) -> None:
    in_line(store, "dags", "first", A)
    with pytest.raises(
        OtherPartition, match="first stands in 'dags' for --bundle-name a, and this member is for no partition"
    ):
        Somebody(store, "second", ALL).say(join=True)


def test_of_two_that_came_at_once_the_younger_leaves(store: Store) -> None:
    first, second = Somebody(store, "first", A), Somebody(store, "second", B)
    for each in (first, second):
        each.one.looked = True  # each has seen an empty line
    first.say(join=True)
    second.say(join=True)
    first.say()
    assert first.stopped == []
    [told] = second.stopped
    assert told.startswith("first stands in 'dags' for --bundle-name a, and this member is for --bundle-name b")
    assert (first.one.exit_code(0), second.one.exit_code(0)) == (0, 78)
    assert second.take() is False, "it is on its way out"
    assert first.take()


def test_whoever_leads_stays(store: Store) -> None:
    first, second = Somebody(store, "first", A), Somebody(store, "second", B)
    for each in (first, second):
        each.one.looked = True
    second.say(join=True)
    assert second.take()
    in_line(store, "dags", "older", A)
    first.say(join=True)
    second.say()
    assert second.stopped == [] and second.one.exit_code(0) == 0
    assert first.stopped and "second leads 'dags' for --bundle-name b" in first.stopped[0], (
        "who leads says what the line is for"
    )


class TestSeveralSeats:
    """What the store shows of the second seat is put in by the test."""

    @pytest.fixture
    def second(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """Lets a member lead the second seat."""
        real = store.exchange
        led: list[str] = []

        def with_second(line: str, request: Exchange) -> Reading:
            reading = real(line, request)
            others = tuple(Place(Record(1, 1, name, 10.0), written_at=reading.db_now) for name in led)
            return replace(reading, seats=2, others=others)

        monkeypatch.setattr(store, "exchange", with_second)
        return led.append

    def test_whoever_leads_the_second_seat_says_what_the_line_is_for(
        self, store: Store, second: Callable[[str], None]
    ) -> None:
        in_line(store, "dags", "older", B)
        in_line(store, "dags", "first", A)
        second("first")
        with pytest.raises(OtherPartition, match="first leads 'dags' for --bundle-name a"):
            Somebody(store, "new", B).say(join=True)
        Somebody(store, "fits", A).say(join=True)
        assert members(store) == ["older", "first", "fits"]

    def test_whoever_leads_it_stays(self, store: Store, second: Callable[[str], None]) -> None:
        in_line(store, "dags", "first", A, leads=True)
        other = Somebody(store, "other", B)
        other.one.looked = True
        second("other")
        other.say(join=True)
        other.say()
        assert (other.stopped, other.one.exit_code(0)) == ([], 0)


def test_who_is_not_heard_any_more_is_no_hindrance(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    in_line(store, "dags", "first", A, leads=True)
    second = Somebody(store, "second", B)
    real = store.exchange

    def later(line: str, request: Exchange):  # the same, when a lease has gone by
        reading = real(line, request)
        silent = tuple(row if row.id == "second" else replace(row, silent_s=60.0) for row in reading.members)
        return replace(reading, members=silent, written_at=reading.db_now - 60.0)

    monkeypatch.setattr(store, "exchange", later)
    second.say(join=True)
    second.say()
    assert second.stopped == []


@pytest.mark.parametrize("other", [None, A], ids=["older version", "the same partition under the old name"])
def test_members_in_the_line_of_before_are_stopped_first(store: Store, other: Partition | None) -> None:
    in_line(store, "airflow-dag-processor", "old", other, leads=True)
    new = Somebody(store, "new", A, line=A.line)
    with pytest.raises(OtherPartition) as caught:
        new.say(join=True)
    assert str(caught.value) == (
        "old leads 'airflow-dag-processor', where every partition stood before HeirFlow 0.2.0, and may run --bundle-name a too; "
        "stop the members there first, or stand in that line with --name airflow-dag-processor"
    )
    assert members(store, A.line) == []


@pytest.mark.parametrize("other", [ALL, B])
def test_members_of_another_partition_there_are_none_of_ours(store: Store, other: Partition) -> None:
    in_line(store, "airflow-dag-processor", "old", other, leads=True)
    new = Somebody(store, "new", A, line=A.line)
    new.say(join=True)
    assert members(store, A.line) == ["new"]


def test_a_store_that_does_not_answer_yet_is_asked_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from heirflow.stores import StoreUnavailable

    in_line(store, "dags", "first", A, leads=True)
    second = Somebody(store, "second", B)

    def fails(line: str, request: Exchange):
        raise StoreUnavailable("not now")

    with monkeypatch.context() as patch:
        patch.setattr(store, "exchange", fails)
        with pytest.raises(StoreUnavailable):
            second.say(join=True)
    with pytest.raises(OtherPartition):
        second.say(join=True)
