"""The thread whose calls hang: it gives them up, keeps few of them, and goes on when they end."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from heirflow.election.record import CheckIn, Exchange, Keep, Reading, Record, Swap
from heirflow.member.store_thread import STUCK_LIMIT, Outcome, StoreThread


class HangingStore:
    """A store whose calls end when they are allowed to, and not when they are severed."""

    news_poll_s = None

    def __init__(self, answers: threading.Event, entered: threading.Semaphore) -> None:
        self._answers, self._entered = answers, entered

    def exchange(self, election: str, request: Exchange) -> Reading:
        self._entered.release()
        assert self._answers.wait(30)
        return Reading(None, ())

    def news_fd(self) -> None:
        return None

    def news(self, election: str) -> bool:
        return False

    def sever(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def answers() -> threading.Event:
    return threading.Event()


@pytest.fixture
def entered() -> threading.Semaphore:
    return threading.Semaphore(0)


@pytest.fixture
def thread(answers: threading.Event, entered: threading.Semaphore) -> Iterator[StoreThread]:
    thread = StoreThread(lambda: HangingStore(answers, entered), "beat")  # type: ignore[arg-type,return-value]
    yield thread
    answers.set()
    thread.close()


def outcome_of(thread: StoreThread, serial: int) -> Outcome:
    """Wait as the member's loop does."""
    ends_at = time.monotonic() + 10
    while time.monotonic() < ends_at:
        select.select([thread], [], [], 0.2)
        for outcome in thread.take()[0]:
            if outcome.serial == serial:
                return outcome
    raise AssertionError("no outcome within 10 s")


def submit_until_taken(thread: StoreThread, serials: Iterator[int]) -> int:
    ends_at = time.monotonic() + 10
    while time.monotonic() < ends_at:
        select.select([thread], [], [], 0.02)
        thread.take()
        serial = next(serials)
        if thread.submit(serial, Exchange()) is None:
            return serial
    raise AssertionError("not taken within 10 s")


@pytest.fixture
def hang(thread: StoreThread, entered: threading.Semaphore) -> Callable[[int], None]:
    """Let so many calls hang, each given up when it is under way."""

    def hang(times: int) -> None:
        for serial in range(1, times + 1):
            assert thread.submit(serial, Exchange()) is None
            assert entered.acquire(timeout=10)
            thread.abandon()

    return hang


def test_a_call_that_hangs_is_left_behind(
    thread: StoreThread, answers: threading.Event, hang: Callable[[int], None]
) -> None:
    hang(1)
    answers.set()
    assert thread.submit(9, Exchange()) is None
    assert outcome_of(thread, 9).reading is not None


def test_there_is_always_something_to_wait_on(
    thread: StoreThread, answers: threading.Event, hang: Callable[[int], None]
) -> None:
    """More hung calls than may be left behind: new ones fail at once, and the loop can go on waiting."""
    hang(STUCK_LIMIT + 1)
    assert thread.fileno() >= 0
    assert select.select([thread], [], [], 0)[0] == []
    refused = thread.submit(100, Exchange())
    assert refused is not None
    assert "still hang" in refused.error


@pytest.mark.parametrize("how_many", [STUCK_LIMIT, STUCK_LIMIT + 1])
def test_calls_go_on_when_hung_ones_have_ended(
    thread: StoreThread, answers: threading.Event, hang: Callable[[int], None], how_many: int
) -> None:
    hang(how_many)
    answers.set()
    serial = submit_until_taken(thread, iter(range(100, 10_000)))
    assert outcome_of(thread, serial).reading is not None


def test_a_given_up_call_that_ends_does_not_keep_the_loop_awake(
    thread: StoreThread, answers: threading.Event, hang: Callable[[int], None]
) -> None:
    hang(STUCK_LIMIT + 1)
    answers.set()
    wakings = count_wakings(thread, lambda: select.select([thread], [], [], 0.1)[0] != [])
    assert wakings < 50


def count_wakings(thread: StoreThread, wakes: Callable[[], bool], within_s: float = 1.0) -> int:
    ends_at, count = time.monotonic() + within_s, 0
    while time.monotonic() < ends_at:
        if wakes():
            count += 1
            thread.take()
    return count


def test_a_thread_that_cannot_be_had_is_asked_for_again(
    thread: StoreThread, answers: threading.Event, hang: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit of processes a member must not end: its command and its lease go on."""
    start = threading.Thread.start

    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        hang(1)
        said = thread.submit(8, Exchange())
        assert said is not None and "no other can be begun" in said.error
    assert threading.Thread.start is start
    answers.set()
    assert thread.submit(9, Exchange()) is None
    assert outcome_of(thread, 9).reading is not None


class Pruned:
    """A store whose swaps win, and which says what was pruned when."""

    news_poll_s = None

    def __init__(self) -> None:
        self.did: list[str] = []
        self.ordered = False

    def exchange(self, election: str, request: Exchange) -> Reading:
        self.did.append("exchange")
        return Reading(None, (), swapped=True if request.swap is not None else None)

    def prune(self, election: str, keep: Keep) -> bool:
        self.did.append("prune")
        self.ordered = True  # the news of an order comes with the end of this transaction
        return self.did.count("prune") < 2

    def news_fd(self) -> None:
        return None

    def news(self, election: str) -> bool:
        ordered, self.ordered = self.ordered, False
        return ordered

    def sever(self) -> None: ...

    def close(self) -> None: ...


def test_history_is_pruned_after_a_renewal_and_no_other_exchange() -> None:
    store, who = Pruned(), CheckIn("a", "host", 1, ready=True)
    thread = StoreThread(lambda: store, "beat", None, Keep(90.0, 10))  # type: ignore[arg-type,return-value]
    renewal = Swap(1, Record(2, 1, "a", 10.0))
    asked = (
        Exchange(check_in=who),
        Exchange(check_in=who, swap=replace(renewal, takes_over="")),
        Exchange(check_in=who, swap=replace(renewal, record=replace(renewal.record, leader=None))),
        Exchange(check_in=who, swap=renewal),
        Exchange(check_in=who, swap=renewal),
        Exchange(check_in=who, swap=renewal),
    )
    try:
        for serial, exchange in enumerate(asked):
            thread.submit(serial, exchange)
            assert not outcome_of(thread, serial).error
    finally:
        thread.close()
    assert store.did == [*["exchange"] * 4, "prune", "exchange", "prune", "exchange"], (
        "twice: the first said there is more"
    )


def test_news_that_comes_while_history_is_pruned_is_heard() -> None:
    store, who = Pruned(), CheckIn("a", "host", 1, ready=True)
    thread = StoreThread(lambda: store, "beat", None, Keep(90.0, 10))  # type: ignore[arg-type,return-value]
    try:
        thread.submit(1, Exchange(check_in=who, swap=Swap(1, Record(2, 1, "a", 10.0))))
        ends_at, heard = time.monotonic() + 10, False
        while not heard and time.monotonic() < ends_at:
            select.select([thread], [], [], 0.2)
            heard = thread.take()[1]
        assert heard
    finally:
        thread.close()
