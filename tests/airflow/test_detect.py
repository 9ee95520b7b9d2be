"""Which command lines are Airflow's, and what comes of asking an Airflow that behaves badly.

The Airflow here is a package of a few lines in a folder of the test; the real ones are asked in test_real_airflow.py.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from heirflow.cli.run import receiver
from heirflow.config.resolve import Config, Origin, Setting, Source, resolve
from heirflow.errors import ConfigError, HeirflowError
from heirflow.member.health import CommandCheck
from heirflow.member.statsd import Where
from heirflow.programs import program
from heirflow.programs.airflow import component, installation
from heirflow.programs.airflow.adopt import Adoption
from heirflow.programs.airflow.lateness import INTERVAL, THRESHOLD
from heirflow.programs.airflow.row import RowCheck
from heirflow.programs.airflow.warm import STANDBY
from heirflow.programs.plain import Plain
from heirflow.programs.program import Handling
from heirflow.stores.sql.store import SqlStore
from tests.schemas import check_output

CONFIGURATION = """
import json, os
AIRFLOW_HOME = os.environ["AIRFLOW_HOME"]
VALUES = {("scheduler", "scheduler_health_check_threshold"): "30",
          ("scheduler", "orphaned_tasks_check_interval"): "300.0",
          ("database", "sql_alchemy_conn"): os.environ.get("FAKE_URL", "postgresql://u:p@h/d"),
          ("database", "sql_alchemy_schema"): os.environ.get("FAKE_SCHEMA", ""),
          ("database", "sql_alchemy_connect_args"): os.environ.get("FAKE_CONNECT_ARGS", ""),
          **{("metrics", "statsd_" + key): value for key, value in json.loads(os.environ.get("FAKE_STATSD", "{}")).items()}}
class conf:
    @staticmethod
    def get(section, key, fallback=None):
        return VALUES.get((section, key), fallback)
    @staticmethod
    def getimport(section, key):
        module, name = VALUES[section, key].rsplit(".", 1)
        return getattr(__import__(module), name)
"""


@pytest.fixture
def fake(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``airflow`` is a script of this Python and of a package beside it."""
    package = tmp_path / "lib" / "airflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '9.9'\nprint('noise before the answer')\n")
    (package / "configuration.py").write_text(CONFIGURATION)
    home = tmp_path / "home"
    (home / "config").mkdir(parents=True)
    (home / "config" / "own_settings.py").write_text("plain = {'sslmode': 'require'}\nodd = {'ssl': object()}\n")
    script(tmp_path / "bin" / "airflow", f"#!{sys.executable}\n")
    return {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path / "lib"),
        "AIRFLOW_HOME": str(home),
    }


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def recognised(argv: list[str], environ: Mapping[str, str]) -> component.Component:
    found = component.recognise(argv, environ)
    assert isinstance(found, component.Component)
    return found


def database(argv: list[str], environ: dict[str, str], **limit: float) -> installation.Database:
    return recognised(argv, environ).database(environ, **limit)


@pytest.mark.parametrize("name", component.COMPONENTS)
@pytest.mark.parametrize(
    "start",
    [["airflow"], ["{bin}/airflow"], ["python3", "-m", "airflow"], ["python3.11", "-u", "-X", "dev", "-m", "airflow"],
     [sys.executable, "-Wignore", "-mairflow"], [sys.executable, "{bin}/airflow"]],
    ids=" ".join,
)  # fmt: skip
def test_every_way_to_write_a_component(fake: dict[str, str], start: list[str], name: str) -> None:
    folder = fake["PATH"].split(":")[0]
    argv = [word.format(bin=folder) for word in start] + [name, "--pid", "x"]
    found = recognised(argv, fake)
    assert found.election == f"airflow-{name}"
    assert program.recognise(argv, fake) == found
    assert found.interpreter


