"""The page of all commands and the man pages say what `--help` says: they are what tools/reference.py would write."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click
import pytest

import heirflow
from heirflow.cli import COMMANDS, orders
from tools import reference

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = reference.written()
API = WRITTEN["docs/api.md"]


@pytest.mark.parametrize("name", WRITTEN)
def test_it_is_what_the_commands_say_now(name: str) -> None:
    path = ROOT / name
    assert path.exists() and path.read_text("utf-8") == WRITTEN[name], f"{name} is not up to date: run make reference"


def test_each_command_has_a_section_and_a_man_page_and_nothing_else_has_one() -> None:
    sections = {line for line in WRITTEN["docs/reference.md"].splitlines() if line.startswith("## ")}
    assert sections == {f"## heirflow {name}" for name in COMMANDS}
    pages = {path.name for path in (ROOT / "man").iterdir()}
    assert pages == {"heirflow.1", *(f"heirflow-{name}.1" for name in COMMANDS)}


def test_each_option_of_each_command_is_in_both() -> None:
    pages = [page for page in reference.root().below for page in [page, *page.below]]
    assert len(pages) > len(COMMANDS)
    sections = WRITTEN["docs/reference.md"].replace("\n### ", "\n## ").split("\n## ")
    for page in pages:
        (section,) = (one for one in sections if one.splitlines()[0] == page.words)
        text = WRITTEN[f"man/{'-'.join(page.words.split()[:2])}.1"].replace("\\-", "-")
        for parameter in page.command.params:
            for flag in parameter.opts if isinstance(parameter, click.Option) else []:
                assert flag in section, f"{page.words} {flag}"
                assert f"\\fB{flag}\\fR" in text, f"{page.words} {flag}"


def test_each_public_name_of_python_is_on_its_page() -> None:
    missing = [name for name in heirflow.__all__ if f"## heirflow.{name}\n" not in API and f"| `{name}` |" not in API]
    assert not missing
    assert "## heirflow.aio.Election\n" in API and "<factory>" not in API and " at 0x" not in API


def test_a_changed_help_makes_both_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders.pause, "help", "Stop. .Not -- at \\all.\n\n\b\nheirflow pause --now")
    changed = {name for name, text in reference.written().items() if text != WRITTEN[name]}
    assert changed == {"docs/reference.md", "man/heirflow-pause.1"}
    text = reference.written()["man/heirflow-pause.1"]
    assert ".PP\nStop. .Not \\-\\- at \\eall.\n" in text
    assert ".SH EXAMPLES\n.PP\n.nf\n.RS 2\nheirflow pause \\-\\-now\n" in text


def test_a_line_that_begins_like_a_request_is_text() -> None:
    assert reference.roff("./a\n'b\n…") == "\\&./a\n\\&'b\n\\[u2026]"


@pytest.mark.parametrize("name", sorted(name for name in WRITTEN if name.startswith("man/")))
def test_groff_has_no_complaint(name: str) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(["groff", "-man", "-ww", "-z", ROOT / name], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
