"""What is known of the program that is run: of any, and of one more that HeirFlow comes to know."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from heirflow.config.resolve import Config, Origin, Source, resolve
from heirflow.errors import ConfigError
from heirflow.member.file_check import FileCheck
from heirflow.member.health import CommandCheck
from heirflow.member.url_check import UrlCheck
from heirflow.programs import program
from heirflow.programs.plain import Plain, lookout_for
from heirflow.programs.program import Handling, Program, Seen
from heirflow.stores import Finding

ENV = {"HOME": "/nowhere"}


def settle(
    env: dict[str, str] | None = None, *, name: str | None = None, folder: Path | None = None, **flags: object
) -> Config:
    given = {key.replace("_", "-"): value for key, value in flags.items()}
    return resolve(given, {**ENV, **(env or {})}, fallback_name=name, folder=folder or Path("/nowhere"))


def handled(argv: Sequence[str], config: Config) -> Handling:
    def side_store(_config: Config):
        raise AssertionError("nothing is looked at beside the line")

    return program.recognise(argv, {}).handling(config, side_store)


class TestAnyProgram:
    def test_is_named_after_itself_starts_cold_and_is_not_looked_at(self) -> None:
        found = program.recognise(["/opt/poller", "--fast"], {})
        assert found == Plain(("/opt/poller", "--fast"))
        assert found.election == "poller"
        handling = handled(["/opt/poller"], settle(name="poller", db_url="postgresql://h/d"))
        assert (handling.standby_argv, handling.on_taken, handling.again_s, handling.warnings) == (None, None, None, [])
        assert handling.lookout._check is None

    def test_without_a_database_it_is_told_that_others_see_nothing(self) -> None:
        [told] = handled(["poller"], settle(name="poller")).warnings
        assert told.startswith("no database was given, so the record is in sqlite:////nowhere/")
        assert "--db-url-file or HEIRFLOW_DB_URL" in told

    @pytest.mark.parametrize("name", ["python3.11", "sh", "env", "node", "celery", "manage.py"])
    def test_that_only_runs_others_needs_a_name(self, name: str) -> None:
        found = program.recognise([name, "x"], {})
        with pytest.raises(ConfigError, match="shared by everything"):
            found.check(settle(name=found.election))
        assert found.check(settle({"HEIRFLOW_NAME": name}, name=found.election)) == []

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            ("celery worker -q x", "its copies share their work, so run it on every host without HeirFlow"),
            ("webserver", "its copies share their work, so run it on every host without HeirFlow"),
            ("api-server --port 8080", "its copies share their work, so run it on every host without HeirFlow"),
            ("kerberos", "it renews the ticket of its own host"),
            ("standalone", "heirflow run -- airflow scheduler, heirflow run -- airflow dag-processor, "),
        ],
    )
    @pytest.mark.parametrize("start", [["airflow"], ["python3", "-m", "airflow"]])
    def test_what_needs_no_line_is_told_so(self, start: list[str], words: str, sentence: str) -> None:
        found = program.recognise([*start, *words.split()], {})
        with pytest.raises(ConfigError, match=sentence) as caught:
            found.check(settle(name=found.election))
        assert str(caught.value).startswith("airflow ") and "needs no line" in str(caught.value)
        assert found.check(settle({"HEIRFLOW_NAME": "one-of-them"}, name=found.election)) == [], (
            "who gives a name means it"
        )

    def test_preload(self) -> None:
        argv = ["python3", "-m", "poller"]
        config = settle(name="poller", db_url="sqlite:////x", preload="json")
        standby_argv = handled(argv, config).standby_argv
        assert standby_argv is not None and standby_argv[2:] == ["json", "-m", "poller"]
        cold = handled(argv, settle(name="poller", db_url="sqlite:////x", preload="json", cold=True))
        assert (cold.standby_argv, cold.warnings) == (None, ["heirs start cold (flag --cold), so nothing is preloaded"])


class TestHealth:
    def test_the_check_that_the_settings_ask_for(self) -> None:
        own = CommandCheck("true", set())
        assert lookout_for(settle(), set(), check=own)._check is own
        assert lookout_for(settle(no_health=True), set(), check=own)._check is None
        assert isinstance(lookout_for(settle(health_url="http://h/"), set(), check=own)._check, UrlCheck)
        assert lookout_for(settle(health_cmd="x"), set(), check=own)._check is not own
        assert isinstance(lookout_for(settle(health_file="x"), set(), check=own)._check, FileCheck)
        assert math.isclose(lookout_for(settle(ttl="8s"), set())._standstill_s, 4.0)

    @pytest.mark.parametrize(
        ("flags", "env", "file", "refused"),
        [
            ({"no_health": True, "health_cmd": "x"}, {}, "", True),
            ({"no_health": True}, {"HEIRFLOW_HEALTH_CMD": "x"}, "", False),
            ({"no_health": True}, {}, "health-cmd = 'x'", False),
            ({"health_cmd": "x"}, {"HEIRFLOW_NO_HEALTH": "1"}, "", True),
            ({}, {"HEIRFLOW_NO_HEALTH": "1", "HEIRFLOW_HEALTH_CMD": "x"}, "", False),
            ({}, {"HEIRFLOW_NO_HEALTH": "1"}, "health-cmd = 'x'", False),
            ({}, {"HEIRFLOW_HEALTH_CMD": "x"}, "no-health = true", True),
            ({}, {"HEIRFLOW_HEALTH_CMD": "x"}, "[election.beat]\nno-health = true", True),
            ({}, {}, "no-health = true\nhealth-cmd = 'x'", False),
            ({}, {}, "no-health = true\n[election.beat]\nhealth-cmd = 'x'", False),
            ({"health_url": "http://h/"}, {"HEIRFLOW_HEALTH_CMD": "x"}, "", True),
            ({"health_file": "x"}, {"HEIRFLOW_HEALTH_CMD": "x"}, "", True),
            ({"health_file": "x"}, {"HEIRFLOW_HEALTH_URL": "http://h/"}, "", True),
            ({"no_health": True, "health_file": "x"}, {}, "", True),
            ({"no_health": True, "health": "progress"}, {}, "", True),
            ({"no_health": True}, {"HEIRFLOW_HEALTH": "progress=act"}, "", False),
            ({"no_health": True}, {"HEIRFLOW_HEALTH_FILE": "x"}, "", False),
        ],
    )
    def test_what_is_turned_off_nearer_to_the_command_is_no_contradiction(
        self, tmp_path: Path, flags: dict[str, object], env: dict[str, str], file: str, refused: bool
    ) -> None:
        (tmp_path / "heirflow.toml").write_text(file)
        config = settle(env, name="beat", folder=tmp_path, **flags)
        if refused:
            with pytest.raises(ConfigError, match="contradict each other"):
                lookout_for(config, set())
        else:
            assert lookout_for(config, set())._check is None

    @pytest.mark.parametrize(
        ("flags", "expected"),
        [
            ({}, None),
            ({"health": "progress"}, (600.0, False)),
            ({"health": "Progress=Act", "progress_timeout": "1m"}, (90.0, True)),
            ({"health": "progress", "health_cmd": "x"}, (600.0, False)),
        ],
    )
    def test_progress_is_told_unless_it_may_act(self, flags: dict[str, object], expected: object) -> None:
        found = lookout_for(settle(**flags), set(), progress=(CommandCheck("true", set()), 90.0))._progress
        assert (None if found is None else (found.limit_s, found.acts)) == expected
        with pytest.raises(ConfigError, match="health must be progress or progress=act"):
            settle(health="yes")

    def test_who_has_no_program_with_known_progress_is_told_so(self) -> None:
        config = settle(name="poller", db_url="sqlite:////x", health="progress")
        handling = handled(["poller"], config)
        assert handling.lookout._progress is None
        assert ["HeirFlow does not know what this program should move" in each for each in handling.warnings] == [True]


@dataclass(frozen=True)
class Orchestra:
    """One more program."""

    argv: tuple[str, ...]
    election: str = "orchestra-daemon"

    def check(self, config: Config) -> list[str]:
        return ["this is an orchestra"]

    def handling(self, config: Config, side_store: Callable[[Config], object]) -> Handling:
        return Handling(config=config, lookout=lookout_for(config, set()), children=set(), again_s=3.0)


@pytest.fixture
def orchestra(monkeypatch: pytest.MonkeyPatch) -> None:
    def recognise(argv: Sequence[str], environ: Mapping[str, str]) -> Program | None:
        return Orchestra(tuple(argv)) if argv[0] == "orchestra" else None

    def located(config: Config, environ: Mapping[str, str]) -> Config:
        url = environ.get("ORCHESTRA")
        return config if url is None else config.placed(url, Origin(Source.PROGRAM, "orchestra's configuration"))

    def examine(config: Config, environ: Mapping[str, str], seen: Sequence[Seen], store: object) -> list[Finding]:
        return [Finding("orchestra", "note", f"{len(seen)} play")]

    module = ModuleType("heirflow.programs.orchestra")
    for each in (recognise, located, examine):
        setattr(module, each.__name__, each)
    module.ELECTIONS = {"orchestra-daemon"}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(program.KNOWN, "orchestra", "orchestra")


class TestOneMoreProgram:
    def test_is_one_module_and_one_line(self, orchestra: None) -> None:
        found = program.recognise(["orchestra", "run"], {})
        assert (found.election, found.check(settle())) == ("orchestra-daemon", ["this is an orchestra"])
        assert isinstance(program.recognise(["sh", "-c", "orchestra run"], {}), Plain)
        assert program.recognise(["airflow", "scheduler"], {"PATH": ""}).election == "airflow-scheduler"

    def test_is_asked_for_its_database_by_who_has_no_command(self, orchestra: None) -> None:
        environ = {"PATH": "", "ORCHESTRA": "postgresql://h/music"}
        assert program.is_known("orchestra-daemon") and program.is_known("airflow-scheduler")
        assert not program.is_known("beat")
        for name in ("orchestra-daemon", "beat", None):
            there = program.located(settle(name=name), environ)
            assert there.db_url == "postgresql://h/music", name
            assert str(there.settings["db-url"].origin) == "orchestra's configuration"
        beside = settle(name="airflow-scheduler")
        assert program.located(beside, environ) is beside, "another program's database does not hold Airflow's"
