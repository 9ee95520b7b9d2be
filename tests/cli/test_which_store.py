"""In which store a command looks when nobody named one, and what it says when that is not the right one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heirflow.election.record import CheckIn, Exchange
from heirflow.stores import open_store

CONFIG, STORE, REFUSED = 78, 69, 1
NOWHERE = (
    "heirflow: no database was given, and the default one, SQLite at {file}, does not exist: name the members' "
    "database with --db-url-file or HEIRFLOW_DB_URL; to use Airflow's, put `airflow` on the PATH, with its environment\n"
)
AIRFLOW = """
AIRFLOW_HOME = ""
class conf:
    @staticmethod
    def get(section, key, fallback=None):
        return "sqlite:///{database}" if key == "sql_alchemy_conn" else fallback
"""


@pytest.fixture(autouse=True)
def default_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody names a database, and no Airflow is on the PATH."""
    monkeypatch.delenv("HEIRFLOW_DB_URL")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return home / ".local" / "state" / "heirflow" / "heirflow.db"


@pytest.fixture
def airflow(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The database of an Airflow on the PATH, which is a package of a few lines."""
    package, script, database = home / "lib" / "airflow", home / "bin" / "airflow", home / "airflow.db"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '9.9'")
    (package / "configuration.py").write_text(AIRFLOW.format(database=database))
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    return database


def hold(file: Path, *elections: str) -> None:
    """Make a store in which a member stands in each of these lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    store = open_store(f"sqlite:///{file}", call_limit_s=5)
    store.open()
    for election in elections:
        store.exchange(election, Exchange(check_in=CheckIn("a", "host-a", 1, ready=True), join=True))
    store.close()


@pytest.mark.parametrize(
    "args",
    [
        ["status"],
        ["status", "beat"],
        ["history"],
        ["pause"],
        ["switchover"],
        ["drill", "--yes"],
        ["drain"],
        ["fence", "status"],
    ],
)
def test_a_default_place_that_nobody_used_is_not_offered(
    heirflow: Callable, default_file: Path, args: list[str]
) -> None:
    answer = heirflow(*args)
    assert (answer.code, answer.out, answer.err) == (CONFIG, "", NOWHERE.format(file=default_file))
    assert not default_file.exists()


def test_the_home_of_somebody_else_is_told(
    heirflow: Callable, default_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists = Path.exists

    def may_not(path: Path) -> bool:
        if path == default_file:
            raise PermissionError(13, "Permission denied")
        return exists(path)

    monkeypatch.setattr(Path, "exists", may_not)
    for args in (["status"], ["status", "beat"]):
        answer = heirflow(*args)
        assert answer.code == CONFIG
        assert answer.err == f"heirflow: cannot look into {default_file.parent}: Permission denied; give --db-url\n"


def test_watch_says_it_too(default_file: Path) -> None:
    command = [sys.executable, "-m", "heirflow", "status", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "no database was given" in json.loads(process.stdout.readline())["trouble"]
        process.send_signal(2)
        process.stdout.read()
    assert not default_file.exists()


def test_an_empty_store_is_named_without_its_password(heirflow: Callable, default_file: Path) -> None:
    assert heirflow("init").code == 0
    named = f"in this store yet (sqlite:///{default_file}); `heirflow run -- COMMAND` creates one"
    assert f"There is no election {named}." in heirflow("status").out
    assert f"there is no election {named}" in heirflow("history").err
    assert f"there is no election 'beat'; this store holds none yet (sqlite:///{default_file})" in (
        heirflow("status", "beat").err
    )


class TestALineOfAnyNameBesideAirflow:
    def test_is_found_where_the_default_place_does_not_hold_it(
        self, heirflow: Callable, default_file: Path, airflow: Path
    ) -> None:
        hold(airflow, "airflow-scheduler", "scheduler-eu")
        assert heirflow("status", "scheduler-eu").out.startswith("scheduler-eu ")
        hold(default_file, "beat")
        assert heirflow("status", "scheduler-eu").out.startswith("scheduler-eu ")

    def test_is_not_asked_for_where_the_default_place_holds_it(
        self, heirflow: Callable, default_file: Path, airflow: Path
    ) -> None:
        hold(default_file, "beat")
        (Path(os.environ["PYTHONPATH"]) / "airflow" / "__init__.py").write_text("raise SystemExit('asked')")
        assert heirflow("status", "beat").out.startswith("beat ")

    def test_a_name_that_nobody_holds_is_looked_for_in_the_default_place(
        self, heirflow: Callable, default_file: Path, airflow: Path
    ) -> None:
        hold(airflow, "airflow-scheduler")
        hold(default_file, "beat")
        answer = heirflow("status", "baet")
        assert (answer.code, answer.err) == (REFUSED, "heirflow: there is no election 'baet'; did you mean 'beat'?\n")

    def test_an_airflow_that_cannot_be_asked_keeps_nobody_from_an_answer(
        self, heirflow: Callable, default_file: Path, airflow: Path
    ) -> None:
        hold(default_file, "beat")
        (Path(os.environ["PYTHONPATH"]) / "airflow" / "__init__.py").write_text("raise SystemExit('broken')")
        assert "did you mean 'beat'?" in heirflow("status", "baet").err

    def test_a_database_of_airflow_that_does_not_answer_is_told(
        self, heirflow: Callable, default_file: Path, airflow: Path
    ) -> None:
        configuration = Path(os.environ["PYTHONPATH"]) / "airflow" / "configuration.py"
        configuration.write_text(AIRFLOW.replace("sqlite:///{database}", "postgresql://me:hunter2@127.0.0.1:1/airflow"))
        answer = heirflow("status", "scheduler-eu")
        assert answer.code == STORE
        assert "PostgreSQL at 127.0.0.1:1/airflow" in answer.err
        assert "hunter2" not in answer.err

    def test_looking_for_it_makes_no_tables(self, heirflow: Callable, default_file: Path, airflow: Path) -> None:
        assert "no database was given" in heirflow("status", "beat").err
        assert not airflow.exists()


def test_an_old_default_file_does_not_hide_the_lines_of_airflow(
    heirflow: Callable, default_file: Path, airflow: Path
) -> None:
    hold(default_file, "beat")
    hold(airflow, "airflow-scheduler")
    out = heirflow("status").out
    assert f"in sqlite:///{default_file}:\nbeat " in out and f"in sqlite:///{airflow}:\nairflow-scheduler " in out
    found = {each["election"]: each["database"] for each in json.loads(heirflow("status", "--json").out)["elections"]}
    assert found == {"beat": f"sqlite:///{default_file}", "airflow-scheduler": f"sqlite:///{airflow}"}
    assert {each["election"] for each in json.loads(heirflow("status", "--check", "--json").out)["elections"]} == set(
        found
    )


def test_an_airflow_without_lines_adds_nothing(heirflow: Callable, default_file: Path, airflow: Path) -> None:
    hold(default_file, "beat")
    assert heirflow("status").out.startswith("beat ")