@pytest.mark.parametrize(
    "argv",
    [[], ["airflow"], ["airflow", "celery", "worker"], ["airflow", "api-server"], ["airflow", "version"], ["celery", "beat"],
     ["python3", "airflow_like.py", "scheduler"], ["python3", "-c", "pass", "-m", "airflow", "scheduler"],
     ["python3", "-m", "other", "-m", "airflow", "scheduler"], ["python3", "-m"], ["sh", "-c", "airflow scheduler"]],
    ids=" ".join,
)  # fmt: skip
def test_what_is_none_of_them(argv: list[str]) -> None:
    assert not isinstance(component.recognise(argv, os.environ), component.Component)
    if argv:
        assert isinstance(program.recognise(argv, os.environ), Plain)


@pytest.mark.parametrize(
    ("argv", "name"),
    [(["bash", "-c", "exec airflow scheduler"], "scheduler"), (["env", "A=b", "airflow", "dag-processor"], "dag-processor"),
     (["nice", "/opt/airflow/bin/airflow", "triggerer", "--skip-serve-logs"], "triggerer"), (["sh", "-c", "airflow version"], None),
     (["myairflow", "scheduler"], None), (["airflow-x", "scheduler"], None), (["celery", "beat"], None)],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)  # fmt: skip
def test_a_component_behind_something_else_is_noticed(argv: list[str], name: str | None) -> None:
    found = program.recognise(argv, os.environ)
    assert isinstance(found, Plain)
    assert bool(found.needs_database) == (name is not None)
    assert f"looks like Airflow's {name}" in found.needs_database or name is None


@pytest.mark.parametrize("flag", ["-D", "--daemon", "-vD"])
def test_a_component_that_would_leave_its_wrapper_is_refused(flag: str) -> None:
    with pytest.raises(ConfigError, match="leave out --daemon"):
        component.recognise(["airflow", "scheduler", flag], os.environ)
    assert recognised(["airflow", "scheduler", "--skip-serve-logs"], os.environ)


def test_the_database_and_all_that_belongs_to_it(fake: dict[str, str]) -> None:
    own = {"FAKE_URL": "postgresql://u:p@h/d\n", "FAKE_SCHEMA": "flow", "FAKE_CONNECT_ARGS": "own_settings.plain"}
    answer = database(["airflow", "scheduler"], fake | own)
    assert (answer.url, answer.schema, answer.version) == ("postgresql://u:p@h/d", "flow", "9.9")
    assert answer.connect_args == {"sslmode": "require"}
    assert "u:p" not in repr(answer)


@pytest.mark.parametrize(
    ("own", "found"),
    [({}, None),
     ({"on": "False", "host": "h"}, None),
     ({"on": "True"}, ("localhost:8125", "airflow")),
     ({"on": "true", "host": "st.example", "port": "9125", "prefix": "flow"}, ("st.example:9125", "flow")),
     ({"on": "1", "host": "::1"}, ("[::1]:8125", "airflow")),
     ({"on": "True", "custom_client_path": "mine.Client"}, None),
     ({"on": "True", "port": "many"}, None),
     ({"on": "True", "host": "a b"}, None),
     ({"on": "True", "prefix": "a..b"}, None)],
)  # fmt: skip
def test_where_airflow_sends_its_metrics(
    fake: dict[str, str], own: dict[str, str], found: tuple[str, str] | None
) -> None:
    assert database(["airflow", "scheduler"], fake | {"FAKE_STATSD": json.dumps(own)}).statsd == found


