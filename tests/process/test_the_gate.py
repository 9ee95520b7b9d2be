"""A standby at its gate: what opens it, what ends it, and what a member does with it. Real processes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heirflow.clock import boottime
from heirflow.errors import ConfigError, HeirflowError
from heirflow.guard.processes import lives
from heirflow.guard.why import Why
from heirflow.member.door import ask
from heirflow.member.guard_events import AtGate, Gone, GuardEvent, StandbyGone
from heirflow.programs.preload import preloaded, watched
from tests.process.own_guard import own_guard
from tests.process.stage import SOURCE, wait_until
from tests.schemas import check_output

GATE = SOURCE / "heirflow" / "alone" / "gate.py"
SLOW = "import time; time.sleep(0.5)\n"
PROGRAM = """
import os, sys, time
import slow_import
with open(os.environ["OUT"], "a") as out:
    term, gate = os.environ.get("HEIRFLOW_TERM"), os.environ.get("HEIRFLOW_GATE")
    print(time.time(), os.getpid(), term, gate, sys.argv[1:], file=out, flush=True)
time.sleep(float(os.environ.get("LASTS", "600")))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slow_import.py").write_text(SLOW)
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


# ---- the gate alone ----


class Gate:
    """A standby of ours, whose gate the test keeps."""

    def __init__(self, folder: Path, modules: str = "slow_import") -> None:
        self.out = folder / "out"
        inner_r, self.writer = os.pipe()
        self.reader, inner_w = os.pipe()
        env = {**os.environ, "OUT": str(self.out), "LASTS": "0", "HEIRFLOW_GATE": f"{inner_r},{inner_w}"}
        self.process = subprocess.Popen(
            [sys.executable, str(GATE), modules, "-m", "program", "one", "-m"],
            env=env, cwd=folder, pass_fds=[inner_r, inner_w], stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.close(inner_r)
        os.close(inner_w)

    def stands(self) -> bool:
        return os.read(self.reader, 100) == b"ready\n"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        for fd in (self.reader, self.writer):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def gate(folder: Path) -> Iterator[Gate]:
    made = Gate(folder)
    yield made
    made.close()


def test_it_opens_with_the_environment_of_the_lead(gate: Gate) -> None:
    assert gate.stands()
    assert not gate.out.exists(), "nothing is begun before"
    began = time.time()
    os.write(gate.writer, json.dumps({"HEIRFLOW_TERM": "7"}).encode() + b"\n")
    wait_until(lambda: gate.out.exists() and gate.out.read_text().endswith("\n"), "the program")
    at, _, *rest = gate.out.read_text().split(" ", 4)
    assert rest == ["7", "None", "['one', '-m']\n"]
    assert float(at) - began < 0.4, "what is slow was done before"


@pytest.mark.parametrize(
    "said",
    [b"not JSON\n", b"[1]\n", b'{"A": 1}\n', b'{"A\n', b"x" * 70000 + b"\n", b""],
    ids=["no JSON", "a list", "a number", "half a text", "too long", "end of file"],
)
def test_a_gate_that_says_anything_else_stays_shut(gate: Gate, said: bytes) -> None:
    assert gate.stands()
    if said:
        os.write(gate.writer, said[:60000])
        if len(said) > 60000:
            os.write(gate.writer, said[60000:])
    else:  # end of file: whoever kept it is gone
        os.close(gate.writer)
        gate.writer = -1
    gate.process.communicate(timeout=10)
    assert not gate.out.exists()


@pytest.mark.parametrize("named", ["", "7", "a,b", "998,999"])
def test_a_gate_that_is_not_there_ends_the_process(folder: Path, named: str) -> None:
    env = {**os.environ, "OUT": str(folder / "out"), "LASTS": "0", "HEIRFLOW_GATE": named}
    argv = [sys.executable, str(GATE), "", "-m", "program"]
    done = subprocess.run(argv, env=env, cwd=folder, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
    assert not (folder / "out").exists()


# ---- which commands ----


def test_the_command_line_of_a_standby() -> None:
    gate = str(GATE)
    assert preloaded(["python", "-m", "x", "-v"], "a,b") == ["python", gate, "a,b", "-m", "x", "-v"]
    whole = ["/usr/bin/python3.12", "-u", "-X", "dev", "-m", "x"]
    assert preloaded(whole, "a") == [*whole[:4], gate, "a", "-m", "x"]


@pytest.mark.parametrize(
    "argv", [["python"], ["python", "x.py"], ["python", "-c", "1"], ["python", "-m"], ["celery", "-m", "x"], ["x"]]
)
def test_other_commands_are_refused_with_a_sentence(argv: list[str]) -> None:
    with pytest.raises(
        ConfigError, match="--preload works with a command `python -m PROGRAM` or a script of Python's, not with"
    ) as caught:
        preloaded(argv, "a")
    assert caught.value.exit_code == 78


def test_the_standby_of_a_script(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As installers make them: found on the PATH, with the Python that its first line names."""
    script = folder / "bin" / "worker"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable} -u\nimport program\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent))
    assert preloaded(["worker", "-m", "x"], "a") == [sys.executable, "-u", str(GATE), "a", str(script), "-m", "x"]
    assert preloaded([str(script)], "a") == [sys.executable, "-u", str(GATE), "a", str(script)]


def test_a_script_runs_as_python_would_run_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell = (
        "import json, os, sys\n"
        "main = sys.modules['__main__']\n"
        "said = [sys.argv, sys.path, __name__, main.__file__, main.__dict__ is globals(), sys.modules.get('ahead') is not None]\n"
        "open(os.environ['OUT'], 'w').write(json.dumps(said))\n"
        "sys.exit(5)\n"
    )
    folder = folder.resolve()
    (folder / "bin").mkdir()
    script = folder / "bin" / "worker"
    script.write_text(f"#!{sys.executable}\n{tell}")
    script.chmod(0o755)
    (folder / "bin" / "ahead.py").write_text("")
    said = []
    for words in ([str(script), "--fast", "x"], preloaded([str(script), "--fast", "x"], "ahead")):
        done = subprocess.run(words, env={**os.environ, "OUT": str(folder / "told")}, check=False)
        assert done.returncode == 5
        said.append(json.loads((folder / "told").read_text()))
    assert said[0][:-1] == said[1][:-1]
    assert (said[0][-1], said[1][-1]) == (False, True)


class TestWhatIsWorthIt:
    def test_of_a_program_that_goes_on(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is ended after a while, though it ignores TERM."""
        (folder / "slow_one.py").write_text("import time, slow_inside; time.sleep(0.1)\n")
        (folder / "slow_inside.py").write_text("import time; time.sleep(0.1)\n")
        text = "import signal, time, json, slow_one\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(600)\n"
        (folder / "forever.py").write_text(text)
        monkeypatch.chdir(folder)
        monkeypatch.setattr("heirflow.programs.preload.END_LIMIT_S", 0.5)
        found = dict(watched([sys.executable, "-m", "forever"], 3.0))
        assert found["slow_one"] >= 0.2
        assert not {"slow_inside", "forever"} & set(found)

    def test_the_command(self, folder: Path) -> None:
        (folder / "slow_one.py").write_text("import time; time.sleep(0.1)\n")
        (folder / "short.py").write_text("import slow_one\n")

        def told(*words: str) -> subprocess.CompletedProcess[str]:
            argv = [sys.executable, "-m", "heirflow", "preload", *words]
            env = {**os.environ, "PYTHONPATH": str(SOURCE)}
            return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)

        answer = told("--", sys.executable, "-m", "short")
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.splitlines()[-1].startswith("--preload ") and "slow_one" in answer.stdout.splitlines()[-1]
        refused = told("--", "sleep", "1")
        assert refused.returncode == 78 and "--preload works with" in refused.stderr
        nothing = told("--", sys.executable, "-m", "slow_none")
        assert nothing.returncode == 1 and "nothing to preload" in nothing.stderr

    def test_only_what_a_standby_can_import(self, folder: Path) -> None:
        """As celery does it: the script adds the working directory itself, which a standby does not know."""
        (folder / "bin").mkdir()
        script = folder / "bin" / "worker"
        begun = folder / "begun"
        script.write_text(
            f"#!{sys.executable}\nimport sys, os\nopen({str(begun)!r}, 'a').write('x')\nimport beside\n"
            "sys.path.insert(0, os.getcwd())\nimport slow_one\n"
        )
        script.chmod(0o755)
        (folder / "bin" / "beside.py").write_text("import time; time.sleep(0.1)\n")
        (folder / "slow_one.py").write_text("import time; time.sleep(0.1)\n")
        argv = [sys.executable, "-m", "heirflow", "preload", "--json", "--", str(script)]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        check_output(["preload", "--json"], done.stdout)
        names = json.loads(done.stdout)["preload"].split(",")
        assert "beside" in names and "slow_one" not in names
        assert begun.read_text() == "x", "the program is started once: a standby that is tried out never begins"


# ---- whole members ----


class Line:
    """Members on one SQLite file, each with its own output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.members: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *flags: str, **env: str) -> None:
        argv = [sys.executable, "-m", "heirflow", "run", "--name", "gate", "--host", name, "--ttl", "3s",
                "--db-url", f"sqlite:///{self.folder / 'line.db'}", "--run-dir", str(self.folder / name),
                *(flags or ("--preload", "slow_import")), "--", sys.executable, "-m", "program"]  # fmt: skip
        with (self.folder / f"{name}.log").open("ab") as log:
            own = {**os.environ, "PYTHONPATH": str(SOURCE), "OUT": str(self.folder / "out"), **env}
            self.members[name] = subprocess.Popen(argv, env=own, cwd=self.folder, stdout=log, stderr=log)

    def facts(self, name: str) -> dict[str, Any]:
        try:
            return ask(self.folder / name, "gate", 2.0)
        except HeirflowError:
            return {}

    def wait_for(self, name: str, key: str, limit_s: float = 40.0) -> int:
        found = wait_until(lambda: self.facts(name).get(key), f"{key} of {name}", limit_s)
        return int(found)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def starts(self) -> list[list[str]]:
        out = self.folder / "out"
        return [line.split(" ", 4) for line in out.read_text().splitlines()] if out.exists() else []

    def ready(self, name: str) -> bool:
        with sqlite3.connect(self.folder / "line.db") as connection:
            found = connection.execute("SELECT ready FROM heirflow_member WHERE host = ?", (name,)).fetchone()
        connection.close()
        return bool(found and found[0])


@pytest.fixture
def line(folder: Path) -> Iterator[Line]:
    made = Line(folder)
    yield made
    for member in made.members.values():
        member.kill()
        member.wait()


def test_a_lone_member_waits_until_its_standby_stands_and_then_takes_charge(line: Line) -> None:
    line.start("a")
    line.wait_for("a", "command_pid")
    told = line.log("a")
    assert told.index("the standby is warm") < told.index("took charge") < told.index("the command has started")
    wait_until(line.starts, "the program's own line")
    assert len(line.starts()) == 1


def test_an_heir_says_ready_when_its_standby_stands_and_starts_at_once(line: Line) -> None:
    line.start("a")
    leader = line.wait_for("a", "command_pid")
    line.start("b")
    standby = line.wait_for("b", "standby_pid")
    wait_until(lambda: line.ready("b"), "ready")
    assert len(line.starts()) == 1
    line.members["a"].terminate()
    assert line.members["a"].wait(20) == 0
    assert line.wait_for("b", "command_pid") == standby
    wait_until(lambda: len(line.starts()) == 2, "the second start")
    assert line.starts()[1][1:3] == [str(standby), "2"]
    assert not lives(leader)


@pytest.mark.parametrize("whom", ["pid", "guard_pid"])
def test_a_standby_ends_with_its_member_and_with_its_guard(line: Line, whom: str) -> None:
    line.start("a")
    line.wait_for("a", "command_pid")
    line.start("b")
    standby = line.wait_for("b", "standby_pid")
    os.kill(line.wait_for("b", whom), signal.SIGKILL)
    wait_until(lambda: not lives(standby), "the standby's end", 5.0)
    if whom == "guard_pid":
        wait_until(lambda: line.facts("b").get("standby_pid") not in {None, standby}, "another standby", 20.0)
    assert len(line.starts()) == 1


def test_a_standby_that_dies_is_started_anew_and_the_pause_grows(line: Line) -> None:
    line.start("a")
    line.wait_for("a", "command_pid")
    line.start("b", "--preload", "slow_import")
    standby = line.wait_for("b", "standby_pid")
    (line.folder / "slow_import.py").write_text("raise SystemExit(3)\n")
    os.kill(standby, signal.SIGKILL)
    wait_until(lambda: "another one starts in 4 s" in line.log("b"), f"growing pauses: {line.log('b')}", 20.0)
    assert "another one starts in 1 s" in line.log("b") and "another one starts in 2 s" in line.log("b")
    assert not line.ready("b")
    (line.folder / "slow_import.py").write_text(SLOW)
    wait_until(lambda: line.ready("b"), "ready again", 20.0)


def test_a_command_that_is_started_again_in_place_stands_at_a_new_gate(line: Line) -> None:
    line.start("a")
    first = line.wait_for("a", "command_pid")
    wait_until(lambda: len(line.starts()) == 1, "it has begun and said so", 20.0)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(line.starts()) == 2, "the second start", 20.0)
    assert line.log("a").count("the standby is warm") == 2


def test_a_command_that_hangs_is_succeeded(line: Line) -> None:
    well = line.folder / "well"
    well.touch()
    health = ("--preload", "slow_import", "--health-cmd", f"test -e {well}", "--health-timeout", "2s")
    line.start("a", *health)
    line.wait_for("a", "command_pid")
    line.start("b", *health)
    line.wait_for("b", "standby_pid")
    time.sleep(1.0)
    well.unlink()
    wait_until(lambda: len(line.starts()) == 2, f"the heir's start: {line.log('a')}", 30.0)
    well.touch()
    assert "health check failed" in line.log("a")
    with sqlite3.connect(line.folder / "line.db") as connection:
        told = [row[0] for row in connection.execute("SELECT because FROM heirflow_event")]
    connection.close()
    assert any("exited with 1" in because for because in told), told


def test_cold_starts_only_when_taking_charge(line: Line) -> None:
    line.start("a", "--preload", "slow_import", "--cold")
    line.wait_for("a", "command_pid")
    assert "standby" not in line.log("a")


def test_a_standby_that_hangs_on_its_way_to_the_gate_is_given_up(folder: Path) -> None:
    (folder / "slow_import.py").write_text("import time; time.sleep(600)\n")
    argv = preloaded(["python", "-m", "program"], "slow_import")
    guard = own_guard(argv=argv, cwd=str(folder), guard_limit_s=2.0)
    guard.gate_limit_s = 1.0
    guard.spawn()
    try:
        guard.standby(argv=argv, env={**os.environ, "OUT": str(folder / "out")})
        seen: list[GuardEvent] = []

        def ended() -> bool:
            seen.extend(guard.poll(boottime()))
            return any(isinstance(event, StandbyGone) for event in seen)

        wait_until(ended, "the standby is given up")
        assert (seen[-1].why, seen[-1].detail) == (Why.NEVER_AT_GATE, "1")  # type: ignore[union-attr]
        assert not any(isinstance(event, AtGate) for event in seen)
    finally:
        guard.close()


def test_a_gate_is_not_opened_for_a_lease_that_is_over(folder: Path) -> None:
    """A guard that was frozen while its member took charge reads the order when somebody else may lead already."""
    argv = preloaded([sys.executable, "-m", "program"], "slow_import")
    guard = own_guard(argv=argv, cwd=str(folder), guard_limit_s=5.0)
    guard.spawn()
    seen: list[GuardEvent] = []

    def came(kind: type[GuardEvent]) -> bool:
        seen.extend(guard.poll(boottime()))
        return any(isinstance(event, kind) for event in seen)

    try:
        guard.standby(argv=argv, env={**os.environ, "OUT": str(folder / "out")})
        wait_until(lambda: came(AtGate), "the standby at its gate", 30.0)
        guard.start(env={}, term_at=boottime(), kill_at=boottime() + 5)
        wait_until(lambda: came(Gone), "the end of the standby")
        assert isinstance(seen[-1], Gone)
        assert seen[-1].why is Why.NOT_AT_GATE
        assert not (folder / "out").exists()
    finally:
        guard.close()
