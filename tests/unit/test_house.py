"""The rules of the house that no linter knows: which room may know which, and what must stand in no file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "heirflow"
LINES = 400

# Room -> what of ours it may import, besides itself. A room is a folder or a module right below heirflow/.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "text": set(),
    "clock": {"errors"},
    "ownership": set(),
    "descriptors": set(),
    "election": {"errors"},
    "stores": {"errors", "clock", "text", "election.record"},
    "guard": {"clock"},
    "alone": set(),
    "config": {"errors", "ownership", "text", "election.record", "election.timings"},
    "member": {"errors", "clock", "listening", "ownership", "text", "election", "stores", "guard"},
    "programs": {"errors", "clock", "text", "member", "config", "stores"},
    "status": {"errors", "clock", "text", "election", "stores"},
    "embed": {"errors", "clock", "text", "descriptors", "config", "election", "stores", "guard.why", "member"},
    "aio": {"errors", "embed", "member"},
    "testing": {"errors", "election.record", "stores.base"},
    "generate": {"errors", "text"},
    "cli": {
        "errors",
        "clock",
        "text",
        "config",
        "descriptors",
        "ownership",
        "election",
        "stores",
        "guard.processes",  # to close a member to its user before the rest is loaded
        "member",
        "programs",
        "status",
        "steering",
        "terminal",
        "web",
        "demo",
        "generate",
    },
    "steering": {"errors", "text", "config", "election", "stores", "status"},
    "terminal": {"text", "status", "steering.wishes", "election.record"},
    "listening": {"errors"},
    "web": {
        "errors",
        "text",
        "config",
        "listening",
        "election.record",
        "status",
        "steering",
        "stores",
        "programs.airflow.installation",  # these three for the page inside Airflow: where its database is, and its job table
        "programs.airflow.adopt",
        "programs.airflow.beside",
        "__init__",
    },
    "demo": {"errors", "clock", "election", "stores", "status", "terminal"},
    "__main__": {"cli"},
    "__init__": {"embed", "errors", "member", "stores", "election"},
}

ALONE = [
    *(
        f"guard/{name}.py"
        for name in (
            "guard",
            "proof",
            "deadlines",
            "launch",
            "channel",
            "backstop",
            "gatekeeper",
            "processes",
            "will_sender",
            "why",
            "title",
        )
    ),
    "alone/will_helper.py",
    "alone/gate.py",
]
"""Started as `python -I file`, or loaded by one that is: they import nothing of ours, so that they are small and start at once."""

DECIDING_MAY_IMPORT = {
    "__future__", "abc", "collections", "collections.abc", "dataclasses", "enum", "functools", "itertools", "json", "math",
    "typing",
}  # fmt: skip
"""`decide` has no clock, store, thread, log or random in it."""

modules = sorted(SOURCE.rglob("*.py"))
names = [str(path.relative_to(SOURCE)) for path in modules]


def imported(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, by its full name."""
    package = ["heirflow", *path.relative_to(SOURCE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, node.module] if node.module else start)
            # `from heirflow import config` imports a room, not a name.
            below = {f"{module}.{alias.name}" for alias in node.names}
            rooms = {name for name in below if (SOURCE.parent / name.replace(".", "/")).with_suffix(".py").exists()}
            found |= rooms or {module}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def may_know(room: str, other: str) -> bool:
    """Whether `room` may import `other` (a name below heirflow, like ``election.record``)."""
    head = other.split(".", maxsplit=1)[0]
    if head == room:
        return True
    return bool({head, other} & ARROWS[room])


@pytest.mark.parametrize("path", modules, ids=names)
def test_arrows_between_rooms_point_down(path: Path) -> None:
    room = room_of(path)
    assert room in ARROWS, f"{room} is a new room: give it a line in ARROWS"
    ours = {name.removeprefix("heirflow.") for name in imported(path) if name.startswith("heirflow.")}
    wrong = sorted(other for other in ours if not may_know(room, other))
    assert not wrong, f"{room} may not know {', '.join(wrong)}"


@pytest.mark.parametrize("name", ALONE)
def test_what_runs_alone_imports_the_standard_library_only(name: str) -> None:
    path = SOURCE / name
    foreign = {other for other in imported(path) if other.split(".")[0] not in sys.stdlib_module_names}
    assert not foreign


