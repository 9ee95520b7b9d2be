"""Settings: which of four places wins, what is refused with which sentence, and that no password is ever shown."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from heirflow.config.options import OPTIONS, reference
from heirflow.config.readers import read_duration, read_signal
from heirflow.config.resolve import Config, resolve
from heirflow.errors import ConfigError
from heirflow.text import masked, masked_url, printable

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def settle(tmp_path: Path):
    """Resolve in an empty home and an empty folder."""

    def settle(flags: dict[str, object] | None = None, env: dict[str, str] | None = None, **more: Any) -> Config:
        return resolve(flags, {"HOME": str(tmp_path / "home"), **(env or {})}, folder=tmp_path, **more)

    return settle


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return path


def test_flag_before_environment_before_file_before_default(settle, tmp_path: Path) -> None:
    assert str(settle().settings["ttl"].origin) == "default"
    write(tmp_path / "heirflow.toml", "ttl = 20")
    assert settle()["ttl"] == 20
    assert str(settle().settings["ttl"].origin) == "file " + str(tmp_path / "heirflow.toml")
    assert settle({}, {"HEIRFLOW_TTL": "30s"})["ttl"] == 30
    config = settle({"ttl": "1m"}, {"HEIRFLOW_TTL": "30s"})
    assert config["ttl"] == 60
    assert str(config.settings["ttl"].origin) == "flag --ttl"


def test_a_table_for_one_election_goes_before_the_top_level(settle, tmp_path: Path) -> None:
    write(tmp_path / "heirflow.toml", 'ttl = 20\nstop-timeout = "5s"\n[election.beat]\nttl = 30\n')
    config = settle(fallback_name="beat")
    assert (config["ttl"], config["stop-timeout"]) == (30, 5)
    assert str(config.settings["ttl"].origin).endswith("[election.beat]")
    assert settle(fallback_name="other")["ttl"] == 20


@pytest.mark.parametrize("place", ["config/heirflow/heirflow.toml", "chosen.toml"])
def test_where_the_file_is_found(settle, tmp_path: Path, place: str) -> None:
    file = write(tmp_path / place, 'label = "found"')
    env = {
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        **({"HEIRFLOW_CONFIG": str(file)} if place == "chosen.toml" else {}),
    }
    assert settle({}, env)["label"] == "found"
    assert settle({}, env).file == file


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tll = 3", "there is no setting 'tll'; did you mean 'ttl'?"),
        ("[election.x]\nttll = 3", "[election.x]: there is no setting 'ttll'; did you mean 'ttl'?"),
        ("[election.x]\nname = 'y'", "there is no setting 'name'"),
        ("election = 3", "election must be tables like"),
        ("ttl = -1", "ttl must be a duration like 10s, 500ms or 1m, not -1"),
        ("ttl = true", "ttl must be a duration"),
        ("name = 3", "name must be text"),
        ("on-exit = 'never'", "on-exit must be handover or exit, not 'never'"),
        ("ttl = ", "is not TOML"),
        ("config = 'other.toml'", "there is no setting 'config'"),
    ],
)
def test_a_bad_file_is_one_sentence(settle, tmp_path: Path, text: str, sentence: str) -> None:
    write(tmp_path / "heirflow.toml", text)
    with pytest.raises(ConfigError, match=r".") as refused:
        settle()
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 78


def test_a_file_that_is_named_must_exist(settle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration file"):
        settle({"config": str(tmp_path / "absent.toml")})


def test_underscores_are_taken_too(settle, tmp_path: Path) -> None:
    write(tmp_path / "heirflow.toml", "check_in = '1s'")
    assert settle()["check-in"] == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10", 10),
        ("10s", 10),
        ("500ms", 0.5),
        ("1m", 60),
        ("1.5h", 5400),
        (".5", 0.5),
        (" 2 s ", 2),
        (7, 7),
        (0.25, 0.25),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "s", "ten", "-1", "1w", "9" * 400, "1s2", "nan", "inf", float("nan"), float("inf"), -1, True, None, [1]],
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        read_duration(text)


def test_unsafe_numbers_show_the_sum(settle) -> None:
    with pytest.raises(ConfigError, match=r"ttl 3 s is too short: 2 check-ins 4"):
        settle({"ttl": "3s", "check-in": "2s"}).timings()


def test_timings_follow_from_ttl(settle) -> None:
    timings = settle({"ttl": "20s"}).timings()
    assert (timings.check_in_s, timings.margin_s) == (4, 2)


def test_the_default_store_is_a_file_of_this_user(settle, tmp_path: Path) -> None:
    assert settle().db_url == f"sqlite:///{tmp_path}/home/.local/state/heirflow/heirflow.db"
    assert settle({}, {"XDG_STATE_HOME": "/s"}).db_url == "sqlite:////s/heirflow/heirflow.db"


class TestSecrets:
    def test_the_url_may_stand_in_a_file(self, settle, tmp_path: Path) -> None:
        file = write(tmp_path / "url", "postgresql://me:pw@db/x\n")
        config = settle({"db-url-file": str(file)})
        assert config.db_url == "postgresql://me:pw@db/x"
        assert config.settings["db-url"].shown == "postgresql://me:***@db/x"
        assert not config.warnings

    def test_a_file_that_others_may_read_earns_a_warning(self, settle, tmp_path: Path) -> None:
        file = write(tmp_path / "url", "postgresql://me:pw@db/x\n")
        file.chmod(0o644)
        assert "chmod 600" in settle({}, {"HEIRFLOW_DB_URL_FILE": str(file)}).warnings[0]

    @pytest.mark.parametrize(("mode", "warned"), [(0o440, False), (0o400, False), (0o460, True), (0o444, True)])
    def test_a_file_that_root_gives_a_service_by_a_group_earns_none(
        self, settle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, warned: bool
    ) -> None:
        """Secrets of Kubernetes with a group, and credentials of systemd with an access list, look so."""
        file = write(tmp_path / "url", "postgresql://me:secret@db/x")
        own = os.geteuid()
        monkeypatch.setattr("os.geteuid", lambda: own + 1)
        file.chmod(mode)
        found = settle({"db-url-file": str(file)}).warnings
        assert any("run chmod 600" in warning for warning in found) == warned

    def test_a_configuration_with_a_password_that_others_may_read_earns_a_warning(self, settle, tmp_path: Path) -> None:
        write(tmp_path / "heirflow.toml", "db-url = 'mysql://me:pw@db/x'").chmod(0o644)
        assert "chmod 600" in settle().warnings[0]

    def test_a_password_on_the_command_line_earns_a_warning(self, settle) -> None:
        assert "ps" in settle({"db-url": "mysql://me:pw@db/x"}).warnings[0]
        assert not settle({"db-url": "mysql://me@db/x"}).warnings
        assert not settle({}, {"HEIRFLOW_DB_URL": "mysql://me:pw@db/x"}).warnings

    def test_the_closer_one_wins_and_two_in_one_place_are_refused(self, settle, tmp_path: Path) -> None:
        file = write(tmp_path / "url", "sqlite:////from/file")
        assert (
            settle({"db-url": "sqlite:////direct"}, {"HEIRFLOW_DB_URL_FILE": str(file)}).db_url == "sqlite:////direct"
        )
        assert (
            settle({"db-url-file": str(file)}, {"HEIRFLOW_DB_URL": "sqlite:////direct"}).db_url
            == "sqlite:////from/file"
        )
        with pytest.raises(ConfigError, match="give one"):
            settle({}, {"HEIRFLOW_DB_URL_FILE": str(file), "HEIRFLOW_DB_URL": "sqlite:////direct"})

    @pytest.mark.parametrize("text", ["", "one\ntwo"])
    def test_a_file_without_one_url_is_refused(self, settle, tmp_path: Path, text: str) -> None:
        with pytest.raises(ConfigError, match="must hold one line"):
            settle({"db-url-file": str(write(tmp_path / "url", text))})

    def test_what_is_no_url_is_refused_without_showing_it(self, settle) -> None:
        with pytest.raises(ConfigError) as refused:
            settle({"db-url": "me:hunter2@db"})
        assert "hunter2" not in str(refused.value)

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("postgresql://me:pw@db:5432/x", "postgresql://me:***@db:5432/x"),
            ("postgresql+psycopg://me:p%40w@db/x?sslmode=require", "postgresql+psycopg://me:***@db/x?sslmode=require"),
            ("postgresql://me:p@w@db/x", "postgresql://me:***@db/x"),
            ("postgresql://me:p?w@db/x", "postgresql://me:***@db/x"),
            ("postgresql://db/x?user=me&password=pw&a=b", "postgresql://db/x?user=me&password=***&a=b"),
            ("mysql://me@db/x?ssl_key_password=pw", "mysql://me@db/x?ssl_key_password=***"),
            ("mysql://:pw@db", "mysql://:***@db"),
            ("postgresql://me@db/x", "postgresql://me@db/x"),
            ("sqlite:////a/b", "sqlite:////a/b"),
            ("", ""),
        ],
    )
    def test_masking(self, url: str, shown: str) -> None:
        assert masked_url(url) == shown
        assert masked(f"cannot reach {url} now") == f"cannot reach {shown} now"


def test_a_mistyped_variable_is_told(settle) -> None:
    assert settle({}, {"HEIRFLOW_TLL": "3"}).warnings == (
        "HEIRFLOW_TLL is not a setting of HeirFlow; did you mean HEIRFLOW_TTL?",
    )
    assert not settle({}, {"HEIRFLOW_ELECTION": "x", "HEIRFLOW_TEST_POSTGRES_URL": "y"}).warnings


def test_names_that_a_terminal_would_obey_are_refused(settle) -> None:
    with pytest.raises(ConfigError, match="printable"):
        settle({"name": "a\x1b[2J"})


def test_printable() -> None:
    assert printable("plain") == "plain"
    assert printable("日本 é 👩\u200d💻") == "日本 é 👩\u200d💻"
    assert printable("a\x1b[2J\n\u202eb\udc80\x9b") == "a\\x1b[2J\\n\\u202eb\\udc80\\x9b"
    assert len(printable("x" * 5000)) == 1000


class TestDocs:
    def test_the_reference_has_every_flag_with_its_twins(self) -> None:
        text = (DOCS / "configuration.md").read_text("utf-8")
        assert reference() in text, "write it anew: python -m heirflow.config.options"
        for option in OPTIONS:
            assert option.flag in text
            assert option.environment in text

    def test_every_flag_of_run_is_in_the_table(self) -> None:
        from heirflow.cli.run import run

        flags = {flag for parameter in run.params for flag in parameter.opts if flag.startswith("--")}
        assert flags == {option.flag for option in OPTIONS}


def test_doctor_knows_when_a_member_is_too_far_from_its_store_to_take_charge(settle) -> None:
    from heirflow.cli.doctor import reach

    assert reach(settle({"ttl": "3s"}), 0.040) is None
    far = reach(settle({"ttl": "3s"}), 0.042)
    assert far is not None and far.level == "warning"
    assert "0.92 s from here, and a check-in every 0.6 s leaves 0.90 s" in far.sentence
    farther = reach(settle({"ttl": "3s"}), 0.1)
    assert farther is not None and farther.level == "problem"
    assert reach(settle({"ttl": "10s"}), 0.042) is None
    assert reach(settle({"check-in": "9s"}), 9.0) is None, "unsafe numbers are told elsewhere"


def test_everything_shown_can_be_json(settle) -> None:
    json.dumps({name: setting.shown for name, setting in settle().settings.items()})


def test_a_relative_sqlite_url_counts_from_the_file_in_which_it_stands(
    settle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    write(folder / "url", "sqlite:///line.db")
    toml = write(
        folder / "chosen.toml", "db-url = 'sqlite+pysqlite:///deep/line.db'\n[election.x]\ndb-url = 'sqlite:///x.db'\n"
    )
    for start in (tmp_path, folder):
        monkeypatch.chdir(start)
        given = {"db-url-file": "url" if start == folder else "etc/url"}
        settled = settle(given)
        assert settled.db_url == f"sqlite:///{folder}/line.db"
        assert settled.address is not None and settled.address.now() == settled.db_url
        assert settle({"config": str(toml)}).db_url == f"sqlite+pysqlite:///{folder}/deep/line.db"
        assert settle({"config": str(toml), "name": "x"}).db_url == f"sqlite:///{folder}/x.db"
    absolute = write(folder / "url", "sqlite:////var/line.db")
    assert settle({"db-url-file": str(absolute)}).db_url == "sqlite:////var/line.db"


@pytest.mark.parametrize(
    "secret", ["a@b", "a/b", "a#b", "a?b", "a@b/c", "a#b@c/d", "a@b?c", "a?b=c@d", "a:b@c", "a'b", 'a"b', "a;b"]
)
def test_nothing_of_a_password_is_shown_whatever_is_not_encoded_in_it(secret: str) -> None:
    secret = secret.translate({ord(letter): f"s3{letter}cret" for letter in "abcd"})
    for url in (
        f"postgresql://me:{secret}@db:5432/x",
        f"postgresql://me:{secret}@db:5432/x?sslmode=require",
        f"postgresql://db:5432/x?user=me&password={secret}",
        f"postgresql://db/x?password={secret}&sslmode=require",
        f"postgresql://me@corp:{secret}@db/x",
    ):
        for shown in (masked_url(url), masked(f"cannot reach {url} now"), masked(f"db-url = '{url}'")):
            assert "cret" not in shown and "s3" not in shown, shown
            assert "***" in shown


def test_what_is_no_password_is_shown() -> None:
    for url in (
        "postgresql://me@db:5432/x?options=a@b",
        "postgresql://db:5432/x",
        "sqlite:////home/me@corp/line.db",
        "http://127.0.0.1:80/health?x=1",
    ):
        assert masked_url(url) == masked(url) == url


@pytest.mark.parametrize(("raw", "number"), [("TERM", 15), ("sigquit", 3), ("12", 12), (2, 2)])
def test_a_signal_is_named_in_any_way(raw: object, number: int) -> None:
    assert read_signal(raw) == number


@pytest.mark.parametrize("raw", ["KILL", "9", "STOP", "", "SIGNAL", "-3", "900", True, None])
def test_no_signal_that_a_program_could_not_handle(raw: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        read_signal(raw)
