"""Several hosts, of which the first is dead: in a service file of libpq's, and for the helper that carries out a will."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from heirflow.alone import will_helper
from heirflow.clock import CLOCK, boottime
from heirflow.election.record import Exchange
from heirflow.member import own_programs
from heirflow.stores import StoreUnavailable, open_store
from heirflow.testing.store_tools import ids, join, new_election, take, who
from lab.servers.replicas import postgres_replica
from lab.servers.servers import NAME, Server, postgres_server
from tests.contract.drivers import POSTGRES
from tests.contract.test_connecting import LIMIT_S, dead, mute, several

WITHIN_S = 1.5
"""Far less than the 2 s that libpq waits for one host; an interpreter with its driver starts in that time too."""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service file of this user's, and nothing else that libpq would read."""
    for name in ("PGSERVICE", "PGSYSCONFDIR", "PGHOST", "PGHOSTADDR", "PGPORT"):
        monkeypatch.delenv(name, raising=False)
    found = tmp_path / ".pg_service.conf"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGSERVICEFILE", raising=False)
    return found


def service(server: Server, first: int) -> str:
    return (
        "# a comment\n[another]\nhost=nowhere.test\n\n[line]\n"
        f"  host=127.0.0.1,127.0.0.1\nport={first},{server.port}\nuser={NAME}\npassword={server.password}\ndbname=heirflow\n"
    )


def in_url(driver: str, monkeypatch: pytest.MonkeyPatch, file: Path) -> str:
    return f"postgresql+{driver}://?service=line"


def in_environment(driver: str, monkeypatch: pytest.MonkeyPatch, file: Path) -> str:
    monkeypatch.setenv("PGSERVICE", "line")
    return f"postgresql+{driver}://"


def in_a_named_file(driver: str, monkeypatch: pytest.MonkeyPatch, file: Path) -> str:
    monkeypatch.setenv("PGSERVICEFILE", str(file.rename(file.with_name("named"))))
    return f"postgresql+{driver}://?service=line"


def of_the_system(driver: str, monkeypatch: pytest.MonkeyPatch, file: Path) -> str:
    monkeypatch.setenv("PGSYSCONFDIR", str(file.parent))
    file.rename(file.with_name("pg_service.conf"))
    file.write_text("[another]\nhost=nowhere.test\n")
    return f"postgresql+{driver}://?service=line"


@pytest.mark.parametrize("given", [in_url, in_environment, in_a_named_file, of_the_system])
@pytest.mark.parametrize("silence", [dead, mute])
@pytest.mark.parametrize("driver", POSTGRES)
def test_the_next_host_of_a_service_is_tried_soon_enough(
    driver: str,
    silence: Callable[[], Any],
    given: Callable[..., str],
    postgres: Server,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with closing(open_store(postgres.url(driver), call_limit_s=5)) as store:
        store.open()
    with silence() as first:
        file.write_text(service(postgres, first))
        with closing(open_store(given(driver, monkeypatch, file), call_limit_s=LIMIT_S)) as store:
            begun = time.monotonic()
            store.open()
            assert time.monotonic() - begun < LIMIT_S
            assert ids(store.exchange(new_election(), Exchange(who("a"), join=True))) == ["a"]


@pytest.mark.parametrize(
    "text", ["", "[another]\nhost=127.0.0.1\n", "[line\n", "[line]\nldap://127.0.0.1/x\n", "\0\xff"]
)
@pytest.mark.parametrize("driver", POSTGRES)
def test_what_is_no_service_of_ours_is_left_to_libpq(driver: str, text: str, file: Path) -> None:
    file.write_text(text)
    with (
        closing(open_store(f"postgresql+{driver}://?service=line", call_limit_s=LIMIT_S)) as store,
        pytest.raises(StoreUnavailable),
    ):
        store.open()


def carried_out(url: str, member: str = "a") -> tuple[str, float]:
    """What the helper says that a member's guard would start, and how long it took from its start."""
    election = new_election()
    with closing(open_store(url, call_limit_s=5)) as store:
        join(store, election, member)
        store.exchange(election, Exchange(swap=take(member, 1, 1, expected=None)))
        will = store.will(election, member, 1, "killed")
        assert will is not None
        order = {**own_programs.for_drivers(), **dataclasses.asdict(will), "clock": CLOCK, "give_up_at": boottime() + 5}
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-E", will_helper.__file__],
            input=json.dumps(order).encode() + b"\ngo\n",
            env=own_programs.environment(),
            capture_output=True,
            timeout=30,
            check=False,
        )
        took_s = time.monotonic() - begun
        record = store.exchange(election, Exchange()).record
        assert record is not None
        assert (record.leader is None) == (done.stdout == b"released\n"), done.stderr.decode()
        return done.stdout.decode().strip(), took_s


@pytest.mark.parametrize("silence", [dead, mute])
@pytest.mark.parametrize("driver", POSTGRES)
def test_a_will_does_not_wait_for_a_dead_host(driver: str, silence: Callable[[], Any], postgres: Server) -> None:
    with silence() as first:
        said, took_s = carried_out(several(driver, postgres, first, postgres.port))
    assert said == "released"
    assert took_s < WITHIN_S


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_will_does_not_wait_for_a_dead_host_of_a_service(driver: str, postgres: Server, file: Path) -> None:
    with dead() as first:
        file.write_text(service(postgres, first))
        said, took_s = carried_out(f"postgresql+{driver}://?service=line")
    assert said == "released"
    assert took_s < WITHIN_S


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_will_is_not_carried_out_at_a_standby(driver: str) -> None:
    with postgres_server() as primary, postgres_replica(primary, "127.0.0.1", settings={}) as replica:
        said, took_s = carried_out(several(driver, primary, replica.port, primary.port))
    assert said == "released"
    assert took_s < WITHIN_S


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_will_gives_up_where_no_host_answers(driver: str, postgres: Server) -> None:
    with closing(open_store(several(driver, postgres, 1, 2), call_limit_s=1.5)) as store:
        will = store.will("e", "a", 1, "killed")
    assert will is not None
    order = {**own_programs.for_drivers(), **dataclasses.asdict(will), "clock": CLOCK, "give_up_at": boottime() + 1}
    words = [sys.executable, "-I", "-S", "-E", will_helper.__file__]
    done = subprocess.run(
        words, input=json.dumps(order).encode() + b"\ngo\n", capture_output=True, timeout=30, check=False
    )
    assert (done.stdout, done.returncode) == (b"gave up\n", 1)


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_will_finds_the_addresses_of_a_name(driver: str, postgres: Server) -> None:
    """Whichever comes first: of ``localhost`` often one only answers."""
    url = postgres.url(driver).replace("127.0.0.1", "localhost")
    with closing(open_store(url, call_limit_s=5)) as store:
        will = store.will("e", "a", 1, "killed")
    assert will is not None
    assert will.hosts == [{"host": "localhost", "hostaddr": "", "port": str(postgres.port)}]
    assert carried_out(url)[0] == "released"
