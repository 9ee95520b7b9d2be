"""The plan of the fault laboratory."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from lab.campaign.__main__ import main
from lab.campaign.plan import (
    COORDINATORS,
    ENSEMBLE,
    FORGETS,
    KINDS,
    OF_PAIR,
    ONE_IN_REACH,
    PAIRS,
    SILENT,
    SQL,
    kinds_of,
    plan,
)  # fmt: skip
from lab.campaign.strikes import _OTHERS


@pytest.mark.parametrize("world", [*SQL, *COORDINATORS, *PAIRS])
def test_a_seed_is_a_plan_and_every_kind_comes(world: str) -> None:
    first, again = (list(islice(plan(7, world), 120)) for _ in range(2))
    assert first == again
    assert first != list(islice(plan(8, world), 120))
    assert {fault.kind.name for fault in first} >= {kind.name for kind in KINDS if world in kind.worlds and kind.weight}
    numbers = [one.number for fault in first for one in (fault, fault.beside) if one is not None]
    assert numbers == list(range(1, len(numbers) + 1))


def test_beside_a_fault_another_part_is_struck() -> None:
    besides = [(fault, fault.beside) for fault in islice(plan(3, "postgres"), 400) if fault.beside]
    assert len(besides) > 40
    assert all(fault.at != beside.at and beside.kind.beside for fault, beside in besides)


@pytest.mark.parametrize("world", COORDINATORS)
def test_an_ensemble_has_faults_of_its_own_and_none_of_a_database(world: str) -> None:
    names = {kind.name for kind in kinds_of(world, None)}
    assert names >= {kind.name for kind in ENSEMBLE if world in kind.worlds and kind.weight} | {
        "kill host",
        "cut both",
        "switchover",
        ONE_IN_REACH,
    }
    assert not names & {"restart", "crash", "read-only", "cut database", "clock of database", *FORGETS}
    assert ("clock of the first server" in names) is (world == "zookeeper"), (
        "etcd takes its clock from the kernel itself"
    )
    assert names >= SILENT and not any(kind.beside for kind in KINDS if kind.name in SILENT)
    for sql in SQL:
        assert not {kind.name for kind in kinds_of(sql, None)} & {*SILENT, ONE_IN_REACH, "slow disk", "server killed"}


def test_a_fault_of_an_ensemble_never_meets_another_one_nor_the_only_server_that_a_member_reaches() -> None:
    for fault in islice(plan(5, "etcd"), 3000):
        if fault.beside is not None:
            assert not {fault.kind, fault.beside.kind} <= ENSEMBLE
            assert not (fault.kind in ENSEMBLE and fault.beside.kind.takes == "command"), (
                "a pause could not be taken back"
            )
            assert not (fault.kind.name == ONE_IN_REACH and fault.beside.kind in ENSEMBLE)
            assert fault.beside.kind.name != ONE_IN_REACH


@pytest.mark.parametrize("world", PAIRS)
def test_a_pair_has_faults_of_its_own_and_none_that_an_operator_would_carry_out_for_it(world: str) -> None:
    names = {kind.name for kind in kinds_of(world, None)}
    assert names >= {kind.name for kind in OF_PAIR if world in kind.worlds and kind.weight} | {
        "kill host",
        "cut both",
        "switchover",
        "restart",
        "crash",
    }
    assert not names & {*FORGETS, *SILENT, ONE_IN_REACH, "promote synchronous", "cut standby"}
    assert ("patroni gone" in names) is (world == "patroni"), "an asynchronous pair has two primaries then"
    asked_for = islice(plan(1, world, only="patroni gone"), 5)
    assert [fault.kind.name for fault in asked_for] == ["patroni gone"] * 5
    assert not OF_PAIR & {kind for other in (*SQL, *COORDINATORS) for kind in kinds_of(other, None)}


@pytest.mark.parametrize("world", PAIRS)
def test_a_fault_of_a_pair_never_meets_another_one_nor_an_order_that_could_not_be_taken_back(world: str) -> None:
    besides = 0
    for fault in islice(plan(5, world), 3000):
        if fault.beside is not None:
            assert not {fault.kind, fault.beside.kind} <= OF_PAIR
            assert not (fault.kind in OF_PAIR and fault.beside.kind.takes == "command")
            besides += fault.beside.kind in OF_PAIR
    assert besides > 100, "a pair that is struck while a member is"


def test_every_kind_can_be_carried_out() -> None:
    parts = {"kill", "stop"}
    assert all(kind.name in _OTHERS or kind.name.split(" ")[0] in parts for kind in KINDS)


@pytest.mark.parametrize(("world", "ways"), [("postgres", 4), ("mariadb", 3)])
def test_each_kind_so_many_times_and_then_no_more(world: str, ways: int) -> None:
    kinds = Counter(fault.kind.name for fault in plan(7, world, only="forgetful", times=3))
    assert len(kinds) == ways and set(kinds.values()) == {3} and set(kinds) <= FORGETS


def test_only_and_a_kind_that_does_not_exist() -> None:
    assert {fault.kind.name for fault in islice(plan(1, "mariadb", only="cut"), 30)} == {
        "cut from", "cut to", "cut both", "cut database"
    }  # fmt: skip
    assert main(["--only", "flood"]) == 2
    assert main(["--only", "immediate", "--plan"]) == 0  # of PostgreSQL only
    with pytest.raises(ValueError, match="no kind of fault begins with 'flood'"):
        next(plan(1, "mariadb", only="flood"))
