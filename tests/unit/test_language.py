"""The language of the pages: one sentence a line, short lines, and none of the phrases that made readers stumble."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHARACTERS_AT_MOST = 160
PAGES = sorted(
    {
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "deploy").glob("*.md"),
        *(ROOT / "proof").glob("*.md"),
    }
)
SOURCES = sorted((ROOT / "src" / "heirflow").rglob("*.py"))

INSTEAD = {
    r"\b(is|are|was|were|be|been|never|not\*?|and) succeeded\b|\bsucceeds (a|the)\b": "'replaced', 'replaces'",
    r"\bended (is|are) (a|an|the|only)\b": "'a session is ended only if'",
    r"nobody said where the record lives": "no database was given",
    r"there is no news here": "no push notifications on this database",
    r"it ended as it was told": "the command exited after being asked to stop",
}
"""What is not written any more, as a pattern, and what is written instead."""


ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|etc|vs|cf)\.")
MARKER = re.compile(r"^\s*(#+\s+|[-*]\s+|\d+\.\s+)*")
LINK_ALONE = re.compile(r"^\s*([-*]\s+)?!?\[[^\]]*\]\([^)]*\)[.,;]?$")
SECOND_SENTENCE = re.compile(r"[\w%`)\]\"'*_][.!?][)\"'*_]*\s+[(\"'*_\[]*[A-Z]")


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a page that are sentences, with their numbers: no code, table, comment, or link on its own."""
    fenced = indented = comment = False
    blank = True
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*```", line):
            fenced, blank = not fenced, False
            continue
        comment = comment or (not fenced and line.lstrip().startswith("<!--"))
        skip = fenced or comment
        comment = comment and "-->" not in line
        if skip or not line.strip():
            blank = blank or not line.strip()
            continue
        indented = line.startswith("    ") and (blank or indented)
        blank = False
        if not indented and not line.startswith("|") and not LINK_ALONE.match(line):
            yield number, line


def sentences_begin_twice(line: str) -> bool:
    """Whether a second sentence begins on this line."""
    plain = re.sub(r"`[^`]*`", "X", MARKER.sub("", line))
    plain = re.sub(r"\]\([^)]*\)", "]", plain)
    return SECOND_SENTENCE.search(ABBREVIATIONS.sub("", plain)) is not None


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_no_line_of_prose_is_too_long(path: Path) -> None:
    long = [
        f"{name(path)}:{n}: {len(line)}" for n, line in prose(path.read_text("utf-8")) if len(line) > CHARACTERS_AT_MOST
    ]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_sentence_has_a_line_of_its_own(path: Path) -> None:
    found = [f"{name(path)}:{n}: {line}" for n, line in prose(path.read_text("utf-8")) if sentences_begin_twice(line)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("phrase", INSTEAD)
def test_phrases_that_made_readers_stumble_are_not_written_any_more(phrase: str) -> None:
    found = []
    for path in [*PAGES, *SOURCES]:
        found += [
            f"{name(path)}: {match[0]!r}" for match in re.finditer(phrase, path.read_text("utf-8"), re.IGNORECASE)
        ]
    assert not found, f"write {INSTEAD[phrase]} instead of\n" + "\n".join(found)


def test_the_rules_see_what_they_should() -> None:
    page = "One. Two.\n\n    code. Code\n\n```\nA. B\n```\n| a. B |\n<!-- A. B -->\n- `x` ends. `y` begins.\n1. **One.** Two\n"
    assert [(n, sentences_begin_twice(line)) for n, line in prose(page)] == [(1, True), (10, True), (11, True)]
    assert not sentences_begin_twice("1. At 0.5 s it ends (e.g. Airflow 2.11), see [A](c.md) and `a. B`")
    assert list(prose("- a\n  b\n    c\n")) == [(1, "- a"), (2, "  b"), (3, "    c")]
