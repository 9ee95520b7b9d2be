"""Every setting, everywhere it can be given, with everything that it cannot be; and files and bytes that are none.

Each of these more than 200 ends with one sentence on standard error, the code that docs/configuration.md names, and no traceback.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heirflow.config.options import OPTIONS, Option
from tests.cli.conftest import Answer

Heirflow = Callable[..., Answer]
USAGE, CONFIG, STORE = 2, 78, 69
COMMAND = ("--", "true")
NOWHERE = ("--db-url", "postgresql://127.0.0.1:1/x", "--start-timeout", "100ms")
"""A member that nothing is wrong with ends with 69."""

DURATION = ["soon", "-1s", "1w", "10 10", "nan", "inf", "9" * 400, "0x10"]
WRONG = {
    "read_duration": DURATION,
    "read_count": ["many", "-1", "1.5", "1e3", "9" * 20, "١٢"],
    "read_seats": ["many", "0", "17", "-1", "1.5"],
    "read_signal": ["TERMINATE", "KILL", "STOP", "0", "4096", "-15"],
    "read_switch": ["maybe", "2", "yes please"],
    "read_modules": ["a b", "a;b", "os,", ".os", "1st"],
    "read_url": ["127.0.0.1:80", "ftp://x/", "http://", "http://a:b@c/", "http://x:99999999/", "http://x/\x07"],
    "read_listening": [
        "9180",
        "127.0.0.1",
        "127.0.0.1:",
        ":9180",
        "h:0",
        "h:65536",
        "h:x",
        "::1:9180",
        "http://h:1",
        "a b:1",
    ],
    "read_receiver": ["8125", "127.0.0.1", ":8125", "h:0", "h:65536", "on", "false", "udp://h:8125", "a b:1"],
    "read_prefix": ["a b", ".a", "a.", "a..b", "a:b", "é", "x" * 51],
    "read_word": ["never", "both", "HANDOVER|EXIT"],
    "read_name": ["", "  ", "x" * 101, "a\nb", "a\x1b[2J", "a#2"],
    "read_label": ["", "x" * 201, "a\rb"],
    "read_text": ["", "   ", "a\nb"],
}
"""What no reader of that kind takes."""
NOT_OF_TOML = {
    "read_duration": ["true", "[1]", "-1"],
    "read_count": ["true", "1.5", "[1]"],
    "read_seats": ["true", "1.5", "[1]"],
    "read_switch": ["1", "[true]"],
    "read_name": ["1", "[]"],
    "read_label": ["1"],
    "read_text": ["1", "{a = 1}"],
    "read_word": ["1"],
    "read_url": ["1"],
    "read_listening": ["9180"],
    "read_receiver": ["8125", "false"],
    "read_prefix": ["1"],
    "read_modules": ["['os']"],
    "read_signal": ["true", "[15]"],
}
"""TOML of another type than that."""


def given(options: list[Option], wrong: dict[str, list[str]]) -> list[tuple[Option, str]]:
    return [(option, value) for option in options for value in wrong[option.reads.__name__]]


def shown(value: object) -> str | None:
    return value.name if isinstance(value, Option) else ascii(value)[:24]


VALUED = [option for option in OPTIONS if not option.is_switch and option.name != "config"]
BY_ENVIRONMENT = [option for option in OPTIONS if option.name != "config"]
IN_FILE = [option for option in OPTIONS if option.in_file]
NOT_EMPTY = [(option, value) for option, value in given(BY_ENVIRONMENT, WRONG) if value]
"""An empty variable counts as none."""


def refused(answer: Answer, *parts: str) -> None:
    """One sentence that says where the value is from, and never what a secret is."""
    assert (answer.code, answer.out) == (CONFIG, ""), answer
    *before, said = answer.err.splitlines()
    assert said.startswith("heirflow: ") and "Traceback" not in answer.err
    assert all(line.startswith("heirflow: warning: ") for line in before)
    assert all(part in said for part in parts), said
    assert len(said) < 500


@pytest.mark.parametrize(("option", "value"), given(VALUED, WRONG), ids=shown)
def test_a_wrong_flag(heirflow: Heirflow, option: Option, value: str) -> None:
    refused(heirflow("run", *NOWHERE, f"{option.flag}={value}", *COMMAND), option.name, option.flag)


@pytest.mark.parametrize(("option", "value"), NOT_EMPTY, ids=shown)
def test_a_wrong_variable(heirflow: Heirflow, option: Option, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(option.environment, value)
    elsewhere = [flag for flag in NOWHERE if not option.name.startswith(("db-url", "start-"))]
    answer = heirflow("run", *elsewhere, *COMMAND)
    refused(answer, option.name, option.environment)


@pytest.mark.parametrize(("option", "value"), given(IN_FILE, NOT_OF_TOML), ids=shown)
def test_a_wrong_type_in_the_file(
    heirflow: Heirflow, home: Path, option: Option, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(option.environment, raising=False)
    (home / "heirflow.toml").write_text(f"{option.name} = {value}\n")
    elsewhere = () if option.name.startswith(("db-url", "start-")) else NOWHERE
    refused(heirflow("run", *elsewhere, *COMMAND), option.name, "heirflow.toml")


def test_there_are_more_than_200() -> None:
    assert len(given(VALUED, WRONG)) + len(NOT_EMPTY) + len(given(IN_FILE, NOT_OF_TOML)) > 200


FILES: dict[str, bytes] = {
    "no TOML": b"ttl: 3s\n",
    "cut off": b'name = "beat',
    "twice": b'ttl = "3s"\nttl = "4s"\n',
    "a table": b"[run]\nttl = 3\n",
    "a list of tables": b"[[ttl]]\n",
    "Latin-1": b'label = "B\xe4r"\n',
    "UTF-16": 'ttl = "3s"\n'.encode("utf-16"),
    "NUL": b'ttl = "3s"\0\n',
    "a program": b"\x7fELF\x02\x01\x01" + bytes(200),
    "deep": b"ttl = " + b"[" * 5000 + b"]" * 5000,
    "a date": b"ttl = 2026-11-29\n",
    "not a key": b'"ttl\\u0000" = 1\n',
    "a misspelt key": b'tlt = "3s"\n',
    "of the command line": b'config = "x"\n',
    "a number of 401 digits": b"ttl = 1" + b"0" * 400,
    "a number of 5000 digits": b"ttl = 1" + b"0" * 5000,
    "a long number in another base": b"ttl = 0x" + b"f" * 5000,
    "a long count": b"history-most = 0x" + b"f" * 5000,
    "a long number for a label": b"label = 0x" + b"f" * 5000,
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())
def test_a_wrong_file(heirflow: Heirflow, home: Path, content: bytes) -> None:
    (home / "heirflow.toml").write_bytes(content)
    refused(heirflow("run", *NOWHERE, *COMMAND), "heirflow.toml")
    refused(heirflow("status"), "heirflow.toml")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def for_all_to_write(path: Path) -> None:
    path.write_text('ttl = "3s"\n')
    path.chmod(0o666)


@pytest.mark.parametrize("make", [a_folder, a_loop, for_all_to_write, os.mkfifo])
def test_what_is_no_file_for_it(heirflow: Heirflow, home: Path, make: Callable[[Path], None]) -> None:
    make(home / "heirflow.toml")
    refused(heirflow("config", "--config", "heirflow.toml"), "heirflow.toml")
    refused(heirflow("run", *NOWHERE, *COMMAND), "heirflow.toml")


URLS = {
    "": "db-url",
    "postgresql": "db-url",
    "postgresql://": None,
    "postgresql://u:hunter2@/": None,
    "postgresql://u:hunter2@h:port/x": "cannot be understood",
    "postgresql://u:hunter2@h:99999/x": None,
    "postgresql://u:hunter2@h/x@y": "@",
    "postgresql://u:hunter2@[::1/x": None,
    "postgresql+asyncpg://u:hunter2@127.0.0.1:1/x": None,
    "mysql://u:hunter2@127.0.0.1:1/x?charset=nope": None,
    "mysql+nope://u:hunter2@127.0.0.1:1/x": None,
    "mssql://u:hunter2@h/x": "'mssql' is no kind of database",
    "mongodb://u:hunter2@h/x": "'mongodb' is no kind of database",
    "https://example.org/": "'https' is no kind of database",
    "etdc://h:2379": "'etdc' is no kind of database",
    "sqlite": "db-url",
    "sqlite://": "file",
    "sqlite:///:memory:": "file",
    "sqlite:///{home}": None,
    "sqlite:////proc/self/mem": None,
    "sqlite:////proc/absent/line.db": None,
}


@pytest.mark.parametrize(("url", "sentence"), URLS.items(), ids=lambda value: value)
@pytest.mark.parametrize("command", ["status", "history", "init"])
def test_a_wrong_url(heirflow: Heirflow, home: Path, command: str, url: str, sentence: str | None) -> None:
    answer = heirflow(command, "--db-url", url.replace("{home}", str(home)))
    assert answer.code in (CONFIG, STORE) and answer.out == "", answer
    *before, said = answer.err.splitlines()
    assert said.startswith("heirflow: ") and all(line.startswith("heirflow: warning: ") for line in before)
    assert "hunter2" not in answer.err and "Traceback" not in answer.err
    assert sentence is None or sentence in said


ODD_WORDS = [b"--\xff", b"\xff\xfe", b"--name=\xff", b"\xf0\x9f\x92", b"--db-url=sqlite:///\xff.db", b"--ttl=\xb2s"]
LOCALES = ["C", "POSIX", "C.UTF-8", "xx_YY.nonsense"]


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("word", ODD_WORDS, ids=ascii)
@pytest.mark.parametrize("command", [b"status", b"run"], ids=ascii)
def test_bytes_that_are_no_text(home: Path, command: bytes, word: bytes, locale: str) -> None:
    end = [b"--", b"true"] if command == b"run" else []
    env = {**os.environb, b"LC_ALL": locale.encode(), b"PYTHONUTF8": b"0", b"PYTHONCOERCECLOCALE": b"0"}
    words = [
        os.fsencode(sys.executable),
        b"-m",
        b"heirflow",
        command,
        b"--start-timeout=1s",
        b"--db-url=postgresql://127.0.0.1:1/x",
        word,
        *end,
    ]
    done = subprocess.run(words, env=env, capture_output=True, check=False, timeout=30)
    assert done.returncode in (USAGE, CONFIG, 1, 127), (done.returncode, done.stderr)
    assert done.stdout == b"" and b"Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(b"heirflow: ")
