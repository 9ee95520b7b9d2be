"""Real Airflow: a line for each bundle, and what doctor tells of components that were started without HeirFlow."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from heirflow.demo.stage import Process, Stage
from lab.airflow.environment import AirflowEnvironment
from lab.servers.servers import Server, free_port
from tests.airflow.rig import Rig

BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"


@pytest.fixture
def rig(airflow: AirflowEnvironment, server: Server, stage: Stage, database_name: str, tmp_path: Path) -> Rig:
    older = airflow.version.startswith("2.")
    folders = {name: tmp_path / name for name in ("a", "b")}
    for name, folder in folders.items():
        folder.mkdir()
        text = f"from airflow import DAG\ndag = DAG('of_{name}', schedule=None)\n"
        (folder / "one.py").write_text(text if older else text.replace("airflow import", "airflow.sdk import"))
    bundles = [{"name": name, "classpath": BUNDLE, "kwargs": {"path": str(path)}} for name, path in folders.items()]
    more = {"DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles)} if not older else {}
    return Rig(airflow, server, stage, database_name, **more)


def member(rig: Rig, host: str, *words: str, name: str | None = None) -> Process:
    named = [] if name is None else ["--name", name]
    env = {
        **rig.env,
        "PATH": f"{rig.airflow.folder / 'bin'}:{rig.env['PATH']}",
        "HEIRFLOW_RUN_DIR": str(rig.doors / host),
    }
    argv = ["heirflow", "run", "--host", host, *named, "--", "airflow", *words]
    return rig.stage.start(f"member-{host}", argv, env)


def doctor(rig: Rig, **env: str) -> list[dict[str, Any]]:
    """What a person is told who has Airflow on the PATH, and asks about any of its lines."""
    path = f"{rig.airflow.folder / 'bin'}:{rig.env['PATH']}"
    done = subprocess.run(
        [rig.airflow.program("heirflow"), "doctor", "--json"],
        env={
            **rig.env,
            "PATH": path,
            "HOME": str(rig.stage.folder),
            **env,
        },  # where no default file hides Airflow's database
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    return [each for each in json.loads(done.stdout)["findings"] if each["topic"] == "airflow"]


@pytest.mark.timeout(600)
def test_both_partitions_are_parsed_and_what_runs_beside_them_is_told(rig: Rig, tmp_path: Path) -> None:
    newer = rig.airflow.version.startswith("3.")

    def part(name: str) -> list[str]:
        return ["dag-processor", "-B", name] if newer else ["dag-processor", "-S", str(tmp_path / name)]

    members = [member(rig, f"host-{name}", *part(name)) for name in ("a", "b")]
    rig.wait_for(
        lambda: {row[0] for row in rig.ask("SELECT dag_id FROM dag")} >= {"of_a", "of_b"}, "both are parsed", *members
    )
    tail = "" if newer else str(tmp_path)
    lines = {row[0] for row in rig.ask("SELECT name FROM heirflow_election")}
    assert lines == {f"airflow-dag-processor{tail}/{name}"[:100] for name in ("a", "b")} or (
        not newer and len(lines) == 2
    )
    rig.wait_for(lambda: [each["level"] for each in doctor(rig)] == ["ok"], "every row is a member's")

    other = member(rig, "host-c", *part("b"), name=min(lines))
    rig.wait_for(lambda: "is the line of another partition" in other.log_end(), "its name is refused", other)

    native = rig.stage.start(
        "native",
        [rig.airflow.program("airflow"), "triggerer"],
        {**rig.env, "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port())},
    )
    rig.wait_for(lambda: rig.jobs("triggerer"), "a triggerer of Airflow's own", native)
    [told] = doctor(rig)
    assert (told["level"], told["facts"]["component"]) == ("note", "triggerer"), (
        "it shares its work, and no line is here"
    )

    beside = rig.stage.start("beside", [rig.airflow.program("airflow"), *part("a")], rig.env)
    rig.wait_for(lambda: len(rig.jobs("dag-processor")) == 3, "a dag-processor of Airflow's own", beside)
    found = {each["facts"]["component"]: each for each in doctor(rig)}
    host = rig.ask("SELECT hostname FROM job WHERE job_type = 'DagProcessorJob' ORDER BY id DESC LIMIT 1")[0][0]
    assert (found["dag-processor"]["level"], found["dag-processor"]["facts"]["host"]) == ("problem", host)
    assert "runs on" in found["dag-processor"]["sentence"] and host in found["dag-processor"]["sentence"]
    [*_, locks] = doctor(rig, AIRFLOW__SCHEDULER__USE_ROW_LEVEL_LOCKING="False")
    assert (locks["level"], locks["facts"]) == ("note", {"row_level_locking": False})