def test_a_folder_named_airflow_beside_the_dags_is_not_airflow(
    fake: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dags" / "airflow").mkdir(parents=True)
    (tmp_path / "dags" / "airflow" / "__init__.py").write_text("raise RuntimeError('not me')")
    monkeypatch.chdir(tmp_path / "dags")
    assert database(["airflow", "scheduler"], fake).version == "9.9"


@pytest.mark.parametrize(
    ("own", "sentence"),
    [({"FAKE_CONNECT_ARGS": "own_settings.odd"}, "own_settings.odd.*only Airflow can use"),
     ({"FAKE_CONNECT_ARGS": "absent.args"}, "No module named 'absent'"),
     ({"FAKE_URL": " \n"}, "names no database"),
     ({"PYTHONPATH": ""}, "No module named 'airflow'|cannot be read")],
)  # fmt: skip
def test_what_cannot_be_used_is_told_with_what_to_do(fake: dict[str, str], own: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        database(["airflow", "scheduler"], fake | own)
    assert "--db-url" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_interpreter_that_dies_at_once(fake: dict[str, str], tmp_path: Path) -> None:
    script(tmp_path / "odd" / "python3", "#!/bin/sh\necho 'cannot open shared object' >&2; exit 3\n")
    script(tmp_path / "bin" / "airflow", f"#!{tmp_path / 'odd' / 'python3'}\n")
    with pytest.raises(ConfigError, match="cannot open shared object"):
        database(["airflow", "scheduler"], fake)


def test_an_interpreter_that_is_not_there(fake: dict[str, str], tmp_path: Path) -> None:
    script(tmp_path / "bin" / "airflow", "#!/nowhere/python3\n")
    with pytest.raises(ConfigError, match=r"cannot start /nowhere/python3 .*: No such file"):
        database(["airflow", "scheduler"], fake)


def test_an_airflow_that_hangs_is_given_up_with_all_it_started(fake: dict[str, str], tmp_path: Path) -> None:
    mark = tmp_path / "still-here"
    hang = f"import subprocess, time\nsubprocess.Popen(['sh', '-c', 'sleep 1.5; touch {mark}'])\ntime.sleep(60)\n"
    (Path(fake["PYTHONPATH"]) / "airflow" / "configuration.py").write_text(hang)
    asked_at = time.monotonic()
    with pytest.raises(ConfigError, match=r"did not say within 0\.7 s"):
        database(["airflow", "scheduler"], fake, limit_s=0.7)
    assert time.monotonic() - asked_at < 5
    while time.monotonic() - asked_at < 2.5:
        time.sleep(0.1)
    assert not mark.exists()


@pytest.mark.parametrize(
    "head",
    ["#!/usr/bin/env python3\n", "#!{python} -s\n", "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n",
     "#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n' '''\n"],
)  # fmt: skip
def test_the_first_lines_that_installers_write(fake: dict[str, str], tmp_path: Path, head: str) -> None:
    script(tmp_path / "bin" / "airflow", head.format(python=sys.executable))
    assert database(["airflow", "triggerer"], fake).version == "9.9"


def test_a_program_that_hides_its_python(fake: dict[str, str], tmp_path: Path) -> None:
    script(tmp_path / "bin" / "airflow", "#!/bin/sh\nexec something-else\n")
    with pytest.raises(ConfigError, match="cannot tell which Python runs airflow"):
        database(["airflow", "scheduler"], fake)


def test_those_who_only_ask_about_an_election_find_the_airflow_on_the_path(fake: dict[str, str]) -> None:
    found = installation.on_path(fake)
    assert found is not None
    assert found.url == "postgresql://u:p@h/d"
    assert installation.on_path(fake | {"PATH": "/usr/bin:/bin"}) is None


def test_the_second_term_leaves_airflow_time_to_write_down_how_it_ended() -> None:
    assert component.again_s(30.0) == 25.0
    assert component.again_s(600.0) == 595.0
    assert component.again_s(3.0) == 2.0


class TestWhatTheMemberDoesForAComponent:
    @pytest.fixture(autouse=True)
    def here(self, fake: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in fake.items():
            monkeypatch.setenv(name, value)
        script(Path(fake["PATH"].split(":")[0]) / "airflow", f"#!{sys.executable}\nfrom airflow.__main__ import main\n")

    @staticmethod
    def handling(*, component: str = "scheduler", seats: int = 1, **flags: object) -> tuple[Handling, list[Config]]:
        """How ``airflow COMPONENT`` is handled with these flags, and the settings with which it was looked at beside the line."""
        given = {name.replace("_", "-"): value for name, value in flags.items()}
        found = program.recognise(["airflow", component], os.environ)
        config = resolve(given, {"HOME": os.environ["AIRFLOW_HOME"]}, fallback_name=found.election)
        setting = Setting("seats", seats, Origin(Source.FLAG, "flag --seats"))
        config = replace(config, settings={**config.settings, "seats": setting})
        looked: list[Config] = []

        def side_store(where: Config) -> SqlStore:
            looked.append(where)
            raise HeirflowError("not now")

        return found.handling(config, side_store), looked

    def test_all_of_it_in_airflows_own_database(self) -> None:
        handling, looked = self.handling()
        assert handling.config.db_url == "postgresql://u:p@h/d"
        assert str(handling.config.settings["db-url"].origin) == "Airflow's own configuration"
        assert handling.standby_argv is not None and str(STANDBY) in handling.standby_argv
        assert isinstance(handling.on_taken, Adoption)
        assert (handling.again_s, handling.warnings) == (25.0, [])
        check = handling.lookout._check
        assert isinstance(check, RowCheck)
        with pytest.raises(HeirflowError, match="not now"):
            check.look('{"job_id": 1, "job_type": "SchedulerJob"}', 1.0)
        assert looked == [handling.config]

    def test_its_metrics_go_where_airflows_go_unless_somebody_says_otherwise(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def told(**flags: object) -> Where | None:
            handling, _ = self.handling(**flags)
            return receiver(handling.config, handling)

        assert told() is None and told(statsd="h:1") == Where("h:1", "heirflow")
        monkeypatch.setenv("FAKE_STATSD", json.dumps({"on": "True", "prefix": "flow"}))
        assert told() == Where("localhost:8125", "flow.heirflow")
        assert told(statsd_prefix="mine") == Where("localhost:8125", "mine")
        assert told(statsd="h:1") == Where("h:1", "heirflow") and told(statsd="off") is None
        assert told(statsd="h:1", statsd_prefix="mine") == Where("h:1", "mine")
        assert told(db_url="postgresql://h/line") is None  # Airflow is not asked

    def test_a_database_that_was_given_is_not_airflows(self) -> None:
        handling, _ = self.handling(db_url="postgresql://h/line")
        assert handling.config.db_url == "postgresql://h/line"
        assert handling.standby_argv is not None
        assert (handling.on_taken, handling.lookout._check) == (None, None)
        [told] = handling.warnings
        assert told.startswith("the database was given (flag --db-url), so HeirFlow leaves Airflow's job table alone")

    def test_cold_heirs_have_no_adoption_and_no_health(self) -> None:
        handling, _ = self.handling(cold=True)
        assert (handling.standby_argv, handling.on_taken, handling.lookout._check) == (None, None, None)
        assert handling.config.db_url == "postgresql://u:p@h/d"
        assert [told.partition(":")[0] for told in handling.warnings] == ["heirs start cold (flag --cold)"]

    def test_a_script_that_wraps_airflows_own_is_cold(self, fake: dict[str, str]) -> None:
        script(Path(fake["PATH"].split(":")[0]) / "airflow", f"#!{sys.executable}\nimport wrapper\n")
        [told] = self.handling()[0].warnings
        assert told.startswith("heirs start cold, because ") and "is not Airflow's own script" in told

    def test_what_the_settings_turn_off(self) -> None:
        handling, _ = self.handling(no_adopt=True, no_health=True)
        assert handling.standby_argv is not None
        assert (handling.on_taken, handling.lookout._check) == (None, None)
        asked = self.handling(health_cmd="true")[0]
        assert isinstance(asked.lookout._check, CommandCheck)
        assert isinstance(asked.on_taken, Adoption)

    @pytest.mark.parametrize("cold", [False, True])
    def test_progress_is_looked_at_where_the_tables_are_airflows(self, cold: bool) -> None:
        handling, looked = self.handling(health="progress", cold=cold)
        progress = handling.lookout._progress
        assert progress is not None and (progress.limit_s, progress.acts) == (600.0, False)
        with pytest.raises(HeirflowError, match="not now"):
            progress._check.look("", 1.0)
        assert looked == [handling.config]
        assert self.handling(cold=cold)[0].lookout._progress is None
        elsewhere = self.handling(health="progress", db_url="postgresql://h/line", cold=cold)[0]
        assert elsewhere.lookout._progress is None
        assert any(told.startswith("health by progress needs Airflow's own database") for told in elsewhere.warnings)

    def test_with_seats_a_scheduler_is_told_how_to_judge_the_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        late, look = f"AIRFLOW__SCHEDULER__{THRESHOLD.upper()}", f"AIRFLOW__SCHEDULER__{INTERVAL.upper()}"
        assert (self.handling()[0].environment, self.handling()[0].told) == ({}, "")
        handling, _ = self.handling(seats=2)
        assert (handling.environment, handling.warnings) == ({late: "300", look: "5"}, [])
        assert handling.told.startswith(
            f"its scheduler runs with {late}=300 and {look}=5, which nobody has set: with 2 "
        )
        long, _ = self.handling(seats=2, stop_timeout="30m")
        assert int(long.environment[late]) > 1800
        monkeypatch.setenv(late, "30")
        handling, _ = self.handling(seats=2)
        assert (handling.environment, handling.told) == ({}, "")
        [told] = handling.warnings
        assert told.startswith(f"[scheduler] {THRESHOLD} is ") and f" ({late}), so another scheduler takes " in told

    def test_heirflow_config_shows_the_same(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        from heirflow.cli import main

        monkeypatch.setattr(Config, "seats", 2)
        monkeypatch.chdir(os.environ["AIRFLOW_HOME"])
        for name in [name for name in os.environ if name.startswith(("HEIRFLOW_", "XDG_"))]:
            monkeypatch.delenv(name)

        def told(*words: str) -> dict[str, str]:
            assert main(["config", *words, "--json"]) == 0
            out = capfd.readouterr().out
            check_output(["config", *words, "--json"], out)
            return json.loads(out)["environment"]

        both = self.handling(seats=2)[0].environment
        assert told("--name", "airflow-scheduler") == both != {}
        assert main(["config", "--name", "airflow-scheduler"]) == 0
        lines = [line.split() for line in capfd.readouterr().out.splitlines()]
        assert [[*line[:2], *line[-2:]] for line in lines if line[0] in both] == [
            [name, value, "2", "seats"] for name, value in both.items()
        ]
        for words in (
            ["--name", "airflow-triggerer"],
            ["--name", "airflow-scheduler", "--cold"],
            ["--name", "airflow-scheduler", "--no-adopt"],
            ["--name", "airflow-scheduler", "--db-url", "postgresql://h/line"],
            ["--name", "poller", "--db-url", "postgresql://h/line"],
        ):
            assert told(*words) == {}, words
        monkeypatch.setattr(Config, "seats", 1)
        assert told("--name", "airflow-scheduler") == {}

    @pytest.mark.parametrize("flags", [{"cold": True}, {"no_adopt": True}, {"db_url": "postgresql://h/line"}])
    def test_who_marks_nobody_leaves_airflow_its_own_judgement(self, flags: dict[str, object]) -> None:
        handling, _ = self.handling(seats=2, **flags)
        assert (handling.environment, handling.told) == ({}, "")

    def test_other_components_have_no_such_settings(self) -> None:
        handling, _ = self.handling(component="triggerer", seats=2)
        assert (handling.environment, handling.told) == ({}, "")

    def test_preload_is_for_other_programs(self) -> None:
        with pytest.raises(ConfigError, match="--preload is for other programs"):
            self.handling(preload="json")


def test_airflow_is_asked_again_after_a_refusal(fake: dict[str, str], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    (tmp_path / "lib" / "airflow" / "configuration.py").write_text(
        CONFIGURATION.replace('os.environ.get("FAKE_URL", "postgresql://u:p@h/d")', f"open({str(secret)!r}).read()")
    )
    secret.write_text("postgresql://u:old@h/d")
    found = installation.on_path(fake)
    assert found is not None
    config = found.place(resolve({}, fake))
    assert config.address is not None and config.address.now() == "postgresql://u:old@h/d"
    secret.write_text("postgresql://u:new@h/d")
    assert config.address.now() == "postgresql://u:old@h/d", "a program is not asked before each connection"
    assert config.address.refused("postgresql://u:old@h/d")
    assert config.address.now() == "postgresql://u:new@h/d"
