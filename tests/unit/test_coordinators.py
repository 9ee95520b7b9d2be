"""What a coordinator's URL says, how its clock is learnt, and what is read from keys in which anybody may write."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from heirflow.election.record import CheckIn, Event, Exchange, Record, Swap, What
from heirflow.errors import ConfigError
from heirflow.stores import is_coordinator, kind_of
from heirflow.stores.base import StoreRefuses
from heirflow.stores.keyed.clock import TheirClock
from heirflow.stores.keyed.documents import answer, folder_of, left_in, member_key, record_document, record_key
from heirflow.stores.keyed.keys import Bell, Entry, Seen, quoted
from heirflow.stores.keyed.place import Where, parsed
from heirflow.stores.keyed.plan import plan_of
from heirflow.text import masked_url

LINE = "line"


def seen(**documents: object) -> Seen:
    """An election's folder; a document is what stands in a key, as JSON or as it is."""
    return Seen(
        {
            f"{folder_of(LINE)}/{key.replace('member_', 'm:')}": Entry(
                value if isinstance(value, bytes) else json.dumps(value).encode(), number
            )
            for number, (key, value) in enumerate(documents.items(), 1)
        }
    )


RECORD = {"version": 7, "term": 3, "leader": "a", "ttl_s": 10.0, "since": 100.0, "written_at": 200.0}
ROW = {"id": "a", "seniority": 1, "host": "ada", "pid": 1, "ready": True, "checked_in_at": 200.0, "joined_at": 100.0}


@pytest.mark.parametrize(
    ("url", "kind", "secure", "hosts", "folder"),
    [
        ("etcd://h", "etcd", False, (("h", 2379),), "heirflow"),
        ("etcds://h1:1,h2", "etcd", True, (("h1", 1), ("h2", 2379)), "heirflow"),
        ("zookeeper://a,b:9/ha/lines", "zookeeper", False, (("a", 2181), ("b", 9)), "ha/lines"),
        ("zookeepers://a", "zookeeper", True, (("a", 2281),), "heirflow"),
        ("consul://[::1]:8500/x/", "consul", False, (("::1", 8500),), "x"),
        ("consuls://h", "consul", True, (("h", 8501),), "heirflow"),
    ],
)
def test_a_url_names_hosts_and_a_folder(
    url: str, kind: str, secure: bool, hosts: tuple[tuple[str, int], ...], folder: str
) -> None:
    place = parsed(url)
    assert (place.kind, place.secure, place.hosts, place.folder) == (kind, secure, hosts, folder)
    assert is_coordinator(url) and kind_of(url) == kind


def test_a_user_a_password_and_options_are_read() -> None:
    place = parsed("etcds://us%40er:p%2Fw@h/x?ca=/c.pem&cert=/d.pem&key=/e.pem")
    assert (place.user, place.password) == ("us@er", "p/w")
    assert place.options == {"ca": "/c.pem", "cert": "/d.pem", "key": "/e.pem"}
    assert "p/w" not in repr(place) and "p/w" not in place.shown


@pytest.mark.parametrize(
    "url",
    [
        "etcd://", "etcd:///x", "etcd://h:0", "etcd://h:99999", "etcd://h:x", "etcd://a,,b", "etcd://u:secret@w@h", "etcd://h/../x",
        "etcd://h/a//b", "etcd://h?cas=1", "etcd://h?key=/k", "etcd://h?token-file=/t", "zookeeper://h h", "consul://h/%00",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigError) as told:
        parsed(url)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "url", ["zookeeper://u:secret@h1:2181,h2:2181/x", "etcds://u:secret@h/x?ca=/c", "consul://:secret@h"]
)
def test_passwords_are_masked_where_people_read(url: str) -> None:
    assert "secret" not in masked_url(url)
    assert masked_url(url).endswith(url.partition("@")[2])


def test_a_password_is_read_from_its_file_each_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("secrets") / "password"
    place = parsed(f"etcd://u@h?password-file={file}")
    with pytest.raises(StoreRefuses):
        place.secret()
    for secret in ("one", "two"):
        file.write_text(f"{secret}\n")
        assert place.secret() == secret


class Moving:
    """An `Address`."""

    known = "etcd://u:old@h1,h2/x"

    def now(self) -> str:
        return self.known

    def refused(self, url: str) -> bool:
        return url != self.known

    def accepted(self) -> None:
        pass


def test_a_changed_password_counts_and_another_place_does_not() -> None:
    address = Moving()
    where = Where(address)
    address.known = "etcd://u:new@h2,h3/x"
    assert where.now().password == "new"
    for elsewhere in ("etcd://u:new@h4/x", "etcd://u:new@h2/y", "consul://h2/x", "nonsense"):
        address.known = elsewhere
        assert where.now().hosts == (("h2", 2379), ("h3", 2379))


def test_a_clock_in_whole_seconds_is_learnt_as_far_as_it_differs() -> None:
    clock = TheirClock()
    for asked, told in ((1000.0, 1060.0), (1000.5, 1060.0), (1000.9, 1061.0)):
        clock.told(told, 1.0, asked, asked + 0.01)
    ahead = clock.now() - time.time()
    assert 60.08 <= ahead <= 60.11, "between the last answer of one second and the first of the next"
    clock.told(2000.0, 1.0, 2000.2, 2000.3)
    assert abs(clock.now() - time.time()) < 0.01, "set anew: ours, where nothing speaks against it"


