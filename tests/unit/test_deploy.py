"""The images of deploy/docker, as far as they can be tried without Docker: what they copy is enough to install HeirFlow."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "docker"
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
FILES = ["Dockerfile", "Dockerfile.airflow"]


def instructions(name: str) -> list[tuple[str, str]]:
    """Each instruction of a Dockerfile and what follows it, in order."""
    text = re.sub(r"^#.*\n", "", (FOLDER / name).read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", "")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """What Docker sees of a checkout: everything is ignored but what .dockerignore names with a !."""
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    first, *others = lines
    assert first == "*" and others[-1] == "**/__pycache__"
    for name in [line.removeprefix("!") for line in others[:-1]]:
        source, target = ROOT / name, tmp_path / "context" / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, target)
    return tmp_path / "context"


def test_what_an_image_copies_is_enough_to_install_heirflow(context: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)],
        cwd=context,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    names = zipfile.ZipFile(tmp_path / done.stdout.split()[-1]).namelist()
    assert {"heirflow/guard/guard.py", "heirflow/generate/systemd.py", "heirflow/py.typed"} <= set(names)
    assert not [each for each in names if not each.startswith("heirflow")]
    for name in FILES:
        copied = [rest.split()[-2:] for word, rest in instructions(name) if word == "COPY"]
        assert copied == [[".", "/tmp/heirflow"]]
        for file in re.findall(r"-r /tmp/heirflow/(\S+)", dict(instructions(name))["RUN"]):
            assert (context / file).is_file()


def test_the_plain_image_starts_heirflow_itself_as_an_ordinary_user() -> None:
    said = dict(instructions("Dockerfile"))  # the last one of each word counts
    assert json.loads(said["ENTRYPOINT"]) == ["heirflow"]
    assert said["USER"] == "10001:10001" and said["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(said["HEALTHCHECK"].partition("CMD ")[2]) == ["heirflow", "probe", "live"]
    assert (
        "--require-hashes" in said["RUN"] and "ln -s /opt/heirflow/bin/heirflow /usr/local/bin/heirflow" in said["RUN"]
    )


def test_the_image_of_airflow_keeps_its_entry_point_its_user_and_its_version() -> None:
    several = instructions("Dockerfile.airflow")
    assert {word for word, _ in several} == {"ARG", "FROM", "COPY", "RUN"}
    version = dict(several[:1])["ARG"].partition("=")[2]
    assert f'airflowVersion: "{version}"' in (ROOT / "deploy" / "helm" / "values.yaml").read_text("utf-8")
    assert '"apache-airflow==${AIRFLOW_VERSION}"' in dict(several)["RUN"]
