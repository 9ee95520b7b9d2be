"""One question to Airflow's configuration, in one short process of Airflow's own interpreter.

Airflow is never imported into the member: it would cost every heir 100 MB, and it may live in an environment of its own.
Whatever the imports print goes by; the answer is one marked line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heirflow.config.readers import read_listening, read_prefix
from heirflow.member.sweep import SPARING

_MARK = "heirflow-answer:"

NUMBERS = (
    ("core", "parallelism"),
    ("triggerer", "capacity"),
    ("triggerer", "default_capacity"),
    ("dag_processor", "min_file_process_interval"),
    ("scheduler", "min_file_process_interval"),
)
"""What `progress` must know; the newer place before the older one."""
LATENESS = (("scheduler", "scheduler_health_check_threshold"), ("scheduler", "orphaned_tasks_check_interval"))
"""What `lateness` must know, with who has set it."""
STATSD = ("on", "host", "port", "prefix", "custom_client_path")
"""Of ``[metrics]``, without ``statsd_``. A client of somebody's own speaks another language, perhaps."""

_QUESTION = (
    """\
import sys
sys.path[:] = [place for place in sys.path if place]  # before any other import: the current folder may be a stranger's
import json, os
answer = {}
try:
    import airflow
    import importlib.metadata
    import airflow.configuration
    from airflow.configuration import AIRFLOW_HOME, conf
    answer["version"] = airflow.__version__
    answer["url"] = conf.get("database", "sql_alchemy_conn")
    answer["files"] = {"airflow.cfg": getattr(airflow.configuration, "AIRFLOW_CONFIG", AIRFLOW_HOME + "/airflow.cfg")}
    for name in ("apache-airflow", "apache-airflow-core"):
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        place = "%s-%s.dist-info/METADATA" % (name.replace("-", "_"), found.version)
        answer["files"]["the installed Airflow"] = str(found.locate_file(place))
    answer["numbers"] = {}
    for section, key in %r:
        found = str(conf.get(section, key, fallback="")).strip()
        if found.isdigit():
            answer["numbers"].setdefault(key.replace("default_", ""), int(found))
    answer["schema"] = conf.get("database", "sql_alchemy_schema", fallback="") or ""
    try:
        answer["row_locks"] = bool(conf.getboolean("scheduler", "use_row_level_locking", fallback=True))
    except Exception:
        pass  # told by Airflow itself; nothing of ours rests on it
    try:
        from configparser import RawConfigParser
        found = {}
        for section, key in %LATENESS:
            name = ("AIRFLOW__%s__%s" % (section, key)).upper()
            by = [name + tail for tail in ("", "_CMD", "_SECRET") if name + tail in os.environ]
            value = str(conf.get(section, key, fallback="")).strip()
            # Airflow keeps its defaults elsewhere: what the parser itself has stood in the file. A file that Airflow wrote has
            # every default in it, and nobody meant those.
            if isinstance(conf, RawConfigParser):
                own = [key + tail for tail in ("_cmd", "_secret")]
                if value != str(conf.get_default_value(section, key)).strip():
                    own.append(key)
                by += ["airflow.cfg" for option in own if RawConfigParser.has_option(conf, section, option)]
            found[key] = [value, (by or [""])[0]]
        answer["given"] = found
    except Exception:
        pass  # then they are left as they are
    try:
        said = {key: str(conf.get("metrics", "statsd_" + key, fallback="") or "").strip() for key in %STATSD}
        if said["on"].lower() in ("true", "t", "1") and not said["custom_client_path"]:
            answer["statsd"] = said
    except Exception:
        pass  # then none is followed
    for place in (os.path.join(AIRFLOW_HOME, "config"), conf.get("core", "plugins_folder", fallback="")):
        if place and place not in sys.path:
            sys.path.append(place)
    named = conf.get("database", "sql_alchemy_connect_args", fallback="") or ""
    if named:
        arguments = conf.getimport("database", "sql_alchemy_connect_args")
        try:
            answer["connect_args"] = json.loads(json.dumps(dict(arguments)))
        except (TypeError, ValueError):
            answer["problem"] = "Airflow's sql_alchemy_connect_args (%s) holds objects that only Airflow can use" % named
except BaseException as error:
    answer["problem"] = "Airflow's configuration cannot be read: %s: %s" % (type(error).__name__, error)
sys.stdout.write("\\n%s%s\\n" % (sys.argv[1], json.dumps(answer)))
""".replace("%r", repr(NUMBERS))
    .replace("%LATENESS", repr(LATENESS))
    .replace("%STATSD", repr(STATSD))
)


