"""`heirflow generate`: every word comes back as it was given, read by the rules of each service manager; the waits are long enough;
no secret is written; and the files in deploy/ are what it writes.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from heirflow.cli.probe import probe
from heirflow.cli.release import release
from heirflow.cli.run import run
from heirflow.election.record import Exchange
from heirflow.generate.words import for_yaml, label
from heirflow.stores import open_store
from tests.cli.conftest import Answer, until

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("systemd", "supervisord", "compose", "kubernetes")
NEEDED: dict[str, list[str]] = {
    "systemd": ["--user", "poller", "--heirflow", "/bin/true"],
    "supervisord": ["--heirflow", "/bin/true"],
    "compose": ["--image", "poller:1"],
    "kubernetes": ["--image", "poller:1"],
}

WORDS = [
    "a b", "", " ", "50%", "%i %d %%", "%(ENV_HOME)s", "$HOME", "${HOME}", "$$", "a$", "$(HOME)", "$$(HOME)", "it's", 'say "hi"',
    "back\\slash", "end\\", "\\x41", ";", "a ;b", "a  #b '; c", "#c", "é ü 漢 🙂", "-x", "--", "*", "{a: b}", "- a", "~", "@x",
    "!y", "true", "007", "`x`", "a" * 5000, "\u00a0x",
]  # fmt: skip
ODD_WORDS = [
    "tab\there",
    "line\nbreak\n\n  and more",
    "\r",
    "\x1b[0m",
    "\x7f",
    "\u2028",
    "\u0085",
    "\ufeff",
    "\U000f0000",
]


@pytest.fixture
def made(heirflow: Callable[..., Answer]) -> Callable[..., str]:
    """What `heirflow generate` writes to standard output."""

    def made(*args: str) -> str:
        answer = heirflow("generate", *args)
        assert answer.code == 0, answer.err
        return answer.out

    return made


# ---- the readers: what each service manager makes of the text


def systemd_reads(text: str, folder: Path, name: str = "heirflow-test.service") -> dict[str, Any]:
    """A unit as systemd itself reads it. It also fails where systemd has anything to say about the unit."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze (Debian's package systemd)")
    file = folder / name
    file.write_text(text, "utf-8")
    call = [program, "verify", "--man=no", "--recursive-errors=no", str(file)]
    said = subprocess.run(call, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 0 and name.partition("@")[0] not in said.stderr, said.stderr
    env = {**os.environ, "SYSTEMD_LOG_LEVEL": "debug"}
    dump = subprocess.run(call, capture_output=True, text=True, check=False, timeout=60, env=env).stdout
    found: dict[str, Any] = dict(re.findall(r"^\t+([\w ]+): (.*)$", dump, re.MULTILINE))
    for key, line in re.findall(r"-> (Exec\w+):\n\t+Command Line: (.*)\n", dump):
        found[key] = [started(shown(word)) for word in re.findall(r'"(?:[^"\\]|\\.)*"|[^ ]+', line)]
    return found


def shown(word: str) -> str:
    """A word of systemd's dump: within quotes it is written as in C, with $ and ` escaped."""
    if not word.startswith('"'):
        return word
    plain = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(
        r"\\(?:([0-7]{3})|(.))",
        lambda match: chr(int(match[1], 8)) if match[1] else plain.get(match[2], match[2]),
        word[1:-1],
    )


def without(pattern: str) -> Callable[[str], str]:
    """Two dollars are one, and nothing that this pattern finds is a variable."""

    def read(word: str) -> str:
        def one(match: re.Match[str]) -> str:
            assert match[0] == "$$", f"{word!r} has a variable"
            return "$"

        return re.sub(rf"\$\$|{pattern}", one, word)

    return read


started = without(r"^\$\w|\$\{")
interpolated = without(r"\$")
expanded = without(r"\$\(")


def supervisord_reads(text: str, folder: Path) -> dict[str, Any]:
    """A program as supervisord itself reads it."""
    file = folder / "supervisord.conf"
    file.write_text(f"[supervisord]\nlogfile={folder}/log\n\n{text}", "utf-8")
    ask = (
        "import json, shlex, sys; from supervisor.options import ServerOptions; options = ServerOptions();"
        "options.realize(['-n', '-c', sys.argv[1]]); [group] = options.process_group_configs; [one] = group.process_configs;"
        "print(json.dumps({**{key: str(value) for key, value in vars(one).items()}, 'words': shlex.split(one.command)}))"
    )
    said = subprocess.run(
        [sys.executable, "-c", ask, str(file)], capture_output=True, text=True, check=False, timeout=60
    )
    assert said.returncode == 0, said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def member_words(kind: str, text: str, folder: Path) -> list[str]:
    """The words that the member is started with, behind those that start HeirFlow."""
    if kind == "systemd":
        return systemd_reads(text, folder)["ExecStart"][1:]
    if kind == "supervisord":
        return supervisord_reads(text, folder)["words"][1:]
    if kind == "compose":
        [service] = yaml.safe_load(text)["services"].values()
        assert service["entrypoint"] == ["heirflow"]
        return list(map(interpolated, service["command"]))
    deployment = next(yaml.safe_load_all(text))
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["heirflow"]
    return list(map(expanded, container["args"]))


def understood(command: click.Command, words: list[str]) -> dict[str, Any]:
    """What a command of HeirFlow makes of these words."""
    return command.make_context(command.name, list(words)).params


# ---- words


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_of_the_command_comes_back(kind: str, made: Callable[..., str], tmp_path: Path) -> None:
    words = [*WORDS, *(ODD_WORDS if kind != "supervisord" else [])]
    text = made(kind, *NEEDED[kind], "--name", "poller", "--", "/bin/echo", *words)
    first, *rest = member_words(kind, text, tmp_path)
    assert first == "run"
    assert understood(run, rest)["command"] == ("/bin/echo", *words)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["50% $HOME 'x' \"y\"", "nächtlich", "a/b", "-", "A b;#\\", "%i", "x" * 100])
