"""`heirflow metrics`: what Prometheus reads, on standard output and in a file, and what is said when the store is away."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import pytest
from prometheus_client.parser import text_string_to_metric_families

from heirflow import __version__
from heirflow.cli.metrics import INSTALL
from heirflow.election.record import Event, Exchange, What
from heirflow.stores import Store

ROOT = Path(__file__).resolve().parents[2]
Sample = tuple[str, frozenset[tuple[str, str]]]


def read(text: str) -> dict[Sample, float]:
    """What Prometheus' own client makes of it; nothing twice."""
    found: dict[Sample, float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type == "gauge"
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def of(found: dict[Sample, float], name: str, **labels: str) -> float | None:
    """None where it was not told."""
    return found.get((f"heirflow_{name}", frozenset(labels.items())))


def test_all_elections_and_one(heirflow: Callable, line: Callable, home: Path, store: Store) -> None:
    line("beat", "a", "b")
    line('odd "name"\\', "c", leads=False)
    store.exchange("beat", Exchange(notes=(Event(What.RESTARTED, 1, "a", "x"),)))
    answer = heirflow("metrics")
    assert (answer.code, answer.err) == (0, "")
    found = read(answer.out)
    assert of(found, "leader_up", election="beat", seat="1") == 1
    assert of(found, "leader_up", election='odd "name"\\', seat="1") == 0
    assert of(found, "heirs", election="beat") == 1
    assert of(found, "restarts_past_hour", election="beat") == 1
    assert of(found, "takeovers_past_hour", election="beat", cause="first") == 1
    assert of(found, "build_info", version=__version__) == 1
    assert of(found, "store_up", store=f"sqlite:///{home}/line.db") == 1
    one = read(heirflow("metrics", "beat").out)
    assert {dict(labels).get("election") for _, labels in one} == {"beat", None}


def test_promtool_has_no_complaint(heirflow: Callable, line: Callable) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: tools/system_packages.sh installs Debian's prometheus")
    line("beat", "a", "b")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=heirflow("metrics").out, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_file_is_replaced_in_one_step_and_everybody_may_read_it(
    heirflow: Callable, line: Callable, home: Path
) -> None:
    line("beat", "a", "b")
    file = home / "heirflow.prom"
    file.write_text("old\n")
    inode = file.stat().st_ino
    old_umask = os.umask(0o077)
    try:
        answer = heirflow("metrics", "--textfile", str(file))
    finally:
        os.umask(old_umask)
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    assert of(read(file.read_text()), "heirs", election="beat") == 1
    assert file.stat().st_ino != inode and file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in home.glob("*heirflow*")] == ["heirflow.prom"]


def test_a_file_that_cannot_be_written_is_one_sentence(heirflow: Callable, line: Callable, home: Path) -> None:
    line("beat", "a")
    answer = heirflow("metrics", "--textfile", str(home / "nowhere" / "x.prom"))
    assert (
        answer.code == 1 and answer.err == f"heirflow: cannot write {home}/nowhere/x.prom: No such file or directory\n"
    )
    (home / "taken.prom").mkdir()
    answer = heirflow("metrics", "--textfile", str(home / "taken.prom"))
    assert answer.code == 2 and "is a directory" in answer.err
    answer = heirflow("metrics", "--textfile", "x.txt")
    assert answer.code == 2 and "must end in .prom" in answer.err


def test_a_store_that_is_away_is_told_and_nothing_old_stays(
    heirflow: Callable, line: Callable, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line("beat", "a")
    file = home / "x.prom"
    assert heirflow("metrics", "--textfile", str(file)).code == 0
    monkeypatch.setenv("HEIRFLOW_DB_URL", "postgresql://me:hunter2@127.0.0.1:1/x")
    answer = heirflow("metrics", "--textfile", str(file))
    assert answer.code == 69 and answer.err.count("\n") == 1 and "hunter2" not in answer.err + file.read_text()
    found = read(file.read_text())
    assert of(found, "store_up", store="postgresql://me:***@127.0.0.1:1/x") == 0 and len(found) == 2
    assert read(heirflow("metrics").out) == found


def test_an_election_that_is_not_there(heirflow: Callable, line: Callable, home: Path) -> None:
    line("beat", "a")
    answer = heirflow("metrics", "baet")
    assert answer.code == 1 and "did you mean 'beat'" in answer.err
    assert of(read(answer.out), "store_up", store=f"sqlite:///{home}/line.db") == 1


def test_without_the_client_there_is_a_sentence(heirflow: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    answer = heirflow("metrics")
    assert (answer.code, answer.out) == (78, "")
    assert answer.err.endswith(f"is not installed; install it beside HeirFlow: `pip install '{INSTALL}'`\n")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert extras["metrics"] == [INSTALL]
