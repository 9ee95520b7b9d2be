"""What `Election` says of an argument that cannot be right: Python's own names, and no flags."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from heirflow import ConfigError, Election, Timings, UnsafeTimings, aio
from heirflow.embed.election import Base

FLAG = re.compile(r"(?<![\w-])--?[a-z]")
SECONDS = ("x", -1, float("nan"), True, [], 2**70)
WRONG: dict[str, tuple[object, ...]] = {
    "name": (None, "", 3, "a\nb", "x" * 101),
    "db_url": (
        "",
        3,
        "nowhere",
        "oracle://host/database",
        "sqlite://",
        "sqlite:///here.db",
        "postgresql://user:pass@word@host/database",
        "postgresql://host:port/database",
    ),
    "db_url_file": (3, "", "/nowhere/url", "~nobody.of.this.name/url"),
    "ttl_s": (*SECONDS, 0, 0.5, 1e9),
    "check_in_s": (*SECONDS, 0, 9),
    "margin_s": (*SECONDS, 0, 0.01),
    "stop_timeout_s": SECONDS,
    "start_timeout_s": SECONDS,
    "host": ("", 3, "x" * 201),
    "label": ("", 3, "x" * 201),
    "overrun": ("", "kill", None),
    "seats": (0, 17, -1, 1.5, "two", True),
}
CASES = [pytest.param(name, value, id=f"{name}={str(value)[:20]!r}") for name in WRONG for value in WRONG[name]]


@pytest.fixture(autouse=True)
def _nothing_else_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_CONFIG_HOME", "HEIRFLOW_CONFIG", "HEIRFLOW_NAME", "HEIRFLOW_TTL", "HEIRFLOW_DB_URL"):
        monkeypatch.delenv(variable, raising=False)


def refusal(kind: type[Base], **given: Any) -> str:
    right: dict[str, Any] = (
        {"name": "bot"} if "db_url_file" in given else {"name": "bot", "db_url": "sqlite:////nowhere/x.db"}
    )
    with pytest.raises(ConfigError) as refused:
        kind(**{**right, **given})
    return str(refused.value)


@pytest.mark.parametrize("kind", [Election, aio.Election], ids=["threads", "asyncio"])
@pytest.mark.parametrize(("name", "value"), CASES)
def test_a_wrong_argument_is_named_as_python_names_it(kind: type[Base], name: str, value: object) -> None:
    said = refusal(kind, **{name: value})
    assert re.search(rf"\b{name}\b", said), said
    assert not FLAG.search(said), said
    assert not re.search(r"\b\w+-(url|in|timeout)\b", said), said


def test_every_parameter_is_tried() -> None:
    assert set(WRONG) == set(inspect.signature(Base.__init__).parameters) - {"self"}


def test_durations_are_asked_for_in_seconds() -> None:
    assert refusal(Election, ttl_s="x") == "ttl_s must be a number of seconds, 0 or more, not 'x' (argument ttl_s)"


def test_two_places_of_the_url(tmp_path: Path) -> None:
    said = refusal(Election, db_url="sqlite:////x.db", db_url_file="/nowhere")
    assert said == "both db_url and db_url_file are given (argument db_url, argument db_url_file); give one"
    file = tmp_path / "url"
    file.write_text("nowhere")
    assert f"(argument db_url_file: {file})" in refusal(Election, db_url_file=str(file))
    file.write_text("oracle://host/database")
    assert f"(argument db_url_file: {file})" in refusal(Election, db_url_file=str(file))


def test_the_sum_names_parameters_and_where_else_a_number_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIRFLOW_TTL", "5s")
    said = refusal(Election, check_in_s=4)
    assert said.startswith("ttl_s 5 s is too short"), said
    assert said.endswith("raise ttl_s or lower check_in_s (ttl_s is from environment HEIRFLOW_TTL)"), said
    with pytest.raises(UnsafeTimings, match=r"raise ttl_s or lower check_in_s$"):
        Timings.of(5, check_in_s=4)


def test_a_wrong_setting_is_named_as_it_stands_where_it_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEIRFLOW_TTL", "x")
    said = "ttl must be a duration like 10s, 500ms or 1m, not 'x' (environment HEIRFLOW_TTL)"
    assert refusal(Election) == said
    monkeypatch.delenv("HEIRFLOW_TTL")
    (tmp_path / "heirflow.toml").mkdir()
    said = refusal(Election)
    assert "HEIRFLOW_CONFIG" in said
    assert not FLAG.search(said), said


def test_no_database_is_told_of_in_pythons_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    (said,) = Election("bot")._config.not_shared
    assert "db_url_file" in said
    assert not FLAG.search(said), said
