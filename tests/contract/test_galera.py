"""A real Galera cluster: doctor names it, and what comes of members that write through different nodes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

import pymysql
import pytest

from heirflow.election.record import Exchange
from heirflow.stores import Store, StoreUnavailable, open_store
from heirflow.testing.store_tools import join, new_election, take, who
from lab.servers.galera import galera_cluster, galera_missing
from lab.servers.servers import Server

pytestmark = pytest.mark.skipif(galera_missing() is not None, reason=str(galera_missing()))
MEMBERS = ("a", "b", "c")
ROUNDS = 40
AGREE_S = 20.0


@pytest.fixture(scope="module")
def three() -> Iterator[list[Server]]:
    with galera_cluster() as nodes:
        yield nodes


def opened(node: Server) -> Store:
    store = open_store(node.url("pymysql"), call_limit_s=3)
    store.open()
    return store


def agreed(stores: Sequence[Store], election: str) -> int:
    """The version that all nodes show, as soon as they show the same."""
    limit = time.monotonic() + AGREE_S
    while True:
        seen = set()
        for store in stores:
            record = store.exchange(election, Exchange()).record
            assert record is not None
            seen.add((record.version, record.leader))
        if len(seen) == 1:
            return seen.pop()[0]
        assert time.monotonic() < limit, seen
        time.sleep(0.02)


def test_doctor_names_a_galera_cluster_and_says_what_to_set(three: list[Server]) -> None:
    with closing(opened(three[0])) as store:
        election = new_election()
        answer = store.exchange(election, Exchange(who("a"), swap=take("a", 1, 1, expected=None)))
        assert answer.history == "galera/three"
        findings = store.examine()
        [named] = [each for each in findings if each.topic == "durability" and "Galera" in each.sentence]
        assert named.level == "warning"
        assert "one and the same node" in named.sentence and "wsrep_sync_wait to 7" in named.sentence


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_of_swaps_through_three_nodes_at_once_one_wins_and_others_may_find_a_deadlock(three: list[Server]) -> None:
    """The same version, by three members at the same moment, each through a node of its own."""
    election, deadlocks, wins = new_election(), 0, 0
    with ExitStack() as stack:
        stores = [stack.enter_context(closing(opened(node))) for node in three]
        stores[0].exchange(election, Exchange(who("a"), join=True, swap=take("a", 1, 1, expected=None)))
        version = agreed(stores, election)
        for _ in range(ROUNDS):
            together = threading.Barrier(3)
            answers: dict[str, bool | str | None] = {}

            def swap(
                number: int, version: int, together: threading.Barrier, answers: dict[str, bool | str | None]
            ) -> None:
                member = MEMBERS[number]
                wanted = take(member, version + 1, version + 1, expected=version)
                together.wait()
                try:
                    answers[member] = stores[number].exchange(election, Exchange(who(member), swap=wanted)).swapped
                except StoreUnavailable as error:
                    answers[member] = str(error)

            threads = [threading.Thread(target=swap, args=(each, version, together, answers)) for each in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            won = sum(answer is True for answer in answers.values())
            assert won <= 1, answers
            wins += won
            deadlocks += sum("Deadlock" in str(answer) for answer in answers.values())
            now = agreed(stores, election)
            assert now == version + 1, "whoever won, the version is the next one"
            version = now
    assert wins > ROUNDS / 2
    assert deadlocks > 0


@contextmanager
def behind(node: Server) -> Iterator[None]:
    """A node that carries out nothing of what the others have confirmed, and answers all the same."""
    link = pymysql.connect(unix_socket=str(node.folder / "socket"), user="root")
    with closing(link), link.cursor() as cursor:
        cursor.execute("SET GLOBAL wsrep_desync = ON")
        cursor.execute("FLUSH TABLES WITH READ LOCK")
        try:
            yield
        finally:
            cursor.execute("UNLOCK TABLES")
            cursor.execute("SET GLOBAL wsrep_desync = OFF")


@pytest.mark.slow
@pytest.mark.parametrize("waits", [0, 7])
def test_a_node_that_is_behind_shows_an_old_record_unless_reads_wait_and_refuses_a_swap_of_it(
    waits: int, three: list[Server]
) -> None:
    election = new_election()
    three[1].sql(f"SET GLOBAL wsrep_sync_wait = {waits}")
    with closing(opened(three[0])) as here, closing(opened(three[1])) as there:
        join(here, election, "a")
        here.exchange(election, Exchange(who("a"), swap=take("a", 1, 1, expected=None)))
        assert agreed([here, there], election) == 1
        answers: list[object] = []

        def swap() -> None:
            """What an heir does that saw the record stand still for a whole ttl."""
            try:
                answers.append(there.exchange(election, Exchange(who("b"), swap=take("b", 2, 2, expected=1))).swapped)
            except StoreUnavailable as error:
                answers.append(error)

        with behind(three[1]):
            for version in (2, 3):  # renewals, confirmed
                renewal = take("a", 1, version, expected=version - 1)
                assert here.exchange(election, Exchange(who("a"), swap=renewal)).swapped
            if waits:
                with pytest.raises(StoreUnavailable):
                    there.exchange(election, Exchange())
            else:
                record = there.exchange(election, Exchange()).record
                assert record is not None
                assert record.version == 1, "it stands still, as if the leader were gone"
            trying = threading.Thread(target=swap)
            trying.start()
            time.sleep(0.5)
        trying.join()
        assert answers and answers[0] is not True
        assert agreed([here, there], election) == 3