@dataclass(frozen=True, slots=True)
class Given:
    """One of Airflow's settings."""

    value: str
    by: str = ""
    """Who has set it: the name of a variable in the environment, or ``airflow.cfg``. Empty: nobody, and it is Airflow's default."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What Airflow said, or why it did not."""

    url: str = field(default="", repr=False)
    schema: str = ""
    connect_args: Mapping[str, Any] = field(default_factory=dict, repr=False)
    version: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    """What a process of Airflow's reads once: name for people -> path."""
    row_locks: bool = True
    """Whether schedulers lock rows, so that several of them can work side by side (``use_row_level_locking``)."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """Of `NUMBERS`, those that Airflow's configuration has, without ``default_``."""
    given: Mapping[str, Given] = field(default_factory=dict)
    """Those of `LATENESS`; none where it cannot be told who has set them."""
    statsd: tuple[str, str] | None = None
    """Where Airflow sends its metrics by StatsD, as ``HOST:PORT``, and what their names begin with; None: nowhere."""
    problem: str = ""
    """Half a sentence, empty when all is well."""


def ask(
    interpreter: Sequence[str], environ: Mapping[str, str], *, limit_s: float, children: set[int] | None = None
) -> Answer:
    """Start `interpreter`, ask, and wait at most `limit_s`. Never raises for what goes wrong on the other side.

    `children`: processes of a member that are not its command's; this one is in it while it runs.

    The current folder is not looked at, so that a folder named airflow beside the DAGs is not taken for Airflow.
    """
    python = interpreter[0]
    command = [*interpreter, "-c", _QUESTION, _MARK]
    own = {**environ, "_AIRFLOW__AS_LIBRARY": "1", "PYTHONWARNINGS": "ignore"}
    known = set[int]() if children is None else children
    try:
        with SPARING:
            process = subprocess.Popen(
                command,
                env=own,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
            known.add(process.pid)
    except OSError as error:
        return Answer(problem=f"cannot start {python} to ask for Airflow's configuration: {error.strerror}")
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return Answer(problem=f"{python} did not say within {limit_s:g} s what Airflow's configuration is")
    finally:
        _end(process)
        known.discard(process.pid)
    return _read(out, err, process.returncode, python)


def _end(process: subprocess.Popen[str]) -> None:
    """Also when all went well: a command of the configuration (``_CMD``) may have left something behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe is not None and not pipe.closed]
    if pipes:  # it took too long
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=2.0)
    for pipe in pipes:
        pipe.close()


def _read(out: str, err: str, code: int, python: str) -> Answer:
    marked = [line.removeprefix(_MARK) for line in out.splitlines() if line.startswith(_MARK)]
    if not marked:
        said = (err.strip().splitlines() or [f"exit code {code}"])[-1]
        return Answer(problem=f"Airflow's configuration cannot be read with {python}: {said}")
    answer: dict[str, Any] = json.loads(marked[-1])
    if answer.get("problem"):
        return Answer(problem=" ".join(str(answer["problem"]).split()))
    url = str(answer["url"]).strip()  # what a command prints ends with a line break, and Airflow keeps it
    if not url:
        return Answer(problem="Airflow's configuration names no database")
    arguments = answer.get("connect_args") or {}
    url = _with_password(url, arguments)
    files, locks, numbers = answer["files"], answer.get("row_locks", True), answer["numbers"]
    given = {key: Given(*said) for key, said in answer.get("given", {}).items()}
    schema, version = str(answer["schema"]).strip(), str(answer["version"])
    statsd = _receiver(answer.get("statsd"))
    return Answer(url, schema, arguments, version, files, locks, numbers, given, statsd)


def _receiver(said: Mapping[str, str] | None) -> tuple[str, str] | None:
    """What can be used of it: where it makes no sense, Airflow itself tells."""
    if said is None:
        return None
    host = said["host"] or "localhost"
    with contextlib.suppress(ValueError):
        place = read_listening(f"{f'[{host}]' if ':' in host else host}:{said['port'] or 8125}")
        return place, read_prefix(said["prefix"] or "airflow")
    return None


def _with_password(url: str, arguments: dict[str, Any]) -> str:
    """The URL with a password that Airflow keeps among its arguments: what can change is learnt anew from the URL."""
    password = arguments.get("password") or arguments.get("passwd")
    if not isinstance(password, str):
        return url
    import sqlalchemy as sa

    try:
        whole = sa.engine.make_url(url).set(password=password)
    except (sa.exc.ArgumentError, ValueError):  # told by who uses it
        return url
    for name in ("password", "passwd"):
        arguments.pop(name, None)
    return str(whole.render_as_string(hide_password=False))
