"""What a member says of itself to those who ask on its host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from heirflow.election.steps import Readiness, StopAsked
from heirflow.election.timings import Timings
from heirflow.member.report import describe, settings_of
from tests.unit.election import Story, heir, leader


def facts(story: Story) -> dict[str, Any]:
    return describe("beat", story.state, {}, story.now, story.timings)


def ready_and_able(story: Story) -> tuple[bool, bool]:
    found = facts(story)
    return found["ready"], found["able"]


def test_an_heir_is_able_while_its_standby_is_up() -> None:
    b = heir()
    assert (ready_and_able(b), facts(b)["state"]) == ((True, True), "heir")
    b.at(0.5, Readiness(False, "starting"))
    assert ready_and_able(b) == (True, False)
    assert facts(b)["sentence"] == "joined, and cannot take charge now: its standby is not at its gate"
    b.at(1.0, Readiness(True, "waits at the gate"))
    assert ready_and_able(b) == (True, True)


def test_who_is_drained_is_ready_and_not_able() -> None:
    b = heir()
    b.rows["b"] = replace(b.rows["b"], drained=True)
    b.check_in(2.1)
    assert (ready_and_able(b), facts(b)["sentence"]) == ((True, False), "drained: it stands aside")


def test_who_does_not_reach_the_store_is_neither() -> None:
    b = heir()
    b.at(2.1)
    b.fail(2.2)
    assert ready_and_able(b) == (False, False)


def test_a_leader_is_able_until_it_leaves() -> None:
    b = leader()
    assert (ready_and_able(b), facts(b)["leader"]) == ((True, True), True)
    b.at(0.5, StopAsked("SIGTERM"))
    assert ready_and_able(b) == (False, False)


def test_who_is_not_able_says_why() -> None:
    b = heir()
    b.at(0.5, Readiness(False, "starting"))
    assert facts(b)["because"] == "its standby is not at its gate"
    assert facts(b)["sentence"] == "joined, and cannot take charge now: its standby is not at its gate"
    b = heir()
    b.at(2.1)
    b.fail(2.2)
    assert facts(b)["because"] == "its last call to the database failed"
    assert facts(b)["sentence"] == "next in line; its last call to the database failed"


def test_the_partition_is_told_where_there_are_any() -> None:
    assert "partition" not in settings_of(Timings(), ["beat"])
    assert settings_of(Timings(), ["airflow", "triggerer"], "")["partition"] == ""
    assert settings_of(Timings(), ["airflow", "triggerer"], "--queues q")["partition"] == "--queues q"


def test_who_leads_says_which_seat_where_there_are_several() -> None:
    b = leader()
    assert (facts(b)["seat"], facts(b)["seats"], facts(b)["sentence"]) == (1, 1, "leads term 1")
    b.state = replace(b.state, seats=2)
    assert facts(b)["sentence"] == "leads seat 1, term 1"
    b.state = replace(b.state, seats=1, seat=replace(b.state.seat, number=2))
    assert (facts(b)["seat"], facts(b)["sentence"]) == (2, "leads seat 2, term 1"), "one too many, until it stops"
    assert (facts(heir())["seat"], facts(heir())["sentence"]) == (None, "next in line")
