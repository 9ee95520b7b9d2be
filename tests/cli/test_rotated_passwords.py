"""A member that is killed after its password changed is released all the same: its will follows the password."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from heirflow.election.record import Exchange, What
from heirflow.stores import Store, open_store
from lab.servers.servers import Server
from tests.cli.conftest import until
from tests.contract.drivers import MYSQL, POSTGRES
from tests.contract.test_secrets import role

TIMES = ("--ttl", "60s", "--check-in", "400ms")
SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
AIRFLOW = """
said = open({file!r}).read()
AIRFLOW_HOME = ""
class conf:
    @staticmethod
    def get(section, key, fallback=None):
        if key == "sql_alchemy_connect_args":
            return "apart" if {apart} else fallback
        return {url} if key == "sql_alchemy_conn" else fallback
    @staticmethod
    def getimport(section, key):
        return {{"password": said.rpartition("@")[0].rpartition(":")[2]}}
"""


@pytest.fixture
def server(request: pytest.FixtureRequest, driver: str) -> Server:
    found: Server = request.getfixturevalue("mariadb" if "mysql" in driver else "postgres")
    return found


@pytest.fixture
def watched(server: Server, driver: str) -> Iterator[Store]:
    """The store, seen by another role."""
    with closing(open_store(server.url(driver), call_limit_s=5)) as store:
        store.open()
        yield store


@pytest.fixture
def file(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the URL stands, and nowhere else."""
    monkeypatch.delenv("HEIRFLOW_DB_URL")
    return home / "url"


def released_by_will(
    store: Store, start: Callable, words: list[str], command: list[str], change: Callable[[], object]
) -> None:
    """Start two, change the password while the first leads, kill it, and wait less than its lease."""
    election = f"rotated-{time.time_ns() % 10**6}"
    words = [*words, "--name", election, "--", *command]

    def version() -> int:
        seen = store.exchange(election, Exchange()).record
        return 0 if seen is None or seen.leader is None else seen.version

    first = start(*TIMES, *words)
    until(version, f"a leader; {first.told}")
    start(*TIMES, *words)
    until(lambda: len(store.exchange(election, Exchange()).members) == 2, "an heir")
    change()
    changed = version()
    until(lambda: version() >= changed + 3, "renewals with the new password")
    os.kill(first.process.pid, signal.SIGKILL)
    killed_at = time.time()
    until(lambda: store.events(election, 1)[0].term == 2, f"the heir's lead; {first.told}")
    released, took = store.events(election, 2)
    assert released.what is What.RELEASED
    assert released.because.endswith("was killed, and its guard proved that the command is gone")
    assert took.at - killed_at < 2.0


@pytest.mark.parametrize("end_sessions", [True, False], ids=["sessions end", "sessions stay"])
@pytest.mark.parametrize("driver", [POSTGRES[0], MYSQL[0]])
def test_from_a_file(
    driver: str, end_sessions: bool, server: Server, watched: Store, start: Callable, file: Path
) -> None:
    url, change = role(driver, server, end_sessions=end_sessions)
    file.write_text(url)
    file.chmod(0o600)
    released_by_will(watched, start, ["--db-url-file", str(file)], SLEEP, lambda: file.write_text(change("new")))


@pytest.mark.parametrize("apart", [False, True], ids=["in the URL", "apart"])
@pytest.mark.parametrize("driver", [POSTGRES[0]])
def test_from_a_program_that_is_asked(
    driver: str,
    apart: bool,
    server: Server,
    watched: Store,
    start: Callable,
    home: Path,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Airflow, which may take the URL from a command or a store of secrets, or the password from sql_alchemy_connect_args.

    Here it is a package of a few lines.
    """
    url, change = role(driver, server)
    file.write_text(url)
    head, _, place = url.rpartition("@")
    without = f"{head.rpartition(':')[0]}@{place}"
    package, script = home / "lib" / "airflow", home / "bin" / "airflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '9.9'")
    (package / "configuration.py").write_text(
        AIRFLOW.format(file=str(file), url=repr(without) if apart else "said", apart=apart)
    )
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(600)\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, (str(package.parent), os.environ.get("PYTHONPATH")))))
    words, command = ["--cold", "--no-health"], ["airflow", "scheduler"]
    released_by_will(watched, start, words, command, lambda: file.write_text(change("new")))
