"""Commands as people give them, where somebody else has prepared the ground."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import until

NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_strangers_file_in_the_working_folder_runs_nothing(
    start: Callable, heirflow: Callable, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, place = home / "ran", home / "place"
    place.mkdir()
    (place / "heirflow.toml").write_text(f'on-event = "touch {ran}"\ndb-url = "sqlite:///{home}/strangers.db"\n')
    os.chown(place / "heirflow.toml", NOBODY, NOBODY)
    monkeypatch.chdir(place)
    monkeypatch.delenv("HEIRFLOW_DB_URL")
    answer = heirflow("status")
    assert answer.code == 78
    assert f"{place}/heirflow.toml is not used" in answer.err and "belongs to the user nobody" in answer.err
    member = start("--name", "h", "--", "sleep", "600")
    assert member.process.wait(20) == 78
    assert "is not used" in member.told
    assert not ran.exists()
    assert not (home / "strangers.db").exists()


def test_run_says_which_file_it_read(start: Callable, home: Path) -> None:
    (home / "heirflow.toml").write_text('label = "x"\n')
    member = start("--name", "h", "--", "sleep", "600")
    until(lambda: f"reads its settings from {home}/heirflow.toml" in member.told, "it says which file it read")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a container's process numbers")
def test_two_containers_with_one_folder_have_a_door_each(heirflow: Callable, home: Path) -> None:
    """Both members have the process id 1. A probe in a container asks its own member, dead or alive."""
    python = [sys.executable, "-m", "heirflow"]
    members: dict[str, subprocess.Popen[bytes]] = {}
    inside: dict[str, str] = {}

    def probe(host: str, *flags: str) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "--pid", "--mount", f"--target={inside[host]}", *python]
        return subprocess.run([*enter, "probe", "live", *flags], capture_output=True, text=True, check=False)

    def child_of(pid: int) -> str:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()

    try:
        for host in ("a", "b"):
            into = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *python]
            members[host] = subprocess.Popen([*into, "run", "--host", host, "--name", "beat", "--", "sleep", "600"])
            until(lambda host=host: child_of(members[host].pid), "the container")
            inside[host] = child_of(members[host].pid)
        for host in ("a", "b"):
            until(lambda host=host: probe(host).returncode == 0, f"the member in container {host} answers")
            assert json.loads(probe(host, "--json").stdout)["host"] == host
            assert json.loads(probe(host, "--json", "--pid", "1").stdout)["host"] == host
        assert heirflow("probe", "live").code == 2
        assert json.loads(heirflow("probe", "live", "--json", "--pid", inside["b"]).out)["host"] == "b"
        other = json.loads(probe("b", "--json").stdout)["member"]
        # A container whose member has gone: what still runs there asks nobody else's.
        empty = ["unshare", "--pid", "--fork", "--mount-proc", *python, "probe", "live"]
        answer = subprocess.run(empty, capture_output=True, text=True, check=False)
        assert answer.returncode == 1 and "runs in this container" in answer.stderr
        members["a"].kill()
        members["a"].wait()
        answer = subprocess.run([*empty, "--member", other], capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer
    finally:
        for member in members.values():
            member.kill()
            member.wait()


def test_what_lies_in_the_working_folder_is_not_imported_to_ask_airflow(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heirflow.programs.airflow.ask import ask

    place, ran = home / "place", home / "ran"
    place.mkdir()
    for name in ("json", "os", "sys", "importlib", "airflow", "encodings", "sitecustomize"):
        (place / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write({name!r})\n")
    monkeypatch.chdir(place)
    ask([sys.executable], os.environ, limit_s=20.0)
    assert not ran.exists(), ran.read_text()
