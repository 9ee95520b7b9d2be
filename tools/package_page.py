"""A hook of hatchling: the README as a package page shows it, where links into the checkout lead nowhere.

With `address` in pyproject.toml (where the files of this version can be read, with a slash at the end), a link to a file becomes
a link below it. Without one, the link becomes its text and the file's name, as it lies in the checkout and in the sdist, and a
picture becomes nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]+)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def page(readme: str, address: str) -> str:
    """The page; what is code stays as it is."""

    def linked(match: re.Match[str]) -> str:
        picture, text, file, anchor = match[1], match[2], match[3], match[4] or ""
        if address:
            return f"{picture}[{text}]({address}{file}{anchor})"
        return "" if picture else f"{text} (`{file}`)"

    pieces = FENCE.split(readme)
    pieces[::2] = [LINK.sub(linked, piece) for piece in pieces[::2]]
    return "".join(pieces)


class PackagePage(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        readme = (Path(self.root) / "README.md").read_text("utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": page(readme, self.config.get("address", ""))}
