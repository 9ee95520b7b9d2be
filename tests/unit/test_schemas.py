"""docs/schemas/ describes every output in JSON, and nothing else; tests/cli holds what commands write against it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from jsonschema import Draft202012Validator

from heirflow.cli.release import Outcome
from heirflow.election.record import What
from heirflow.election.told import Named
from heirflow.member.once import MISSED
from heirflow.status.check import Level
from heirflow.stores.base import KeptOut
from tests.schemas import ADDRESSES, BY_COMMAND, SCHEMAS, conforms, schema_of
from tools import reference

SOURCE = Path(__file__).resolve().parents[2] / "src" / "heirflow"
JOURNAL = {"heirflow run --log-format json", "heirflow once --log-format json"}


def commands_with_json() -> set[str]:
    pages = [page for page in reference.root().below for page in [page, *page.below]]
    return {
        page.words
        for page in pages
        for option in page.command.params
        if isinstance(option, click.Option) and "--json" in option.opts
    }


def test_each_command_with_json_has_a_schema_and_no_other_has() -> None:
    known = commands_with_json()
    assert len(known) > 10
    described = {
        " ".join(word for word in command.split() if not word.startswith("-"))
        for command in set(BY_COMMAND) - JOURNAL - ADDRESSES
    }
    assert described == known


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])


def keys(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key of every object in a schema, with its own schema."""
    if isinstance(schema, list):
        for each in schema:
            yield from keys(each, path)
    elif isinstance(schema, dict):
        for name, one in schema.get("properties", {}).items():
            yield f"{path}/{name}", one
            yield from keys(one, f"{path}/{name}")
        for part in ("items", "anyOf", "additionalProperties"):
            yield from keys(schema.get(part), path)


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_key_is_described(name: str) -> None:
    found = dict(keys(SCHEMAS[name]))
    assert found
    assert [path for path, one in found.items() if not one.get("description", "").endswith(".")] == []


def whole(**more: Any) -> dict[str, Any]:
    return {"election": "beat", "paused": True, **more}


def test_a_key_that_nobody_has_described_is_red() -> None:
    conforms("pause", whole())
    with pytest.raises(AssertionError, match="'new' was unexpected"):
        conforms("pause", whole(new=1))
    inner = {"findings": [{"topic": "a", "level": "ok", "sentence": "b", "facts": {"new": 1}}]}
    with pytest.raises(AssertionError, match="'new' was unexpected"):
        conforms("doctor", inner)


def test_a_key_that_is_missing_or_of_another_kind_is_red() -> None:
    with pytest.raises(AssertionError, match="'paused' is a required property"):
        conforms("pause", {"election": "beat"})
    with pytest.raises(AssertionError, match="is not of type 'boolean'"):
        conforms("pause", whole(paused="yes"))


def test_a_command_line_finds_its_schema() -> None:
    assert schema_of(["status", "--json", "--check"]) == "status-check"
    assert schema_of(["status", "beat", "--json"]) == "status"
    assert schema_of(["fence", "remove", "--json"]) == "fence-remove"
    with pytest.raises(AssertionError, match="no schema"):
        schema_of(["unheard-of", "--json"])


# ---- what is listed there is all that there is -----------------------------------------------------------------------


def in_enum(name: str, *path: str) -> set[Any]:
    found: Any = SCHEMAS[name]
    for step in path:
        found = found[step]
    return set(found["enum"])


def test_each_name_of_an_event_is_in_the_schema_of_the_journal() -> None:
    listed = SCHEMAS["journal"]["properties"]["event"]["oneOf"]
    assert sorted(each["const"] for each in listed) == sorted(each.value for each in Named)
    assert all(each["description"].endswith(".") for each in listed)


def test_each_kind_of_event_is_in_the_schema_of_the_history() -> None:
    said = SCHEMAS["history"]["properties"]["events"]["items"]["properties"]["what"]["description"]
    assert [word for word in [*(each.value for each in What), MISSED] if f"`{word}`" not in said] == []


def test_values_that_a_program_compares_are_listed() -> None:
    assert in_enum("status-check", "properties", "level") == {each.name.lower() for each in Level}
    notes = ("properties", "notes", "items", "properties", "outcome")
    assert in_enum("release", *notes) == {each.value for each in Outcome}
    assert in_enum("fence-status", "properties", "state") == {each.value for each in KeptOut}


# ---- the journal -----------------------------------------------------------------------------------------------------


def journal_calls() -> Iterator[tuple[str, ast.Call]]:
    """Every place in the source where a line of the journal is told."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or all(keyword.arg != "event" for keyword in node.keywords):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"log", "warn", "tell"}:
                yield f"{path.name}:{node.lineno}", node


def test_each_fact_beside_a_sentence_is_in_the_schema() -> None:
    known = set(SCHEMAS["journal"]["properties"])
    calls = list(journal_calls())
    assert len(calls) > 10
    facts = {keyword.arg: where for where, call in calls for keyword in call.keywords if keyword.arg}
    assert {"term", "command_pid", "standby_pid", "file", "status"} <= set(facts)
    assert {name: where for name, where in facts.items() if name not in known} == {}


def test_each_name_is_used() -> None:
    used = {
        node.attr
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Named"
    }
    assert {each.name for each in Named} - used == set()
