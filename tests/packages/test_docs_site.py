"""The site that `make docs` builds: from nothing, without a warning, with nothing in it that asks another host.

`make docs` makes its environment by itself, so that a machine on which only these tests run needs nothing more than make.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.browser import browser, needs_chromium  # noqa: F401  a fixture

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "site"
ASKS = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"?(?:https?:)?//[^>]*>|url\(['\"]?(?:https?:)?//"
)


def environment() -> dict[str, str]:
    """Without what a make above us says to those below, and without what belongs to the tests."""
    return {
        name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "ARGS", "PYTHON"))
    }


def pages() -> list[Path]:
    return sorted(SITE.rglob("*.html"))


@pytest.fixture(scope="module")
def built() -> str:
    """What `make docs` said."""
    done = subprocess.run(
        ["make", "--no-print-directory", "docs"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_it_is_built_without_a_warning(built: str) -> None:
    assert "WARNING -" not in built and "ERROR -" not in built
    assert "Documentation built" in built


@pytest.mark.slow
def test_every_page_is_in_it_and_can_be_found(built: str) -> None:
    written = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert written <= {page.relative_to(SITE) for page in pages()}
    index = json.loads((SITE / "search" / "search_index.json").read_text("utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {str(page) for page in written} <= found


@pytest.mark.slow
def test_nothing_in_it_asks_another_host(built: str) -> None:
    asking = []
    for path in [*pages(), *SITE.rglob("*.css"), *SITE.rglob("*.svg")]:
        asking += [f"{path.relative_to(SITE)}: {match[0][:120]}" for match in ASKS.finditer(path.read_text("utf-8"))]
    assert not asking, "\n".join(asking)


@pytest.mark.slow
def test_a_link_or_anchor_that_leads_nowhere_is_an_error(built: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".git", ".venv*", "build", "dist", ".*_cache", "__pycache__", ".hypothesis")
    shutil.copytree(ROOT, copy, ignore=ignored)
    with (copy / "docs" / "scale.md").open("a", encoding="utf-8") as page:
        page.write("\n[a](nowhere.md) [b](safety.md#nowhere) [c](../nowhere.py) [d](../CHANGELOG.md#nowhere)\n")
    command = [ROOT / ".venv-docs" / "bin" / "python", "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(command, cwd=copy, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert len(told) == 4 and all("scale.md" in line and "nowhere" in line for line in told), done.stderr


@pytest.mark.slow
def test_a_program_is_recorded_as_a_terminal_shows_it(built: str, tmp_path: Path) -> None:
    program = (
        r"printf 'one\n'; sleep 0.6; printf '\033[1;32mtwo & \033[0mthree\n'; sleep 0.6; printf '\033[2J\033[Hlast <'"
    )
    recorder = [ROOT / ".venv-docs" / "bin" / "python", "tools/record_demo.py", tmp_path / "made.svg"]
    done = subprocess.run(
        [*recorder, "--rows", "4", "--columns", "20", "--begin", "two", "--", "sh", "-c", program],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ": 2 screens, " in done.stdout
    drawn = ET.parse(tmp_path / "made.svg")
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["one", "two &", "three", "last <"], "each row once, in the order in which it was seen"
    style = next(drawn.iter("{http://www.w3.org/2000/svg}style")).text or ""
    assert "font-weight:bold" in style and "transform:translateY(-72px)" in style


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page", ["airflow.html", "stores.html", "first-steps.html"])
def test_everybody_can_use_it(built: str, browser: Browser, page: str, width: int) -> None:  # noqa: F811
    """Wide tables and blocks of code, too: whoever has only keys can move them."""
    for scheme in ("light", "dark"):
        with closing(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)) as context:  # type: ignore[arg-type]
            tab = context.new_page()
            tab.goto((SITE / page).as_uri())
            tab.wait_for_function(
                "document.querySelector('.md-typeset__scrollwrap') || !document.querySelector('article table')"
            )
            tab.wait_for_timeout(300)
            found = Axe().run(tab).response["violations"]
            assert [each["id"] for each in found if each["impact"] in {"serious", "critical"}] == [], scheme
