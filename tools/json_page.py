"""Writes the tables of docs/json.md from docs/schemas/, so that the page and the schemas say the same. `make reference` runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "json.md"
SCHEMAS = ROOT / "docs" / "schemas"
BEGIN = (
    "<!-- schemas: written from docs/schemas/ by tools/json_page.py; run `make reference` after a change of them -->"
)
END = "<!-- end of schemas -->"
FIRST = ("journal", "status", "status-check", "history", "probe", "probe-list")
"""What programs read most; the others follow by name."""
WORDS = {"boolean": "true or false", "integer": "whole number", "string": "text", "object": "object", "array": "list"}


def page() -> str:
    """The page as it should be: its own words as they stand, and the tables anew."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{rest.partition(END)[2]}"


def tables() -> str:
    names = sorted(
        (path.stem for path in SCHEMAS.glob("*.json")), key=lambda name: (name not in FIRST, place(name), name)
    )
    return "\n".join(
        line for name in names for line in section(name, json.loads((SCHEMAS / f"{name}.json").read_text("utf-8")))
    )


def place(name: str) -> int:
    return FIRST.index(name) if name in FIRST else 0


def section(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield from (f"### {schema['title']}", "")
    yield f"{', '.join(f'`{command}`' for command in schema['x-commands'])}: [schema](schemas/{name}.json)."
    if "description" in schema:
        yield from ("", *sentences(schema["description"]))
    yield ""
    for option in schema.get("anyOf", [schema]):
        if option is not schema:
            yield from (f"{option['title']}:", "")
        yield from ("| key | value | meaning |", "|---|---|---|")
        yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows(option, ""))
        yield ""
    for event in schema.get("properties", {}).get("event", {}).get("oneOf", ()):
        if event is schema["properties"]["event"]["oneOf"][0]:
            yield from ("| event | what happened |", "|---|---|")
        yield f"| `{event['const']}` | {event['description']} |"
        if event is schema["properties"]["event"]["oneOf"][-1]:
            yield ""


def sentences(text: str) -> list[str]:
    """One sentence on a line."""
    return text.replace(". ", ".\n").splitlines()


def rows(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    """Key, kind of value, and meaning; what lies deeper with the way to it: `elections[].leader`."""
    required = schema.get("required", ())
    for name, one in schema["properties"].items():
        where = f"{path}{name}"
        yield f"`{where}`" + ("" if name in required else " (not always)"), kind(one), one["description"]
        for below, way in ((one, f"{where}."), (one.get("items"), f"{where}[]."), *others(one, where)):
            for each in (below or {}).get("anyOf", [below]):
                if each and "properties" in each:
                    yield from rows(each, way)


def others(schema: dict[str, Any], where: str) -> Iterator[tuple[dict[str, Any], str]]:
    """What stands under keys that have no fixed names."""
    if isinstance(schema.get("additionalProperties"), dict):
        yield schema["additionalProperties"], f"{where}.NAME."


def kind(schema: dict[str, Any]) -> str:
    """What may stand there, in plain words."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "oneOf" in schema:
        return "a name from the table below"
    types = schema.get("type") or [each["type"] for each in schema["anyOf"]]
    types = [types] if isinstance(types, str) else list(types)
    if {"string", "number", "boolean"} <= set(types):
        return "any"
    null = "null" in types
    words = [WORDS.get(each, each) for each in types if each != "null"]
    return " or ".join([*words, *(["null"] if null else [])])
