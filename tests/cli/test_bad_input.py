"""Whatever a person mistypes is answered with one sentence, the right exit code, and no traceback."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heirflow.programs.airflow.warm import STANDBY
from heirflow.stores import Store

USAGE, CONFIG, STORE, REFUSED = 2, 78, 69, 1


LONG = "y" * 5000


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        ([LONG], USAGE, "there is no command 'yyyy"),
        (["status", LONG], CONFIG, "name must be at most 100 characters, not 'yyy"),
        (["status", f"--{LONG}"], USAGE, "(see `heirflow status --help`)"),
        (["status", "--db-url", f"mysqlsome{LONG}://h/x"], CONFIG, "is no kind of database"),
        (["status", "--db-url", f"postgresql://a:secret@127.0.0.1:1/{LONG}"], STORE, "is the server up"),
        (["run", "--ttl", "3 " * 2000, "--", "true"], CONFIG, "(flag --ttl)"),
        (["run", "--config", LONG, "--", "true"], CONFIG, "File name too long"),
        (
            ["run", "--start-timeout", "100ms", "--db-url", f"postgresql://a:secret@127.0.0.1:1/{LONG}", "--", "true"],
            STORE,
            "is the server up",
        ),
    ],
)
def test_a_long_value_does_not_hide_what_is_wrong_with_it(
    heirflow: Callable, home: Path, args: list[str], code: int, sentence: str
) -> None:
    answer = heirflow(*args)
    last = answer.err.splitlines()[-1]
    assert answer.code == code and sentence in last, answer.err
    assert len(last) < 500 and "secret" not in answer.err and "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["stauts"], USAGE, "there is no command 'stauts'; did you mean 'status'?"),
        (["zzz"], USAGE, "there is no command 'zzz'"),
        (["--nope"], USAGE, "No such option"),
        (["status", "--nope"], USAGE, "No such option"),
        (["status", "a", "b"], USAGE, "unexpected extra argument"),
        (["demo", "--airflow"], 1, "needs a checkout of HeirFlow: run `make demo` there"),
        (["demo", "--cluster"], 1, "needs a checkout of HeirFlow: run `make cluster` there"),
        (["demo", "--kill", "everybody"], USAGE, "is not one of"),
        (["run"], USAGE, "Missing argument"),
        (["run", "--"], USAGE, "Missing argument"),
        (["run", "--ttl"], USAGE, "requires an argument"),
        (["probe"], USAGE, "give one question"),
        (["probe", "alive"], USAGE, "is not one of"),
        (["probe", "live", "--timeout", "soon"], USAGE, "must be a duration"),
        (["probe", "live", "--pid", "-4"], USAGE, "--pid"),
        (["history", "--limit", "0"], USAGE, "--limit"),
        (["history", "--limit", "many"], USAGE, "--limit"),
        (["switchover", "--limit", "soon"], USAGE, "must be a duration"),
        (["drill", "--limit", "soon"], USAGE, "must be a duration"),
        (["drill", "--wait", "-1s"], USAGE, "must be a duration"),
        (["drill", "--seat", "0"], USAGE, "--seat"),
        (["drill", "--seat", "first"], USAGE, "--seat"),
        (["drill", "--times", "0"], USAGE, "--times"),
        (["drill", "--record", "{home}"], USAGE, "Is a directory"),
        (
            ["run", "--ttl", "3x", "--", "true"],
            CONFIG,
            "ttl must be a duration like 10s, 500ms or 1m, not '3x' (flag --ttl)",
        ),
        (["run", "--ttl", "0", "--", "true"], CONFIG, "ttl must be more than 0 s"),
        (["run", "--ttl", "2h", "--", "true"], CONFIG, "ttl must be between 1 s and 3600 s"),
        (["run", "--check-in", "5s", "--", "true"], CONFIG, "is too short: 2 check-ins 10"),
        (["run", "--margin", "1ms", "--", "true"], CONFIG, "raise --margin"),
        (["run", "--on-exit", "never", "--", "true"], CONFIG, "on-exit must be handover or exit, not 'never'"),
        (["run", "--on-loss", "never", "--", "true"], CONFIG, "on-loss must be rejoin or exit"),
        (["run", "--log-format", "xml", "--", "true"], CONFIG, "log-format must be text or json"),
        (["run", "--name", "", "--", "true"], CONFIG, "name must be text that is not empty"),
        (["run", "--name", "x" * 101, "--", "true"], CONFIG, "at most 100 characters"),
        (["run", "--name", "a\x1b[2J", "--", "true"], CONFIG, "printable"),
        *(
            ([*command, "--", program], code, sentence)
            for command in (
                ["run"],
                ["run", "--preload", "json"],
                ["once", "--name", "x", "--every", "1h"],
                ["preload"],
            )
            for program, code, sentence in (
                ("no-such-program-here", 127, "no-such-program-here was not found in PATH"),
                ("./absent", 127, "./absent does not exist"),
                ("/", 126, "is a directory, not a program"),
                ("./plain", 126, "chmod +x"),
            )
        ),
        (
            ["preload", "--", "true"],
            CONFIG,
            "--preload works with a command `python -m PROGRAM` or a script of Python's",
        ),
        (["run", "--config", "absent.toml", "--", "true"], CONFIG, "there is no configuration file absent.toml"),
        (["run", "--config", "x" * 300, "--", "true"], CONFIG, "cannot read"),
        (["run", "--config", "~no-such-user/x", "--", "true"], CONFIG, "(flag --config)"),
        (["status", "--db-url-file", "~no-such-user/x"], CONFIG, "(flag --db-url-file)"),
        (["run", "--health-url", "http://me:hunter2@127.0.0.1/", "--", "true"], CONFIG, "must not hold a user's name"),
        (
            ["run", "--no-health", "--health-cmd", "x", "--", "true"],
            CONFIG,
            "--health-cmd (flag --health-cmd) contradict",
        ),
        (["run", "--health-cmd", "x", "--health-url", "http://x/", "--", "true"], CONFIG, "contradict each other"),
        (["run", "--health-cmd", "x", "--health-timeout", "0", "--", "true"], CONFIG, "must be at least 1 s"),
        (["run", "--", "python3", "-c", "0"], CONFIG, "an election named 'python3' would be shared"),
        (["run", "--", "sh", "-c", "true"], CONFIG, "give --name, and name the election after what this command does"),
        (["run", "--health-url", "http://127.0.0.1:80a/", "--", "true"], CONFIG, "must be like http://host:port/path"),
        (["config", "--config", "bad.toml"], CONFIG, "there is no setting 'tll'; did you mean 'ttl'?"),
        (["status", "--db-url", "oracle://me:hunter2@db/x"], CONFIG, "'oracle' is no kind of database"),
        (["status", "--db-url", "nothing"], CONFIG, "db-url must be a URL"),
        (["status", "--db-url", "sqlite://"], CONFIG, "name a file"),
        (["status", "--db-url", "postgresql://me:hunter2@127.0.0.1:1/x"], STORE, "127.0.0.1:1"),
        (["status", "--db-url", "mysql://me:hunter2@127.0.0.1:1/x"], STORE, "127.0.0.1:1"),
        (["status", "--db-url-file", "absent"], CONFIG, "cannot read absent"),
        (["status", "--db-url", "sqlite:////dev/null/line.db"], CONFIG, "/dev/null is not a folder"),
        (
            ["status", "--db-url", "sqlite:///{home}/plain"],
            CONFIG,
            "plain cannot be the database: it is not an SQLite database",
        ),
        (["init", "--db-url", "sqlite:////proc/line.db"], None, "line.db"),
        (["status", "--db-url", "sqlite:///{home}/absent.db"], CONFIG, "run `heirflow init`"),
        (["status", "nosuch"], REFUSED, "there is no election 'nosuch'"),
        (["history"], REFUSED, "there is no election in this store yet"),
        (["switchover"], REFUSED, "there is no election in this store yet"),
        (["drill"], REFUSED, "there is no election in this store yet"),
        (["pause"], REFUSED, "there is no election in this store yet"),
        (["drain"], REFUSED, "there is no election in this store yet"),
        (["probe", "live"], REFUSED, "no member runs on this host"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else None,
)
def test_one_sentence_and_the_right_code(
    heirflow: Callable, store: Store, home: Path, args: list[str], code: int | None, sentence: str
) -> None:
    (home / "plain").write_text("this is not a database, and long enough to be taken for one by nobody at all\n" * 20)
    (home / "bad.toml").write_text("tll = 3")
    answer = heirflow(*(arg.replace("{home}", str(home)) for arg in args))
    assert answer.code == code if code is not None else answer.code in (STORE, CONFIG)
    assert answer.out == ""
    *warnings, said = answer.err.splitlines()
    assert said.startswith("heirflow: ")
    assert sentence in said
    assert all(line.startswith("heirflow: warning: ") for line in warnings)
    assert "hunter2" not in answer.err
    assert "Traceback" not in answer.err


def test_no_component_of_airflow_stands_in_the_line_of_another(
    heirflow: Callable, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "airflow").write_text("#!/bin/sh\nexec sleep 60\n")
    (home / "airflow").chmod(0o755)
    monkeypatch.setenv("HEIRFLOW_NAME", "airflow-triggerer")
    answer = heirflow("run", "--", "./airflow", "scheduler")
    assert answer.code == CONFIG
    assert "airflow-triggerer is the election of another" in answer.err and "environment HEIRFLOW_NAME" in answer.err
    monkeypatch.setenv("HEIRFLOW_NAME", "prod")
    nowhere = ("--db-url", "postgresql://127.0.0.1:1/x", "--start-timeout", "100ms")
    answer = heirflow("run", *nowhere, "--", "./airflow", "scheduler")
    assert answer.code == STORE
    assert "warning: this scheduler stands for the election 'prod' (environment HEIRFLOW_NAME)" in answer.err


def test_airflow_behind_a_shell_would_lead_on_every_host(heirflow: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEIRFLOW_DB_URL")
    answer = heirflow("run", "--", "sh", "-c", "exec airflow scheduler")
    assert answer.code == CONFIG
    assert "every host would lead; start airflow itself (heirflow run -- airflow scheduler)" in answer.err


def test_several_elections_are_listed(heirflow: Callable, line: Callable) -> None:
    line("beat", "a")
    line("poller", "b")
    assert "there are several elections; give the name of one: beat, poller" in heirflow("history").err
    assert "did you mean 'poller'?" in heirflow("history", "pollen").err


def standby() -> subprocess.CompletedProcess[str]:
    """Start the standby of ``python -m airflow scheduler``, by a Python that sees no packages but those in this folder."""
    gate = os.pipe()
    command = [sys.executable, "-S", str(STANDBY), "-m", "scheduler"]
    env = {"HEIRFLOW_GATE": f"{gate[0]},{gate[1]}"}
    try:
        return subprocess.run(command, env=env, pass_fds=gate, capture_output=True, text=True, check=False, timeout=20)
    finally:
        for fd in gate:
            os.close(fd)


@pytest.mark.parametrize("folder", ["dags", "airflow"])
def test_a_standby_without_airflow_says_so(home: Path, folder: str) -> None:
    (home / folder).mkdir()  # a folder of that name beside the DAGs is no Airflow
    answer = standby()
    sentence = f"heirflow: {sys.executable} has no Airflow; name Airflow's own script by its path\n"
    assert (answer.returncode, answer.stdout, answer.stderr) == (CONFIG, "", sentence)


def test_an_airflow_that_lacks_something_keeps_its_traceback(home: Path) -> None:
    (home / "airflow").mkdir()
    (home / "airflow" / "__main__.py").write_text("import pendulous")
    answer = standby()
    assert answer.returncode == 1
    assert answer.stderr.endswith("No module named 'pendulous'\n")


def test_no_command_at_all_shows_the_help(heirflow: Callable) -> None:
    answer = heirflow()
    assert answer.code == 0
    assert "Commands:" in answer.out


def test_ctrl_c_is_130_and_silent(home: Path, store: Store) -> None:
    command = [sys.executable, "-m", "heirflow", "status", "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(2)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.strip() == b""


def buffered() -> dict[str, str]:
    """As people's shells have it: with PYTHONUNBUFFERED nothing is left for the end, when it goes wrong."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.mark.parametrize(
    "command", [["status"], ["history"], ["status", "--json"], ["config"], ["status", "--watch", "--json"]]
)
def test_a_reader_that_had_enough_is_no_error(home: Path, line: Callable, command: list[str]) -> None:
    line("beat", "a")
    reader, writer = os.pipe()
    os.close(reader)
    whole = [sys.executable, "-m", "heirflow", *command]
    answer = subprocess.run(whole, stdout=writer, stderr=subprocess.PIPE, check=False, env=buffered(), timeout=30)
    os.close(writer)
    assert (answer.returncode, answer.stderr) == (141, b"")


@pytest.mark.parametrize("command", [["status"], ["history"], ["config"], ["status", "--check"], ["--help"], ["init"]])
def test_an_output_that_is_full_is_one_sentence(home: Path, line: Callable, command: list[str]) -> None:
    line("beat", "a")
    with open("/dev/full", "wb") as full:
        whole = [sys.executable, "-m", "heirflow", *command]
        answer = subprocess.run(whole, stdout=full, stderr=subprocess.PIPE, check=False, env=buffered(), timeout=30)
    said = b"heirflow: cannot write the answer to standard output: No space left on device\n"
    assert (answer.returncode, answer.stderr) == (3 if "--check" in command else 1, said)


def test_a_sentence_that_nobody_reads_does_not_hold_up_the_end(home: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"." * 4096):
            pass
    os.set_blocking(writer, True)
    command = [sys.executable, "-m", "heirflow", "run", "--db-url", "sqlite:///x.db", "--", "./absent"]
    try:
        assert subprocess.run(command, stderr=writer, check=False, timeout=20).returncode == 127
    finally:
        os.close(reader)
        os.close(writer)
