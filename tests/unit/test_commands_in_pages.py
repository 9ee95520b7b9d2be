"""Every `heirflow …` in a block of shell on a page is a command that exists, with options that it has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from heirflow.cli import group

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^( *)```sh\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
BEFORE = {"until", "while", "if", "env", "--", "|", "||", "&&", "&", ";", "!", "exec", "timeout"}
"""What a call may follow on its line, besides a variable that is set for it."""
ENDS = {"--", "|", "||", "&&", "&", ";", ">", "2>", "…"}


def commands(page: str) -> list[list[str]]:
    """The words of each call, up to the program that it runs or to what the shell does next."""
    found = []
    for _, block in BLOCK.findall(page):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            spaced = re.sub(r"([;&|]+)", r" \1 ", line)
            try:
                words = shlex.split(spaced, comments=True)
            except ValueError:  # a text of several lines begins or ends here
                words = spaced.split()
            for at, word in enumerate(words):
                if word.rpartition("/")[2] == "heirflow" and (
                    at == 0 or words[at - 1] in BEFORE or "=" in words[at - 1]
                ):
                    rest = words[at + 1 :]
                    end = next((n for n, each in enumerate(rest) if each in ENDS), len(rest))
                    if end:
                        found.append(rest[:end])
    return found


def parsed(words: list[str]) -> None:
    """Raises click.UsageError."""
    command: click.Command = group
    context = click.Context(command, info_name="heirflow")
    rest = words
    while isinstance(command, click.Group):
        name, below, rest = command.resolve_command(context, rest)
        assert below is not None
        command, context = below, click.Context(below, info_name=name, parent=context)
    command.make_parser(context).parse_args([*rest])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_their_options_exist(path: Path) -> None:
    for words in commands(path.read_text("utf-8")):
        try:
            parsed(words)
        except click.UsageError as error:
            pytest.fail(f"heirflow {' '.join(words)}: {error.format_message()}")


def test_the_test_sees_what_it_should() -> None:
    page = (
        "```sh\nA=b heirflow run --name x -- y   # z\nuntil heirflow probe able; do sleep 1; done\n```\n"
        "1. a\n\n    ```sh\n    heirflow nope\n    ```\n"
    )
    assert commands(page) == [["run", "--name", "x"], ["probe", "able"], ["nope"]]
    parsed(["run", "--name", "x"])
    for wrong in (["nope"], ["run", "--nope"], ["fence", "nope"]):
        with pytest.raises(click.UsageError):
            parsed(wrong)
