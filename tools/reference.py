"""Writes docs/reference.md and the man pages in man/ from Click's commands, so that they say what `--help` says.

It also writes docs/api.md from docstrings, and the tables of docs/json.md from the schemas.

`make reference` runs it; tests/unit/test_reference.py fails where a file is not what it would write. The man pages lie in the
repository, so that neither a packager nor the wheel needs anything to make them: a wheel puts them into share/man/man1.

click-man was looked at. It knows neither `\\b` blocks (our examples) nor commands that are imported late, and it writes
today's date, so that no two runs are alike.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from heirflow import __version__  # noqa: E402  in a checkout where nothing is installed, too
from heirflow.cli import COMMANDS, MANNERS, group  # noqa: E402
from heirflow.config.options import BY_NAME  # noqa: E402
from tools import api_page, json_page  # noqa: E402

WIDTH = 118
SENTENCE_ENDS = re.compile(r"(?<=[\w%`)\]\"'*_][.!?])\s+(?=[(\"'*_\[`]*[A-Z`])")
HEAD = """# Commands

<!-- Written by tools/reference.py from the commands themselves: run `make reference` after a change of them. -->

This page has what `heirflow COMMAND --help` says.
The man pages have the same: `man heirflow`, `man heirflow-run`.
In a virtual environment, `man` finds them if the environment is active.
"""


@dataclass(frozen=True)
class Page:
    """One command: its words (`heirflow fence install`), itself, and what is below it."""

    words: str
    command: click.Command
    context: click.Context
    sentence: str

    @property
    def usage(self) -> str:
        return " ".join([self.words, *self.command.collect_usage_pieces(self.context)])

    @property
    def below(self) -> list[Page]:
        if not isinstance(self.command, click.Group):
            return []
        return [page_of(self.command, name, self.context) for name in self.command.list_commands(self.context)]

    def blocks(self) -> Iterator[tuple[str, str]]:
        """(kind, text) of the help: ``prose`` on one line, ``example`` and ``list`` as they stand."""
        for block in inspect.cleandoc((self.command.help or "").split("\f")[0]).split("\n\n"):
            if block.startswith("\b"):
                text = block.removeprefix("\b").strip("\n")
                yield ("example" if "heirflow " in text.splitlines()[0] else "list"), text
            elif block.strip():
                yield "prose", " ".join(block.split())
        if self.command.epilog:
            yield "prose", " ".join(self.command.epilog.split())

    def options(self) -> list[tuple[click.Option, str, str]]:
        """Each option with its flags and its meaning, as `--help` has them."""
        found = []
        for parameter in self.command.get_params(self.context):
            record = parameter.get_help_record(self.context)
            if isinstance(parameter, click.Option) and record is not None:
                found.append((parameter, record[0], " ".join(record[1].split())))
        return found


def page_of(parent: click.Group, name: str, above: click.Context) -> Page:
    command = parent.get_command(above, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=above, **command.context_settings)
    sentence = COMMANDS[name][1] if above.parent is None else command.get_short_help_str(limit=WIDTH)
    return Page(f"{above.command_path} {name}", command, context, sentence)


def root() -> Page:
    context = click.Context(group, info_name="heirflow", **MANNERS)
    return Page("heirflow", group, context, "a line of succession for programs of which exactly one copy may run")


def is_setting(option: click.Option, meaning: str) -> bool:
    """Whether this is one of the settings that docs/configuration.md explains, and not an option of one command."""
    setting = BY_NAME.get(option.opts[0].removeprefix("--"))
    return setting is not None and meaning.startswith(" ".join(setting.help.split()))


# docs/reference.md


def markdown() -> str:
    start = root()
    lines = [HEAD, "| command | does |", "|---|---|"]
    lines += [
        f"| [`{page.words}`](#{page.words.replace(' ', '-')}) | {in_markdown(page.sentence)} |" for page in start.below
    ]
    lines += ["", *in_sentences(start.command.epilog or ""), "[Configuration](configuration.md) has the exit codes."]
    for page in start.below:
        lines += ["", *section(page, "##")]
        for below in page.below:
            lines += ["", *section(below, "###")]
    return "\n".join(lines) + "\n"


def section(page: Page, marks: str) -> Iterator[str]:
    yield f"{marks} {page.words}"
    yield from ("", "```", page.usage, "```")
    for kind, text in page.blocks():
        yield ""
        if kind == "prose":
            yield from in_sentences(text)
        else:
            yield from ("```sh" if kind == "example" else "```", text, "```")
    own = [(flags, meaning) for option, flags, meaning in page.options() if not is_setting(option, meaning)]
    own = [(flags, meaning) for flags, meaning in own if "--help" not in flags]
    if own:
        yield from ("", "| option | meaning |", "|---|---|")
        for flags, meaning in own:
            yield f"| `{flags.replace('|', chr(92) + '|')}` | {in_markdown(meaning).replace('|', chr(92) + '|')} |"
    settings = [f"`{flags}`" for option, flags, meaning in page.options() if is_setting(option, meaning)]
    if settings:
        yield ""
        yield from wrapped(f"And these [settings](configuration.md): {', '.join(settings)}.")


def in_sentences(text: str) -> Iterator[str]:
    """One sentence on a line; a long one goes on in the next."""
    for sentence in SENTENCE_ENDS.split(in_markdown(" ".join(text.split()))):
        yield from wrapped(sentence)


def wrapped(text: str) -> list[str]:
    """Lines of at most `WIDTH`; what stands in backticks stays on one."""
    whole = re.sub(r"`[^`]*`", lambda match: match[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(whole, WIDTH, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]


def in_markdown(text: str) -> str:
    """The same for Markdown: flags in backticks, and nothing else outside of them has a meaning of its own."""
    pieces = text.split("`")
    for position in range(0, len(pieces), 2):
        marked = re.sub(r"(\*|<(?=[A-Za-z/!?]))", r"\\\1", pieces[position])
        pieces[position] = re.sub(r"(?<![\w-])--[a-z][\w-]*", r"`\g<0>`", marked)
    return "`".join(pieces)


# man/*.1


def man(page: Page) -> str:
    """One page, as man(7) writes it: a command with those below it."""
    name = page.words.replace(" ", "-")
    lines = [
        '.\\" Written by tools/reference.py from the commands: run "make reference" after a change of them.',
        f'.TH {roff(name.upper())} 1 {released()} "heirflow {__version__}" "HeirFlow"',
        ".SH NAME",
        f"{roff(name)} \\- {roff(page.sentence[0].lower() + page.sentence[1:].rstrip('.'))}",
        ".SH SYNOPSIS",
    ]
    for one in page.below if page.words != "heirflow" and page.below else [page]:
        lines += [f".B {roff(one.words)}", roff(one.usage.removeprefix(one.words).strip()), ".br"]
    lines[-1:] = [".SH DESCRIPTION", *description(page)]
    if page.words == "heirflow":
        lines += [
            ".SH COMMANDS",
            *(row for one in page.below for row in (".TP", f".B {roff(one.words)}", roff(one.sentence))),
        ]
    elif page.below:
        for one in page.below:
            lines += [f".SH {roff(one.words.upper())}", *description(one), *examples(one), *options(one)]
    if options_of := options(page):
        lines += [".SH OPTIONS", *options_of]
    if examples_of := examples(page):
        lines += [".SH EXAMPLES", *examples_of]
    if page.words == "heirflow":
        lines += [*settings_and_files(), ".SH EXIT STATUS"]
        for code, means in exit_codes():
            lines += [".TP", f".B {roff(code)}", roff(means)]
    lines += [".SH SEE ALSO", *see_also(page)]
    return "\n".join(lines) + "\n"


def description(page: Page) -> Iterator[str]:
    for kind, text in page.blocks():
        if kind == "prose":
            yield from (".PP", roff(text))
        elif kind == "list":
            yield from verbatim(text)


def examples(page: Page) -> list[str]:
    return [line for kind, text in page.blocks() if kind == "example" for line in verbatim(text)]


def verbatim(text: str) -> Iterator[str]:
    yield from (".PP", ".nf", ".RS 2", *(roff(line) for line in text.splitlines()), ".RE", ".fi")


def options(page: Page) -> list[str]:
    lines = []
    for _, flags, meaning in page.options():
        bold = re.sub(r"(?<!\S)-{1,2}[\w-]+", lambda match: f"\0{match[0]}\1", flags)
        lines += [".TP", roff(bold).replace("\0", "\\fB").replace("\1", "\\fR"), roff(meaning)]
    return lines


def settings_and_files() -> list[str]:
    lines = [
        ".SH ENVIRONMENT",
        roff("Each flag of a setting has a variable; the flag goes before it, and the file comes after it."),
    ]
    for option in BY_NAME.values():
        lines += [".TP", f".B {roff(option.environment)}", roff(f"{option.help} (--{option.name})")]
    lines += [".SH FILES"]
    for file, means in (
        ("./heirflow.toml", "the settings; the first of these three that is there"),
        ("~/.config/heirflow/heirflow.toml", "the same, for one user"),
        ("/etc/heirflow/heirflow.toml", "the same, for the host"),
    ):
        lines += [".TP", f".I {roff(file)}", roff(means)]
    return lines


def exit_codes() -> list[tuple[str, str]]:
    """The table of docs/configuration.md."""
    section_of = (ROOT / "docs" / "configuration.md").read_text("utf-8").partition("## Exit codes")[2]
    rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in section_of.splitlines() if line.startswith("|")]
    return [(row[0].strip(), plain(row[1])) for row in rows[2:]]


def plain(text: str) -> str:
    """A cell of a table, without its marks."""
    return re.sub(r"\s*\(\[[^\]]*\]\([^)]*\)\)", "", text).replace("\\|", "|").strip()


def see_also(page: Page) -> list[str]:
    if page.words == "heirflow":
        return [roff(", ".join(f"{one.words.replace(' ', '-')}(1)" for one in page.below))]
    return ["heirflow(1), which has the environment, the files and the exit codes of all commands"]


def roff(text: str) -> str:
    """A text for man: nothing in it is a request or an escape, and all of it is ASCII."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    text = "".join(one if ord(one) < 128 else f"\\[u{ord(one):04X}]" for one in text)
    return re.sub(r"^(?=[.'])", "\\\\&", text, flags=re.MULTILINE)


def released() -> str:
    """The day of this version, as the changelog has it: the same whenever the pages are made."""
    found = re.search(
        rf"^## \[{re.escape(__version__)}\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    if found is None:
        sys.exit(f"CHANGELOG.md has no line '## [{__version__}] - DATE'; write one")
    return found[1]


def written() -> dict[str, str]:
    """Each file that this writes, by its path below the repository."""
    start = root()
    pages = {f"man/{page.words.replace(' ', '-')}.1": man(page) for page in [start, *start.below]}
    return {
        "docs/reference.md": markdown(),
        "docs/api.md": api_page.page(in_sentences),
        "docs/json.md": json_page.page(),
        **pages,
    }


def main() -> None:
    wanted = written()
    for path in (ROOT / "man").glob("*"):
        if f"man/{path.name}" not in wanted:
            path.unlink()
            print("removed", path.relative_to(ROOT))
    for name, text in wanted.items():
        path = ROOT / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print("wrote", name)


if __name__ == "__main__":
    main()
