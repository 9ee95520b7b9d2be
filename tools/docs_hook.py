"""A hook of MkDocs: the pages of docs/ as they lie in the repository, made into a site in which every link leads somewhere.

A repository's page and MkDocs differ in two things, and the pages are written for the first:

- A page may link to any file of the checkout (`../CHANGELOG.md`, `../deploy/prometheus`). The site has only docs/. So each file
  that a page links to, and each that such a file links to, becomes a page below checkout/: Markdown as it is, other text as a block
  of code, a folder as a list of its files. MkDocs then checks these links as all others, with their anchors.
- What belongs to a list item is indented by the width of its marker. Python-Markdown wants four spaces.
"""

from __future__ import annotations

import os.path
import re
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"
BELOW = "checkout"
"""Where in the site the files are that lie outside of docs/."""
LINK = re.compile(r"(\]\()(?![a-z]+:|#|/)([^)#\s]+)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"^ {0,3}```")
LANGUAGES = {".conf": "ini", ".service": "ini", ".example": "sh", ".sh": "sh"}


def place(name: PurePosixPath) -> PurePosixPath:
    """Where a file or folder of the checkout is in the site's sources."""
    if name.parts[:1] == (DOCS,) and not (ROOT / name).is_dir():
        return name.relative_to(DOCS)
    if (ROOT / name).is_dir():
        return BELOW / name / "index.md"
    return BELOW / (name if name.suffix == ".md" else name.with_name(name.name + ".md"))


def target_of(link: str, page: PurePosixPath) -> PurePosixPath:
    """The file of the checkout that a page links to."""
    return PurePosixPath(os.path.normpath(page.parent / link))


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Change what is no block of code."""
    lines, fenced = [], False
    for line in text.split("\n"):
        fence = FENCE.match(line) is not None
        lines.append(line if fenced or fence else change(line))
        fenced ^= fence
    return "\n".join(lines)


def indented(text: str) -> str:
    """What belongs to a list item, indented by four spaces."""
    lines, fenced, more = [], False, ""
    for line in text.split("\n"):
        fence = FENCE.match(line) is not None
        if not fenced:
            own = len(line) - len(line.lstrip(" "))
            more = " " * (4 - own) if own in {2, 3} else ""
        lines.append(more + line if line.strip() else line)
        fenced ^= fence
    return "\n".join(lines)


def page_text(text: str, name: PurePosixPath, found: Callable[[PurePosixPath], object]) -> str:
    """The page of a file or folder, with links to where their targets are in the site. `found` is told each target."""
    page = name / "index.md" if (ROOT / name).is_dir() else name

    def linked(match: re.Match[str]) -> str:
        target = target_of(match[2], page)
        if not (ROOT / target).exists():
            return match[0]  # MkDocs says so
        found(target)
        return match[1] + os.path.relpath(place(target), place(name).parent) + match[3]

    return indented(outside_code(text, lambda line: LINK.sub(linked, line)))


def source_of(name: PurePosixPath) -> str:
    """What the page of a file or folder of the checkout says, as Markdown for a reader in the repository."""
    path = ROOT / name
    if path.is_dir():
        listed = subprocess.run(["git", "ls-files", "-z", name], cwd=ROOT, capture_output=True, text=True, check=False)
        names = sorted(filter(None, listed.stdout.split("\0"))) or sorted(
            str(file.relative_to(ROOT))
            for file in path.rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        )
        return f"# {name}\n\n" + "".join(f"- [{each}]({os.path.relpath(each, name)})\n" for each in names)
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        return text
    language = LANGUAGES.get(path.suffix, path.suffix.removeprefix("."))
    return f"# {name}\n\n```{language}\n{text}\n```\n"


def on_files(files: Files, config: Any) -> Files:
    """Add what pages link to outside of docs/, and what is linked from there."""
    todo: list[PurePosixPath] = []
    for file in files.documentation_pages():
        page_text(file.content_string, PurePosixPath(DOCS, file.src_uri), todo.append)
    todo.append(PurePosixPath("CHANGELOG.md"))
    made: set[PurePosixPath] = set()
    while todo:
        name = todo.pop()
        if name in made or (name.parts[:1] == (DOCS,) and not (ROOT / name).is_dir()):
            continue
        made.add(name)
        text = page_text(source_of(name), name, todo.append)
        files.append(File.generated(config, str(place(name)), content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The pages of docs/ themselves."""
    if page.file.generated_by:
        return markdown
    return page_text(markdown, PurePosixPath(DOCS, page.file.src_uri), lambda _: None)


def on_post_page(output: str, **_: Any) -> str:
    """Name the search, which the theme leaves without a name for those who read by ear."""
    search = 'data-md-component="search" role="dialog"'
    return output.replace(search, f'{search} aria-label="Search"')
