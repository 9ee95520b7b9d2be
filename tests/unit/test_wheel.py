"""What people install: the wheel holds the product and nothing of the laboratory, and needs no checkout beside it; its lock."""

from __future__ import annotations

import ast
import email
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from heirflow import __version__
from tools import package_page

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
TESTING = {"__init__.py", "people_contract.py", "seats_contract.py", "store_contract.py", "store_tools.py"}
NOT_LIBRARIES = {"heirflow.__main__"}
"""Importing it would run it."""
AIRFLOWS = {f"heirflow.web.airflow.{name}" for name in ("behind", "flask_view", "plugin", "sheet")}
"""What Airflow imports, which is not here; tests/airflow has them."""
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
    pages = {path.name for path in (ROOT / "man").iterdir()}
    data = {name for name in names if ".data/" in name}
    assert {re.sub(r"^heirflow-[^/]*[.]data/data/share/man/man1/", "", name) for name in data} == pages
    assert "heirflow.1" in pages
    ours = (path for path in (SOURCE / "heirflow").rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    product = {str(path.relative_to(SOURCE)) for path in ours}
    held = {name for name in names if ".dist-info/" not in name} - data
    assert held == product, sorted(held ^ product)
    assert not [name for name in held if name.endswith(".c")]
    assert {Path(name).name for name in held if name.startswith("heirflow/testing/")} == TESTING


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    told = email.message_from_bytes(archive.read(name))
    assert told["Version"] == __version__
    assert wheel.name == f"heirflow-{__version__}-py3-none-any.whl"
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]
    address = hatch["metadata"]["hooks"]["custom"]["address"]
    urls = [line.partition(",")[0] for line in told.get_all("Project-URL", [])]
    # No page is named that nobody can open; with an address, all of them are.
    assert sorted(urls) == (["Changelog", "Documentation", "Issues", "Source"] if address else [])
    assert not re.search(r"\]\((?!https?:)", told.get_payload())
    shown = f"[Why never two]({address}docs/safety.md)" if address else "Why never two (`docs/safety.md`)"
    assert f"- {shown}\n" in told.get_payload()


def test_the_sdist_holds_the_whole_checkout(tmp_path: Path) -> None:
    """Also what its tests read: locks/, tools/, deploy/, the Makefile."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD.replace("wheel", "sdist"), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / f"heirflow-{__version__}.tar.gz") as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
        dull = [member.name for member in archive if member.name.endswith(".sh") and not member.mode & 0o100]
    assert not dull, "not executable any more"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert {"PKG-INFO", "pyproject.toml", "Makefile", "locks/dev.txt", "tools/run_tests.sh", "man/heirflow.1"} <= held
    if listed.returncode == 0:  # in an unpacked sdist there is no list to compare with
        wanted = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
        assert wanted - held == set(), "the sdist lacks these"


README = """See [why](docs/why.md#two), [us](https://us.example/x) and [`that`](docs/a.md).
```
code[0](docs/a.md)
```
[below](#below) [end](LICENSE).
![a picture](docs/a.svg)
"""


def test_links_of_the_readme_lead_somewhere_from_the_package_page() -> None:
    assert package_page.page(README, "") == (
        "See why (`docs/why.md`), [us](https://us.example/x) and `that` (`docs/a.md`).\n"
        "```\ncode[0](docs/a.md)\n```\n[below](#below) end (`LICENSE`).\n\n"
    )
    assert package_page.page(README, "https://here.example/1/") == (
        "See [why](https://here.example/1/docs/why.md#two), [us](https://us.example/x) and "
        "[`that`](https://here.example/1/docs/a.md).\n"
        "```\ncode[0](docs/a.md)\n```\n[below](#below) [end](https://here.example/1/LICENSE).\n"
        "![a picture](https://here.example/1/docs/a.svg)\n"
    )


def test_the_version_stands_in_one_place_and_has_a_day_in_the_changelog() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert "version" in project["dynamic"]
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d", headings[1]), headings


def test_every_module_of_the_wheel_can_be_imported_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    names = sorted(
        ".".join(path.relative_to(tmp_path).with_suffix("").parts).removesuffix(".__init__")
        for path in (tmp_path / "heirflow").rglob("*.py")
    )
    wanted = [name for name in names if name not in NOT_LIBRARIES | AIRFLOWS]
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


def locked(name: str) -> dict[str, set[str]]:
    """Each package of a lock file, and its versions (one for each range of Pythons)."""
    text = (ROOT / "locks" / name).read_text("utf-8")
    found: dict[str, set[str]] = {}
    for block in re.split(r"\n(?=\S)", text):
        package, version, rest = re.fullmatch(r"([a-z0-9-]+)==(\S+)(.*)", block, re.DOTALL).groups()
        assert "--hash=sha256:" in rest, f"{package} has no hash"
        found.setdefault(package, set()).add(version)
    return found


def test_the_lock_for_its_users_holds_what_it_needs_as_it_was_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    lists = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        project["build-system"]["requires"],
    ]
    runtime, tested = locked("runtime.txt"), locked("dev.txt")
    for requirement in map(Requirement, chain(*lists)):
        versions = runtime.get(canonicalize_name(requirement.name), set())
        assert versions and all(map(requirement.specifier.contains, versions)), (
            f"{requirement} is not locked; run make lock"
        )
    assert {name: tested.get(name) for name in runtime} == runtime


def test_the_readme_installs_only_what_has_a_hash() -> None:
    commands = re.findall(r"^pip install .*?(?=  |$)", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert commands == [
        "pip install --require-hashes -r locks/runtime.txt",
        "pip install --no-deps --no-build-isolation .",
    ]
