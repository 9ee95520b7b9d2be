"""What people install: the wheel holds the product and nothing of the laboratory, and needs no checkout beside it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
TESTING = {"__init__.py", "store_contract.py", "store_tools.py"}
NOT_LIBRARIES = {"heirflow.__main__"}
"""Importing it would run it."""
# Says what was imported from where, and what could not be. `argv`: the wheel's folder, then the names.
IMPORT_ALL = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
wrong = {}
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        wrong[name] = f"{type(error).__name__}: {error}"
found = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in {"heirflow", "lab", "tests"}}
print(json.dumps({"wrong": wrong, "found": found}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without any network."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


def test_the_wheel_holds_the_product_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    ours = (path for path in (SOURCE / "heirflow").rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    product = {str(path.relative_to(SOURCE)) for path in ours}
    held = {name for name in names if ".dist-info/" not in name}
    assert held == product, sorted(held ^ product)
    assert not [name for name in held if name.endswith(".c")]
    assert {Path(name).name for name in held if name.startswith("heirflow/testing/")} == TESTING


def test_every_module_of_the_wheel_can_be_imported_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    names = sorted(
        ".".join(path.relative_to(tmp_path).with_suffix("").parts).removesuffix(".__init__")
        for path in (tmp_path / "heirflow").rglob("*.py")
    )
    wanted = [name for name in names if name not in NOT_LIBRARIES]
    # The editable install of the checkout comes behind the wheel's folder, and what is found there is found out below.
    done = subprocess.run(
        [sys.executable, "-I", "-c", IMPORT_ALL, str(tmp_path), *wanted],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert not told["wrong"]
    elsewhere = {name: file for name, file in told["found"].items() if not file.startswith(str(tmp_path))}
    assert not elsewhere, "imported from the checkout"
    assert len(told["found"]) >= len(wanted)


def test_nothing_in_src_imports_the_laboratory_or_the_tests() -> None:
    found = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported = [str(node.module)]
            else:
                continue
            found += [
                f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
                for name in imported
                if name.split(".")[0] in {"lab", "tests"}
            ]
    assert not found, "\n".join(found)
