"""Airflow in a virtual environment of its own beside the checkout: pinned by ``locks/``, made once, used again.

Kept out of HeirFlow's own environment because Airflow brings two hundred packages, and because this is how people run it.
The tests of the Airflow integration use the same ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from heirflow.demo.stage import Trouble, clean_environment

CHECKOUT = Path(__file__).resolve().parents[2]
VERSIONS = {"3.3": "3.3.2", "2.11": "2.11.2"}
"""Name of the lock -> the Airflow that it pins."""
INSTALL_LIMIT_S = 1800.0
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AirflowEnvironment:
    """A virtual environment with Airflow, its drivers and HeirFlow."""

    folder: Path
    version: str

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def program(self, name: str) -> str:
        """The path of one of its commands."""
        return str(self.folder / "bin" / name)


def fits(name: str) -> bool:
    """Whether that Airflow runs on this Python."""
    return name != "2.11" or (3, 11) <= sys.version_info[:2] <= (3, 12)


def ensure(
    name: str = "3.3", *, progress: Progress = lambda _: None, python: str = sys.executable
) -> AirflowEnvironment:
    """The environment of that lock, made when it is absent or its lock has changed.

    `progress` is told what is going on, in half sentences. Two that want it at once wait for each other. Raises `Trouble`.
    """
    lock = CHECKOUT / "locks" / f"airflow-{name}.txt"
    if not lock.is_file():
        raise Trouble(
            "Airflow's pinned versions come with a checkout of HeirFlow: run `make demo` there, "
            "or `heirflow demo` here, which shows a plain program"
        )
    folder = _place(name)
    environment = AirflowEnvironment(folder, VERSIONS[name])
    pinned = hashlib.sha256(lock.read_bytes() + _entry_points().encode()).hexdigest()
    wanted = f"{pinned} {sys.version_info[:2]} {CHECKOUT}"
    with _alone(lock, progress):
        ready = folder / ".ready"
        if ready.is_file() and ready.read_text() == wanted and Path(environment.python).exists():
            return environment
        ready.unlink(missing_ok=True)
        _make(folder, name, lock, python, progress)
        ready.write_text(wanted)
    return environment


def _entry_points() -> str:
    """By what others find HeirFlow there: written down when it is installed, and not by its sources."""
    text = (CHECKOUT / "pyproject.toml").read_text("utf-8")
    return "".join(re.findall(r"(?ms)^\[project\.(?:scripts|entry-points[^]]*)\]$.*?(?=^\[)", text))


def _place(name: str) -> Path:
    """Beside the sources, or in this user's cache where those belong to somebody else."""
    beside = CHECKOUT / f".venv-airflow-{name}"
    if os.access(beside if beside.exists() else CHECKOUT, os.W_OK):
        return beside
    cache = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(cache) if cache.startswith("/") else Path.home() / ".cache"
    return home / "heirflow" / beside.name.lstrip(".")


@contextlib.contextmanager
def _alone(lock: Path, progress: Progress) -> Iterator[None]:
    """While this is held nobody else on this machine makes an environment from the same file."""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            progress("waiting for another demonstration that is installing Airflow")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(folder: Path, name: str, lock: Path, python: str, progress: Progress) -> None:
    uv = _uv()
    env = clean_environment(UV_PYTHON_DOWNLOADS="never", UV_NO_PROGRESS="1")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    progress(f"making a virtual environment in {folder}")
    _run([python, "-m", "venv", "--without-pip" if uv else "--upgrade-deps", str(folder)], env)
    own = str(folder / "bin" / "python")
    progress(
        f"installing Airflow {VERSIONS[name]}: some 160 pinned packages, 0.5 GB on disk; "
        "the first time they are downloaded, later they come from the cache"
    )
    if uv:
        install = [*uv, "pip", "install", "--python", own]
        _run([*install, "--compile-bytecode", "--require-hashes", "-r", str(lock)], env)
    else:
        install = [own, "-m", "pip", "install", "--quiet"]
        _run([*install, "--require-hashes", "-r", str(lock)], env)
    progress("installing HeirFlow beside it")
    with tempfile.TemporaryDirectory(prefix="heirflow-wheel-") as place:
        _run([*install, "--no-deps", *_ourselves(Path(place), env)], env)


def _ourselves(place: Path, env: dict[str, str]) -> list[str]:
    """What to install to have this HeirFlow there: its sources, so that the demonstration shows what stands in them."""
    if importlib.util.find_spec("hatchling") is None or importlib.util.find_spec("editables") is None:
        return ["--editable", str(CHECKOUT)]
    build = "import sys; from hatchling.build import build_editable; print(build_editable(sys.argv[1]))"
    _run([sys.executable, "-c", build, str(place)], env, cwd=CHECKOUT)
    return [str(wheel) for wheel in place.glob("*.whl")]


def _uv() -> list[str]:
    """How to call uv here, or nothing: then pip does it, which takes longer."""
    if importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv"]
    found = shutil.which("uv")
    return [found] if found else []


def _run(command: Sequence[str], env: dict[str, str], *, cwd: Path | None = None) -> None:
    """Carry out one step. What it leaves behind when we are interrupted is ended with it."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            code = process.wait(INSTALL_LIMIT_S)
        finally:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(3.0)
                process.kill()
                process.wait()
        if code != 0:
            output.seek(0)
            said = output.read().decode("utf-8", "replace").strip().splitlines()[-15:]
            raise Trouble(f"`{' '.join(command[:4])} …` failed with exit code {code}:\n" + "\n".join(said))


def main() -> int:
    """``python -m lab.airflow.environment 3.3 2.11``: make them ahead of time."""
    for name in sys.argv[1:] or [name for name in VERSIONS if fits(name)]:
        began = time.monotonic()
        environment = ensure(name, progress=lambda text: print(f"  {text}", flush=True))
        print(
            f"Airflow {environment.version} is in {environment.folder} ({time.monotonic() - began:.1f} s)", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