def test_names_of_any_letters_are_one_part_of_a_key() -> None:
    for name in ("a/b", ".", "..", "a b", "ö", "a#2", "%2F", "x" * 200):
        assert "/" not in quoted(name) and quoted(name) not in {".", ".."}
    assert member_key("a/b", "c/d").count("/") == 2
    assert record_key("a", 2) == "elections/a/record#2"


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"7", b"\xff", b'{"version": "x"}', b"{}"])
def test_a_record_that_cannot_be_read_is_nobodys_to_replace(value: bytes) -> None:
    stands = seen(record=value)
    reading, stuck = answer(LINE, stands, 300.0, None, None, (), "the key").reading(LINE, (), 1)
    assert stuck is not None and reading.odd
    for expected in (None, 0, 7):
        swap = Swap(expected, Record(8, 4, "b", 10.0))
        plan = plan_of(LINE, Exchange(CheckIn("b", "b", 1, ready=True), swap=swap), stands, 300.0, None)
        assert plan.swapped is False and plan.doubted


@pytest.mark.parametrize("value", [b"{", b"[]", b'{"seniority": "x"}', b'{"seniority": 1.5}', b"{}"])
def test_a_row_that_cannot_be_read_is_left_out_and_told(value: bytes) -> None:
    stands = seen(record=RECORD, member_a=ROW, member_b=value)
    reading, stuck = answer(LINE, stands, 300.0, None, None, (), "the key").reading(LINE, (), 1)
    assert stuck is None
    assert [row.id for row in reading.members] == ["a"]
    assert any("b" in each for each in reading.odd)


def test_values_that_cannot_be_are_told_and_hide_nothing() -> None:
    odd = {**RECORD, "ttl_s": "long", "seats": "many", "since": None, "written_at": 1e300, "because": None, "note": 7}
    stands = seen(record=odd, member_a={**ROW, "pid": "x", "checked_in_at": "never", "label": 5})
    reading, stuck = answer(LINE, stands, 300.0, None, None, (), "the key").reading(LINE, (), 2)
    assert stuck is None
    assert reading.record is not None and reading.record.leader == "a"
    assert reading.record.ttl_s == 3600.0 and reading.seats == 2
    assert len(reading.odd) >= 4


def test_a_swap_is_guarded_by_what_was_seen() -> None:
    stands = seen(record=RECORD, count={"last": 41})
    swap = Swap(7, Record(8, 4, "b", 10.0), Event(What.TOOK_CHARGE, 4, "b", "it is free"), news=True, expected_term=3)
    plan = plan_of(LINE, Exchange(swap=swap), stands, 300.0, "h")
    assert plan.swapped and not plan.doubted
    guards = plan.write.guards
    assert guards[record_key(LINE, 1)] == 1 and guards[f"{folder_of(LINE)}/count"] == 2
    assert "history/line/0000000000000042t" in plan.write.puts
    for wrong in (
        replace(swap, expected=6),
        replace(swap, expected_term=2),
        replace(swap, under="another"),
        replace(swap, expected=None),
    ):
        lost = plan_of(LINE, Exchange(swap=wrong), stands, 300.0, "h")
        assert lost.swapped is False and lost.write.is_empty


def test_what_nobody_has_adopted_stays_in_the_record() -> None:
    """Beside a coordinator, who takes charge may die before it has adopted: whoever comes next does it for both."""
    key = record_key(LINE, 1)
    stands = seen(record={**RECORD, "note": "job 1"})
    take = Swap(7, Record(8, 4, "b", 10.0), takes_over="job 1")
    plan = plan_of(LINE, Exchange(swap=take), stands, 300.0, None, set())
    assert plan.left == ["job 1"]
    taken = seen(record=plan.write.puts[key])
    again = plan_of(
        LINE, Exchange(swap=Swap(8, Record(9, 5, "c", 10.0), takes_over="job 2")), taken, 300.0, None, set()
    )
    assert again.left == ["job 1", "job 2"]
    renewed = plan_of(LINE, Exchange(swap=Swap(8, Record(9, 4, "b", 10.0))), taken, 300.0, None, {"job 1"})
    assert left_in(record_document(seen(record=renewed.write.puts[key]), key)) == []


def test_whoever_adopts_nothing_leaves_what_is_to_be_adopted() -> None:
    """A will, a person's order, and a member whose Airflow could not be asked: they know of no database beside."""
    key = record_key(LINE, 1)
    stands = seen(record={**RECORD, "left": ["job 1"]})
    for swap, left in (
        (Swap(7, Record(8, 3, None, 10.0)), ["job 1"]),
        (Swap(7, Record(8, 3, "a", 10.0, paused=True)), ["job 1"]),
        (Swap(7, Record(8, 4, "b", 10.0), takes_over="job 2"), ["job 1", "job 2"]),
        (Swap(7, Record(8, 4, "b", 10.0), takes_over="job 1"), ["job 1"]),
        (Swap(7, Record(8, 4, "b", 10.0), takes_over=""), ["job 1"]),
    ):
        plan = plan_of(LINE, Exchange(swap=swap), stands, 300.0, None)
        assert left_in(record_document(seen(record=plan.write.puts[key]), key)) == left
    many = seen(record={**RECORD, "left": [f"job {number}" for number in range(50)]})
    plan = plan_of(LINE, Exchange(swap=Swap(7, Record(8, 4, "b", 10.0), takes_over="job 50")), many, 300.0, None)
    assert plan.left == [f"job {number}" for number in range(43, 51)], "not without end"


def test_a_bell_rings_for_what_is_newer_than_what_was_read() -> None:
    bell = Bell()
    try:
        assert not bell.heard(3)
        bell.ring(3)
        assert not bell.heard(3), "that was read already"
        bell.ring(4)
        assert bell.heard(3) and not bell.heard(3)
        bell.ring(None)
        assert bell.heard(9)
        for _ in range(100_000):
            bell.ring(5)
        assert bell.heard(4) and not bell.heard(4)
    finally:
        bell.close()
        bell.close()
        bell.ring(6)