@pytest.mark.parametrize("path", sorted((SOURCE / "election").glob("*.py")), ids=lambda path: path.name)
def test_the_deciding_room_has_no_clock_store_thread_log_or_random(path: Path) -> None:
    foreign = {name for name in imported(path) if not name.startswith("heirflow")} - DECIDING_MAY_IMPORT
    assert not foreign


LONG: dict[str, str] = {}
"""Files over the limit, each with the reason why it reads better in one piece."""


@pytest.mark.parametrize("path", modules, ids=names)
def test_a_long_module_has_a_reason(path: Path) -> None:
    name, lines = str(path.relative_to(SOURCE)), len(path.read_text("utf-8").splitlines())
    assert lines <= LINES or name in LONG, f"{lines} lines: split it where the idea splits, or give a reason in LONG"
    assert lines > LINES or name not in LONG, f"{name} is not long any more: take it out of LONG"


SENTENCES = {"because", "sentence", "origin", "reason", "problem"}
"""Names of what is written for people."""
LOOKS_INTO = {
    "startswith",
    "endswith",
    "find",
    "index",
    "removeprefix",
    "removesuffix",
    "partition",
    "rpartition",
    "split",
}
FOREIGN = {
    "programs/airflow/adopt.py": "drivers tell an absent table by their words only",
    "programs/airflow/ask.py": "what the other process printed is searched for our mark",
}


def is_a_sentence(node: ast.expr) -> bool:
    """Whether this expression holds words for people: by its name, or because it is a text of several words."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in SENTENCES
        case ast.Constant(value=str(text)):
            return re.search(r"[a-z]{2} [a-z]{2}", text) is not None
        case ast.Tuple(elts=several) | ast.Set(elts=several):
            return any(map(is_a_sentence, several))
    return False


def acts_on_words(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=whole, attr=method), args=args) if method in LOOKS_INTO and args:
            return is_a_sentence(whole) or any(map(is_a_sentence, args))
        case ast.Compare(left=left, ops=ops, comparators=others):
            both = [left, *others]
            nothing = any(isinstance(each, ast.Constant) and each.value in {"", None} for each in both)
            asks = any(isinstance(op, (ast.Eq, ast.NotEq, ast.In, ast.NotIn)) for op in ops)
            return asks and not nothing and any(map(is_a_sentence, both))
    return False


@pytest.mark.parametrize(
    "path", [path for path in modules if "testing" not in path.parts], ids=lambda path: str(path.relative_to(SOURCE))
)
def test_prose_is_never_data(path: Path) -> None:
    """What code acts on is an enum or a number beside the sentence, never a sentence that is searched."""
    tree = ast.parse(path.read_text("utf-8"))
    found = [f"{path.name}:{node.lineno}" for node in ast.walk(tree) if acts_on_words(node)]  # type: ignore[attr-defined]
    assert not found or str(path.relative_to(SOURCE)) in FOREIGN, ", ".join(found)


def files() -> list[Path]:
    """Every file under version control; in an unpacked archive every file that is no one's by-product."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name]
    found = [path for folder in ("src", "tests", "docs", "locks") for path in (ROOT / folder).rglob("*.*")]
    return [path for path in found if "__pycache__" not in path.parts]


def test_no_file_names_a_registry_host_or_a_path_of_this_machine() -> None:
    # Put together here, so that this file does not name them either.
    hosts = [f"{name}.{end}" for name, end in (("pypi", "org"), ("pythonhosted", "org"), ("test.pypi", "org"))]
    hosts += ["registry." + end for end in ("npmjs.org", "yarnpkg.com", "hub.docker.com")]
    patterns = [re.escape(host) for host in hosts] + [r"/home/[a-z]\w+/", "/ro" + r"ot/\w", r"/work/(main|shared)\b"]
    own_root = str(ROOT) if len(ROOT.parts) > 2 else "\0"
    pattern = re.compile("|".join([*patterns, re.escape(own_root)]))
    found = []
    for path in files():
        if path.suffix in {".png", ".gif", ".svg", ".whl"} or path == Path(__file__).resolve() or not path.is_file():
            continue
        text = path.read_text("utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found, "\n".join(found)


def test_the_words_of_the_house() -> None:
    """One word per idea (DESIGN §3): these never name an idea of ours in code or messages."""
    banned = re.compile(r"\b(heart_?beat|failover_?node|candidates?|zombie_?node|mutex)\b", re.IGNORECASE)
    # Airflow's own columns and settings keep their names.
    checked = [path for path in modules if "airflow" not in path.parts]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in checked
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if (match := banned.search(line))
    ]
    assert not found, "\n".join(found)
