"""docs/schemas/ as tests use them: closed, so that a key that nobody has described is red, and every output must be described."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "schemas"
SCHEMAS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")}
BY_COMMAND = {command: name for name, schema in SCHEMAS.items() for command in schema["x-commands"]}
"""`heirflow status --check --json` -> ``status-check``."""
ADDRESSES = {command for command in BY_COMMAND if command.startswith("heirflow serve: ")}
"""What is no command but an address of the page; tests/cli/test_serve.py asks these."""


def closed(schema: Any) -> Any:
    """The same schema, in which no object may have another key than the ones described."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict):
        strict["properties"] = {key: closed(value) for key, value in schema["properties"].items()}
        strict.setdefault("additionalProperties", False)
    return strict


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(closed(SCHEMAS[name]), format_checker=Draft202012Validator.FORMAT_CHECKER)


def conforms(name: str, document: Any) -> None:
    """Fails with every way in which the document is not what its schema says."""
    wrong = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator(name).iter_errors(document)
    ]
    assert not wrong, f"not as docs/schemas/{name}.json says:\n" + "\n".join(wrong)


def schema_of(args: tuple[str, ...] | list[str]) -> str:
    """Which schema tells what this command line writes."""
    words = [each for each in args if each in {"--check", "--watch", "--list", "--follow"}]
    command = " ".join(["heirflow", args[0], *(args[1:2] if args[0] == "fence" else ())])
    for more in ([*words], []):
        if (name := BY_COMMAND.get(" ".join([command, *more, "--json"]))) is not None:
            return name
    raise AssertionError(f"no schema in docs/schemas names {command} --json: add one")


def check_output(args: tuple[str, ...] | list[str], out: str) -> None:
    """What a command line with --json wrote on standard output is as its schema says, and is the JSON that the standard has."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    if "--json" in args and out:
        conforms(schema_of(args), json.loads(out, parse_constant=refuse))
