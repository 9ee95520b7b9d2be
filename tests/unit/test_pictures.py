"""The pictures of the pages: they are drawings that ask nobody, small, and still for those who want no motion."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[2]
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.svg"))
KILOBYTES_AT_MOST = 150


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_asks_nobody_and_is_small(path: Path) -> None:
    text = path.read_text("utf-8")
    ET.fromstring(text)
    assert len(text.encode()) <= KILOBYTES_AT_MOST * 1000
    assert not re.search(r"<script|@import|(?:href|src)=\"(?!#)|url\((?!#)", text)


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_every_picture_is_shown(path: Path) -> None:
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.md"))
    assert f"pictures/{path.name})" in pages


def test_the_takeover_was_recorded_and_stands_still_when_asked() -> None:
    text = (ROOT / "docs" / "pictures" / "takeover.svg").read_text("utf-8")
    assert "@media (prefers-reduced-motion:reduce)" in text
    for said in (
        "kill -9 ",
        "was killed, and its guard",
        "took charge",
        "heirflow switchover",
        "$ heirflow history ticker",
    ):
        assert said in text, said