def test_every_name_and_setting_comes_back(kind: str, name: str, made: Callable[..., str], tmp_path: Path) -> None:
    hook = """test "$HEIRFLOW_EVENT" = promote && date +%s > '/tmp/a b' # ; $$"""
    given = ["--name", name, "--ttl", "5s", "--on-event", hook, "--allow-sudo", "--label", "50% ;x"]
    text = made(kind, *NEEDED[kind], *given, "--", "/bin/echo")
    found = understood(run, member_words(kind, text, tmp_path)[1:])
    assert (found["name"], found["ttl"], found["on_event"]) == (name, "5s", hook)
    assert (found["allow_sudo"], found["label"]) == (True, "50% ;x")
    if kind == "systemd":
        unit = systemd_reads(text, tmp_path)
        assert understood(release, unit["ExecStopPost"][2:])["name"] == name
        assert unit["Description"] == f"HeirFlow: {name} (exactly one in the line runs)"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_comes_back_from_yaml(text: str) -> None:
    assert yaml.safe_load(f"a: [{for_yaml(text)}]") == {"a": [text]}


@given(st.lists(st.text(min_size=1, max_size=60), min_size=2, max_size=5, unique=True))
def test_two_elections_never_share_a_name_of_files(names: list[str]) -> None:
    for dots in (False, True):
        labels = [label(name, dots=dots) for name in names]
        assert len(set(labels)) == len(names)
        pattern = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,49}" if dots else r"[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?"
        assert all(re.fullmatch(pattern, each) for each in labels), labels


def test_supervisord_gets_no_word_that_it_cannot_hold(heirflow: Callable[..., Answer]) -> None:
    for word in ODD_WORDS[:-2]:
        answer = heirflow("generate", "supervisord", "--name", "x", "--", "/bin/echo", word)
        assert answer.code == 78 and answer.out == "" and "cannot hold a line break" in answer.err


# ---- what stands in each file


@pytest.mark.parametrize("stop", ["0", "1500ms", "30s", "1.5m"])
def test_a_service_manager_waits_longer_than_the_stop_timeout(
    stop: str, made: Callable[..., str], tmp_path: Path
) -> None:
    stop_s = {"0": 0, "1500ms": 1.5, "30s": 30, "1.5m": 90}[stop]
    texts = {kind: made(kind, *NEEDED[kind], "--stop-timeout", stop, "--", "/bin/echo") for kind in KINDS}
    deployment = next(yaml.safe_load_all(texts["kubernetes"]))
    waits = {
        "systemd": re.search(r"^TimeoutStopSec=(\d+)$", texts["systemd"], re.MULTILINE)[1],
        "supervisord": supervisord_reads(texts["supervisord"], tmp_path)["stopwaitsecs"],
        "compose": yaml.safe_load(texts["compose"])["services"]["echo"]["stop_grace_period"].removesuffix("s"),
        "kubernetes": deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
    }
    for kind, wait in waits.items():
        assert int(wait) >= stop_s + 30, kind
        # As a flag, no environment and no file can raise it above that.
        assert understood(run, member_words(kind, texts[kind], tmp_path)[1:])["stop_timeout"] == f"{stop_s:g}s"


def test_a_unit_has_what_a_member_needs(made: Callable[..., str], tmp_path: Path) -> None:
    given = ["--name", "poller", "--db-url-file", "/etc/my db/50%", "--start-timeout", "2m", "--directory", "/srv/a b%"]
    text = made("systemd", *NEEDED["systemd"], *given, "--environment-file", "/etc/x y", "--", "/bin/echo")
    unit = systemd_reads(text, tmp_path)
    assert "\nLoadCredential=db-url:/etc/my db/50%%\n" in text
    assert (
        unit["User"] == "poller" and unit["EnvironmentFile"] == "/etc/x y" and unit["WorkingDirectory"] == "/srv/a b%"
    )
    assert unit["RuntimeDirectory"] == "heirflow-poller" and unit["RuntimeDirectoryMode"] == "0700"
    assert unit["Environment"] == "HEIRFLOW_RUN_DIR=/run/heirflow-poller"
    assert unit["KillMode"] == "mixed" and unit["WatchdogSec"] == "30s" and unit["Restart"] == "always"
    assert unit["TimeoutStopSec"] == "1min" and unit["TimeoutStartSec"] == "3min 30s"
    assert "\nType=notify\n" in text and "\nDelegate=yes\n" in text
    for command, key in ((run, "ExecStart"), (release, "ExecStopPost")):
        words = unit[key]
        assert words[:2] == ["/bin/true", command.name]
        found = understood(command, words[2:])
        assert (found["name"], found["db_url_file"]) == ("poller", "/run/credentials/heirflow-test.service/db-url")


def test_a_folder_or_configuration_of_ones_own_reaches_member_and_release(
    made: Callable[..., str], tmp_path: Path
) -> None:
    given = ["--run-dir", "/run/50% $x", "--config", "/etc/h f.toml"]
    unit = systemd_reads(made("systemd", *NEEDED["systemd"], *given, "--", "/bin/echo"), tmp_path)
    assert unit["Environment"] == "HEIRFLOW_RUN_DIR=/run/50% $x" and "RuntimeDirectory" not in unit
    for command, key in ((run, "ExecStart"), (release, "ExecStopPost")):
        found = understood(command, unit[key][2:])
        assert found["config"] == "/etc/h f.toml" and found["db_url_file"] is None


def test_a_user_who_may_read_the_file_needs_no_copy_of_systemds(made: Callable[..., str], tmp_path: Path) -> None:
    text = made("systemd", *NEEDED["systemd"], "--no-credential", "--db-url-file", "/etc/a b/50%", "--", "/bin/echo")
    unit = systemd_reads(text, tmp_path)
    assert "LoadCredential" not in text and "%d" not in text
    for command, key in ((run, "ExecStart"), (release, "ExecStopPost")):
        assert understood(command, unit[key][2:])["db_url_file"] == "/etc/a b/50%"


def test_a_template_runs_what_its_instance_says(made: Callable[..., str], tmp_path: Path) -> None:
    text = made("systemd", "--template", "--user", "heirflow", "--heirflow", "/bin/true")
    unit = systemd_reads(text.replace("-- $COMMAND", "-- /bin/echo"), tmp_path, "heirflow@night-ly.service")
    assert re.search(r"^ExecStart=.* -- \$COMMAND$", text, re.MULTILINE)
    assert unit["EnvironmentFile"] == "/etc/heirflow/night-ly.env" and unit["RuntimeDirectory"] == "heirflow-night-ly"
    assert understood(run, unit["ExecStart"][2:])["name"] == "night-ly"
    assert understood(release, unit["ExecStopPost"][2:])["name"] == "night-ly"


def test_a_template_of_a_command_takes_the_instance_into_its_words(made: Callable[..., str], tmp_path: Path) -> None:
    given = ["--template", "--name", "queue-%i", "--user", "q", "--heirflow", "/bin/true"]
    text = made("systemd", *given, "--", "/bin/echo", "--queue=%i", "100%")
    unit = systemd_reads(text, tmp_path, "heirflow-queue@mails.service")
    found = understood(run, unit["ExecStart"][2:])
    assert found["name"] == "queue-mails" and found["command"] == ("/bin/echo", "--queue=mails", "100%")
    assert "EnvironmentFile" not in unit and found["db_url_file"].endswith("/db-url")


def test_a_program_of_supervisord(made: Callable[..., str], tmp_path: Path) -> None:
    found = supervisord_reads(made("supervisord", *NEEDED["supervisord"], "--name", "poller", "--", "/x"), tmp_path)
    assert (found["name"], found["autorestart"] != "False", found["stopsignal"]) == ("poller", True, "15")
    # TERM is for the member alone; it asks the command itself.
    assert (found["stopasgroup"], found["killasgroup"]) == ("False", "True")
    assert understood(run, found["words"][2:])["db_url_file"] == "/etc/heirflow/db-url"


def test_a_service_of_compose(made: Callable[..., str]) -> None:
    given = ["--image", "r.example/$x:1", "--user", "1000:1000", "--environment-file", "a$.env", "--directory", "/a$"]
    found = yaml.safe_load(made("compose", *given, "--name", "poller", "--db-url-file", "./db $url", "--", "poller"))
    service = found["services"]["poller"]
    assert (service["image"], service["user"], service["env_file"]) == ("r.example/$$x:1", "1000:1000", ["a$$.env"])
    assert (service["working_dir"], service["restart"]) == ("/a$$", "unless-stopped")
    assert found["secrets"] == {"db-url": {"file": "./db $$url"}} and service["secrets"] == ["db-url"]
    assert understood(run, service["command"][1:])["db_url_file"] == "/run/secrets/db-url"
    mark, program, word, *question = service["healthcheck"]["test"]
    assert (mark, program, word) == ("CMD", "heirflow", "probe")
    assert understood(probe, question)["question"] == "live"


def test_a_deployment(made: Callable[..., str]) -> None:
    given = ["--image", "poller:1", "--replicas", "3", "--user", "1000", "--environment-secret", "poller-env"]
    deployment, budget = yaml.safe_load_all(
        made("kubernetes", *given, "--secret", "pg", "--name", "Poller", "--", "poller")
    )
    name = deployment["metadata"]["name"]
    assert re.fullmatch(r"poller-[0-9a-f]{8}", name)
    labels = {"app.kubernetes.io/name": name}
    spec = deployment["spec"]
    assert deployment["kind"] == "Deployment" and spec["replicas"] == 3
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"] == labels
    assert budget["kind"] == "PodDisruptionBudget" and budget["spec"]["selector"]["matchLabels"] == labels
    pod = spec["template"]["spec"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000}
    [container] = pod["containers"]
    [volume], [mount] = pod["volumes"], container["volumeMounts"]
    assert volume["secret"] == {"secretName": "pg", "defaultMode": 0o440} and volume["name"] == mount["name"]
    assert container["envFrom"] == [{"secretRef": {"name": "poller-env"}}] and mount["readOnly"] is True
    assert understood(run, container["args"][1:])["db_url_file"] == f"{mount['mountPath']}/db-url"
    asked = {key: container[key]["exec"]["command"] for key in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert [words[:2] for words in asked.values()] == [["heirflow", "probe"]] * 3
    questions = {key: understood(probe, words[2:])["question"] for key, words in asked.items()}
    assert questions == {"startupProbe": "live", "livenessProbe": "live", "readinessProbe": "able"}
    startup = container["startupProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 120


def test_probes_of_kubernetes_expand_nothing(made: Callable[..., str]) -> None:
    text = made("kubernetes", "--image", "x", "--heirflow", "'/opt/$(a)/heirflow'", "--", "poller")
    [container] = next(yaml.safe_load_all(text))["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["/opt/$$(a)/heirflow"]
    assert container["livenessProbe"]["exec"]["command"][0] == "/opt/$(a)/heirflow"


@pytest.mark.parametrize("kind", KINDS)
def test_a_component_of_airflow_stays_in_its_own_database(kind: str, made: Callable[..., str]) -> None:
    text = made(kind, *NEEDED[kind], "--", "airflow", "scheduler")
    assert "db-url" not in text and "airflow-scheduler" in text
    if kind in {"compose", "kubernetes"}:  # the entry point of Airflow's image runs `python` as it is
        assert '["python", "-m", "heirflow", "run", ' in text
        assert "entrypoint" not in text and '\n          command: ["' not in text
    if kind == "kubernetes":
        assert "runAsUser: 50000\n" in text and "fsGroup: 0\n" in text


# ---- only what is given, and no secret


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_this_host_is_written(
    kind: str, made: Callable[..., str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = (kind, *NEEDED[kind], "--name", "poller", "--", "/bin/echo")
    before = made(*args)
    (home / "heirflow.toml").write_text('ttl = 20\nlabel = "from the file"\ndb-url = "postgresql://a:hunter2@b/c"\n')
    monkeypatch.setenv("HEIRFLOW_DB_URL", "postgresql://a:hunter2@b/c")
    monkeypatch.setenv("HEIRFLOW_STOP_TIMEOUT", "300s")
    assert made(*args) == before


@pytest.mark.parametrize(
    "words",
    [
        ["--", "x", "--password", "hunter2"],
        ["--", "x", "--db-password=hunter2"],
        ["--", "x", "amqp://guest:hunter2@mq/"],
        ["--", "x", "http://x/?token=hunter2"],
        ["--", "env", "PGPASSWORD=hunter2", "x"],
        ["--", "env", "AIRFLOW__CORE__FERNET_KEY=hunter2", "x"],
        ["--", "sh", "-c", "x --api-key hunter2"],
        ["--", "sh", "-c", "TOKEN='hunter2' exec x"],
        ["--health-cmd", "x --token=hunter2", "--", "x"],
        ["--health-url", "http://x/?api_token=hunter2", "--", "x"],
        ["--on-event", "curl https://me:hunter2@x/", "--", "x"],
        ["--label", "secret=hunter2", "--", "x"],
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_looks_like_a_secret_is_refused_and_never_repeated(
    kind: str, words: list[str], heirflow: Callable[..., Answer]
) -> None:
    answer = heirflow("generate", kind, *NEEDED[kind], "--name", "x", *words)
    assert answer.code == 78 and "looks like a secret" in answer.err
    assert "hunter2" not in answer.err + answer.out


def test_where_a_secret_is_kept_is_no_secret(made: Callable[..., str]) -> None:
    words = [
        "x",
        "--password-file",
        "/run/x",
        "--password=$PW",
        "--token",
        "/run/token",
        "--max-tokens=5",
        "--secret=@f",
    ]
    made(
        "compose",
        "--image",
        "x",
        "--name",
        "x",
        "--",
        *words,
        "--token-ttl=30",
        "sh -c 'x --password \"$PW\"'",
        "my token is",
    )


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["nope"], 2, "No such command 'nope'"),
        (["systemd"], 2, "give a command behind --, or --template"),
        (["compose", "--", "x"], 2, "Missing option '--image'"),
        (["systemd", "--db-url", "postgresql://a/b", "--", "x"], 2, "No such option '--db-url'"),
        (["systemd", "--", "python", "x.py"], 78, "give --name"),
        (["systemd", "--", "airflow", "celery", "worker"], 78, "airflow celery worker needs no line"),
        (["systemd", "--ttl", "0", "--", "x"], 78, "ttl must be more than 0 s"),
        (["systemd", "--stop-timeout", "soon", "--", "x"], 78, "stop-timeout must be a duration"),
        (["systemd", "--health-cmd", "a", "--health-url", "http://x/", "--", "x"], 78, "contradict each other"),
        (["systemd", "--user", "a\nExecStart=/bin/sh", "--", "x"], 78, "--user must be"),
        (["systemd", "--group", "a b", "--", "x"], 78, "--group must be"),
        (["systemd", "--db-url-file", "db-url", "--", "x"], 78, "--db-url-file must be a whole path"),
        (["systemd", "--db-url-file", "/etc//db-url", "--", "x"], 78, "--db-url-file must be a plain path"),
        (["systemd", "--db-url-file", "/etc/x/../db-url", "--", "x"], 78, "--db-url-file must be a plain path"),
        (["systemd", "--directory", "/a\n[Install]", "--", "x"], 78, "--directory must be one printable line"),
        (["systemd", "--environment-file", "/a\\", "--", "x"], 78, "does not end in a backslash"),
        (["systemd", "--config", "heirflow.toml", "--", "x"], 78, "--config must be a whole path"),
        (["systemd", "--heirflow", "heirflow", "--", "x"], 78, "--heirflow must begin with a whole path"),
        (["systemd", "--heirflow", "'", "--", "x"], 78, "--heirflow must be words as in a shell"),
        (["systemd", "--template", "--name", "x", "--", "x"], 78, "must hold %i"),
        (["systemd", "--template", "--name", "%i x", "--", "x"], 78, "must hold %i"),
        (["systemd", "--name", "x", "--", "x", "\udcff"], 78, "is not UTF-8 text"),
        (["supervisord", "--directory", "/a ;b", "--", "x"], 78, "cannot hold a folder"),
        (["compose", "--image", "a\nb", "--", "x"], 78, "--image must be one printable line"),
        (["compose", "--image", "x", "--user", "a b", "--", "x"], 78, "--user must be"),
        (["kubernetes", "--image", "x", "--user", "airflow", "--", "x"], 78, "in numbers"),
        (["kubernetes", "--image", "x", "--secret", "A_b", "--", "x"], 78, "the name of a Secret"),
        (["kubernetes", "--image", "x", "--db-url-file", "/x", "--", "x"], 78, "name it with --secret"),
        (["kubernetes", "--image", "x", "--replicas", "0", "--", "x"], 2, "--replicas"),
        (["systemd", "--force", "--", "x"], 2, "--force is for --output"),
        (["systemd", "--output", "absent/unit", "--", "x"], 1, "cannot write absent/unit: No such file or directory"),
        (["systemd", "--output", ".", "--force", "--", "x"], 1, ". is no ordinary file"),
        (["systemd", "--output", "", "--", "x"], 78, "--output must be one printable line"),
        (["systemd", "--output", "loop", "--", "x"], 1, "loop exists already"),
        (["systemd", "--output", "/dev/null", "--force", "--", "x"], 1, "/dev/null is no ordinary file"),
    ],
    ids=lambda value: " ".join(value)[:60].encode("ascii", "replace").decode() if isinstance(value, list) else None,
)
def test_one_sentence_and_the_right_code(
    heirflow: Callable[..., Answer], home: Path, args: list[str], code: int, sentence: str
) -> None:
    (home / "loop").symlink_to("loop")
    answer = heirflow("generate", *args)
    *warnings, said = answer.err.splitlines()
    assert answer.code == code and sentence in said and answer.out == "", answer.err
    assert all(line.startswith("heirflow: warning: ") for line in warnings)


def test_a_file_is_never_overwritten_without_force(heirflow: Callable[..., Answer], home: Path) -> None:
    args = ("generate", "compose", "--image", "x", "--output", "compose.yaml")
    assert heirflow(*args, "--", "a").code == 0
    file = home / "compose.yaml"
    first = file.read_text()
    assert yaml.safe_load(first)["services"].keys() == {"a"}
    answer = heirflow(*args, "--", "b")
    assert answer.code == 1 and "compose.yaml exists already; --force replaces it" in answer.err
    assert file.read_text() == first
    (home / "link").symlink_to(file)
    answer = heirflow("generate", "compose", "--image", "x", "--output", "link", "--force", "--", "b")
    assert answer.code == 0 and answer.err == "" and answer.out == "wrote link\n"
    assert yaml.safe_load(file.read_text())["services"].keys() == {"b"} and (home / "link").is_symlink()
    assert file.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in home.iterdir()) == ["compose.yaml", "link"]


# ---- for real, as far as this can be had


@pytest.mark.slow
def test_supervisord_runs_a_member_and_stops_it_in_order(made: Callable[..., str], home: Path) -> None:
    url = f"sqlite:///{home}/line.db"
    (home / "db-url").write_text(url)
    (home / "db-url").chmod(0o600)
    script = "import json, os, sys, time; open('told', 'w').write(json.dumps(sys.argv[1:])); time.sleep(600)"
    words = [word for word in WORDS if len(word) < 100]
    heirflow = shlex.join([sys.executable, "-m", "heirflow"])
    given = ["--heirflow", heirflow, "--name", "50% ;x", "--ttl", "3s", "--db-url-file", str(home / "db-url")]
    text = made("supervisord", *given, "--directory", str(home), "--", sys.executable, "-c", script, *words)
    own = f"[supervisord]\nlogfile={home}/log\npidfile={home}/pid\nchildlogdir={home}\n"
    (home / "supervisord.conf").write_text(f"{own}\n{text}", "utf-8")
    call = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(home / "supervisord.conf")]
    told = home / "told"
    with (home / "out").open("wb") as out:
        process = subprocess.Popen(call, stdout=out, stderr=out, cwd="/")
    try:
        until(lambda: told.exists() and told.read_text(), "the member runs its command")
        assert json.loads(told.read_text()) == words
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    store = open_store(url, call_limit_s=5)
    store.open(create=False)
    record = store.exchange("50% ;x", Exchange()).record
    store.close()
    assert record is not None and record.term == 1 and record.leader is None, "it was released when it stopped"


# ---- docs and deploy/

PAGE = (ROOT / "docs" / "generate.md").read_text("utf-8")
SHOWN = [line for line in PAGE.splitlines() if line.startswith("heirflow generate ")]


@pytest.mark.parametrize("line", SHOWN)
def test_the_commands_on_the_page_work(line: str, made: Callable[..., str]) -> None:
    first, _, *words = shlex.split(line)
    text = made(*words)
    # What is written says how it was made, and that makes the same again.
    again = shlex.split(re.search(r"Made by: (.*)", text)[1])
    assert again[:2] == [first, "generate"] and made(*again[2:]) == text


def test_the_page_shows_every_kind() -> None:
    assert {line.split()[2] for line in SHOWN} == set(KINDS)


DEPLOY = ROOT / "deploy"
MADE = sorted(
    path
    for path in DEPLOY.rglob("*")
    if path.is_file() and re.search(r"^[#;] Made by: ", path.read_text(), re.MULTILINE)
)
NAMES = {
    "systemd/heirflow@.service",
    "systemd/heirflow-airflow@.service",
    "compose/compose.yaml",
    "kubernetes/poller.yaml",
    "supervisord/poller.conf",
}


def test_which_files_in_deploy_are_made() -> None:
    assert {str(path.relative_to(DEPLOY)) for path in MADE} == NAMES


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_a_file_in_deploy_is_what_generate_writes(path: Path, made: Callable[..., str]) -> None:
    text = path.read_text("utf-8")
    first, second, *words = shlex.split(text.splitlines()[0].partition("Made by: ")[2])
    assert [first, second] == ["heirflow", "generate"]
    assert made(*words) == text, f"make it again with: {text.splitlines()[0][2:]}"


@pytest.mark.parametrize("name", ["heirflow@.service", "heirflow-airflow@.service"])
def test_systemd_has_nothing_to_say_about_the_units_in_deploy(name: str, tmp_path: Path) -> None:
    text = re.sub(r"/opt/\w+/bin/heirflow", "/bin/true", (DEPLOY / "systemd" / name).read_text())
    unit = systemd_reads(text.replace("$COMMAND", "/bin/echo"), tmp_path, name.replace("@", "@scheduler"))
    assert unit["ExecStart"][:2] == ["/bin/true", "run"] and unit["ExecStopPost"][:2] == ["/bin/true", "release"]


@pytest.mark.parametrize("kind", ["compose", "kubernetes"])
def test_probes_ask_where_the_member_listens(heirflow: Callable, kind: str) -> None:
    place = ["--run-dir", "/run/poller", "--config", "/etc/poller.toml"]
    text = heirflow("generate", kind, "--name", "poller", "--image", "x:1", *place, "--", "poller").out
    asked = [line for line in text.splitlines() if "probe" in line and "live" in line]
    assert asked and all("/run/poller" in line and "/etc/poller.toml" in line for line in asked), text
