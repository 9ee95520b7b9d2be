"""Writes docs/api.md from the docstrings and signatures of the public names, so that it says what `help()` says."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import heirflow
from heirflow import aio

HEAD = """# Python API

<!-- Written by tools/reference.py from the docstrings: run `make reference` after a change of them. -->

This page has what `help(heirflow)` says of the public names.
[In a Python program](python.md) explains how they are used, with examples.
"""
CLASSES = MappingProxyType(
    {
        "heirflow.Election": ("run", "member", "name"),
        "heirflow.aio.Election": ("run", "member"),
        "heirflow.Lead": ("trusted_for_s", "hold", "of_command"),
        "heirflow.Standing": ("joined", "term", "member", "leave", "check"),
        "heirflow.Timings": ("of", "check", "trust_s"),
    }
)
"""Each class, and those of its members that are for others; attributes come by themselves where they have a docstring."""
LONGEST = 100


def page(in_sentences: Callable[[str], Iterator[str]]) -> str:
    lines = [HEAD]
    for name, members in CLASSES.items():
        lines += [*described(name, members, in_sentences), ""]
    lines += ["## Errors", "", *errors()]
    return "\n".join(lines) + "\n"


def found(name: str) -> Any:
    return getattr(aio if ".aio." in name else heirflow, name.rpartition(".")[2])


def described(name: str, members: tuple[str, ...], in_sentences: Callable[[str], Iterator[str]]) -> Iterator[str]:
    this = found(name)
    yield f"## {name}"
    yield ""
    if name.endswith("Election"):
        yield from ("```python", call(name, inspect.signature(this)), "```", "")
    text = inspect.getdoc(this) or ""
    yield from prose(text.partition(" Arguments and errors")[0], in_sentences)
    if name == "heirflow.Election":
        yield ""
        yield from prose((inspect.getdoc(this.__mro__[1]) or "").partition("\n\n")[2], in_sentences)
    if told := attributes(this):
        yield from ("", "| attribute | meaning |", "|---|---|")
        yield from (f"| `{attribute}` | {in_cell(meaning)} |" for attribute, meaning in told)
    for member in members:
        one = inspect.getattr_static(this, member)
        yield from ("", f"### {name.removeprefix('heirflow.')}.{member}", "")
        if not isinstance(one, property):
            plain = getattr(one, "__func__", one)
            start = "await " if inspect.iscoroutinefunction(plain) else "async with " if is_async(plain) else ""
            start = start or ("with " if hasattr(plain, "__wrapped__") else "")
            signature = inspect.signature(plain)
            kept = [each for each in signature.parameters.values() if each.name not in {"self", "cls"}]
            yield from ("```python", start + call(member, signature.replace(parameters=kept)), "```", "")
            one = plain
        yield from prose(inspect.getdoc(one) or "", in_sentences)


def is_async(function: Any) -> bool:
    return inspect.isasyncgenfunction(getattr(function, "__wrapped__", function))


def call(name: str, signature: inspect.Signature) -> str:
    """On one line, or each argument on its own."""
    words = []
    starred = False
    for each in signature.parameters.values():
        if each.kind is each.KEYWORD_ONLY and not starred:
            words.append("*")
            starred = True
        default = "" if each.default is each.empty else f" = {each.default!r}"
        words.append(f"{each.name}: {str(each.annotation).strip(chr(39))}{default}")
    result = "" if signature.return_annotation in {signature.empty, "None"} else f" -> {signature.return_annotation}"
    line = f"{name}({', '.join(words)}){result}"
    return line if len(line) <= LONGEST else f"{name}(\n" + "".join(f"    {word},\n" for word in words) + f"){result}"


def attributes(this: type) -> list[tuple[str, str]]:
    """The attributes of a class that have a text below them, with it."""
    told = []
    body = ast.parse(textwrap.dedent(inspect.getsource(this))).body[0]
    assert isinstance(body, ast.ClassDef)
    for node, after in zip(body.body, [*body.body[1:], ast.Pass()], strict=True):
        match node, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                told.append((name, inspect.cleandoc(text)))
    return told


def errors() -> Iterator[str]:
    yield "Every error of HeirFlow is a `HeirflowError`: its message is one plain sentence for a person."
    yield "The exit code is what a command of `heirflow` ends with."
    yield from ("", "| error | is a | exit code | means |", "|---|---|---|---|")
    for name in sorted(heirflow.__all__):
        this = getattr(heirflow, name)
        if issubclass(this, Exception):
            yield f"| `{name}` | `{this.__mro__[1].__name__}` | {this.exit_code} | {in_cell(inspect.getdoc(this) or '')} |"


def prose(text: str, in_sentences: Callable[[str], Iterator[str]]) -> Iterator[str]:
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield ""
        yield from in_sentences(single(paragraph))


def in_cell(text: str) -> str:
    return single(" ".join(text.split())).replace("|", "\\|")


def single(text: str) -> str:
    """Python's double backticks are single ones on a page."""
    return re.sub(r"``(.+?)``", r"`\1`", text, flags=re.DOTALL)
