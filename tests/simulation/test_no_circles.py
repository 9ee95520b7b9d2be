"""The files of the laboratory do not import each other in a circle, not even for types or inside a function."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

LAB = Path(__file__).resolve().parents[2] / "lab"


def name_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_below(folder: Path) -> dict[str, set[str]]:
    """Which file imports which, by their modules' names; every import counts, wherever it stands in its file."""
    files = {name_of(path, folder.parent): path for path in sorted(folder.rglob("*.py"))}
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        imported: set[str] = set()
        package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*above, *([node.module] if node.module else [])])
                # `from lab.sim import world` imports the file world.py; `from lab.sim.world import World` does too.
                imported |= {below if (below := f"{module}.{alias.name}") in files else module for alias in node.names}
        found[name] = imported & files.keys()
    return found


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """The files of one circle, the first named twice; empty when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_files_of_the_laboratory_import_each_other_in_a_circle() -> None:
    graph = imports_below(LAB)
    assert "lab.sim.judge" in graph["lab.sim.world"], "the imports are read"
    assert not circle_in(graph), " -> ".join(circle_in(graph))


@pytest.mark.parametrize(
    "text",
    [
        "from lab.one import x",
        "from lab import one",
        "import lab.one",
        "from . import one",
        "from .one import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lab.one import x",
        "def f():\n    from lab.one import x",
    ],
)
def test_a_circle_is_found_however_it_is_written(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "one.py").write_text("import lab.two\n")
    (folder / "two.py").write_text(text)
    assert set(circle_in(imports_below(folder))) == {"lab.one", "lab.two"}
